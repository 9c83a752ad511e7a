$(eval $(call library,local,$(filter-out delivery/local/main.c,$(wildcard delivery/local/*.c))))
$(eval $(call program,local,delivery/local/main.c,local store mail util,$(UTIL_PKGS)))
