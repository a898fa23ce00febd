/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for ids, for what all PCI devices share, and for the topology of segments and nodes. */
#include "vmm/config/config_table.h"
#include "vmm/config/config_validate.h"

#include <stdio.h>
#include <string.h>

/* --- ids -------------------------------------------------------------------------------------- */

/*
 * An id ends up in thread names, event streams and file names. Some readers of the event stream
 * count braces without understanding strings, so an id has none.
 */
static int validate_id(const char *id, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX];

	config_quote(id, quoted);
	if (!*id)
		return CONFIG_BAD(err, "an id is empty");
	if (strncmp(id, "__", 2) == 0)
		return CONFIG_BAD(err, "id \"%s\": two underscores at the start are reserved",
				  quoted);
	for (const char *p = id; *p; p++) {
		if (*p <= ' ' || *p > '~' || strchr("{}\"\\", *p))
			return CONFIG_BAD(err, "id \"%s\": has a character that no id may have",
					  quoted);
	}
	return 0;
}

static const struct config_field *find_row(const struct config_table *table, const char *name)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		if (table->fields[i].name && strcmp(table->fields[i].name, name) == 0)
			return &table->fields[i];
	}
	return NULL;
}

/* Gathers the ids of one member's objects into ids (NULL: only counts). Returns how many. */
static size_t gather_ids(const struct config_field *field, const void *obj, const char **ids)
{
	const struct config_field *row = field->table ? find_row(field->table, "id") : NULL;
	size_t count, n = 0;
	char *objects = config_objects_at(field, (void *)(uintptr_t)obj, &count);

	for (size_t i = 0; row && i < count; i++) {
		char **place = (void *)(objects + i * field->table->size + row->offset);

		if (*place && ids)
			ids[n] = *place;
		n += *place ? 1 : 0;
	}
	return n;
}

