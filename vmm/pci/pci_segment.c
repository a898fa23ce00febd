/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment: its slots, the two ways to configuration space, and the windows for BARs.
 *
 * Theory of operation
 *
 * A configuration access holds the segment's read lock throughout, so pci_detach(), which takes the
 * write lock, leaves no access behind that still uses the function. Lock order: segment, device,
 * MSI-X, router and bus.
 *
 * An access that is not 1, 2 or 4 bytes within one dword is nobody's: reads give ones, writes are
 * dropped (PCI Express 5.0, 7.2.2, leaves them to the implementation). The extended space above 256
 * bytes reads zero, which says that there are no extended capabilities (7.6.1).
 */
#include "base/endian.h"
#include "base/log.h"
#include "base/state.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/layout.h"
#include "vmm/pci/pci_internal.h"
#include "vmm/pci/pci_regs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FUNCTION_SIZE 4096U
#define DEVICE_SIZE   (FUNCTION_SIZE * 8)

/* CONFIG_ADDRESS, PCI Local Bus 3.0, 3.2.2.3.2. Bits 27:24 are reserved there; some AMD chipsets
 * extend the register number by them, and Linux may write them. */
#define ADDRESS_ENABLE	 0x80000000U
#define ADDRESS_WRITABLE 0x8ffffffcU

#define CONFIG_ADDRESS_OFFSET 0
#define CONFIG_DATA_OFFSET    4

/* --- configuration accesses --- */

static bool within_dword(uint64_t offset, unsigned len)
{
	return len <= 4 && (offset & 3) + len <= 4;
}

/* `where`: ECAM offset within the segment's one bus. */
static uint32_t config_read(struct pci_segment *segment, uint64_t where, unsigned len)
{
	unsigned slot = (unsigned)(where / DEVICE_SIZE);
	unsigned function = (unsigned)(where % DEVICE_SIZE / FUNCTION_SIZE);
	unsigned offset = (unsigned)(where % FUNCTION_SIZE);
	uint32_t value = UINT32_MAX;

	if (slot >= PCI_SLOTS || function || !within_dword(offset, len))
		return value;
	pthread_rwlock_rdlock(&segment->lock);
	if (segment->devices[slot])
		value = offset < PCI_CONFIG_SIZE
				? pci_device_config_read(segment->devices[slot], offset, len)
				: 0;
	pthread_rwlock_unlock(&segment->lock);
	return value;
}

static void config_write(struct pci_segment *segment, uint64_t where, uint32_t value, unsigned len)
{
	unsigned slot = (unsigned)(where / DEVICE_SIZE);
	unsigned function = (unsigned)(where % DEVICE_SIZE / FUNCTION_SIZE);
	unsigned offset = (unsigned)(where % FUNCTION_SIZE);

	if (slot >= PCI_SLOTS || function || !within_dword(offset, len) ||
	    offset >= PCI_CONFIG_SIZE)
		return;
	pthread_rwlock_rdlock(&segment->lock);
	if (segment->devices[slot])
		pci_device_config_write(segment->devices[slot], offset, value, len);
	pthread_rwlock_unlock(&segment->lock);
}

static void ecam_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	if (len == 8)
		memset(data, 0xff, len);
	else
		le_store(data, config_read(arg, offset, len), len);
}

static void ecam_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	if (len != 8)
		config_write(arg, offset, (uint32_t)le_load(data, len), len);
}

static const struct bus_ops ecam_ops = {
	.read = ecam_read,
	.write = ecam_write,
};

/* The ECAM offset that CONFIG_ADDRESS means, or false when it means nothing here. */
static bool port_target(struct pci_segment *segment, unsigned byte, uint64_t *ret_where)
{
	uint32_t address = segment->config_address;

	if (!(address & ADDRESS_ENABLE) || (address >> 16 & 0xff) != 0)
		return false;
	*ret_where = (uint64_t)(address >> 8 & 0xff) * FUNCTION_SIZE | (address >> 24 & 0xf) << 8 |
		     (address & 0xfc) | byte;
	return true;
}

