$(eval $(call fuzz_target,imap_login,imaplogin mail util,$(UTIL_PKGS)))
