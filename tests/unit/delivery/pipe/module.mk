$(eval $(call unit_test,delivery/pipe/test_command,pipe store mail util,$(UTIL_PKGS)))
