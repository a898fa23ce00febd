/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPUID that the guest sees: what the host's KVM supports, cut to what was asked for, with the
 * guest's own topology. Pure functions. Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E;
 * KVM's leaves: the kernel's Documentation/virt/kvm/x86/cpuid.rst.
 */
#ifndef VMM_CPU_CPUID_H
#define VMM_CPU_CPUID_H

#include "vmm/cpu/topology.h"
#include "vmm/kvm/kvm.h"

struct cpuid_params {
	struct cpu_topology topology;
	unsigned phys_bits;
	unsigned tsc_khz; /* 0: not known, not told */
	bool tsc_deadline;
	bool nested; /* keep VMX and SVM */
	bool amx;    /* keep AMX */
	bool msi_ext_dest_id;
};

/* Makes the table of all vCPUs but for their APIC ids. Returns 0 or -ENOMEM; *ret_cpuid is
 * malloced. */
int cpuid_build(const struct kvm_cpuid2 *supported, const struct cpuid_params *params,
		struct kvm_cpuid2 **ret_cpuid);

/* Makes it that of the vCPU with this APIC id. */
void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, const struct cpu_topology *topology,
		       uint32_t apic_id);

/* The entry, or NULL. `index` counts only where the leaf has subleaves. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t function,
					  uint32_t index);

/* Physical address bits by leaf 0x80000008; 36 where it is missing. */
unsigned cpuid_phys_bits(const struct kvm_cpuid2 *cpuid);

#endif
