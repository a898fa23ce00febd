/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu/cpuid.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <string.h>

#define BIT(n) (1u << (n))

#define LEAF_CACHES	    0x4
#define LEAF_TOPOLOGY	    0xb
#define LEAF_TSC	    0x15
#define LEAF_TOPOLOGY_V2    0x1f
#define LEAF_TIMING	    0x40000010
#define LEAF_AMD_CACHES	    0x8000001d
#define LEAF_AMD_TOPOLOGY   0x8000001e
#define LEAF_AMD_TOPOLOGY_X 0x80000026

/* Topology levels of 0xb and 0x1f. */
#define LEVEL_SMT  1
#define LEVEL_CORE 2
#define LEVEL_DIE  5

/* What a table may grow by: rebuilt topology leaves, timing. */
#define ROOM 16

/* KVM's local APIC counts nanoseconds. */
#define APIC_BUS_KHZ 1000000

#define VENDOR_INTEL 0x756e6547 /* EBX of leaf 0: "Genu" */

/* Index of the entry, cpuid->nent when there is none. */
static uint32_t position(const struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == function &&
		    (e->index == index || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
			break;
	}
	return i;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t function, uint32_t index)
{
	uint32_t i = position(cpuid, function, index);

	return i < cpuid->nent ? &cpuid->entries[i] : NULL;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t function,
					  uint32_t index)
{
	uint32_t i = position(cpuid, function, index);

	return i < cpuid->nent ? &cpuid->entries[i] : NULL;
}

unsigned cpuid_phys_bits(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0x80000008, 0);

	return e && (e->eax & 0xff) ? e->eax & 0xff : 36;
}

/* Takes all entries of a leaf out. */
static void drop(struct kvm_cpuid2 *cpuid, uint32_t function)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != function)
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

/* Adds an entry; ROOM was made for all that this file adds. */
static void add(struct kvm_cpuid2 *cpuid, struct kvm_cpuid_entry2 entry)
{
	cpuid->entries[cpuid->nent++] = entry;
}

static bool is_intel(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0, 0);

	return e && e->ebx == VENDOR_INTEL;
}

static uint32_t max_leaf(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(cpuid, 0, 0);

	return e ? e->eax : 0;
}

static void raise_max_leaf(struct kvm_cpuid2 *cpuid, uint32_t leaf)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, 0, 0);

	if (e && e->eax < leaf)
		e->eax = leaf;
}

static void set_bit(uint32_t *reg, unsigned bit, bool on)
{
	*reg = on ? *reg | BIT(bit) : *reg & ~BIT(bit);
}

/* --- features --------------------------------------------------------------------------------- */

static void set_features(struct kvm_cpuid2 *cpuid, const struct cpuid_params *params)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, 1, 0);

	if (e) {
		set_bit(&e->ecx, 31, true); /* running under a hypervisor */
		set_bit(&e->ecx, 24, params->tsc_deadline);
		set_bit(&e->edx, 12, true); /* MTRR */
		if (!params->nested)
			set_bit(&e->ecx, 5, false); /* VMX */
	}
	e = find(cpuid, 0x80000001, 0);
	if (e && !params->nested)
		set_bit(&e->ecx, 2, false); /* SVM */
	if (!params->nested)
		drop(cpuid, 0x8000000a);
	e = find(cpuid, 0x80000008, 0);
	if (e)
		e->eax = (e->eax & ~0xff00ffu) | params->phys_bits; /* 23:16: nested guests' */
}

/* Tile state, its instructions and its description. */
static void hide_amx(struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, 7, 0);

	if (e)
		e->edx &= ~(BIT(22) | BIT(24) | BIT(25));
	e = find(cpuid, 7, 1);
	if (e) {
		set_bit(&e->eax, 21, false);
		set_bit(&e->edx, 8, false);
	}
	e = find(cpuid, 0xd, 0);
	if (e)
		e->eax &= ~(BIT(17) | BIT(18));
	for (uint32_t i = 17; i <= 18; i++) {
		e = find(cpuid, 0xd, i);
		if (e)
			e->eax = e->ebx = e->ecx = e->edx = 0;
	}
	drop(cpuid, 0x1d);
	drop(cpuid, 0x1e);
}

