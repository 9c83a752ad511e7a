$(eval $(call unit_test,delivery/bounce/test_report,bounce mail util,$(UTIL_PKGS)))
