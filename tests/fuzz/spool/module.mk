$(eval $(call fuzz_target,spool,qmgr mail util,$(UTIL_PKGS) -lpthread))
