/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for processors, memory, payload, and the order in which all rules are checked. */
#include "vmm/config/config_validate.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PAGE	   4096
#define MEMORY_MAX ((uint64_t)1 << 52)

/* --- processors ------------------------------------------------------------------------------- */

static int validate_topology(const struct cpus_config *cpus, struct err *err)
{
	const struct cpu_topology_config *t = cpus->topology;
	uint64_t count;

	if (!t)
		return 0;
	if (!t->threads_per_core || !t->cores_per_die || !t->dies_per_package || !t->packages)
		return CONFIG_BAD(err, "cpus.topology: no part may be 0");
	if (t->threads_per_core > 2)
		return CONFIG_BAD(err, "cpus.topology: threads_per_core is %u, 2 at most",
				  t->threads_per_core);
	count = (uint64_t)t->threads_per_core * t->cores_per_die * t->dies_per_package *
		t->packages;
	if (count != cpus->max_vcpus)
		return CONFIG_BAD(err, "cpus.topology: makes %llu CPUs, max_vcpus is %u",
				  (unsigned long long)count, cpus->max_vcpus);
	return 0;
}

static int validate_affinity(const struct cpus_config *cpus, struct err *err)
{
	uint8_t seen[CONFIG_MAX_VCPUS / 8] = {0};

	for (size_t i = 0; i < cpus->num_affinity; i++) {
		const struct cpu_affinity_config *a = &cpus->affinity[i];

		if (a->vcpu >= cpus->max_vcpus)
			return CONFIG_BAD(err, "cpus.affinity[%zu]: there is no vCPU %u", i,
					  a->vcpu);
		if (seen[a->vcpu / 8] >> a->vcpu % 8 & 1)
			return CONFIG_BAD(err, "cpus.affinity[%zu]: vCPU %u is named twice", i,
					  a->vcpu);
		seen[a->vcpu / 8] |= (uint8_t)(1U << a->vcpu % 8);
		if (a->num_host_cpus == 0)
			return CONFIG_BAD(err, "cpus.affinity[%zu]: names no host CPU", i);
		for (size_t k = 0; k < a->num_host_cpus; k++) {
			if (a->host_cpus[k] >= CONFIG_MAX_HOST_CPUS)
				return CONFIG_BAD(err, "cpus.affinity[%zu]: no host CPU %u", i,
						  a->host_cpus[k]);
		}
	}
	return 0;
}

int config_validate_cpus(const struct cpus_config *cpus, struct err *err)
{
	int r;

	if (cpus->boot_vcpus == 0)
		return CONFIG_BAD(err, "cpus.boot_vcpus: is 0, 1 at least");
	if (cpus->max_vcpus < cpus->boot_vcpus)
		return CONFIG_BAD(err, "cpus.max_vcpus: is %u, below boot_vcpus (%u)",
				  cpus->max_vcpus, cpus->boot_vcpus);
	if (cpus->max_vcpus > CONFIG_MAX_VCPUS)
		return CONFIG_BAD(err, "cpus.max_vcpus: is %u, %d at most", cpus->max_vcpus,
				  CONFIG_MAX_VCPUS);
	if (cpus->max_phys_bits < 32 || cpus->max_phys_bits > 64)
		return CONFIG_BAD(err, "cpus.max_phys_bits: is %u, not within 32 to 64",
				  cpus->max_phys_bits);
	r = validate_topology(cpus, err);
	return r < 0 ? r : validate_affinity(cpus, err);
}

/* --- memory ----------------------------------------------------------------------------------- */

/* What `memory` and each zone have in common. */
struct ram {
	const char *where;
	uint64_t size;
	uint64_t hotplug_size, hotplugged_size, hugepage_size;
	bool has_hotplug_size, has_hotplugged_size, has_hugepage_size;
	bool shared, mergeable, hugepages;
};

