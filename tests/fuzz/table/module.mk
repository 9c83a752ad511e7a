$(eval $(call fuzz_target,table,util,$(UTIL_PKGS)))
