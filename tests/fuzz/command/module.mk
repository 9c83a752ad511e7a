$(eval $(call fuzz_target,command,pipe store mail util,$(UTIL_PKGS)))
