# The one program of the benchmarks that uses our libraries; unit-tests builds it, so that it follows them.
BENCH_STORE := $(BUILD)/tests/bench/store
$(BENCH_STORE): $(BUILD)/obj/tests/bench/store.o $(foreach l,store mail util,$(BUILD)/lib/lib$(l).a)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(filter -l%,$(UTIL_PKGS)) \
		$(shell pkg-config --libs $(filter-out -l%,$(UTIL_PKGS)) libevent_core)
OBJS += $(BUILD)/obj/tests/bench/store.o
unit-tests: $(BENCH_STORE)
