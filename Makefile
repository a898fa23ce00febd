# SPDX-License-Identifier: Apache-2.0
#
# One Makefile, non-recursive; everything it builds lands in $(BUILD).
#
#   make            build coracle, coraclectl, man pages
#   make demo       set up, build, and boot a Linux guest over REST
#   make check      set up, build, run every test (what CI runs)
#   make check-fast units and lint only
#   make bench      measure; docs/benchmarks says how
#   make fuzz SECONDS=n
#
# Variables: SANITIZE=address,undefined | thread   WERROR=1   CC=clang   V=1

comma := ,
SANITIZE ?=
ifneq ($(SANITIZE),)
BUILD ?= build/san-$(subst $(comma),-,$(SANITIZE))
else
BUILD ?= build
endif
SECONDS ?= 60

CC ?= gcc
PKG_CONFIG ?= pkg-config
VERSION := 0.1.0

Q := $(if $(V),,@)

# --- flags -----------------------------------------------------------------------------------------------------------

PKGS := libuv jansson libnl-3.0 libcap

LLHTTP_SRC := /usr/share/llhttp

# Deferred: a fresh machine has no pkg-config yet when `make check` reads this file.
PKG_CFLAGS = $(shell $(PKG_CONFIG) --cflags $(PKGS) 2>/dev/null)
# Static but for the C library: a dozen shared libraries cost more time at each start, and more memory of each process, than
# all the rest. (Debian 12's shared liburing does not even export the calls that restrict a ring.)
LIBS ?= -l:libuv_a.a -l:libjansson.a -l:libnl-3.a -l:libcap.a -l:liburing.a

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wcast-qual -Wpointer-arith \
	-Wwrite-strings -Wvla -Wimplicit-fallthrough -Wno-unused-parameter
ifeq ($(WERROR),1)
WARNINGS += -Werror
endif

OPT ?= -O2
CFLAGS ?= -g
ALL_CFLAGS = -std=gnu17 $(OPT) $(CFLAGS) $(WARNINGS) -fno-common -fstack-protector-strong -fPIE \
	-ffunction-sections -fdata-sections -fno-plt -fvisibility=hidden \
	-D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DCORACLE_VERSION='"$(VERSION)"' $(DEFS) -I. -isystem $(LLHTTP_INC) $(PKG_CFLAGS) -pthread
LLHTTP_INC := /usr/include/llhttp
ifneq ($(wildcard /usr/share/include/llhttp/llhttp.h),)
LLHTTP_INC := /usr/share/include/llhttp
endif
ALL_LDFLAGS = -pie -Wl,-z,relro,-z,now,-z,pack-relative-relocs,--gc-sections,--as-needed $(LDFLAGS) -pthread
ifneq ($(SANITIZE),)
ALL_CFLAGS += -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
ALL_LDFLAGS += -fsanitize=$(SANITIZE)
# gcc says of each fence that ThreadSanitizer does not know it. What ours order are atomics, which it knows.
ALL_CFLAGS += $(if $(findstring clang,$(CC)),,$(if $(filter thread,$(SANITIZE)),-Wno-tsan))
else
ALL_CFLAGS += -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif

# --- sources ---------------------------------------------------------------------------------------------------------

