/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Everything that the driver programs lives in the virtio_device, under its lock; the registers
 * that are the transport's own (selectors, vectors, ISR) are single atomic words, so this file has
 * no lock. Two vCPUs that program one device at a time may see each other's selectors, as on any
 * hardware.
 *
 * A queue's notification address is an ioeventfd while BAR0 is decoded; what arrives in user space
 * nevertheless (the PCI configuration access capability, a KVM that refuses) kicks all the same.
 *
 * Lock order: PCI function, virtio device, MSI-X. The configuration access capability is served
 * with the function's lock held, so nothing here may take that lock.
 */
#include "vmm/virtio/virtio_pci.h"

#include "base/endian.h"
#include "base/log.h"
#include "vmm/kvm/kvm.h"
#include "vmm/virtio/virtio_pci_internal.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <stdio.h>
#include <string.h>

#define BAR	      0
#define BAR_SIZE      (512 * KIB)
#define COMMON_OFFSET 0x0U
#define ISR_OFFSET    0x2000U
#define ISR_SIZE      1U
#define DEVICE_OFFSET 0x4000U
#define DEVICE_SIZE   0x1000U
#define NOTIFY_OFFSET 0x6000U
#define NOTIFY_SIZE   0x1000U
#define NOTIFY_STRIDE 4U
#define TABLE_OFFSET  0x8000U
#define PBA_OFFSET    0x48000U

#define PCI_CAP_VENDOR 0x09

/* Offsets of the configuration access capability's fields, 4.1.4.9. */
#define WINDOW_BAR    4
#define WINDOW_OFFSET 8
#define WINDOW_LENGTH 12
#define WINDOW_DATA   16
#define WINDOW_END    20

static_assert(VIRTIO_MAX_QUEUES * NOTIFY_STRIDE <= NOTIFY_SIZE, "a notification address a queue");

static struct virtio_pci *from_pdev(struct pci_device *pdev)
{
	return container_of(pdev, struct virtio_pci, pdev);
}

/* --- BAR 0 -------------------------------------------------------------------------------- */

static void bar_read(struct pci_device *pdev, unsigned bar, uint64_t offset, void *data,
		     unsigned len)
{
	struct virtio_pci *vp = from_pdev(pdev);

	memset(data, 0, len);
	if (range_within(offset, len, COMMON_OFFSET, VIRTIO_PCI_COMMON_SIZE))
		virtio_pci_read_common(vp, offset - COMMON_OFFSET, data, len);
	else if (offset == ISR_OFFSET)
		*(uint8_t *)data = atomic_exchange(&vp->isr, 0); /* 4.1.4.5: reading clears */
	else if (range_within(offset, len, DEVICE_OFFSET, DEVICE_SIZE))
		virtio_config_read(vp->vdev, (uint32_t)offset - DEVICE_OFFSET, data, len);
}

static void bar_write(struct pci_device *pdev, unsigned bar, uint64_t offset, const void *data,
		      unsigned len)
{
	struct virtio_pci *vp = from_pdev(pdev);

	if (range_within(offset, len, COMMON_OFFSET, VIRTIO_PCI_COMMON_SIZE))
		virtio_pci_write_common(vp, offset - COMMON_OFFSET, le_load(data, len), len);
	else if (range_within(offset, len, DEVICE_OFFSET, DEVICE_SIZE))
		virtio_config_write(vp->vdev, (uint32_t)offset - DEVICE_OFFSET, data, len);
	else if (range_within(offset, len, NOTIFY_OFFSET, NOTIFY_SIZE))
		virtio_kick_queue(vp->vdev, (unsigned)(offset - NOTIFY_OFFSET) / NOTIFY_STRIDE);
}

/* --- ioeventfds --------------------------------------------------------------------------- */

/* Any width is best: KVM then need not decode the instruction. Drivers write 16 bits. */
static uint8_t register_kick(struct virtio_pci *vp, uint64_t addr, int fd)
{
	static const unsigned widths[] = {0, 2};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
		rc = kvm_vm_ioeventfd(vp->dev.host->kvm, addr, widths[i], false, fd, true);
		if (rc == 0)
			return (uint8_t)(widths[i] + 1);
	}
	log_warn_limited("%s: no ioeventfd, notifications take the slow way: %s", vp->dev.id,
			 strerror(-rc));
	return 0;
}

static void bar_moved(struct pci_device *pdev, unsigned bar, uint64_t base, bool mapped)
{
	struct virtio_pci *vp = from_pdev(pdev);
	struct kvm_vm *kvm = vp->dev.host->kvm;

	for (unsigned i = 0; kvm && i < vp->vdev->num_queues; i++) {
		unsigned at = i * NOTIFY_STRIDE;
		int fd = vp->vdev->kick_fds[i];

		if (vp->notify_width[i])
			kvm_vm_ioeventfd(kvm, vp->notify_base + at, vp->notify_width[i] - 1U, false,
					 fd, false);
		vp->notify_width[i] = 0;
		if (mapped)
			vp->notify_width[i] = register_kick(vp, base + NOTIFY_OFFSET + at, fd);
	}
	vp->notify_base = mapped ? base + NOTIFY_OFFSET : 0;
}

