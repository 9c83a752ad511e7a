$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/ctl/test_*.c)),$(eval $(call unit_test,$(t),ctl mail util,$(UTIL_PKGS) -lcrypt)))
