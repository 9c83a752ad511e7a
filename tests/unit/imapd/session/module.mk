$(foreach t,$(patsubst tests/unit/%.c,%,$(wildcard tests/unit/imapd/session/test_*.c)),$(eval $(call unit_test,$(t),imap_session store mail util,$(UTIL_PKGS))))
