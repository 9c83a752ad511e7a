$(eval $(call library,bounce,$(filter-out delivery/bounce/main.c,$(wildcard delivery/bounce/*.c))))
$(eval $(call program,bounce,delivery/bounce/main.c,bounce mail util,$(UTIL_PKGS)))
