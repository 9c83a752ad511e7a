# Veredus. One non-recursive make: each folder adds a fragment (module.mk) with the macros below.
#
#   make            build everything into build/bin
#   make run        set up and start a demonstration instance
#   make check      install what the tests need, build, run all tests
#   make help       the other targets

SHELL := /bin/bash
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
CC := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
AR ?= ar
SANITIZE ?=

WARNINGS := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	-Wpointer-arith -Wwrite-strings -Wvla -Wno-missing-field-initializers
HARDENING := -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
# clang 14 wants a second, experimental flag for this one
HARDENING += $(if $(findstring clang,$(CC)),,-ftrivial-auto-var-init=zero)
LINK_HARDENING := -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code -Wl,--as-needed -Wl,--gc-sections
OPTIMIZE ?= -O2
ifeq ($(SANITIZE),)
HARDENING += -D_FORTIFY_SOURCE=3
else
SANFLAGS := -fsanitize=$(SANITIZE) -fno-sanitize-recover=all -fno-omit-frame-pointer
# GCC's warnings that follow values through inlined code misfire on instrumented code.
SANFLAGS += $(if $(findstring clang,$(CC)),,-Wno-stringop-overread -Wno-format-truncation)
endif
CFLAGS += -std=c17 -D_GNU_SOURCE -I. $(OPTIMIZE) -g -ffunction-sections -fdata-sections \
	$(WARNINGS) $(HARDENING) $(SANFLAGS)
LDFLAGS += $(LINK_HARDENING) $(SANFLAGS)


# --- what fragments use -------------------------------------------------------------------------
# $(call library,NAME,SOURCES): a static library build/lib/libNAME.a
define library
LIB_$(1)_OBJS := $(patsubst %.c,$(BUILD)/obj/%.o,$(2))
$(BUILD)/lib/lib$(1).a: $$(LIB_$(1)_OBJS)
	@mkdir -p $$(@D)
	@rm -f $$@
	@$(AR) rcs $$@ $$^
OBJS += $$(LIB_$(1)_OBJS)
endef

