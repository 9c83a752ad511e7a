$(eval $(call library,simdisk,tests/crash/simdisk.c))
