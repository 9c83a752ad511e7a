$(eval $(call library,dnsd,$(filter-out brokers/dnsd/main.c,$(wildcard brokers/dnsd/*.c))))
$(eval $(call program,dnsd,brokers/dnsd/main.c,dnsd util,-levent -lunbound $(UTIL_PKGS)))
