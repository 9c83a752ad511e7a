$(eval $(call library,simdisk,tests/crash/simdisk.c))
$(eval $(call library,simfs,tests/crash/simfs.c))
