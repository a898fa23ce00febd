/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pci_guest.h"

#include "base/endian.h"
#include "vmm/memory/layout.h"
#include "vmm/virtio/virtio_console.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define ECAM (LAYOUT_ECAM_START + SLOT * 0x8000ULL)

/* --- a guest's accesses ------------------------------------------------------------------- */

static uint64_t mmio_read(struct pci_guest *t, uint64_t addr, unsigned len)
{
	uint8_t data[8] = {0};

	bus_read(t->f.host.mmio, addr, data, len);
	return le_load(data, len);
}

static void mmio_write(struct pci_guest *t, uint64_t addr, uint64_t value, unsigned len)
{
	uint8_t data[8];

	le_store(data, value, len);
	bus_write(t->f.host.mmio, addr, data, len);
}

uint64_t guest_get(struct pci_guest *t, uint64_t offset, unsigned len)
{
	return mmio_read(t, t->bar + offset, len);
}

void guest_set(struct pci_guest *t, uint64_t offset, uint64_t value, unsigned len)
{
	mmio_write(t, t->bar + offset, value, len);
}

uint32_t guest_config(struct pci_guest *t, unsigned offset, unsigned len)
{
	return (uint32_t)mmio_read(t, ECAM + offset, len);
}

void guest_set_config(struct pci_guest *t, unsigned offset, uint32_t value, unsigned len)
{
	mmio_write(t, ECAM + offset, value, len);
}

uint8_t guest_status(struct pci_guest *t)
{
	return (uint8_t)guest_get(t, VIRTIO_PCI_COMMON_STATUS, 1);
}

void guest_set_status(struct pci_guest *t, uint8_t value)
{
	guest_set(t, VIRTIO_PCI_COMMON_STATUS, value, 1);
}

/* --- the device --------------------------------------------------------------------------- */

static void find_bar(struct pci_guest *t)
{
	t->bar = guest_config(t, 0x10, 4) & ~0xfU;
	if (!t->bar32)
		t->bar |= (uint64_t)guest_config(t, 0x14, 4) << 32;
}

struct pci_guest *guest_new(bool bar32)
{
	struct chardev_params params = {.mode = CHARDEV_NULL};
	struct err err = ERR_INIT;
	struct pci_guest *t;

	device_fixture_require_kvm();
	t = calloc(1, sizeof(*t));
	assert_non_null(t);
	device_fixture_init(&t->f, true);
	t->bar32 = bar32;
	assert_int_equal(chardev_new(t->f.host.main_loop, &params, &t->chardev, &err), 0);
	assert_int_equal(virtio_console_new(&t->f.host, "con0", t->chardev, &t->vdev, &err), 0);
	assert_int_equal(
		virtio_pci_new(&t->f.host, t->vdev, t->f.segment, SLOT, bar32, &t->node, &err), 0);
	assert_int_equal(t->vdev->dev.ops->realize(&t->vdev->dev, &err), 0);
	assert_int_equal(t->node->ops->realize(t->node, &err), 0);
	find_bar(t);
	return t;
}

void guest_free(struct pci_guest *t)
{
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	t->node->ops->unrealize(t->node);
	t->node->ops->free(t->node);
	device_fixture_end(&t->f, &t->vdev->dev);
	chardev_free(t->chardev);
	device_fixture_fini(&t->f);
	free(t);
}

/* --- a driver through registers ----------------------------------------------------------- */

void guest_negotiate(struct pci_guest *t)
{
	guest_set_status(t, ACK);
	guest_set_status(t, ACK | DRIVER);
	for (uint32_t word = 0; word < 2; word++) {
		uint32_t offered;

		guest_set(t, VIRTIO_PCI_COMMON_DFSELECT, word, 4);
		offered = (uint32_t)guest_get(t, VIRTIO_PCI_COMMON_DF, 4);
		guest_set(t, VIRTIO_PCI_COMMON_GFSELECT, word, 4);
		guest_set(t, VIRTIO_PCI_COMMON_GF, offered, 4);
		assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_GF, 4), offered);
	}
	guest_set_status(t, ACK | DRIVER | FEATURES_OK);
	assert_int_equal(guest_status(t), ACK | DRIVER | FEATURES_OK);
}

static void set_address(struct pci_guest *t, unsigned field, uint64_t addr)
{
	guest_set(t, field, (uint32_t)addr, 4);
	guest_set(t, field + 4, addr >> 32, 4);
	assert_int_equal(guest_get(t, field, 8), addr);
}

static void enable_queue(struct pci_guest *t, uint16_t queue)
{
	const struct virtqueue_config *rings = &t->rings[queue].config;

	guest_set(t, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
	assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 256);
	guest_set(t, VIRTIO_PCI_COMMON_Q_SIZE, rings->size, 2);
	set_address(t, VIRTIO_PCI_COMMON_Q_DESCLO, rings->desc.v);
	set_address(t, VIRTIO_PCI_COMMON_Q_AVAILLO, rings->avail.v);
	set_address(t, VIRTIO_PCI_COMMON_Q_USEDLO, rings->used.v);
	guest_set(t, VIRTIO_PCI_COMMON_Q_MSIX, queue + 1, 2);
	assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), queue + 1);
	guest_set(t, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(guest_get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

void guest_bring_up(struct pci_guest *t)
{
	uint64_t at = FIXTURE_RINGS;

	for (unsigned i = 0; i < QUEUES; i++)
		at = vring_driver_init(&t->rings[i], t->f.host.memory, at, 16);
	guest_negotiate(t);
	guest_set(t, VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (uint16_t i = 0; i < QUEUES; i++)
		enable_queue(t, i);
	guest_set_status(t, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
	assert_int_equal(guest_status(t), ACK | DRIVER | FEATURES_OK | DRIVER_OK);
}

bool guest_sees_reset(void *arg)
{
	return guest_status(arg) == 0;
}

void guest_reset(struct pci_guest *t)
{
	guest_set_status(t, 0);
	assert_true(device_fixture_run(&t->f, guest_sees_reset, t));
}

void guest_offer_output(struct pci_guest *t)
{
	struct vring_buffer buffer = {.addr = TX_DATA, .len = 4};

	vring_add(&t->rings[TX], &buffer, 1);
}

void guest_assert_works(struct pci_guest *t)
{
	uint32_t id, len;

	guest_offer_output(t);
	guest_set(t, NOTIFY + 4 * TX, TX, 2);
	assert_true(driver_wait_used(&t->f, &t->rings[TX], &id, &len));
}

unsigned guest_find_capability(struct pci_guest *t, unsigned type)
{
	unsigned at = guest_config(t, 0x34, 1);

	for (unsigned n = 0; at && n < 20; n++, at = guest_config(t, at + 1, 1)) {
		uint32_t id = guest_config(t, at, 1);

		if (type ? id == 9 && guest_config(t, at + 3, 1) == type : id == 0x11)
			return at;
	}
	fail_msg("no capability %u", type);
	return 0;
}
