$(eval $(call fuzz_target,ipc,mail util,$(UTIL_PKGS)))
