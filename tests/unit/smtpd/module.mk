$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/smtpd/test_*.c)),$(eval $(call unit_test,$(t),smtpd mail util,$(UTIL_PKGS))))
