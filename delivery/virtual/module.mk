$(eval $(call library,virtual,$(filter-out delivery/virtual/main.c,$(wildcard delivery/virtual/*.c))))
$(eval $(call program,virtual,delivery/virtual/main.c,virtual store mail util,$(UTIL_PKGS)))
