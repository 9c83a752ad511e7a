$(eval $(call library,smtpd,$(filter-out smtpd/main.c,$(wildcard smtpd/*.c))))
$(eval $(call program,smtpd,smtpd/main.c,smtpd mail util,$(UTIL_PKGS) libidn2))
