/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One function's configuration space and BARs.
 *
 * Theory of operation
 *
 * config[] is what the guest reads; a write changes only bits set in writable[]. A BAR's address
 * bits below its size are not writable, so the sizing protocol (write ones, read back; 6.2.5.1)
 * needs nothing more. After each write that may matter, update_bar() compares where a BAR should
 * decode with where it does and tells the bus. An address that is not allowed, also that of a
 * sizing in progress, decodes nowhere.
 *
 * BAR handlers run without the lock; the bus keeps the range alive until the last one is out.
 */
#include "base/endian.h"
#include "base/log.h"
#include "base/state.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci_internal.h"
#include "vmm/pci/pci_regs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void put16(uint8_t *p, uint16_t v)
{
	le_store(p, v, sizeof(v));
}

int pci_device_init(struct pci_device *pdev, const struct pci_device_ops *ops, const char *name,
		    const struct pci_device_id *id)
{
	size_t len = strlen(name);

	memset(pdev, 0, sizeof(*pdev));
	if (len >= sizeof(pdev->name))
		return -ENAMETOOLONG;
	memcpy(pdev->name, name, len + 1);
	pthread_mutex_init(&pdev->lock, NULL);
	pdev->ops = ops;
	put16(&pdev->config[PCI_REG_VENDOR], id->vendor);
	put16(&pdev->config[PCI_REG_DEVICE], id->device);
	pdev->config[PCI_REG_REVISION] = id->revision;
	pdev->config[PCI_REG_PROG_IF] = id->prog_if;
	pdev->config[PCI_REG_SUBCLASS] = id->subclass;
	pdev->config[PCI_REG_CLASS] = id->class_code;
	put16(&pdev->config[PCI_REG_SUBSYS_VENDOR], id->subsystem_vendor);
	put16(&pdev->config[PCI_REG_SUBSYS], id->subsystem);
	put16(&pdev->writable[PCI_REG_COMMAND], PCI_COMMAND_WRITABLE);
	pdev->writable[PCI_REG_CACHE_LINE] = 0xff;
	pdev->writable[PCI_REG_INT_LINE] = 0xff;
	pdev->cap_end = PCI_HEADER_SIZE;
	return 0;
}

void pci_device_fini(struct pci_device *pdev)
{
	if (pdev && pdev->name[0])
		pthread_mutex_destroy(&pdev->lock);
}

/* --- BARs --- */

static void bar_bus_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct pci_bar *bar = arg;
	struct pci_device *pdev = bar->pdev;

	if (pdev->msix && msix_read(pdev->msix, bar->index, offset, data, len))
		return;
	pdev->ops->bar_read(pdev, bar->index, offset, data, len);
}

static void bar_bus_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct pci_bar *bar = arg;
	struct pci_device *pdev = bar->pdev;

	if (pdev->msix && msix_write(pdev->msix, bar->index, offset, data, len))
		return;
	pdev->ops->bar_write(pdev, bar->index, offset, data, len);
}

static const struct bus_ops bar_bus_ops = {
	.read = bar_bus_read,
	.write = bar_bus_write,
};

static unsigned bar_reg(unsigned index)
{
	return PCI_REG_BAR0 + index * 4;
}

int pci_device_add_bar(struct pci_device *pdev, unsigned index, uint64_t size_bytes, bool is64,
		       bool prefetchable)
{
	unsigned slots = is64 ? 2 : 1;
	struct pci_bar *bar;

	if (!pdev->ops || pdev->segment || index + slots > PCI_NUM_BARS ||
	    !is_power_of_two(size_bytes) || size_bytes < 4096 || (!is64 && size_bytes > GIB))
		return -EINVAL;
	if (pdev->bars[index].used || (is64 && pdev->bars[index + 1].used) ||
	    (index && pdev->bars[index - 1].used && pdev->bars[index - 1].is64))
		return -EEXIST;
	bar = &pdev->bars[index];
	bar->used = true;
	bar->is64 = is64;
	bar->prefetchable = prefetchable;
	bar->size_bytes = size_bytes;
	bar->pdev = pdev;
	bar->index = index;
	bar->range.name = pdev->name;
	bar->range.ops = &bar_bus_ops;
	bar->range.arg = bar;
	bar->range.size_bytes = size_bytes;
	pdev->config[bar_reg(index)] =
		(is64 ? PCI_BAR_64BIT : 0) | (prefetchable ? PCI_BAR_PREFETCHABLE : 0);
	le_store(&pdev->writable[bar_reg(index)], ~(size_bytes - 1), is64 ? 8 : 4);
	return 0;
}

/* The address in the BAR's registers. */
static uint64_t programmed_base(const struct pci_device *pdev, const struct pci_bar *bar)
{
	return le_load(&pdev->config[bar_reg(bar->index)], bar->is64 ? 8 : 4) & ~0xfULL;
}

