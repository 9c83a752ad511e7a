$(eval $(call library,smtpdfixture,tests/unit/smtpd/fixture.c))
$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/smtpd/test_*.c)),$(eval $(call unit_test,$(t),smtpdfixture smtpd mail util,$(UTIL_PKGS) libidn2)))