static void ports_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct pci_segment *segment = arg;
	uint32_t value = UINT32_MAX;
	uint64_t where;

	memset(data, 0xff, len);
	if (offset == CONFIG_ADDRESS_OFFSET && len == 4)
		value = segment->config_address;
	else if (offset >= CONFIG_DATA_OFFSET && within_dword(offset, len) &&
		 port_target(segment, offset & 3, &where))
		value = config_read(segment, where, len);
	if (len <= 4)
		le_store(data, value, len);
}

static void ports_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct pci_segment *segment = arg;
	uint64_t where;

	/* Only a dword access is one to CONFIG_ADDRESS. */
	if (offset == CONFIG_ADDRESS_OFFSET && len == 4)
		segment->config_address = (uint32_t)le_load(data, len) & ADDRESS_WRITABLE;
	else if (offset >= CONFIG_DATA_OFFSET && within_dword(offset, len) &&
		 port_target(segment, offset & 3, &where))
		config_write(segment, where, (uint32_t)le_load(data, len), len);
}

static const struct bus_ops ports_ops = {
	.read = ports_read,
	.write = ports_write,
};

/* --- windows --- */

static bool over_ram(const struct pci_segment *segment, uint64_t base, uint64_t size)
{
	const struct guest_memory *mem = segment->params.memory;

	for (size_t i = 0; mem && i < mem->num_regions; i++)
		if (ranges_overlap(base, size, mem->regions[i].start.v, mem->regions[i].size_bytes))
			return true;
	return false;
}

bool pci_segment_bar_allowed(const struct pci_segment *segment, uint64_t base, uint64_t size,
			     bool is64)
{
	const struct pci_segment_params *p = &segment->params;

	if (!range_within(base, size, p->mmio32_base, p->mmio32_size) &&
	    !(is64 && range_within(base, size, p->mmio64_base, p->mmio64_size)))
		return false;
	return !over_ram(segment, base, size);
}

/* The end of a BAR of `d` that lies over [base, base + size), now or after a reset; 0 if none does.
 */
static uint64_t device_conflict(const struct pci_device *d, uint64_t base, uint64_t size)
{
	for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
		const struct pci_bar *bar = &d->bars[i];

		if (!bar->used || !bar->home)
			continue;
		if (ranges_overlap(base, size, bar->home, bar->size_bytes))
			return bar->home + bar->size_bytes;
		if (bar->mapped && ranges_overlap(base, size, bar->base, bar->size_bytes))
			return bar->base + bar->size_bytes;
	}
	return 0;
}

/* The same over all functions and the newcomer itself. */
static uint64_t conflict_end(const struct pci_segment *segment, const struct pci_device *pdev,
			     uint64_t base, uint64_t size)
{
	uint64_t end = device_conflict(pdev, base, size);

	for (unsigned slot = 0; !end && slot < PCI_SLOTS; slot++)
		if (segment->devices[slot])
			end = device_conflict(segment->devices[slot], base, size);
	return end;
}

/* First fit, naturally aligned. Returns the address or 0. */
static uint64_t find_place(const struct pci_segment *segment, const struct pci_device *pdev,
			   uint64_t window, uint64_t window_size, uint64_t size)
{
	uint64_t base = align_up(window, size);

	while (base >= window && range_within(base, size, window, window_size)) {
		uint64_t end = conflict_end(segment, pdev, base, size);

		if (!end && !over_ram(segment, base, size))
			return base;
		base = align_up(end ? end : base + size, size);
	}
	return 0;
}

/* Gives every BAR its home address, the largest first, so that small ones do not split the window.
 */
