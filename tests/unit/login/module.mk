$(eval $(call unit_test,login/test_login,imaplogin pop3login mail util,$(UTIL_PKGS)))
