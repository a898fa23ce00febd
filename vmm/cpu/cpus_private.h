/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of vmm/cpu. */
#ifndef VMM_CPU_CPUS_PRIVATE_H
#define VMM_CPU_CPUS_PRIVATE_H

#include "base/thread.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"
#include "vmm/cpu/cpus.h"
#include "vmm/kvm/kvm.h"

#include <sys/types.h>

enum cpus_target { CPUS_PARK, CPUS_RUN, CPUS_STOP };

struct vcpu {
	struct cpus *cpus;
	unsigned index;
	struct kvm_vcpu kvm;
	struct thread thread;
	struct vcpu_state *power_on; /* as it came out of cpus_new() */
	struct cpu_counters counters;

	/* The vCPU's thread alone. */
	bool halting; /* to be halted at the next rest */

	/* Under cpus->lock; so is kvm.run->immediate_exit. */
	pid_t tid;		 /* 0 until the thread is there */
	bool parked;		 /* at rest; others may use kvm.fd */
	bool halted;		 /* parked whatever the target */
	bool nmi;		 /* to be injected */
	struct quiesce *pausing; /* held until it is parked */
};

struct cpus {
	struct kvm_vm *kvm; /* borrowed, as the next three */
	struct bus *pio;
	struct bus *mmio;
	struct ioapic *ioapic;
	struct cpus_hooks hooks;
	struct cpu_topology topology;
	unsigned tsc_khz;
	struct kvm_msr_list *msr_list;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* target, or a vCPU that came to rest */
	enum cpus_target target;

	unsigned num_vcpus;
	struct vcpu vcpus[];
};

/* --- vcpu_run.c: the vCPU's thread ------------------------------------------------------------ */

/* Runs the guest until a kick or until the vCPU halts. */
void vcpu_run(struct vcpu *vcpu);

/* --- vcpu_state.c: registers; the vCPU is parked ---------------------------------------------- */

/* CPUID, and what differs from KVM's defaults at power-on; remembers the result as power_on. */
int vcpu_set_up(struct vcpu *vcpu, const struct kvm_cpuid2 *cpuid, struct err *err);

/* Back to power-on; with `entry` also to the kernel's first instruction. */
int vcpu_reset(struct vcpu *vcpu, const struct boot_entry *entry, struct err *err);

int vcpu_save(struct vcpu *vcpu, struct buf *out, struct err *err);
int vcpu_load(struct vcpu *vcpu, struct cursor *in, struct err *err);

/* --- vcpu_boot.c ------------------------------------------------------------------------------ */

/* Registers of a vCPU that is about to enter a kernel. */
void vcpu_boot_regs(const struct boot_entry *entry, struct kvm_regs *regs, struct kvm_sregs *sregs);

/* --- placement.c ------------------------------------------------------------------------------ */

/* Pins the threads and gives them core-scheduling cookies. All threads are there. */
int cpus_place(struct cpus *cpus, const struct cpus_params *params, struct err *err);

#endif
