$(eval $(call library,master,$(filter-out master/main.c,$(wildcard master/*.c))))
$(eval $(call program,master,master/main.c,master util,$(UTIL_PKGS)))
