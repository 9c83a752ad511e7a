$(eval $(call fuzz_target,manifest,ctl store mail util,$(UTIL_PKGS) -lcrypt))