/* --- configuration access capability, 4.1.4.9 --------------------------------------------- */

/* Where the window points; false when it points nowhere. */
static bool window_target(const struct virtio_pci *vp, uint64_t *ret_offset, unsigned *ret_len)
{
	const uint8_t *cap = vp->pdev.config + vp->window;
	uint64_t offset = le_load(cap + WINDOW_OFFSET, 4);
	uint64_t len = le_load(cap + WINDOW_LENGTH, 4);

	if (cap[WINDOW_BAR] != BAR || (len != 1 && len != 2 && len != 4) || offset % len ||
	    !range_within(offset, len, 0, BAR_SIZE))
		return false;
	*ret_offset = offset;
	*ret_len = (unsigned)len;
	return true;
}

static bool touches_window_data(const struct virtio_pci *vp, unsigned offset, unsigned len)
{
	return ranges_overlap(offset, len, vp->window + WINDOW_DATA, WINDOW_END - WINDOW_DATA);
}

static void config_reading(struct pci_device *pdev, unsigned offset, unsigned len)
{
	struct virtio_pci *vp = from_pdev(pdev);
	uint8_t *data = pdev->config + vp->window + WINDOW_DATA;
	uint64_t target;
	unsigned width;

	if (!touches_window_data(vp, offset, len) || !window_target(vp, &target, &width))
		return;
	if (!msix_read(pdev->msix, BAR, target, data, width))
		bar_read(pdev, BAR, target, data, width);
}

static void config_written(struct pci_device *pdev, unsigned offset, unsigned len)
{
	struct virtio_pci *vp = from_pdev(pdev);
	const uint8_t *data = pdev->config + vp->window + WINDOW_DATA;
	uint64_t target;
	unsigned width;

	if (!touches_window_data(vp, offset, len) || !window_target(vp, &target, &width))
		return;
	if (!msix_write(pdev->msix, BAR, target, data, width))
		bar_write(pdev, BAR, target, data, width);
}

static const struct pci_device_ops pci_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_moved = bar_moved,
	.config_written = config_written,
	.config_reading = config_reading,
};

/* --- the device's side -------------------------------------------------------------------- */

static void notify_queue(void *transport, unsigned queue)
{
	struct virtio_pci *vp = transport;

	if (!(atomic_load_explicit(&vp->isr, memory_order_relaxed) & VIRTIO_PCI_ISR_QUEUE_BIT))
		atomic_fetch_or(&vp->isr, VIRTIO_PCI_ISR_QUEUE_BIT);
	msix_raise(vp->pdev.msix, vp->queue_vectors[queue]);
}

static void notify_config(void *transport)
{
	struct virtio_pci *vp = transport;

	atomic_fetch_or(&vp->isr, VIRTIO_PCI_ISR_CONFIG_BIT);
	msix_raise(vp->pdev.msix, vp->config_vector);
}

static void activated(void *transport, bool active)
{
	struct virtio_pci *vp = transport;

	if (!active)
		virtio_pci_clear_registers(vp);
	msix_set_deferred(vp->pdev.msix, !active);
}

static const struct virtio_transport_ops transport_ops = {
	.notify_queue = notify_queue,
	.notify_config = notify_config,
	.activated = activated,
};

/* --- the node ----------------------------------------------------------------------------- */

static int realize(struct device *dev, struct err *err)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);
	int rc = pci_attach(vp->segment, &vp->pdev, vp->wanted_slot, err);

	return MIN(rc, 0);
}

static void unrealize(struct device *dev)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);

	pci_detach(&vp->pdev);
}

static void reset(struct device *dev)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);

	virtio_pci_clear_registers(vp);
	pci_device_reset(&vp->pdev);
}

static void free_device(struct device *dev)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);

	virtio_set_transport(vp->vdev, NULL, NULL);
	msix_free(&vp->pdev);
	pci_device_fini(&vp->pdev);
	free(vp);
}

static int save(struct device *dev, struct buf *out)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);
	int rc = pci_device_save(&vp->pdev, out);

	return rc < 0 ? rc : virtio_pci_save_registers(vp, out);
}

static int load(struct device *dev, struct cursor *in, struct err *err)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);
	int rc;

	rc = pci_device_load(&vp->pdev, in, err);
	if (rc == 0)
		rc = virtio_pci_load_registers(vp, in, err);
	return rc < 0 ? err_wrap(err, rc, "%s: cannot load its state", dev->id) : 0;
}

static const struct device_ops device_ops = {
	.kind = "virtio-pci",
	.realize = realize,
	.unrealize = unrealize,
	.reset = reset,
	.save = save,
	.load = load,
	.free = free_device,
};

