$(eval $(call library,pipe,$(filter-out delivery/pipe/main.c,$(wildcard delivery/pipe/*.c))))
$(eval $(call program,pipe,delivery/pipe/main.c,pipe store mail util,$(UTIL_PKGS)))
