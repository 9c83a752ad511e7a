$(eval $(call fuzz_target,dns_packet,dnsd util,$(UTIL_PKGS)))
