/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All vCPUs of a machine: their threads, their run loop, their state.
 *
 * Theory of operation
 *
 * One thread per vCPU, named `vcpuN`. All are made parked; what they are to do is one word,
 * `target`, under one lock that nobody holds for longer than it takes to read or write it: park,
 * run or stop. To change it, everybody is kicked at once: immediate_exit is set in the page shared
 * with KVM, so that a vCPU on its way in comes straight back, and a signal with an empty handler
 * brings out one that is in. A vCPU looks at `target` only when KVM_RUN ended with EINTR under
 * immediate_exit. By then KVM has finished the port or MMIO access that an earlier exit left half
 * done, so a parked vCPU's registers are whole and may be saved.
 *
 * A vCPU whose guest asked for reset or power-off, or that KVM refuses to run, is `halted`: it
 * parks by itself, answers pause and stop like the others and does not run again before
 * cpus_set_boot_state().
 */
#ifndef VMM_CPU_CPUS_H
#define VMM_CPU_CPUS_H

#include "base/cursor.h"
#include "base/err.h"
#include "vmm/bus/device.h"
#include "vmm/config/vm_config.h"
#include "vmm/cpu/boot_entry.h"
#include "vmm/cpu/topology.h"

#include <stdatomic.h>

struct cpus;

struct cpus_params {
	unsigned boot_vcpus;
	unsigned max_vcpus;	      /* >= boot_vcpus; how the topology is laid out */
	struct cpu_topology topology; /* all 0: cpu_topology_flat(max_vcpus) */
	unsigned phys_bits;	      /* from cpus_phys_bits() */
	bool nested;		      /* show VMX or SVM when the host has it */
	bool amx;
	bool msi_ext_dest_id; /* tell the guest that MSIs reach APIC ids past 254 */
	enum core_scheduling core_scheduling;
	const struct cpu_affinity_config *affinity; /* borrowed during cpus_new() */
	size_t num_affinity;
};

/* What vCPUs tell the machine. Any thread, must not block. */
struct cpus_hooks {
	/* KVM_EXIT_SHUTDOWN and KVM_EXIT_SYSTEM_EVENT; the vCPU that reports is halted. */
	void (*guest_request)(void *arg, enum guest_request request);
	/* KVM cannot run this vCPU any further; its registers are in the log. It is halted. */
	void (*failed)(void *arg, const struct err *err);
	void *arg;
};

/* Exits of one vCPU by reason since it was made. Relaxed; read at any time by any thread. */
struct cpu_counters {
	atomic_uint_fast64_t exits; /* all of them */
	atomic_uint_fast64_t pio;
	atomic_uint_fast64_t mmio;
	atomic_uint_fast64_t ioapic_eoi;
	atomic_uint_fast64_t kicks; /* came back with EINTR */
};

/* Guest-physical address bits to show: the host's, as KVM tells them, and at most `max_phys_bits`.
 * Worker thread. Returns 32..52 or negative errno. */
int cpus_phys_bits(struct kvm_vm *kvm, unsigned max_phys_bits, struct err *err);

/*
 * Makes boot_vcpus vCPUs with CPUID, MSRs and power-on state, and their threads, parked, pinned and
 * core-scheduled as asked. `kvm`, `pio`, `mmio`, `ioapic` (may be NULL: no EOI is passed on)
 * outlive it; hooks are copied. Worker thread (it takes a few milliseconds a vCPU). Returns 0 or
 * negative errno with err; then nothing is left behind. Owned by the caller: cpus_stop() and
 * cpus_free().
 */
int cpus_new(const struct cpus_params *params, struct kvm_vm *kvm, struct bus *pio,
	     struct bus *mmio, struct ioapic *ioapic, const struct cpus_hooks *hooks,
	     struct cpus **ret_cpus, struct err *err);

/* Stops, if that was not done, and frees. NULL is fine. May wait as cpus_stop() does. */
void cpus_free(struct cpus *cpus);

/*
 * Puts every vCPU into its power-on state, and the first at `entry`; the others wait for INIT and
 * SIPI. Nothing may run: before the first cpus_start(), or after cpus_pause() is through (a reboot
 * in place). The GDT and page tables that `entry` stands on must be in guest memory when the guest
 * starts. Returns 0 or negative errno.
 */
int cpus_set_boot_state(struct cpus *cpus, const struct boot_entry *entry, struct err *err);

/* Lets all that are not halted run. Never blocks. Main thread or the machine's worker. Starting the
 * running changes nothing; cpus_resume() is the same under the name of the other direction. */
void cpus_start(struct cpus *cpus);
void cpus_resume(struct cpus *cpus);

/*
 * Asks all to park: holds `q` once for each that is not, which the vCPU's thread releases once it
 * is. Never blocks. Already parked: holds nothing. A resume that overtakes it releases too. A
 * second pause before the first is through: `q` must be the same. Main thread or the machine's
 * worker.
 */
void cpus_pause(struct cpus *cpus, struct quiesce *q);

/* Ends the threads and waits for them; whatever else was asked of them. Not from a vCPU's thread.
 * Once stopped, the others do nothing. */
void cpus_stop(struct cpus *cpus);

/* Gives each vCPU an NMI; one that is parked gets it when it runs. Never blocks. Any thread. */
void cpus_nmi(struct cpus *cpus);

/* From within a handler on a vCPU's thread (a reset register was written): that vCPU is halted once
 * the handler returns. On other threads it does nothing. */
void cpus_halt_caller(void);

/* Whether the calling thread is a vCPU of any machine: its index, else -1. */
int cpus_current(void);

/* Of the vCPUs that exist, and of vCPU `index` (0 <= index < max_vcpus for the APIC id). */
unsigned cpus_count(const struct cpus *cpus);
uint32_t cpus_apic_id(const struct cpus *cpus, unsigned index);
const struct cpu_counters *cpus_counters(const struct cpus *cpus, unsigned index);

/* The guest's TSC frequency in kHz, 0 when the host cannot tell. */
unsigned cpus_tsc_khz(const struct cpus *cpus);

/*
 * All vCPUs' state and the VM's clock as records. Every vCPU is parked. Return 0 or negative errno;
 * cpus_load() refuses another number of vCPUs or APIC ids (-EPROTO) and malformed records
 * (-EBADMSG); after a failure the vCPUs must be given a boot state before they may run.
 */
int cpus_save(struct cpus *cpus, struct buf *out, struct err *err);
int cpus_load(struct cpus *cpus, struct cursor *in, struct err *err);

#endif