void pci_device_set_home(struct pci_device *pdev, unsigned index, uint64_t base)
{
	struct pci_bar *bar = &pdev->bars[index];
	uint8_t *reg = &pdev->config[bar_reg(index)];

	bar->home = base;
	bar->base = base;
	le_store(reg, base | (*reg & 0xf), bar->is64 ? 8 : 4);
}

static void tell_moved(struct pci_bar *bar)
{
	struct pci_device *pdev = bar->pdev;

	if (pdev->ops->bar_moved)
		pdev->ops->bar_moved(pdev, bar->index, bar->mapped ? bar->base : 0, bar->mapped);
}

static void map_bar(struct pci_bar *bar)
{
	struct err err = ERR_INIT;

	bar->range.base = bar->base;
	if (bus_add(bar->pdev->segment->mmio, &bar->range, &err) < 0) {
		log_warn_limited("%s: BAR %u is not decoded: %s", bar->pdev->name, bar->index,
				 err_message(&err, 0));
		return;
	}
	bar->mapped = true;
	tell_moved(bar);
}

static void unmap_bar(struct pci_bar *bar)
{
	/* Without the wait: the handler that got us here may be this very BAR's. */
	bus_remove_nowait(bar->pdev->segment->mmio, &bar->range);
	bar->mapped = false;
	tell_moved(bar);
}

static void update_bar(struct pci_device *pdev, struct pci_bar *bar)
{
	uint64_t base = programmed_base(pdev, bar);
	bool decode = le_load(&pdev->config[PCI_REG_COMMAND], 2) & PCI_COMMAND_MEMORY &&
		      pci_segment_bar_allowed(pdev->segment, base, bar->size_bytes, bar->is64);

	if (bar->mapped && decode && bar->base == base)
		return;
	if (bar->mapped)
		unmap_bar(bar);
	__atomic_store_n(&bar->base, base, __ATOMIC_RELAXED);
	if (decode)
		map_bar(bar);
}

static void update_bars_locked(struct pci_device *pdev)
{
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		if (pdev->bars[i].used)
			update_bar(pdev, &pdev->bars[i]);
}

void pci_device_update_bars(struct pci_device *pdev)
{
	pthread_mutex_lock(&pdev->lock);
	update_bars_locked(pdev);
	pthread_mutex_unlock(&pdev->lock);
}

void pci_device_remove_bars(struct pci_device *pdev)
{
	pthread_mutex_lock(&pdev->lock);
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		if (pdev->bars[i].used && pdev->bars[i].mapped)
			unmap_bar(&pdev->bars[i]);
	pthread_mutex_unlock(&pdev->lock);

	/* The wait, without a lock that a handler might want. */
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		if (pdev->bars[i].used)
			bus_remove(pdev->segment->mmio, &pdev->bars[i].range);
}

/* --- capabilities --- */

int pci_device_add_capability(struct pci_device *pdev, uint8_t cap_id, const void *body,
			      unsigned len, const void *mask, bool hooked)
{
	unsigned offset = (unsigned)align_up(pdev->cap_end, 4);

	if (offset > PCI_CONFIG_SIZE - 2 || len > PCI_CONFIG_SIZE - 2 - offset)
		return -ENOSPC;
	pdev->config[pdev->cap_last ? pdev->cap_last : PCI_REG_CAP_POINTER] = (uint8_t)offset;
	pdev->config[PCI_REG_STATUS] |= PCI_STATUS_CAP_LIST;
	pdev->config[offset] = cap_id;
	pdev->config[offset + 1] = 0;
	memcpy(&pdev->config[offset + 2], body, len);
	if (mask)
		memcpy(&pdev->writable[offset + 2], mask, len);
	if (hooked)
		memset(&pdev->hooked[offset + 2], 1, len);
	pdev->cap_last = offset + 1;
	pdev->cap_end = offset + 2 + len;
	return (int)offset;
}

/* --- accesses --- */

static bool is_hooked(const struct pci_device *pdev, unsigned offset, unsigned len)
{
	for (unsigned i = offset; i < offset + len; i++)
		if (pdev->hooked[i])
			return true;
	return false;
}

uint32_t pci_device_config_read(struct pci_device *pdev, unsigned offset, unsigned len)
{
	uint32_t value;

	pthread_mutex_lock(&pdev->lock);
	if (pdev->ops && pdev->ops->config_reading && is_hooked(pdev, offset, len))
		pdev->ops->config_reading(pdev, offset, len);
	value = (uint32_t)le_load(&pdev->config[offset], len);
	pthread_mutex_unlock(&pdev->lock);
	return value;
}

