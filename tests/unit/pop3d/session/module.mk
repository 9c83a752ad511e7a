$(eval $(call unit_test,pop3d/session/test_pop3,pop3session store mail util,$(UTIL_PKGS)))
