/* SPDX-License-Identifier: Apache-2.0 */
/* What is plugged into a machine: one catalogue, in order of creation, which is also the order of
 * the automatic PCI slots. */
#include "base/log.h"
#include "net/tap.h"
#include "storage/block.h"
#include "vmm/config/vm_config.h"
#include "vmm/legacy/acpi_ged.h"
#include "vmm/legacy/acpi_pm.h"
#include "vmm/legacy/cmos_mc146818.h"
#include "vmm/legacy/debug_port.h"
#include "vmm/legacy/debugcon.h"
#include "vmm/legacy/i8042.h"
#include "vmm/legacy/pvpanic_pci.h"
#include "vmm/legacy/uart_16550.h"
#include "vmm/machine/backends.h"
#include "vmm/machine/machine_private.h"
#include "vmm/virtio/virtio_blk.h"
#include "vmm/virtio/virtio_console.h"
#include "vmm/virtio/virtio_net.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/virtio/virtio_rng.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FIRMWARE_PORT 0x402

/* Takes `dev` over: into the list, then realized. */
static int plug(struct machine *m, struct device *dev, struct pci_device *function, struct err *err)
{
	struct machine_node *node = calloc(1, sizeof(*node));
	int r;

	if (!node) {
		dev->ops->free(dev);
		return err_set(err, -ENOMEM, "out of memory");
	}
	node->dev = dev;
	node->function = function;
	list_add_tail(&m->nodes, &node->node);
	r = dev->ops->realize ? dev->ops->realize(dev, err) : 0;
	if (r < 0)
		return err_wrap(err, r, "device %s", dev->id);
	dev->realized = true;
	return 0;
}

/* --- PCI slots -------------------------------------------------------------------------------- */

static uint32_t slot_bit(const struct pci_device_config *pci)
{
	return pci->has_pci_device_id && pci->pci_device_id < PCI_SLOTS ? 1u << pci->pci_device_id
									: 0;
}

/* Slots that the configuration names: those who do not care keep out of them. */
static uint32_t named_slots(const struct vm_config *c)
{
	uint32_t named = slot_bit(&c->console.pci) | slot_bit(&c->rng.pci);

	for (size_t i = 0; i < c->num_disks; i++)
		named |= slot_bit(&c->disks[i].pci);
	for (size_t i = 0; i < c->num_net; i++)
		named |= slot_bit(&c->net[i].pci);
	return named;
}

/* The slot for a device with this configuration (NULL: it does not care), or -ENOSPC. */
static int choose_slot(struct machine *m, const struct pci_device_config *pci, struct err *err)
{
	uint32_t taken = m->used_slots | named_slots(m->config) | 1; /* 0: the host bridge */
	int slot =
		pci && pci->has_pci_device_id ? pci->pci_device_id : __builtin_ffs((int)~taken) - 1;

	if (slot < 0)
		return err_set(err, -ENOSPC, "no PCI slot is free");
	m->used_slots |= 1u << slot;
	return slot;
}

/* A virtio device and its PCI function; the function is the parent and is realized last, when the
 * device can take what comes. */
static int plug_virtio(struct machine *m, struct virtio_device *vdev,
		       const struct pci_device_config *pci, bool bar32, struct err *err)
{
	struct device *transport;
	int slot, r = plug(m, &vdev->dev, NULL, err);

	if (r < 0)
		return r;
	slot = r = choose_slot(m, pci, err);
	if (r >= 0)
		r = virtio_pci_new(&m->host, vdev, m->segment, slot, bar32, &transport, err);
	if (r < 0)
		return err_wrap(err, r, "device %s", vdev->dev.id);
	snprintf(vdev->dev.parent, sizeof(vdev->dev.parent), "%s", transport->id);
	return plug(m, transport, virtio_pci_function(transport), err);
}

static const char *id_or(const struct pci_device_config *pci, const char *fallback)
{
	return pci->id ? pci->id : fallback;
}

/* --- the platform's own ----------------------------------------------------------------------- */

static int plug_new(struct machine *m, int created, struct device *dev, struct err *err)
{
	return created < 0 ? created : plug(m, dev, NULL, err);
}

static int add_platform(struct machine *m, struct err *err)
{
	struct device *dev = NULL;
	int r = acpi_pm_new(&m->host, &dev, err);

	r = plug_new(m, r, dev, err);
	if (r >= 0) {
		r = acpi_ged_new(&m->host, m->platform_base + PLATFORM_GED_OFFSET,
				 LAYOUT_IRQ_FIRST_FREE, &m->ged, err);
		r = plug_new(m, r, m->ged, err);
	}
	if (r >= 0) {
		r = cmos_mc146818_new(&m->host, &dev, err);
		r = plug_new(m, r, dev, err);
	}
	if (r >= 0) {
		r = i8042_new(&m->host, &dev, err);
		r = plug_new(m, r, dev, err);
	}
	if (r >= 0) {
		r = debug_port_new(&m->host, &dev, err);
		r = plug_new(m, r, dev, err);
	}
	return r;
}

static int add_serial(struct machine *m, struct err *err)
{
	struct device *dev = NULL;
	int r;

	if (m->config->serial.mode == CONSOLE_MODE_OFF)
		return 0;
	r = uart_16550_new(&m->host, backends_serial(m->backends), &dev, err);
	return plug_new(m, r, dev, err);
}

