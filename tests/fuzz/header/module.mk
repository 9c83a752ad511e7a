$(eval $(call fuzz_target,header,mail util,$(UTIL_PKGS)))
