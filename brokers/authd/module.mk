$(eval $(call library,authd,$(filter-out brokers/authd/main.c,$(wildcard brokers/authd/*.c))))
$(eval $(call program,authd,brokers/authd/main.c,authd mail util,$(UTIL_PKGS)))
