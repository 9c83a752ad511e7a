$(eval $(call unit_test,delivery/pipe/test_command,pipe mail util,$(UTIL_PKGS)))
