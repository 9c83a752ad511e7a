$(eval $(call fuzz_target,rfc2047,mail util,$(UTIL_PKGS)))
