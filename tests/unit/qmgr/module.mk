$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/qmgr/test_*.c)),$(eval $(call unit_test,$(t),qmgr simdisk mail util,$(UTIL_PKGS) -lpthread)))
