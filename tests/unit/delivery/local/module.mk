$(eval $(call unit_test,delivery/local/test_local,local store mail util,$(UTIL_PKGS)))
$(eval $(call unit_test,delivery/local/test_forward,local store mail util,$(UTIL_PKGS)))
