$(eval $(call fuzz_target,store,store mail util,$(UTIL_PKGS)))
