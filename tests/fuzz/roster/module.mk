$(eval $(call fuzz_target,roster,qmgr simdisk mail util,$(UTIL_PKGS) -lpthread))
