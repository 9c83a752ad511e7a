$(eval $(call unit_test,brokers/authd/test_memory,authd mail util,$(UTIL_PKGS)))
$(eval $(call unit_test,brokers/authd/test_server,authd mail util,$(UTIL_PKGS)))