# Not in the program: what its system call filters are made and tested with.
FILTER_SRC := shim/sandbox_compile.c shim/sandbox_rules.c
LIB_SRC := $(sort $(wildcard base/*.c net/*.c storage/*.c chardev/*.c vmm/*/*.c) \
	$(filter-out shim/main.c shim/sandbox_generate.c $(FILTER_SRC),$(wildcard shim/*.c)))
CTL_SRC := $(sort $(wildcard shim/ctl/*.c))
UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT_HELPERS := $(sort $(filter-out $(UNIT_SRC),$(wildcard tests/unit/*.c)))

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_OBJ := $(call obj,$(LIB_SRC)) $(BUILD)/obj/generated/sandbox_filters.o $(addprefix $(BUILD)/obj/llhttp/,api.o http.o llhttp.o)
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(UNIT_SRC))
MAN := $(patsubst packaging/man/%.scd,$(BUILD)/man/%,$(wildcard packaging/man/*.scd))
PVH_GUEST := $(patsubst tests/guest/pvh/%.c,$(BUILD)/guest/pvh/%.elf,$(wildcard tests/guest/pvh/*.c))

.PHONY: all
all: $(BUILD)/coracle $(BUILD)/coraclectl $(MAN)

$(BUILD)/libcoracle.a: $(LIB_OBJ)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/coracle: $(BUILD)/obj/shim/main.o $(BUILD)/libcoracle.a
	@echo "  LD      $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/coraclectl: $(call obj,$(CTL_SRC)) $(BUILD)/libcoracle.a
	@echo "  LD      $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS)

$(BUILD)/obj/llhttp/%.o: $(LLHTTP_SRC)/%.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(filter-out $(WARNINGS) -Werror,$(ALL_CFLAGS)) -c -o $@ $<

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# System call filters: a program that runs here and now compiles them, so it is never sanitized.
$(BUILD)/obj/generator/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $< (generator)"
	$(Q)$(CC) -std=gnu17 -O1 -g $(WARNINGS) -D_GNU_SOURCE -I. -MMD -MP -c -o $@ $<

$(BUILD)/generated/sandbox_generate: $(patsubst %.c,$(BUILD)/obj/generator/%.o,shim/sandbox_generate.c $(FILTER_SRC))
	@mkdir -p $(@D)
	@echo "  LD      $@"
	$(Q)$(CC) -o $@ $^ -lseccomp

$(BUILD)/generated/sandbox_filters.c: $(BUILD)/generated/sandbox_generate
	@echo "  GEN     $@"
	$(Q)$< > $@.new && mv $@.new $@

$(BUILD)/obj/generated/%.o: $(BUILD)/generated/%.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

FILTER_TESTS := $(addprefix $(BUILD)/tests/unit/,test_sandbox test_sandbox_filters)
$(FILTER_TESTS): $(call obj,$(FILTER_SRC))
$(FILTER_TESTS): TEST_LIBS += -lseccomp

$(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o $(call obj,$(UNIT_HELPERS)) $(BUILD)/libcoracle.a
	@mkdir -p $(@D)
	@echo "  LD      $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS) $(TEST_LIBS) -lcmocka

$(BUILD)/man/%: packaging/man/%.scd
	@mkdir -p $(@D)
	$(Q)scdoc < $< > $@

# Bare guests for the system tests; whatever the variant of the build, these are never sanitized. NAME.c, what a
# folder NAME holds, and lib.
.SECONDEXPANSION:
$(BUILD)/guest/pvh/%.elf: tests/guest/pvh/%.c $$(wildcard tests/guest/pvh/$$*/*.[ch] tests/guest/pvh/lib/*.c tests/guest/pvh/*.h)
	@mkdir -p $(@D)
	@echo "  GUEST   $@"
	$(Q)$(CC) -std=gnu17 -Os -I. $(WARNINGS) -m64 -mgeneral-regs-only -mno-red-zone -ffreestanding -fno-pie -fcf-protection=none \
		-fno-stack-protector -fno-asynchronous-unwind-tables -ffunction-sections -fdata-sections -nostdlib -static \
		-Wl,-Ttext-segment=0x100000,--gc-sections,--build-id=none,-z,noexecstack -o $@ $(filter %.c,$^)

.SECONDARY:
-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

# --- set-up, tests, demo ---------------------------------------------------------------------------------------------

# A fresh machine has no compiler when this file is read: what needs tools or libraries runs in a second make.
.PHONY: deps
deps:
	$(Q)packaging/install-deps

.PHONY: guest-images
guest-images: $(PVH_GUEST)
	$(Q)tests/guest/build-initramfs

# LD_PRELOADed by tests/system/faults.py. Never sanitized: it stands before the sanitizer's own library.
$(BUILD)/fault/%.so: tests/fault/%.c
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) -std=gnu17 -O2 -g $(WARNINGS) -D_GNU_SOURCE -fPIC -shared -pthread -o $@ $<

.PHONY: units
units: $(UNIT_BIN) $(PVH_GUEST) $(BUILD)/fault/failing_calls.so

.PHONY: demo
demo: deps
	$(Q)$(MAKE) --no-print-directory all guest-images
	$(Q)tests/kvmhost/run tests/demo/demo

# As many compilers as there are CPUs, unless -j says how many.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: check
check: deps
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory all units guest-images WERROR=$(WERROR)
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory all units SANITIZE=address,undefined OPT=-O1 WERROR=$(WERROR)
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory all units SANITIZE=thread OPT=-O1 WERROR=$(WERROR)
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory fuzz-targets
	$(Q)tests/check all

.PHONY: check-fast
check-fast: deps
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory all units WERROR=$(WERROR)
	$(Q)tests/check fast

# --- fuzz ------------------------------------------------------------------------------------------------------------

FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_HELPERS := $(call obj,$(sort $(filter-out $(FUZZ_SRC),$(wildcard tests/fuzz/*.c))) \
	tests/unit/device_fixture.c tests/unit/vring_driver.c)
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(BUILD)/bin/%,$(FUZZ_SRC))

$(BUILD)/bin/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(FUZZ_HELPERS) $(BUILD)/libcoracle.a
	@mkdir -p $(@D)
	@echo "  LD      $@"
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(LIBS) -lcmocka

.PHONY: fuzz-bin
fuzz-bin: $(FUZZ_BIN)

# libFuzzer is clang's; everything is built once more, with its coverage counters.
.PHONY: fuzz-targets
fuzz-targets:
	$(Q)$(MAKE) --no-print-directory fuzz-bin CC=clang BUILD=build/fuzz SANITIZE=address,undefined,fuzzer-no-link OPT=-O1

.PHONY: fuzz
fuzz: deps
	$(Q)$(MAKE) $(PARALLEL) --no-print-directory fuzz-targets
	$(Q)tests/fuzz/run $(SECONDS)

# --- bench -----------------------------------------------------------------------------------------------------------

.PHONY: bench
bench: deps
	$(Q)packaging/install-deps bench
	$(Q)$(MAKE) --no-print-directory all guest-images $(BUILD)/bench/load $(BUILD)/bench/netload
	$(Q)BENCH_BUILD=$(abspath $(BUILD)) tests/bench/run

$(BUILD)/bench/%: tests/bench/%.c
	@mkdir -p $(@D)
	@echo "  CC      $@"
	$(Q)$(CC) -std=gnu17 -O2 $(WARNINGS) -D_GNU_SOURCE -o $@ $<

.PHONY: clean
clean:
	rm -rf build

.PHONY: format
format:
	clang-format -i $(shell git ls-files '*.c' '*.h')
