$(eval $(call library,lookupd,$(filter-out brokers/lookupd/main.c,$(wildcard brokers/lookupd/*.c))))
$(eval $(call program,lookupd,brokers/lookupd/main.c,lookupd mail util,$(UTIL_PKGS) libidn2))
