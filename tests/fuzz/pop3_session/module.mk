$(eval $(call fuzz_target,pop3_session,pop3session store mail util,$(UTIL_PKGS)))