static int validate_hugepages(const struct ram *ram, struct err *err)
{
	if (!ram->has_hugepage_size)
		return 0;
	if (!ram->hugepages)
		return CONFIG_BAD(err, "%s.hugepage_size: is given without hugepages", ram->where);
	if (!is_power_of_two(ram->hugepage_size) || ram->hugepage_size < PAGE)
		return CONFIG_BAD(err, "%s.hugepage_size: %llu is no power of two from 4096 on",
				  ram->where, (unsigned long long)ram->hugepage_size);
	if (ram->size % ram->hugepage_size)
		return CONFIG_BAD(err, "%s.size: %llu is no multiple of hugepage_size (%llu)",
				  ram->where, (unsigned long long)ram->size,
				  (unsigned long long)ram->hugepage_size);
	return 0;
}

static int validate_ram(const struct ram *ram, struct err *err)
{
	if (ram->size == 0)
		return CONFIG_BAD(err, "%s.size: is 0", ram->where);
	if (ram->size % PAGE)
		return CONFIG_BAD(err, "%s.size: %llu is no multiple of the page size (4096)",
				  ram->where, (unsigned long long)ram->size);
	if (ram->size > MEMORY_MAX || ram->hotplug_size > MEMORY_MAX - ram->size)
		return CONFIG_BAD(err, "%s: size and hotplug_size are more than 2^52 bytes",
				  ram->where);
	if (ram->has_hotplug_size && ram->hotplug_size == 0)
		return CONFIG_BAD(err, "%s.hotplug_size: is 0", ram->where);
	if (ram->hotplug_size % PAGE)
		return CONFIG_BAD(err, "%s.hotplug_size: %llu is no multiple of 4096", ram->where,
				  (unsigned long long)ram->hotplug_size);
	if (ram->has_hotplugged_size && ram->hotplugged_size > ram->hotplug_size)
		return CONFIG_BAD(err, "%s.hotplugged_size: is above hotplug_size", ram->where);
	if (ram->shared && ram->mergeable)
		return CONFIG_BAD(err, "%s.mergeable: shared memory cannot be merged", ram->where);
	return validate_hugepages(ram, err);
}

static int validate_zone(const struct memory_config *memory, size_t i, struct err *err)
{
	const struct memory_zone_config *z = &memory->zones[i];
	char where[64];
	struct ram ram = {
		.where = where,
		.size = z->size,
		.hotplug_size = z->hotplug_size,
		.hotplugged_size = z->hotplugged_size,
		.hugepage_size = z->hugepage_size,
		.has_hotplug_size = z->has_hotplug_size,
		.has_hotplugged_size = z->has_hotplugged_size,
		.has_hugepage_size = z->has_hugepage_size,
		.shared = z->shared,
		.mergeable = z->mergeable,
		.hugepages = z->hugepages,
	};

	snprintf(where, sizeof(where), "memory.zones[%zu]", i);
	if (z->has_hotplug_size && memory->hotplug_method != HOTPLUG_METHOD_VIRTIO_MEM)
		return CONFIG_BAD(err, "%s.hotplug_size: needs memory.hotplug_method VirtioMem",
				  where);
	return validate_ram(&ram, err);
}

static int validate_zones(const struct memory_config *memory, struct err *err)
{
	uint64_t total = 0;

	if (memory->size)
		return CONFIG_BAD(err, "memory.size: must be 0 when there are zones");
	for (size_t i = 0; i < memory->num_zones; i++) {
		int r = validate_zone(memory, i, err);

		if (r < 0)
			return r;
		total += memory->zones[i].size; /* 512 times 2^52 fits */
		if (total > MEMORY_MAX)
			return CONFIG_BAD(err, "memory.zones: are more than 2^52 bytes together");
	}
	return 0;
}

int config_validate_memory(const struct memory_config *memory, struct err *err)
{
	struct ram ram = {
		.where = "memory",
		.size = memory->size,
		.hotplug_size = memory->hotplug_size,
		.hotplugged_size = memory->hotplugged_size,
		.hugepage_size = memory->hugepage_size,
		.has_hotplug_size = memory->has_hotplug_size,
		.has_hotplugged_size = memory->has_hotplugged_size,
		.has_hugepage_size = memory->has_hugepage_size,
		.shared = memory->shared,
		.mergeable = memory->mergeable,
		.hugepages = memory->hugepages,
	};

	return memory->num_zones ? validate_zones(memory, err) : validate_ram(&ram, err);
}