static int assign_bars(struct pci_segment *segment, struct pci_device *pdev, struct err *err)
{
	const struct pci_segment_params *p = &segment->params;

	for (;;) {
		struct pci_bar *bar = NULL;
		uint64_t base = 0;

		for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
			struct pci_bar *b = &pdev->bars[i];

			if (b->used && !b->home && (!bar || b->size_bytes > bar->size_bytes))
				bar = b;
		}
		if (!bar)
			return 0;
		if (bar->is64)
			base = find_place(segment, pdev, p->mmio64_base, p->mmio64_size,
					  bar->size_bytes);
		if (!base)
			base = find_place(segment, pdev, p->mmio32_base, p->mmio32_size,
					  bar->size_bytes);
		if (!base)
			return err_set(err, -ENOSPC,
				       "No address space is left for BAR %u (%llu bytes) of %s in "
				       "PCI segment %u",
				       bar->index, (unsigned long long)bar->size_bytes, pdev->name,
				       p->number);
		pci_device_set_home(pdev, bar->index, base);
	}
}

void pci_segment_retry_bars(struct pci_segment *segment, const struct pci_device *pdev)
{
	pthread_rwlock_rdlock(&segment->lock);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (segment->devices[slot] && segment->devices[slot] != pdev)
			pci_device_update_bars(segment->devices[slot]);
	pthread_rwlock_unlock(&segment->lock);
}

/* --- slots --- */

static int choose_slot(const struct pci_segment *segment, const struct pci_device *pdev, int slot,
		       struct err *err)
{
	unsigned number = segment->params.number;

	if (slot >= PCI_SLOTS)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: PCI slot %d does not exist, the last is %d", pdev->name,
				    slot, PCI_SLOTS - 1);
	if (slot >= 0) {
		if (segment->devices[slot])
			return err_set(err, -EBUSY, "%s: slot %d of PCI segment %u holds %s",
				       pdev->name, slot, number, segment->devices[slot]->name);
		return slot;
	}
	for (slot = 0; slot < PCI_SLOTS; slot++)
		if (!segment->devices[slot])
			return slot;
	return err_set(err, -ENOSPC, "%s: PCI segment %u has no free slot", pdev->name, number);
}

static void forget_homes(struct pci_device *pdev)
{
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		if (pdev->bars[i].used)
			pci_device_set_home(pdev, i, 0);
}

int pci_attach(struct pci_segment *segment, struct pci_device *pdev, int slot, struct err *err)
{
	bool has_bars = false;
	int rc;

	if (pdev->segment)
		return err_set(err, -EBUSY, "%s is in a slot already", pdev->name);
	pthread_rwlock_wrlock(&segment->lock);
	slot = choose_slot(segment, pdev, slot, err);
	if (slot < 0) {
		pthread_rwlock_unlock(&segment->lock);
		return slot;
	}
	rc = assign_bars(segment, pdev, err);
	if (rc < 0) {
		forget_homes(pdev);
		pthread_rwlock_unlock(&segment->lock);
		return rc;
	}
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		has_bars |= pdev->bars[i].used;
	if (has_bars)
		pdev->config[PCI_REG_COMMAND] |= PCI_COMMAND_MEMORY;
	memcpy(pdev->power_on, pdev->config, sizeof(pdev->power_on));
	pdev->segment = segment;
	pdev->slot = (unsigned)slot;
	pci_device_update_bars(pdev);
	segment->devices[slot] = pdev;
	pthread_rwlock_unlock(&segment->lock);
	return slot;
}

void pci_detach(struct pci_device *pdev)
{
	struct pci_segment *segment = pdev->segment;

	if (!segment)
		return;
	pthread_rwlock_wrlock(&segment->lock);
	segment->devices[pdev->slot] = NULL;
	pthread_rwlock_unlock(&segment->lock);
	pci_device_remove_bars(pdev);
	forget_homes(pdev);
	pdev->segment = NULL;
}

/* --- the segment --- */

