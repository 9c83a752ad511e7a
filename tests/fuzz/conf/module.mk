$(eval $(call fuzz_target,conf,util,$(UTIL_PKGS)))
