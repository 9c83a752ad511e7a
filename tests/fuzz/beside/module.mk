$(eval $(call fuzz_target,beside,store mail util,$(UTIL_PKGS)))