# $(call program,NAME,MAIN SOURCE,LIBRARIES in link order,PKG-CONFIG PACKAGES and -lX)
define program
$(BUILD)/bin/$(1): $(patsubst %.c,$(BUILD)/obj/%.o,$(2)) $(foreach l,$(3),$(BUILD)/lib/lib$(l).a)
	@mkdir -p $$(@D)
	@echo "  LINK    $(1)"
	@$(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $$(filter -l%,$(4)) $$(shell pkg-config --libs $$(filter-out -l%,$(4)) libevent_core)
PROGRAMS += $(BUILD)/bin/$(1)
OBJS += $(patsubst %.c,$(BUILD)/obj/%.o,$(2))
endef

# $(call unit_test,SOURCE,LIBRARIES,PACKAGES): a cmocka program from tests/unit/SOURCE.c
define unit_test
$(BUILD)/tests/unit/$(1): $(BUILD)/obj/tests/unit/$(1).o $(foreach l,$(2),$(BUILD)/lib/lib$(l).a)
	@mkdir -p $$(@D)
	@$(CC) $(LDFLAGS) -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $$(filter -l%,$(3)) $$(shell pkg-config --libs $$(filter-out -l%,$(3)) libevent_core cmocka)
UNIT_TESTS += $(BUILD)/tests/unit/$(1)
OBJS += $(BUILD)/obj/tests/unit/$(1).o
endef

# $(call fuzz_target,NAME,LIBRARIES,PACKAGES): tests/fuzz/fuzz_NAME.c, built by `make fuzz-targets`
define fuzz_target
$(BUILD)/fuzz/$(1): $(BUILD)/obj/tests/fuzz/fuzz_$(1).o $(foreach l,$(2),$(BUILD)/lib/lib$(l).a)
	@mkdir -p $$(@D)
	@$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $$@ $$(filter %.o,$$^) $$(filter %.a,$$^) $$(filter -l%,$(3)) $$(shell pkg-config --libs $$(filter-out -l%,$(3)) libevent_core)
FUZZ_TARGETS += $(BUILD)/fuzz/$(1)
OBJS += $(BUILD)/obj/tests/fuzz/fuzz_$(1).o
endef

# Packages behind libutil; the linker keeps only those a program needs.
UTIL_PKGS := openssl libcap libseccomp lmdb -ldb-5.3 -lcrypt -lunistring

FRAGMENTS := $(sort $(wildcard */module.mk */*/module.mk */*/*/module.mk */*/*/*/module.mk))
include $(FRAGMENTS)

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	@echo "  CC      $<"
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

-include $(OBJS:.o=.d)

all: programs
programs: $(PROGRAMS)
unit-tests: $(UNIT_TESTS)
fuzz-targets: $(FUZZ_TARGETS)
list-programs: ; @echo $(PROGRAMS)
list-unit-tests: ; @echo $(UNIT_TESTS)
list-fuzz-targets: ; @echo $(FUZZ_TARGETS)

# --- what a fresh machine lacks ------------------------------------------------------------------
BUILD_PACKAGES := gcc libc6-dev pkg-config libevent-dev libssl-dev libdb5.3-dev liblmdb-dev \
	libcap-dev libseccomp-dev libunbound-dev libpcre2-dev libidn2-dev libunistring-dev \
	libcrypt-dev
TEST_PACKAGES := libcmocka-dev clang libclang-rt-14-dev python3 python3-pytest swaks curl mutt isync \
	fetchmail nsd openssl procps strace libnet-ssleay-perl dns-root-data ca-certificates \
	dovecot-imapd dovecot-pop3d
BENCH_PACKAGES := dovecot-imapd dovecot-lmtpd
deps: ; @tests/tools/packages $(BUILD_PACKAGES) $(TEST_PACKAGES)
build-deps: ; @tests/tools/packages $(BUILD_PACKAGES)
bench-deps: deps ; @tests/tools/packages $(BENCH_PACKAGES)
JOBS := $(shell nproc 2>/dev/null || echo 2)

run: build-deps
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/tools/demo

check: deps
	@tests/run

check-asan: deps
	@tests/run --asan

fuzz: deps
	@tests/run --fuzz-seconds 600 --only fuzz

# 200 times kill -9 of everything under load, 100 power cuts of a file system of our own (as root),
# and as many simulated histories of spool and store
crash: deps
	@$(MAKE) --no-print-directory -j$(JOBS) all unit-tests
	@VEREDUS_HISTORIES=100000 build/tests/unit/qmgr/test_spool_crash
	@VEREDUS_HISTORIES=100000 VEREDUS_FIRST=$$(date +%s) build/tests/unit/libstore/test_store_crash
	@VEREDUS_ATTACK_SECONDS=60 build/tests/unit/libstore/test_attack
	@VEREDUS_KILL_ROUNDS=200 VEREDUS_POWER_ROUNDS=100 tests/run --only crash

# Beside Debian's postfix and Dovecot; on an ext4 with a journal even where the disk has none
BENCH_OPTIONS ?= --disk-image auto
bench: bench-deps
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/bench/run $(BENCH_OPTIONS)
	@tests/bench/queue $(BENCH_OPTIONS)
	@tests/bench/store $(BENCH_OPTIONS)

lint:
	@tests/lint/run

format:
	@clang-format -i $(shell git ls-files '*.c' '*.h')

install: all
	@tests/tools/install "$(BUILD)" "$(DESTDIR)" "$(PREFIX)"

clean:
	rm -rf build build-*

help:
	@echo 'all deps run check check-asan fuzz crash bench lint format install clean'

.PHONY: all programs unit-tests fuzz-targets list-programs list-unit-tests list-fuzz-targets deps build-deps bench-deps run check check-asan fuzz crash bench lint format install clean help
.DEFAULT_GOAL := all
