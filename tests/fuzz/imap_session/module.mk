$(eval $(call fuzz_target,imap_session,imap_session store mail util,$(UTIL_PKGS) -lpthread))
