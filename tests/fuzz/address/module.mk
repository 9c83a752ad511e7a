$(eval $(call fuzz_target,address,mail util,$(UTIL_PKGS)))
