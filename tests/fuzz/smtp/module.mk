$(eval $(call fuzz_target,smtp,mail util,$(UTIL_PKGS)))