static void set_kvm_leaves(struct kvm_cpuid2 *cpuid, const struct cpuid_params *params)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, KVM_CPUID_FEATURES, 0);

	if (e)
		set_bit(&e->eax, KVM_FEATURE_MSI_EXT_DEST_ID, params->msi_ext_dest_id);
	e = find(cpuid, KVM_CPUID_SIGNATURE, 0);
	if (!e || !params->tsc_khz)
		return;
	e->eax = MAX(e->eax, (uint32_t)LEAF_TIMING);
	drop(cpuid, LEAF_TIMING);
	add(cpuid, (struct kvm_cpuid_entry2){
			   .function = LEAF_TIMING,
			   .eax = params->tsc_khz,
			   .ebx = APIC_BUS_KHZ,
		   });
}

/* Leaf 0x15 gives the TSC as a ratio of a crystal that guests take to be the APIC timer's too. The
 * host's crystal is not that of KVM's APIC, so the ratio is restated on KVM's. */
static void set_tsc_ratio(struct kvm_cpuid2 *cpuid, const struct cpuid_params *params)
{
	drop(cpuid, LEAF_TSC);
	if (!is_intel(cpuid) || max_leaf(cpuid) < LEAF_TSC || !params->tsc_khz)
		return;
	add(cpuid, (struct kvm_cpuid_entry2){
			   .function = LEAF_TSC,
			   .eax = APIC_BUS_KHZ,
			   .ebx = params->tsc_khz,
			   .ecx = APIC_BUS_KHZ * 1000u,
		   });
}

/* --- topology --------------------------------------------------------------------------------- */

static unsigned threads_per_package(const struct cpu_topology *t)
{
	return t->threads_per_core * t->cores_per_die * t->dies_per_package;
}

static void set_logical_count(struct kvm_cpuid2 *cpuid, const struct cpu_topology *t,
			      struct cpu_topology_shifts s)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, 1, 0);
	unsigned threads = threads_per_package(t);
	unsigned ids = s.package < 8 ? 1u << s.package : 255; /* the field's width */

	if (e) {
		set_bit(&e->edx, 28, threads > 1); /* HTT: the count below is valid */
		e->ebx = (e->ebx & ~0x00ff0000u) | ids << 16;
	}
	if (is_intel(cpuid))
		return;
	e = find(cpuid, 0x80000001, 0);
	if (e)
		set_bit(&e->ecx, 1, threads > 1); /* CmpLegacy */
	e = find(cpuid, 0x80000008, 0);
	if (e)
		e->ecx = (e->ecx & ~0xf0ffu) | MIN(s.package, 15u) << 12 | MIN(threads - 1, 255u);
}

/* Who shares a cache: the threads of a core up to the second level, the die beyond. */
static void set_cache_sharing(struct kvm_cpuid2 *cpuid, struct cpu_topology_shifts s)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		unsigned level = e->eax >> 5 & 7;
		unsigned shift = level <= 2 ? s.core : s.die;

		if ((e->function != LEAF_CACHES && e->function != LEAF_AMD_CACHES) ||
		    !(e->eax & 0x1f))
			continue;
		e->eax = (e->eax & ~0x03ffc000u) | ((1u << MIN(shift, 12u)) - 1) << 14;
		if (e->function == LEAF_CACHES)
			e->eax = (e->eax & ~0xfc000000u) | ((1u << MIN(s.package - s.core, 6u)) - 1)
								   << 26;
	}
}

static void add_level(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index, unsigned type,
		      unsigned shift, unsigned threads)
{
	add(cpuid, (struct kvm_cpuid_entry2){
			   .function = leaf,
			   .index = index,
			   .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			   .eax = shift,
			   .ebx = threads & 0xffff,
			   .ecx = type << 8 | index,
		   });
}

static void set_topology_leaves(struct kvm_cpuid2 *cpuid, const struct cpu_topology *t,
				struct cpu_topology_shifts s)
{
	unsigned threads_per_die = t->threads_per_core * t->cores_per_die;

