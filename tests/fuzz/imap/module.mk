$(eval $(call fuzz_target,imap,imap_session store mail util,$(UTIL_PKGS)))
