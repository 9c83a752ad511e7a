$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/libstore/test_*.c)),$(eval $(call unit_test,$(t),storeworld simfs store mail util,$(UTIL_PKGS))))
