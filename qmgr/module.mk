$(eval $(call library,qmgr,$(filter-out qmgr/main.c,$(wildcard qmgr/*.c))))
$(eval $(call program,qmgr,qmgr/main.c,qmgr mail util,$(UTIL_PKGS) -lpthread))
