$(eval $(call unit_test,brokers/lookupd/test_route,lookupd mail util,$(UTIL_PKGS) libidn2))