uint64_t config_memory_total(const struct memory_config *memory)
{
	uint64_t total = memory->size;

	for (size_t i = 0; i < memory->num_zones; i++)
		total += memory->zones[i].size;
	return total;
}

/* --- payload ---------------------------------------------------------------------------------- */

static int validate_fw_cfg_items(const struct fw_cfg_items_config *items, struct err *err)
{
	for (size_t i = 0; items && i < items->num_item_list; i++) {
		const struct fw_cfg_item_config *item = &items->item_list[i];

		if (!item->name || !*item->name)
			return CONFIG_BAD(err, "payload.fw_cfg_config: item %zu has no name", i);
		if (!item->file == !item->string)
			return CONFIG_BAD(err,
					  "payload.fw_cfg_config: item %zu needs either a file or "
					  "a string",
					  i);
	}
	return 0;
}

static int validate_fw_cfg(const struct payload_config *payload, struct err *err)
{
	const struct fw_cfg_config *fw = payload->fw_cfg_config;

	if (!fw)
		return 0;
	if (fw->kernel && !payload->kernel)
		return CONFIG_BAD(err, "payload.fw_cfg_config.kernel: there is no kernel");
	if (fw->cmdline && !payload->cmdline)
		return CONFIG_BAD(err, "payload.fw_cfg_config.cmdline: there is no cmdline");
	if (fw->initramfs && !payload->initramfs)
		return CONFIG_BAD(err, "payload.fw_cfg_config.initramfs: there is no initramfs");
	return validate_fw_cfg_items(fw->items, err);
}

static bool is_host_data(const char *text)
{
	return strspn(text, "0123456789abcdefABCDEF") == 64 && text[64] == '\0';
}

int config_validate_payload(const struct payload_config *payload, struct err *err)
{
	if (!payload || (!payload->kernel && !payload->firmware && !payload->igvm))
		return CONFIG_BAD(err, "payload: there is nothing to boot, neither kernel nor "
				       "firmware");
	if (payload->firmware && payload->kernel)
		return CONFIG_BAD(err, "payload: firmware and kernel exclude each other");
	if (payload->igvm && (payload->firmware || payload->kernel))
		return CONFIG_BAD(err, "payload: igvm excludes firmware and kernel");
	if (payload->host_data && !is_host_data(payload->host_data))
		return CONFIG_BAD(err, "payload.host_data: is not 64 hexadecimal digits");
	return validate_fw_cfg(payload, err);
}

/* --- the rest --------------------------------------------------------------------------------- */

int config_validate_landlock(const struct vm_config *config, struct err *err)
{
	for (size_t i = 0; i < config->num_landlock_rules; i++) {
		const struct landlock_rule_config *rule = &config->landlock_rules[i];

		if (!*rule->access || rule->access[strspn(rule->access, "rw")])
			return CONFIG_BAD(err, "landlock_rules[%zu].access: is not made of r and w",
					  i);
		if (access(rule->path, F_OK) < 0)
			return CONFIG_BAD(err, "landlock_rules[%zu].path: does not exist", i);
	}
	return 0;
}

int vm_config_validate(const struct vm_config *config, struct err *err)
{
	static int (*const parts[])(const struct vm_config *, struct err *) = {
		config_validate_platform,
		config_validate_ids,
		config_validate_pci,
		config_validate_numa,
		config_validate_rate_limit_groups,
		config_validate_disks,
		config_validate_net,
		config_validate_consoles,
		config_validate_virtio,
		config_validate_passthrough,
		config_validate_landlock,
	};
	int r = config_validate_cpus(&config->cpus, err);

	if (r == 0)
		r = config_validate_memory(&config->memory, err);
	if (r == 0)
		r = config_validate_payload(config->payload, err);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(parts); i++)
		r = parts[i](config, err);
	return r;
}