	drop(cpuid, LEAF_TOPOLOGY);
	drop(cpuid, LEAF_TOPOLOGY_V2);
	drop(cpuid, LEAF_AMD_TOPOLOGY_X); /* the host's own */
	raise_max_leaf(cpuid, LEAF_TOPOLOGY);
	add_level(cpuid, LEAF_TOPOLOGY, 0, LEVEL_SMT, s.core, t->threads_per_core);
	add_level(cpuid, LEAF_TOPOLOGY, 1, LEVEL_CORE, s.package, threads_per_package(t));
	add_level(cpuid, LEAF_TOPOLOGY, 2, 0, 0, 0);
	if (!is_intel(cpuid))
		return;
	if (t->dies_per_package > 1)
		raise_max_leaf(cpuid, LEAF_TOPOLOGY_V2);
	if (max_leaf(cpuid) < LEAF_TOPOLOGY_V2)
		return;
	add_level(cpuid, LEAF_TOPOLOGY_V2, 0, LEVEL_SMT, s.core, t->threads_per_core);
	add_level(cpuid, LEAF_TOPOLOGY_V2, 1, LEVEL_CORE, s.die, threads_per_die);
	if (t->dies_per_package > 1)
		add_level(cpuid, LEAF_TOPOLOGY_V2, 2, LEVEL_DIE, s.package, threads_per_package(t));
	add_level(cpuid, LEAF_TOPOLOGY_V2, t->dies_per_package > 1 ? 3 : 2, 0, 0, 0);
}

static void set_amd_topology(struct kvm_cpuid2 *cpuid, const struct cpu_topology *t,
			     uint32_t apic_id)
{
	struct cpu_topology_shifts s = cpu_topology_shifts(t);
	struct kvm_cpuid_entry2 *e = find(cpuid, LEAF_AMD_TOPOLOGY, 0);
	uint32_t in_package = apic_id & ((1u << s.package) - 1);
	uint32_t node = (apic_id >> s.package) * t->dies_per_package + (in_package >> s.die);

	if (!e)
		return;
	e->eax = apic_id;
	e->ebx = (t->threads_per_core - 1) << 8 | (in_package >> s.core & 0xff);
	e->ecx = MIN(t->dies_per_package - 1, 7u) << 8 | (node & 0xff);
}

void cpuid_set_apic_id(struct kvm_cpuid2 *cpuid, const struct cpu_topology *topology,
		       uint32_t apic_id)
{
	struct kvm_cpuid_entry2 *e = find(cpuid, 1, 0);

	if (e)
		e->ebx = (e->ebx & 0x00ffffffu) | apic_id << 24;
	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function == LEAF_TOPOLOGY ||
		    cpuid->entries[i].function == LEAF_TOPOLOGY_V2)
			cpuid->entries[i].edx = apic_id;
	if (!is_intel(cpuid))
		set_amd_topology(cpuid, topology, apic_id);
}

int cpuid_build(const struct kvm_cpuid2 *supported, const struct cpuid_params *params,
		struct kvm_cpuid2 **ret_cpuid)
{
	struct cpu_topology_shifts shifts = cpu_topology_shifts(&params->topology);
	struct kvm_cpuid2 *cpuid;

	cpuid = calloc(1, sizeof(*cpuid) +
				  (supported->nent + (size_t)ROOM) * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return -ENOMEM;
	cpuid->nent = supported->nent;
	memcpy(cpuid->entries, supported->entries, supported->nent * sizeof(cpuid->entries[0]));
	set_features(cpuid, params);
	if (!params->amx)
		hide_amx(cpuid);
	set_kvm_leaves(cpuid, params);
	set_tsc_ratio(cpuid, params);
	set_logical_count(cpuid, &params->topology, shifts);
	set_cache_sharing(cpuid, shifts);
	set_topology_leaves(cpuid, &params->topology, shifts);
	cpuid_set_apic_id(cpuid, &params->topology, 0);
	*ret_cpuid = cpuid;
	return 0;
}
