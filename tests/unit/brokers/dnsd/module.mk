$(eval $(call unit_test,brokers/dnsd/test_packet,dnsd util,$(UTIL_PKGS)))
$(eval $(call unit_test,brokers/dnsd/test_resolver,dnsd util,-levent -lunbound $(UTIL_PKGS)))
