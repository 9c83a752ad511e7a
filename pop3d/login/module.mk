$(eval $(call library,pop3login,pop3d/login/pop3_login.c))
$(eval $(call program,pop3-login,pop3d/login/main.c,pop3login mail util,$(UTIL_PKGS)))
