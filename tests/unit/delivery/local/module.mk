$(eval $(call unit_test,delivery/local/test_local,local store mail util,$(UTIL_PKGS)))
