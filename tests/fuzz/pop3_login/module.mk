$(eval $(call fuzz_target,pop3_login,pop3login mail util,$(UTIL_PKGS)))
