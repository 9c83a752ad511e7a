$(eval $(call fuzz_target,session,smtpdfixture smtpd mail util,$(UTIL_PKGS) libidn2 cmocka))
