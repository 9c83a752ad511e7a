$(eval $(call unit_test,brokers/notifyd/test_hub,notifyd mail util,$(UTIL_PKGS)))
