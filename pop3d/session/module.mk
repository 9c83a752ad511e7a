$(eval $(call library,pop3session,$(filter-out pop3d/session/main.c,$(wildcard pop3d/session/*.c))))
$(eval $(call program,pop3-session,pop3d/session/main.c,pop3session store mail util,$(UTIL_PKGS)))
