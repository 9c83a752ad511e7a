$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/libutil/test_*.c)),$(eval $(call unit_test,$(t),util,$(UTIL_PKGS))))
