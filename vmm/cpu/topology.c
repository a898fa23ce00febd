/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/cpu/topology.h"

/* Bits that tell `count` things apart. */
static unsigned width(unsigned count)
{
	return count > 1 ? 32 - (unsigned)__builtin_clz(count - 1) : 0;
}

struct cpu_topology cpu_topology_flat(unsigned vcpus)
{
	return (struct cpu_topology){
		.threads_per_core = 1,
		.cores_per_die = vcpus,
		.dies_per_package = 1,
		.packages = 1,
	};
}

struct cpu_topology_shifts cpu_topology_shifts(const struct cpu_topology *topology)
{
	struct cpu_topology_shifts s;

	s.core = width(topology->threads_per_core);
	s.die = s.core + width(topology->cores_per_die);
	s.package = s.die + width(topology->dies_per_package);
	return s;
}

uint32_t cpu_topology_apic_id(const struct cpu_topology *topology, unsigned index)
{
	struct cpu_topology_shifts s = cpu_topology_shifts(topology);
	unsigned thread = index % topology->threads_per_core;
	unsigned core = index / topology->threads_per_core % topology->cores_per_die;
	unsigned dies = index / topology->threads_per_core / topology->cores_per_die;
	unsigned die = dies % topology->dies_per_package;
	unsigned package = dies / topology->dies_per_package;

	return package << s.package | die << s.die | core << s.core | thread;
}
