$(eval $(call library,keyd,$(filter-out brokers/keyd/main.c,$(wildcard brokers/keyd/*.c))))
$(eval $(call program,keyd,brokers/keyd/main.c,keyd util,$(UTIL_PKGS)))
