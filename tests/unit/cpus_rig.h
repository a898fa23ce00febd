/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine of vCPUs, a little RAM and two devices, on the real KVM. Its guests are a few
 * instructions each, which also run where KVM has no hardware behind it and emulates them.
 */
#ifndef TESTS_UNIT_CPUS_RIG_H
#define TESTS_UNIT_CPUS_RIG_H

#include "base/loop.h"
#include "vmm/bus/bus.h"
#include "vmm/cpu/cpus.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/guest_memory.h"

#define CODE	  0x100000
#define PORT_OUT  0x100 /* what is written is noted */
#define PORT_IN	  0x104 /* gives 1, 2, 3, ... */
#define PORT_OFF  0x108 /* a write halts the vCPU and is noted as a request */
#define MMIO_BASE 0xd0000000

struct machine {
	struct loop *loop;
	struct kvm_vm *kvm;
	struct guest_memory *memory;
	struct bus *pio;
	struct bus *mmio;
	struct bus_range ports, device;
	struct cpus *cpus;
	struct quiesce q;

	atomic_uint writes;	/* to PORT_OUT */
	atomic_uint last;	/* what was written last */
	atomic_uint given;	/* by PORT_IN */
	atomic_uint mismatches; /* written, but not what was given last */
	atomic_int caller;	/* cpus_current() of the last write */
	atomic_uint mmio_value;
	atomic_int request; /* enum guest_request + 1 */
	atomic_int failures;
	char failure[256];
	uint8_t bytes[64];
	unsigned num_bytes;
};

/* Whether there is a KVM; says so if not. */
bool have_kvm(void);

/* Where and how each guest begins. */
extern const struct boot_entry rig_entry;

/* Parameters for so many vCPUs. */
struct cpus_params params_for(unsigned vcpus);

/* A machine with code at CODE, in its boot state, not started. A failure fails the test. */
void machine_init(struct machine *m, const struct cpus_params *params, const void *code,
		  size_t len);
void machine_fini(struct machine *m);

/* Writes guest memory. */
void put(struct machine *m, uint64_t at, const void *bytes, size_t len);

/* For quiesce_init(), with m->loop as arg: ends loop_run(). */
void on_quiet(struct loop_task *task);

/* Pauses, and waits for it. */
void pause_all(struct machine *m);

/* Waits until *value is at least `least`, for ten seconds at most. */
bool reaches(atomic_uint *value, unsigned least);

/* Waits for a request of the guest. Whether it is this one. */
bool asked(struct machine *m, enum guest_request request);

void sleep_ms(unsigned ms);

/* Writes 1, 2, 3, ... to PORT_OUT. */
extern const uint8_t count_up[10];

#endif
