/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the guest's processors are arranged, and the APIC ids that follow from it. Pure functions.
 *
 * An APIC id is made of bit fields, lowest first: thread, core, die, package; each as wide as its
 * count needs. Counts that are no powers of two leave gaps, so ids are not indices. Intel SDM
 * volume 3, 9.9.
 */
#ifndef VMM_CPU_TOPOLOGY_H
#define VMM_CPU_TOPOLOGY_H

#include "base/util.h"

struct cpu_topology {
	unsigned threads_per_core;
	unsigned cores_per_die;
	unsigned dies_per_package;
	unsigned packages;
};

/* Widths of the fields of an APIC id, each counted from bit 0: to shift an id right by `core`
 * leaves what names a core. */
struct cpu_topology_shifts {
	unsigned core;	  /* past the thread field */
	unsigned die;	  /* past the core field */
	unsigned package; /* past the die field */
};

/* All vCPUs as cores of one package: guests start them faster than packages. */
struct cpu_topology cpu_topology_flat(unsigned vcpus);

struct cpu_topology_shifts cpu_topology_shifts(const struct cpu_topology *topology);

/* The APIC id of vCPU `index`, which also is its KVM id and its MADT entry's. */
uint32_t cpu_topology_apic_id(const struct cpu_topology *topology, unsigned index);

#endif
