$(eval $(call library,logd,$(filter-out brokers/logd/main.c,$(wildcard brokers/logd/*.c))))
$(eval $(call program,logd,brokers/logd/main.c,logd util,$(UTIL_PKGS)))
