$(eval $(call library,dnsd,$(filter-out brokers/dnsd/main.c,$(wildcard brokers/dnsd/*.c))))
