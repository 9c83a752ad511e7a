$(eval $(call fuzz_target,adopt,store mail util,$(UTIL_PKGS)))
