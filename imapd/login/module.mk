$(eval $(call library,imaplogin,imapd/login/imap_login.c))
$(eval $(call program,imap-login,imapd/login/main.c,imaplogin mail util,$(UTIL_PKGS)))
