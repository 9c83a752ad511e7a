$(eval $(call fuzz_target,aliases,mail util,$(UTIL_PKGS)))
