$(eval $(call library,util,$(wildcard libutil/*.c libutil/*/*.c)))