static int add_bridge(struct pci_segment *segment, struct err *err)
{
	static const struct pci_device_id id = {
		.vendor = 0x8086, .device = 0x0d57, .class_code = 0x06, /* bridge: host */
	};
	int rc = pci_device_init(&segment->bridge, NULL, "host-bridge", &id);

	if (rc < 0)
		return err_set_errno(err, rc, "Cannot create the host bridge");
	segment->has_bridge = true;
	rc = pci_attach(segment, &segment->bridge, 0, err);
	return rc < 0 ? rc : 0;
}

static int add_ranges(struct pci_segment *segment, struct err *err)
{
	int rc;

	segment->ecam = (struct bus_range){
		.name = "pci-ecam",
		.ops = &ecam_ops,
		.arg = segment,
		.base = segment->params.ecam_base,
		.size_bytes = LAYOUT_ECAM_SEGMENT,
	};
	rc = bus_add(segment->mmio, &segment->ecam, err);
	if (rc < 0 || !segment->pio)
		return rc;
	segment->ports = (struct bus_range){
		.name = "pci-config-ports",
		.ops = &ports_ops,
		.arg = segment,
		.base = LAYOUT_PORT_PCI_CONFIG,
		.size_bytes = 8,
	};
	return bus_add(segment->pio, &segment->ports, err);
}

int pci_segment_new(const struct pci_segment_params *params, struct bus *mmio, struct bus *pio,
		    struct pci_segment **ret_segment, struct err *err)
{
	struct pci_segment *segment = calloc(1, sizeof(*segment));
	int rc;

	if (!segment)
		return err_set_errno(err, -ENOMEM, "Cannot create PCI segment %u", params->number);
	segment->params = *params;
	segment->mmio = mmio;
	segment->pio = params->number == 0 ? pio : NULL;
	pthread_rwlock_init(&segment->lock, NULL);
	rc = add_ranges(segment, err);
	if (rc >= 0 && params->number == 0)
		rc = add_bridge(segment, err);
	if (rc < 0) {
		pci_segment_free(segment);
		return rc;
	}
	*ret_segment = segment;
	return 0;
}

void pci_segment_free(struct pci_segment *segment)
{
	if (!segment)
		return;
	bus_remove(segment->mmio, &segment->ecam);
	if (segment->pio)
		bus_remove(segment->pio, &segment->ports);
	if (segment->has_bridge) {
		pci_detach(&segment->bridge);
		pci_device_fini(&segment->bridge);
	}
	pthread_rwlock_destroy(&segment->lock);
	free(segment);
}

const struct pci_segment_params *pci_segment_params(const struct pci_segment *segment)
{
	return &segment->params;
}

void pci_segment_reset(struct pci_segment *segment)
{
	segment->config_address = 0;
	if (segment->has_bridge)
		pci_device_reset(&segment->bridge);
}

struct segment_image {
	uint32_t config_address;
};

static const struct state_field segment_fields[] = {
	STATE_FIELD(STATE_U32, struct segment_image, config_address),
};

static const struct state_layout segment_layout = {
	.name = "pci-segment",
	.version = 1,
	.fields = segment_fields,
	.num_fields = ARRAY_SIZE(segment_fields),
	.struct_size = sizeof(struct segment_image),
};

int pci_segment_save(struct pci_segment *segment, struct buf *out)
{
	struct segment_image image = {.config_address = segment->config_address};
	int rc = state_save(out, &segment_layout, &image);

	if (rc >= 0 && segment->has_bridge)
		rc = pci_device_save(&segment->bridge, out);
	return rc;
}

int pci_segment_load(struct pci_segment *segment, struct cursor *in, struct err *err)
{
	struct segment_image image;
	int rc = state_load(in, &segment_layout, &image, err);

	if (rc < 0)
		return rc;
	segment->config_address = image.config_address & ADDRESS_WRITABLE;
	return segment->has_bridge ? pci_device_load(&segment->bridge, in, err) : 0;
}
