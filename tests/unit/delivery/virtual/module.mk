$(eval $(call unit_test,delivery/virtual/test_virtual,virtual store mail util,$(UTIL_PKGS)))
