$(eval $(call fuzz_target,mime,mail util,$(UTIL_PKGS)))
