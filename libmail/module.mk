$(eval $(call library,mail,$(wildcard libmail/*.c libmail/*/*.c)))
