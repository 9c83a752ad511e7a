$(eval $(call unit_test,delivery/remote/test_route,remote mail util,$(UTIL_PKGS)))
$(eval $(call unit_test,delivery/remote/test_session,remote mail util,$(UTIL_PKGS)))
