$(eval $(call library,house,$(filter-out delivery/house/main.c,$(wildcard delivery/house/*.c))))
$(eval $(call program,house,delivery/house/main.c,house store mail util,$(UTIL_PKGS)))