void pci_device_config_write(struct pci_device *pdev, unsigned offset, uint32_t value, unsigned len)
{
	uint32_t old, mask;

	pthread_mutex_lock(&pdev->lock);
	old = (uint32_t)le_load(&pdev->config[offset], len);
	mask = (uint32_t)le_load(&pdev->writable[offset], len);
	le_store(&pdev->config[offset], (old & ~mask) | (value & mask), len);

	if (ranges_overlap(offset, len, PCI_REG_COMMAND, 2) ||
	    ranges_overlap(offset, len, PCI_REG_BAR0, PCI_NUM_BARS * 4))
		update_bars_locked(pdev);
	if (pdev->msix && ranges_overlap(offset, len, msix_cap_offset(pdev->msix) + 2, 2))
		msix_control_written(pdev->msix);
	if (pdev->ops && pdev->ops->config_written && is_hooked(pdev, offset, len))
		pdev->ops->config_written(pdev, offset, len);
	pthread_mutex_unlock(&pdev->lock);
}

/* --- reset, save, load --- */

void pci_device_reset(struct pci_device *pdev)
{
	pthread_mutex_lock(&pdev->lock);
	memcpy(pdev->config, pdev->power_on, sizeof(pdev->config));
	if (pdev->segment)
		update_bars_locked(pdev);
	pthread_mutex_unlock(&pdev->lock);
	if (pdev->msix)
		msix_reset(pdev->msix);
	/* This one's BARs may have lain where another's belong. */
	if (pdev->segment)
		pci_segment_retry_bars(pdev->segment, pdev);
}

struct pci_image {
	uint8_t config[PCI_CONFIG_SIZE];
	uint64_t home[PCI_NUM_BARS];
};

static const struct state_field pci_fields[] = {
	STATE_ARRAY(STATE_U8, struct pci_image, config),
	STATE_ARRAY(STATE_U64, struct pci_image, home),
};

static const struct state_layout pci_layout = {
	.name = "pci",
	.version = 1,
	.fields = pci_fields,
	.num_fields = ARRAY_SIZE(pci_fields),
	.struct_size = sizeof(struct pci_image),
};

int pci_device_save(struct pci_device *pdev, struct buf *out)
{
	struct pci_image image;
	int rc;

	pthread_mutex_lock(&pdev->lock);
	memcpy(image.config, pdev->config, sizeof(image.config));
	for (unsigned i = 0; i < PCI_NUM_BARS; i++)
		image.home[i] = pdev->bars[i].home;
	pthread_mutex_unlock(&pdev->lock);
	rc = state_save(out, &pci_layout, &image);
	if (rc >= 0 && pdev->msix)
		rc = msix_save(pdev->msix, out);
	return rc;
}

static int check_image(const struct pci_device *pdev, const struct pci_image *image,
		       struct err *err)
{
	for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
		const struct pci_bar *bar = &pdev->bars[i];

		if (!bar->used)
			continue;
		if (image->home[i] & (bar->size_bytes - 1) ||
		    !pci_segment_bar_allowed(pdev->segment, image->home[i], bar->size_bytes,
					     bar->is64))
			return err_set(err, -EBADMSG,
				       "State of %s puts BAR %u to 0x%llx, where it cannot be",
				       pdev->name, i, (unsigned long long)image->home[i]);
	}
	return 0;
}

int pci_device_load(struct pci_device *pdev, struct cursor *in, struct err *err)
{
	struct pci_image image;
	int rc;

	if (!pdev->segment)
		return err_set(err, -EINVAL, "%s is in no slot", pdev->name);
	rc = state_load(in, &pci_layout, &image, err);
	if (rc >= 0)
		rc = check_image(pdev, &image, err);
	if (rc < 0)
		return rc;

	pthread_mutex_lock(&pdev->lock);
	/* What the guest cannot change is as this program built it, not as the state says. */
	for (unsigned i = 0; i < PCI_CONFIG_SIZE; i++)
		pdev->config[i] = (pdev->config[i] & ~pdev->writable[i]) |
				  (image.config[i] & pdev->writable[i]);
	for (unsigned i = 0; i < PCI_NUM_BARS; i++) {
		struct pci_bar *bar = &pdev->bars[i];
		uint8_t *reg = &pdev->power_on[bar_reg(i)];

		if (!bar->used)
			continue;
		bar->home = image.home[i];
		le_store(reg, bar->home | (*reg & 0xf), bar->is64 ? 8 : 4);
	}
	update_bars_locked(pdev);
	pthread_mutex_unlock(&pdev->lock);
	pci_segment_retry_bars(pdev->segment, pdev);
	return pdev->msix ? msix_load(pdev->msix, in, err) : 0;
}

void pci_device_bdf(const struct pci_device *pdev, char *buf, size_t len)
{
	unsigned segment = pdev->segment ? pdev->segment->params.number : 0;

	snprintf(buf, len, "%04x:00:%02x.0", segment & 0xffffU, pdev->slot & 0x1fU);
}
