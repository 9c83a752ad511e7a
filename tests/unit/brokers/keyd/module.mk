$(eval $(call unit_test,brokers/keyd/test_keys,keyd util,$(UTIL_PKGS)))
