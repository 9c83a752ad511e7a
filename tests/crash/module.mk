$(eval $(call library,simdisk,tests/crash/simdisk.c))
$(eval $(call library,simfs,tests/crash/simfs.c))
$(eval $(call library,storeworld,tests/crash/storeworld.c tests/crash/storeverbs.c tests/crash/storestrangers.c))
