$(eval $(call library,notifyd,$(filter-out brokers/notifyd/main.c,$(wildcard brokers/notifyd/*.c))))
$(eval $(call program,notifyd,brokers/notifyd/main.c,notifyd mail util,$(UTIL_PKGS)))
