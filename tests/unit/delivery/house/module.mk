$(eval $(call unit_test,delivery/house/test_plan,house store mail util,$(UTIL_PKGS)))
