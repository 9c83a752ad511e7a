$(eval $(call unit_test,spawner/test_spawner,mail util,$(UTIL_PKGS)))
