$(eval $(call library,remote,$(filter-out delivery/remote/main.c,$(wildcard delivery/remote/*.c))))
$(eval $(call program,remote,delivery/remote/main.c,remote mail util,$(UTIL_PKGS)))
