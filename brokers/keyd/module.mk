$(eval $(call library,keyd,$(filter-out brokers/keyd/main.c,$(wildcard brokers/keyd/*.c))))
