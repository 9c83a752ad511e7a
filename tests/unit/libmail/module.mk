$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/libmail/test_*.c)),$(eval $(call unit_test,$(t),mail util,$(UTIL_PKGS) libidn2)))
