$(eval $(call fuzz_target,imap_client,ctl store mail util,$(UTIL_PKGS) -lcrypt))
