$(eval $(call library,store,$(wildcard libstore/*.c)))