static size_t gather_all(const struct vm_config *config, const char **ids)
{
	size_t n = gather_ids(find_row(&memory_config_table, "zones"), &config->memory, ids);

	for (size_t i = 0; i < vm_config_table.num_fields; i++)
		n += gather_ids(&vm_config_table.fields[i], config, ids ? ids + n : NULL);
	return n;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int config_validate_ids(const struct vm_config *config, struct err *err)
{
	size_t n = gather_all(config, NULL);
	AUTO_FREE const char **ids = calloc(n + 1, sizeof(*ids));
	char quoted[CONFIG_QUOTE_MAX];
	int r;

	if (!ids)
		return err_set(err, -ENOMEM, "out of memory while checking the configuration");
	gather_all(config, ids);
	qsort(ids, n, sizeof(*ids), compare);
	for (size_t i = 0; i < n; i++) {
		r = validate_id(ids[i], err);
		if (r < 0)
			return r;
		if (i > 0 && strcmp(ids[i - 1], ids[i]) == 0)
			return err_set_kind(err, ERR_CONFLICT, -EEXIST, "id \"%s\" is used twice",
					    config_quote(ids[i], quoted));
	}
	return 0;
}

/* --- what all PCI devices share --------------------------------------------------------------- */

static uint16_t num_segments(const struct vm_config *config)
{
	return config->platform ? config->platform->num_pci_segments : 1;
}

static bool is_iommu_segment(const struct vm_config *config, uint16_t segment)
{
	const struct platform_config *p = config->platform;

	for (size_t i = 0; p && i < p->num_iommu_segments; i++) {
		if (p->iommu_segments[i] == segment)
			return true;
	}
	return false;
}

static bool can_iommu(const struct config_table *table)
{
	return table != &fs_config_table && table != &generic_vhost_user_config_table &&
	       table != &user_device_config_table && table != &ivshmem_config_table;
}

static int validate_pci(const struct vm_config *config, const struct config_table *table,
			const struct pci_device_config *pci, const char *where, struct err *err)
{
	if (pci->iommu && !can_iommu(table))
		return CONFIG_BAD(err, "%s.iommu: such a device cannot be behind the IOMMU", where);
	if (pci->pci_segment >= num_segments(config))
		return CONFIG_BAD(err, "%s.pci_segment: is %u, the platform has %u segments", where,
				  pci->pci_segment, num_segments(config));
	if (is_iommu_segment(config, pci->pci_segment) && !pci->iommu)
		return CONFIG_BAD(err, "%s.pci_segment: %u is an IOMMU segment, iommu is off",
				  where, pci->pci_segment);
	if (pci->has_pci_device_id && pci->pci_device_id > 31)
		return CONFIG_BAD(err, "%s.pci_device_id: is %u, 31 at most", where,
				  pci->pci_device_id);
	if (pci->has_pci_device_id && pci->pci_device_id == 0 && pci->pci_segment == 0)
		return CONFIG_BAD(err, "%s.pci_device_id: 0 is the host bridge", where);
	return 0;
}

/* Whether objects of the table start with a struct pci_device_config. */
static bool is_pci(const struct config_table *table)
{
	const struct config_field *row = find_row(table, "pci_device_id");

	return row && row->offset == offsetof(struct pci_device_config, pci_device_id);
}

int config_validate_pci(const struct vm_config *config, struct err *err)
{
	for (size_t i = 0; i < vm_config_table.num_fields; i++) {
		const struct config_field *field = &vm_config_table.fields[i];
		size_t count;
		char *objects = config_objects_at(field, (void *)(uintptr_t)config, &count);

		for (size_t k = 0; k < count && is_pci(field->table); k++) {
			char where[64];
			int r;

			snprintf(where, sizeof(where),
				 field->kind == CONFIG_OBJECT_LIST ? "%s[%zu]" : "%s", field->name,
				 k);
			r = validate_pci(config, field->table,
					 (void *)(objects + k * field->table->size), where, err);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* --- platform and segments -------------------------------------------------------------------- */

static int validate_segments(const struct vm_config *config, struct err *err)
{
	bool seen[MAX_PCI_SEGMENTS] = {false};

	for (size_t i = 0; i < config->num_pci_segments; i++) {
		const struct pci_segment_config *s = &config->pci_segments[i];

		if (s->pci_segment >= num_segments(config))
			return CONFIG_BAD(err,
					  "pci_segments[%zu]: there is no segment %u, the platform "
					  "has %u",
					  i, s->pci_segment, num_segments(config));
		if (seen[s->pci_segment])
			return CONFIG_BAD(err, "pci_segments[%zu]: segment %u is given twice", i,
					  s->pci_segment);
		seen[s->pci_segment] = true;
		if (!s->mmio32_aperture_weight || !s->mmio64_aperture_weight)
			return CONFIG_BAD(err, "pci_segments[%zu]: a weight is 0", i);
	}
	return 0;
}

int config_validate_platform(const struct vm_config *config, struct err *err)
{
	const struct platform_config *p = config->platform;

	if (!p)
		return validate_segments(config, err);
	if (p->num_pci_segments == 0 || p->num_pci_segments > MAX_PCI_SEGMENTS)
		return CONFIG_BAD(err, "platform.num_pci_segments: is %u, not within 1 to %d",
				  p->num_pci_segments, MAX_PCI_SEGMENTS);
	for (size_t i = 0; i < p->num_iommu_segments; i++) {
		if (p->iommu_segments[i] >= p->num_pci_segments)
			return CONFIG_BAD(err,
					  "platform.iommu_segments[%zu]: there is no segment %u", i,
					  p->iommu_segments[i]);
	}
	if (p->iommu_address_width_bits > 64)
		return CONFIG_BAD(err, "platform.iommu_address_width_bits: is %u, 64 at most",
				  p->iommu_address_width_bits);
	if (p->has_iommufd_fd && !p->iommufd)
		return CONFIG_BAD(err, "platform.iommufd_fd: is given without iommufd");
	if (p->sev_snp && (!config->payload || !config->payload->igvm))
		return CONFIG_BAD(err, "platform.sev_snp: needs payload.igvm");
	return validate_segments(config, err);
}

/* --- NUMA ------------------------------------------------------------------------------------- */

struct numa_seen {
	bool segment[MAX_PCI_SEGMENTS];
	uint8_t cpu[CONFIG_MAX_VCPUS / 8];
	bool zone[512];
};

static_assert(ARRAY_SIZE(((struct numa_seen *)0)->zone) == 512, "as many as there can be zones");

static int validate_node_cpus(const struct vm_config *config, size_t i, struct numa_seen *seen,
			      struct err *err)
{
	const struct numa_config *node = &config->numa[i];

	for (size_t k = 0; k < node->num_cpus; k++) {
		uint32_t cpu = node->cpus[k];

		if (cpu >= config->cpus.max_vcpus)
			return CONFIG_BAD(err, "numa[%zu].cpus: there is no vCPU %u", i, cpu);
		if (seen->cpu[cpu / 8] >> cpu % 8 & 1)
			return CONFIG_BAD(err, "numa[%zu].cpus: vCPU %u is named twice", i, cpu);
		seen->cpu[cpu / 8] |= (uint8_t)(1U << cpu % 8);
	}
	return 0;
}

static int validate_node_zones(const struct vm_config *config, size_t i, struct numa_seen *seen,
			       struct err *err)
{
	const struct numa_config *node = &config->numa[i];
	const struct memory_config *memory = &config->memory;
	size_t num_zones = MIN(memory->num_zones, ARRAY_SIZE(seen->zone));
	char quoted[CONFIG_QUOTE_MAX];

	for (size_t k = 0; k < node->num_memory_zones; k++) {
		size_t z = 0;

		while (z < num_zones && strcmp(memory->zones[z].id, node->memory_zones[k]) != 0)
			z++;
		config_quote(node->memory_zones[k], quoted);
		if (z == num_zones)
			return CONFIG_BAD(err, "numa[%zu].memory_zones: there is no zone \"%s\"", i,
					  quoted);
		if (seen->zone[z])
			return CONFIG_BAD(err, "numa[%zu].memory_zones: zone \"%s\" is named twice",
					  i, quoted);
		seen->zone[z] = true;
	}
	return 0;
}

static int validate_node_segments(const struct vm_config *config, size_t i, struct numa_seen *seen,
				  struct err *err)
{
	const struct numa_config *node = &config->numa[i];

	for (size_t k = 0; k < node->num_pci_segments; k++) {
		uint16_t segment = node->pci_segments[k];

		if (segment >= num_segments(config))
			return CONFIG_BAD(err, "numa[%zu].pci_segments: there is no segment %u", i,
					  segment);
		if (segment == 0 && node->guest_numa_id != 0)
			return CONFIG_BAD(err,
					  "numa[%zu].pci_segments: segment 0 belongs to node 0", i);
		if (seen->segment[segment])
			return CONFIG_BAD(err, "numa[%zu].pci_segments: segment %u is named twice",
					  i, segment);
		seen->segment[segment] = true;
	}
	return 0;
}

static int validate_node(const struct vm_config *config, size_t i, struct err *err)
{
	const struct numa_config *node = &config->numa[i];

	for (size_t k = 0; k < i; k++) {
		if (config->numa[k].guest_numa_id == node->guest_numa_id)
			return CONFIG_BAD(err, "numa[%zu]: node %u is given twice", i,
					  node->guest_numa_id);
	}
	if (node->device_id && (node->num_cpus || node->num_memory_zones))
		return CONFIG_BAD(err, "numa[%zu].device_id: excludes cpus and memory_zones", i);
	if (!node->device_id && !node->num_cpus && !node->num_memory_zones)
		return CONFIG_BAD(err, "numa[%zu]: has neither cpus, memory_zones nor device_id",
				  i);
	return 0;
}

int config_validate_numa(const struct vm_config *config, struct err *err)
{
	struct numa_seen seen = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->num_numa; i++) {
		r = validate_node(config, i, err);
		if (r == 0)
			r = validate_node_cpus(config, i, &seen, err);
		if (r == 0)
			r = validate_node_zones(config, i, &seen, err);
		if (r == 0)
			r = validate_node_segments(config, i, &seen, err);
	}
	return r;
}