static int add_debug_console(struct machine *m, struct err *err)
{
	const struct debug_console_config *c = &m->config->debug_console;
	struct chardev *chardev = backends_debug_console(m->backends);
	uint16_t port = c->has_iobase ? c->iobase : DEBUG_CONSOLE_IOBASE;
	struct device *dev = NULL;
	int r = debugcon_new(&m->host, "__firmware_debug", FIRMWARE_PORT, chardev, &dev, err);

	r = plug_new(m, r, dev, err);
	if (r < 0 || c->mode == CONSOLE_MODE_OFF)
		return r;
	r = debugcon_new(&m->host, "__debug_console", port, chardev, &dev, err);
	return plug_new(m, r, dev, err);
}

static int add_pvpanic(struct machine *m, struct err *err)
{
	struct device *dev;
	int r;

	if (!m->config->pvpanic)
		return 0;
	r = choose_slot(m, NULL, err);
	if (r >= 0)
		r = pvpanic_pci_new(&m->host, m->segment, r, &dev, err);
	return r < 0 ? r : plug(m, dev, pvpanic_pci_function(dev), err);
}

/* --- virtio ----------------------------------------------------------------------------------- */

static int add_console(struct machine *m, struct err *err)
{
	const struct console_config *c = &m->config->console;
	struct virtio_device *vdev;
	int r;

	if (c->mode == CONSOLE_MODE_OFF)
		return 0;
	r = virtio_console_new(&m->host, id_or(&c->pci, "__console"), backends_console(m->backends),
			       &vdev, err);
	return r < 0 ? r : plug_virtio(m, vdev, &c->pci, false, err);
}

static int add_disk(struct machine *m, const struct disk_config *c, struct err *err)
{
	AUTO_FREE struct virtio_blk_affinity *affinity = calloc(c->num_queues, sizeof(*affinity));
	struct virtio_blk_params params = {
		.id = c->pci.id,
		.image = backends_image(m->backends, c->pci.id),
		.num_queues = c->num_queues,
		.queue_size = c->queue_size,
		.serial = c->serial,
		.affinity = affinity,
	};
	struct virtio_device *vdev;
	int r;

	if (!affinity)
		return err_set(err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < c->num_queue_affinity; i++) {
		const struct queue_affinity_config *a = &c->queue_affinity[i];

		if (a->queue_index < c->num_queues)
			affinity[a->queue_index] = (struct virtio_blk_affinity){
				.cpus = a->host_cpus, .num_cpus = a->num_host_cpus};
	}
	r = virtio_blk_new(&m->host, &params, &vdev, err);
	/* Firmware reaches the BARs of boot disks only below 4 GiB. */
	return r < 0 ? r : plug_virtio(m, vdev, &c->pci, true, err);
}

static int add_disks(struct machine *m, struct err *err)
{
	for (size_t i = 0; i < m->config->num_disks; i++) {
		int r = add_disk(m, &m->config->disks[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_net(struct machine *m, const struct net_config *c, struct err *err)
{
	struct virtio_net_params params = {
		.id = c->pci.id,
		.tap = backends_tap(m->backends, c->pci.id),
		.mtu = c->has_mtu ? c->mtu : 0,
		.num_queues = c->num_queues,
		.queue_size = c->queue_size,
		.offload_tso = c->offload_tso,
		.offload_ufo = c->offload_ufo,
		.offload_csum = c->offload_csum,
	};
	struct virtio_device *vdev;
	int r = vm_config_parse_mac(c->mac, params.mac);

	if (r < 0)
		return err_set_kind(err, ERR_BAD_REQUEST, r, "%s: mac %s is no MAC address",
				    c->pci.id, c->mac);
	r = virtio_net_new(&m->host, &params, &vdev, err);
	return r < 0 ? r : plug_virtio(m, vdev, &c->pci, false, err);
}

static int add_nets(struct machine *m, struct err *err)
{
	for (size_t i = 0; i < m->config->num_net; i++) {
		int r = add_net(m, &m->config->net[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

static int add_rng(struct machine *m, struct err *err)
{
	const struct rng_config *c = &m->config->rng;
	struct virtio_device *vdev;
	int r = virtio_rng_new(&m->host, id_or(&c->pci, "__rng"), c->src, &vdev, err);

	return r < 0 ? r : plug_virtio(m, vdev, &c->pci, false, err);
}

/* --- the catalogue ---------------------------------------------------------------------------- */

static const struct {
	const char *what;
	int (*add)(struct machine *m, struct err *err);
} catalogue[] = {
	{"platform", add_platform},
	{"serial port", add_serial},
	{"debug console", add_debug_console},
	{"console", add_console},
	{"disks", add_disks},
	{"network", add_nets},
	{"rng", add_rng},
	{"pvpanic", add_pvpanic},
};

int machine_add_devices(struct machine *m, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(catalogue); i++) {
		int r = catalogue[i].add(m, err);

		if (r < 0)
			return err_wrap(err, r, "cannot add the %s", catalogue[i].what);
	}
	return 0;
}

void machine_remove_devices(struct machine *m)
{
	/* All leave their buses before the first is freed: one may be another's transport. */
	for (struct list *node = m->nodes.prev; node != &m->nodes; node = node->prev) {
		struct device *dev = container_of(node, struct machine_node, node)->dev;

		if (dev->ops->unrealize)
			dev->ops->unrealize(dev);
	}
	while (!list_empty(&m->nodes)) {
		struct machine_node *n = container_of(m->nodes.prev, struct machine_node, node);

		list_del(&n->node);
		n->dev->ops->free(n->dev);
		free(n);
	}
}