/* --- construction ------------------------------------------------------------------------- */

static int add_capability(struct virtio_pci *vp, uint8_t type, uint32_t offset, uint32_t length)
{
	/* struct virtio_pci_cap from cap_len on, with what follows it for some types */
	uint8_t body[WINDOW_END - 2] = {0}, mask[WINDOW_END - 2] = {0};
	bool window = type == VIRTIO_PCI_CAP_PCI_CFG;
	bool longer = window || type == VIRTIO_PCI_CAP_NOTIFY_CFG;
	unsigned len = (longer ? WINDOW_END : WINDOW_DATA) - 2;

	body[0] = (uint8_t)(len + 2);
	body[1] = type;
	body[WINDOW_BAR - 2] = BAR;
	le_store(body + WINDOW_OFFSET - 2, offset, 4);
	le_store(body + WINDOW_LENGTH - 2, length, 4);
	if (type == VIRTIO_PCI_CAP_NOTIFY_CFG)
		le_store(body + WINDOW_DATA - 2, NOTIFY_STRIDE, 4);
	if (window) {
		mask[WINDOW_BAR - 2] = 0xff;
		memset(mask + WINDOW_OFFSET - 2, 0xff, WINDOW_END - WINDOW_OFFSET);
	}
	return pci_device_add_capability(&vp->pdev, PCI_CAP_VENDOR, body, len, mask, window);
}

static int add_capabilities(struct virtio_pci *vp)
{
	static const struct {
		uint8_t type;
		uint32_t offset, length;
	} caps[] = {
		{VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET, VIRTIO_PCI_COMMON_SIZE},
		{VIRTIO_PCI_CAP_ISR_CFG, ISR_OFFSET, ISR_SIZE},
		{VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFFSET, DEVICE_SIZE},
		{VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFFSET, NOTIFY_SIZE},
		{VIRTIO_PCI_CAP_PCI_CFG, 0, 0},
	};
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(caps); i++) {
		rc = add_capability(vp, caps[i].type, caps[i].offset, caps[i].length);
		if (rc < 0)
			return rc;
	}
	vp->window = (unsigned)rc; /* the last one's */
	return 0;
}

static struct pci_device_id function_id(const struct virtio_device *vdev)
{
	uint16_t type = vdev->ops->device_id;
	struct pci_device_id id = {
		.vendor = 0x1af4,
		.device = (uint16_t)(0x1040 + type),
		.subsystem_vendor = 0x1af4,
		.subsystem = (uint16_t)(0x1040 + type),
		.revision = 1,
		.subclass = 0xff,
		.class_code = 0xff,
	};

	if (type == VIRTIO_ID_NET) {
		id.class_code = 0x02; /* network: Ethernet */
		id.subclass = 0x00;
	} else if (type == VIRTIO_ID_BLOCK) {
		id.class_code = 0x01; /* mass storage: other */
		id.subclass = 0x80;
	}
	return id;
}

static int build_function(struct virtio_pci *vp, bool bar32, struct err *err)
{
	struct pci_device_id id = function_id(vp->vdev);
	int rc;

	rc = pci_device_init(&vp->pdev, &pci_ops, vp->vdev->dev.id, &id);
	if (rc == 0)
		rc = pci_device_add_bar(&vp->pdev, BAR, BAR_SIZE, !bar32, false);
	if (rc == 0)
		rc = add_capabilities(vp);
	if (rc < 0)
		return err_set_errno(err, rc, "%s: cannot build its PCI function", vp->dev.id);
	return msix_new(&vp->pdev, vp->dev.host->irq, vp->vdev->num_queues + 1, BAR, TABLE_OFFSET,
			PBA_OFFSET, err);
}

int virtio_pci_new(const struct device_host *host, struct virtio_device *vdev,
		   struct pci_segment *segment, int slot, bool bar32, struct device **ret_dev,
		   struct err *err)
{
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	char id[DEVICE_ID_MAX + 16];
	int rc;

	if (!vp)
		return err_set(err, -ENOMEM, "out of memory");
	vp->vdev = vdev;
	vp->segment = segment;
	vp->wanted_slot = slot;
	virtio_pci_clear_registers(vp);
	snprintf(id, sizeof(id), "_virtio-pci-%s", vdev->dev.id);
	rc = device_init(&vp->dev, &device_ops, host, id, err);
	if (rc == 0)
		rc = build_function(vp, bar32, err);
	if (rc < 0) {
		pci_device_fini(&vp->pdev);
		free(vp);
		return rc;
	}
	msix_set_deferred(vp->pdev.msix, true);
	virtio_set_transport(vdev, &transport_ops, vp);
	memcpy(vdev->dev.parent, vp->dev.id, sizeof(vdev->dev.parent));
	*ret_dev = &vp->dev;
	return 0;
}

struct pci_device *virtio_pci_function(struct device *dev)
{
	return &container_of(dev, struct virtio_pci, dev)->pdev;
}
