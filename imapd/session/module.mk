$(eval $(call library,imap_session,$(filter-out imapd/session/main.c,$(wildcard imapd/session/*.c))))
$(eval $(call program,imap-session,imapd/session/main.c,imap_session store mail util,$(UTIL_PKGS)))
