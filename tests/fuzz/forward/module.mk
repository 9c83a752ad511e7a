$(eval $(call fuzz_target,forward,local store mail util,$(UTIL_PKGS)))
