/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport, as a guest reaches it: through configuration space and BAR 0 on the bus. The
 * device behind it is a console, which has two queues. */
#include "base/endian.h"
#include "base/fd.h"
#include "chardev/chardev.h"
#include "tests/unit/device_fixture.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/layout.h"
#include "vmm/virtio/virtio_console.h"
#include "vmm/virtio/virtio_pci.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ISR	0x2000
#define DEVICE	0x4000
#define NOTIFY	0x6000
#define TABLE	0x8000
#define PBA	0x48000
#define SIZE	0x80000
#define RX	0
#define TX	1
#define QUEUES	2
#define SLOT	3
#define ECAM	(LAYOUT_ECAM_START + SLOT * 0x8000ULL)
#define TX_DATA FIXTURE_DATA

#define ACK	    VIRTIO_CONFIG_S_ACKNOWLEDGE
#define DRIVER	    VIRTIO_CONFIG_S_DRIVER
#define DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET

struct test {
	struct device_fixture f;
	struct chardev *chardev;
	struct virtio_device *vdev;
	struct device *node;
	struct vring_driver rings[QUEUES];
	uint64_t bar;
	bool bar32;
};

/* --- a guest's accesses -------------------------------------------------------------------------
 */

static uint64_t mmio_read(struct test *t, uint64_t addr, unsigned len)
{
	uint8_t data[8] = {0};

	bus_read(t->f.host.mmio, addr, data, len);
	return le_load(data, len);
}

static void mmio_write(struct test *t, uint64_t addr, uint64_t value, unsigned len)
{
	uint8_t data[8];

	le_store(data, value, len);
	bus_write(t->f.host.mmio, addr, data, len);
}

static uint64_t get(struct test *t, uint64_t offset, unsigned len)
{
	return mmio_read(t, t->bar + offset, len);
}

static void set(struct test *t, uint64_t offset, uint64_t value, unsigned len)
{
	mmio_write(t, t->bar + offset, value, len);
}

static uint32_t config(struct test *t, unsigned offset, unsigned len)
{
	return (uint32_t)mmio_read(t, ECAM + offset, len);
}

static void set_config(struct test *t, unsigned offset, uint32_t value, unsigned len)
{
	mmio_write(t, ECAM + offset, value, len);
}

static uint8_t status(struct test *t)
{
	return (uint8_t)get(t, VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_status(struct test *t, uint8_t value)
{
	set(t, VIRTIO_PCI_COMMON_STATUS, value, 1);
}

/* --- the device ---------------------------------------------------------------------------------
 */

static void find_bar(struct test *t)
{
	t->bar = config(t, 0x10, 4) & ~0xfU;
	if (!t->bar32)
		t->bar |= (uint64_t)config(t, 0x14, 4) << 32;
}

static struct test *test_new_at(bool bar32)
{
	struct chardev_params params = {.mode = CHARDEV_NULL};
	struct err err = ERR_INIT;
	struct test *t;

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

static struct test *test_new(void)
{
	return test_new_at(false);
}

static void test_end(struct test *t)
{
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	t->node->ops->unrealize(t->node);
	t->node->ops->free(t->node);
	device_fixture_end(&t->f, &t->vdev->dev);
	chardev_free(t->chardev);
	device_fixture_fini(&t->f);
	free(t);
}

/* --- a driver through registers
 * -------------------------------------------------------------------- */

static void negotiate(struct test *t)
{
	set_status(t, ACK);
	set_status(t, ACK | DRIVER);
	for (uint32_t word = 0; word < 2; word++) {
		uint32_t offered;

		set(t, VIRTIO_PCI_COMMON_DFSELECT, word, 4);
		offered = (uint32_t)get(t, VIRTIO_PCI_COMMON_DF, 4);
		set(t, VIRTIO_PCI_COMMON_GFSELECT, word, 4);
		set(t, VIRTIO_PCI_COMMON_GF, offered, 4);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_GF, 4), offered);
	}
	set_status(t, ACK | DRIVER | FEATURES_OK);
	assert_int_equal(status(t), ACK | DRIVER | FEATURES_OK);
}

static void set_address(struct test *t, unsigned field, uint64_t addr)
{
	set(t, field, (uint32_t)addr, 4);
	set(t, field + 4, addr >> 32, 4);
	assert_int_equal(get(t, field, 8), addr);
}

static void enable_queue(struct test *t, uint16_t queue)
{
	const struct virtqueue_config *rings = &t->rings[queue].config;

	set(t, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
	assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 256);
	set(t, VIRTIO_PCI_COMMON_Q_SIZE, rings->size, 2);
	set_address(t, VIRTIO_PCI_COMMON_Q_DESCLO, rings->desc.v);
	set_address(t, VIRTIO_PCI_COMMON_Q_AVAILLO, rings->avail.v);
	set_address(t, VIRTIO_PCI_COMMON_Q_USEDLO, rings->used.v);
	set(t, VIRTIO_PCI_COMMON_Q_MSIX, queue + 1, 2);
	assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), queue + 1);
	set(t, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void bring_up(struct test *t)
{
	uint64_t at = FIXTURE_RINGS;

	for (unsigned i = 0; i < QUEUES; i++)
		at = vring_driver_init(&t->rings[i], t->f.host.memory, at, 16);
	negotiate(t);
	set(t, VIRTIO_PCI_COMMON_MSIX, 0, 2);
	for (uint16_t i = 0; i < QUEUES; i++)
		enable_queue(t, i);
	set_status(t, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
	assert_int_equal(status(t), ACK | DRIVER | FEATURES_OK | DRIVER_OK);
}

static bool is_reset(void *arg)
{
	return status(arg) == 0;
}

static void reset_device(struct test *t)
{
	set_status(t, 0);
	assert_true(device_fixture_run(&t->f, is_reset, t));
}

static void offer_output(struct test *t)
{
	struct vring_buffer buffer = {.addr = TX_DATA, .len = 4};

	vring_add(&t->rings[TX], &buffer, 1);
}

static void assert_works(struct test *t)
{
	uint32_t id, len;

	offer_output(t);
	set(t, NOTIFY + 4 * TX, TX, 2);
	assert_true(driver_wait_used(&t->f, &t->rings[TX], &id, &len));
}

/* Whether KVM takes writes to `addr` itself. */
static bool has_ioeventfd(struct test *t, uint64_t addr)
{
	AUTO_FD int fd = eventfd_new();
	int rc = kvm_vm_ioeventfd(t->f.host.kvm, addr, 2, false, fd, true);

	if (rc == 0)
		kvm_vm_ioeventfd(t->f.host.kvm, addr, 2, false, fd, false);
	else
		assert_int_equal(rc, -EEXIST);
	return rc < 0;
}

/* --- the function
 * --------------------------------------------------------------------------------- */

static void function_is_a_modern_virtio_device(void **state)
{
	struct test *t = test_new();

	assert_int_equal(config(t, 0, 2), 0x1af4);
	assert_int_equal(config(t, 2, 2), 0x1040 + VIRTIO_ID_CONSOLE);
	assert_int_equal(config(t, 8, 1), 1);
	assert_int_equal(config(t, 0x2c, 2), 0x1af4);
	assert_int_equal(config(t, 0x2e, 2), 0x1040 + VIRTIO_ID_CONSOLE);
	assert_int_equal(config(t, 0x10, 4) & 0xf, 4); /* 64 bits */
	assert_string_equal(t->node->id, "_virtio-pci-con0");
	assert_string_equal(t->vdev->dev.parent, "_virtio-pci-con0");
	assert_int_equal(virtio_pci_function(t->node)->slot, SLOT);
	test_end(t);

	t = test_new_at(true);
	assert_int_equal(config(t, 0x10, 4) & 0xf, 0);
	assert_true(t->bar >= LAYOUT_MMIO32_START && t->bar < 4 * GIB);
	bring_up(t);
	assert_works(t);
	test_end(t);
}

/* Offset of the vendor capability of that type, or (type 0) of MSI-X. */
static unsigned find_capability(struct test *t, unsigned type)
{
	unsigned at = config(t, 0x34, 1);

	for (unsigned n = 0; at && n < 20; n++, at = config(t, at + 1, 1)) {
		uint32_t id = config(t, at, 1);

		if (type ? id == 9 && config(t, at + 3, 1) == type : id == 0x11)
			return at;
	}
	fail_msg("no capability %u", type);
	return 0;
}

static void capabilities_say_where_everything_is(void **state)
{
	static const struct {
		unsigned type, cap_len;
		uint32_t offset, length;
	} expected[] = {
		{VIRTIO_PCI_CAP_COMMON_CFG, 16, 0, 56},
		{VIRTIO_PCI_CAP_ISR_CFG, 16, ISR, 1},
		{VIRTIO_PCI_CAP_DEVICE_CFG, 16, DEVICE, 0x1000},
		{VIRTIO_PCI_CAP_NOTIFY_CFG, 20, NOTIFY, 0x1000},
		{VIRTIO_PCI_CAP_PCI_CFG, 20, 0, 0},
	};
	struct test *t = test_new();
	unsigned at;

	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		at = find_capability(t, expected[i].type);
		assert_int_equal(config(t, at + 2, 1), expected[i].cap_len);
		assert_int_equal(config(t, at + 4, 1), 0);
		assert_int_equal(config(t, at + 8, 4), expected[i].offset);
		assert_int_equal(config(t, at + 12, 4), expected[i].length);
	}
	assert_int_equal(config(t, find_capability(t, VIRTIO_PCI_CAP_NOTIFY_CFG) + 16, 4), 4);
	at = find_capability(t, 0);
	assert_int_equal(config(t, at + 2, 2) & 0x7ff, QUEUES); /* vectors - 1 */
	assert_int_equal(config(t, at + 4, 4), TABLE);
	assert_int_equal(config(t, at + 8, 4), PBA);
	test_end(t);
}

/* --- common configuration
 * --------------------------------------------------------------------------- */

static void driver_brings_the_device_up_through_registers(void **state)
{
	struct test *t = test_new();

	assert_int_equal(get(t, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	for (unsigned i = 0; i < 3; i++) {
		bring_up(t);
		for (unsigned k = 0; k < 20; k++)
			assert_works(t);
		reset_device(t);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		set(t, VIRTIO_PCI_COMMON_Q_SELECT, TX, 2);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 256);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
	}
	assert_int_equal(t->f.activated, 3);
	assert_int_equal(t->f.resets, 3);
	test_end(t);
}

static void feature_words_beyond_the_second_are_zero(void **state)
{
	struct test *t = test_new();
	const uint32_t words[] = {2, 3, 31, 32, 64, 0x80000000, 0xffffffff};

	set(t, VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	assert_int_equal(get(t, VIRTIO_PCI_COMMON_DF, 4), 1);
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		set(t, VIRTIO_PCI_COMMON_DFSELECT, words[i], 4);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_DF, 4), 0);
		set(t, VIRTIO_PCI_COMMON_GFSELECT, words[i], 4);
		set(t, VIRTIO_PCI_COMMON_GF, 0xffffffff, 4);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_GF, 4), 0);
	}
	test_end(t);
}

static void addresses_take_halves_and_whole_words(void **state)
{
	struct test *t = test_new();
	const uint64_t addr = 0x123456789abcde00;

	negotiate(t);
	for (unsigned field = VIRTIO_PCI_COMMON_Q_DESCLO; field < 56; field += 8) {
		set(t, field, addr, 8);
		assert_int_equal(get(t, field, 8), addr);
		set(t, field, 0x11, 1); /* other widths are no access to the field */
		set(t, field, 0x1111, 2);
		assert_int_equal(get(t, field, 8), addr);
		set(t, field + 4, 0xaabbccdd, 4);
		assert_int_equal(get(t, field + 4, 4), 0xaabbccdd);
		assert_int_equal(get(t, field, 4), addr & 0xffffffff);
	}
	test_end(t);
}

static void queues_that_do_not_exist_have_no_size_and_take_nothing(void **state)
{
	struct test *t = test_new();

	negotiate(t);
	for (unsigned queue = QUEUES; queue <= 0xffff; queue++) {
		set(t, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
		set(t, VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
		set(t, VIRTIO_PCI_COMMON_Q_DESCLO, 0x1000, 8);
		set(t, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_DESCLO, 8), 0);
	}
	test_end(t);
}

static void vectors_that_do_not_exist_read_back_as_none(void **state)
{
	struct test *t = test_new();

	set(t, VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	for (unsigned vector = 0; vector <= 0xffff; vector++) {
		unsigned expected = vector <= QUEUES ? vector : VIRTIO_MSI_NO_VECTOR;

		set(t, VIRTIO_PCI_COMMON_MSIX, vector, 2);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_MSIX, 2), expected);
		set(t, VIRTIO_PCI_COMMON_Q_MSIX, vector, 2);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_MSIX, 2), expected);
	}
	test_end(t);
}

static void queue_registers_are_frozen_once_enabled_or_going(void **state)
{
	struct test *t = test_new();

	bring_up(t);
	for (uint16_t queue = 0; queue < QUEUES; queue++) {
		set(t, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
		set(t, VIRTIO_PCI_COMMON_Q_ENABLE, 0, 2);
		for (unsigned size = 1; size <= 256; size *= 2)
			set(t, VIRTIO_PCI_COMMON_Q_SIZE, size, 2);
		set(t, VIRTIO_PCI_COMMON_Q_SIZE, 0, 2);
		for (unsigned field = VIRTIO_PCI_COMMON_Q_DESCLO; field < 56; field += 4)
			set(t, field, 0xffffffff, 4);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_SIZE, 2), 16);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
		assert_int_equal(get(t, VIRTIO_PCI_COMMON_Q_DESCLO, 8),
				 t->rings[queue].config.desc.v);
	}
	for (unsigned i = 0; i < 40; i++)
		assert_works(t);
	test_end(t);
}

/* Every width at every offset, in every state of the device: it never steps out of bounds, and
 * works after a reset. */
static void accesses_of_any_width_in_any_state_do_no_harm(void **state)
{
	struct test *t = test_new();
	const uint64_t values[] = {0, 1, 0xff, 0xffff, 0x8000, UINT64_MAX};
	const uint8_t states[] = {0, ACK, ACK | DRIVER, ACK | DRIVER | FEATURES_OK, 0xff};

	for (size_t s = 0; s < ARRAY_SIZE(states); s++) {
		for (uint64_t offset = 0; offset < 0x60; offset++) {
			for (unsigned len = 1; len <= 8; len *= 2) {
				for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
					reset_device(t);
					if (states[s] == 0xff)
						bring_up(t);
					else if (states[s] & FEATURES_OK)
						negotiate(t);
					else if (states[s])
						set_status(t, states[s]);
					set(t, offset, values[v], len);
					get(t, offset, len);
				}
			}
		}
	}
	reset_device(t);
	bring_up(t);
	assert_works(t);
	test_end(t);
}

static void the_rest_of_the_bar_is_within_bounds_too(void **state)
{
	struct test *t = test_new();

	bring_up(t);
	for (uint64_t offset = 0x40; offset < SIZE + 8; offset += offset % 0x1000 < 0x80 ? 1 : 61)
		for (unsigned len = 1; len <= 8; len *= 2) {
			get(t, offset, len);
			set(t, offset, UINT64_MAX, len);
		}
	for (uint64_t offset = SIZE - 16; offset < SIZE + 8; offset++)
		for (unsigned len = 1; len <= 8; len *= 2) {
			get(t, offset, len);
			set(t, offset, UINT64_MAX, len);
		}
	assert_works(t);
	test_end(t);
}

/* --- device configuration, ISR, notifications
 * ------------------------------------------------------- */

static void device_configuration_is_reached_in_every_width(void **state)
{
	struct test *t = test_new();

	assert_int_equal(get(t, DEVICE + 4, 4), 1); /* max_nr_ports */
	assert_int_equal(get(t, DEVICE + 4, 1), 1);
	assert_int_equal(get(t, DEVICE + 4, 2), 1);
	assert_int_equal(get(t, DEVICE + 4, 8), 1);
	assert_int_equal(get(t, DEVICE + 8, 8), 0); /* half beyond its end */
	assert_int_equal(get(t, DEVICE + 0xff8, 8), 0);
	test_end(t);
}

static void change_of_configuration_sets_isr_and_generation(void **state)
{
	struct test *t = test_new();
	uint64_t before = get(t, VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	bring_up(t);
	virtio_config_changed(t->vdev);
	assert_int_not_equal(get(t, VIRTIO_PCI_COMMON_CFGGENERATION, 1), before);
	assert_int_equal(get(t, ISR, 1), 2);
	assert_int_equal(get(t, ISR, 1), 0);
	virtio_notify_queue(t->vdev, TX);
	virtio_notify_queue(t->vdev, TX);
	assert_int_equal(get(t, ISR, 4), 1);
	assert_int_equal(get(t, ISR, 1), 0);
	test_end(t);
}

static void notifications_reach_queues_that_exist_in_every_width(void **state)
{
	struct test *t = test_new();
	uint32_t id, len;

	bring_up(t);
	for (unsigned width = 1; width <= 8; width *= 2) {
		offer_output(t);
		set(t, NOTIFY + 4 * TX, 0xffff, width); /* the address says which queue */
		assert_true(driver_wait_used(&t->f, &t->rings[TX], &id, &len));
	}
	for (unsigned offset = 4 * QUEUES; offset < 0x1000; offset++)
		set(t, NOTIFY + offset, offset, 2);
	assert_works(t);
	test_end(t);
}

static void vector_is_raised_for_its_queue(void **state)
{
	struct test *t = test_new();
	unsigned cap = find_capability(t, 0);

	bring_up(t);
	set_config(t, cap + 2, 0x8000, 2); /* on; each vector is still masked */
	assert_works(t);
	device_fixture_run_ms(&t->f, 5);
	assert_int_equal(get(t, PBA, 8), 1 << (TX + 1));
	virtio_config_changed(t->vdev);
	assert_int_equal(get(t, PBA, 8), 1 << (TX + 1) | 1);
	set(t, VIRTIO_PCI_COMMON_MSIX, VIRTIO_MSI_NO_VECTOR, 2);
	virtio_config_changed(t->vdev);
	/* Unmasked, the vector fires into KVM and is no longer pending. */
	set(t, TABLE + 16 * (TX + 1), 0xfee00000, 4);
	set(t, TABLE + 16 * (TX + 1) + 8, 0x4041, 4);
	set(t, TABLE + 16 * (TX + 1) + 12, 0, 4);
	assert_int_equal(get(t, PBA, 8), 1);
	assert_works(t);
	test_end(t);
}

/* --- BARs and ioeventfds
 * ----------------------------------------------------------------------------- */

static void move_bar(struct test *t, uint64_t base)
{
	set_config(t, 0x10, (uint32_t)base, 4);
	set_config(t, 0x14, base >> 32, 4);
	t->bar = base;
}

static void ioeventfds_follow_the_bar(void **state)
{
	struct test *t = test_new();
	uint64_t home = t->bar, other = home + 64 * SIZE;

	for (unsigned i = 0; i < QUEUES; i++)
		assert_true(has_ioeventfd(t, home + NOTIFY + 4 * i));
	assert_false(has_ioeventfd(t, home + NOTIFY + 4 * QUEUES));
	move_bar(t, other);
	assert_false(has_ioeventfd(t, home + NOTIFY));
	for (unsigned i = 0; i < QUEUES; i++)
		assert_true(has_ioeventfd(t, other + NOTIFY + 4 * i));
	bring_up(t);
	assert_works(t);
	set_config(t, 4, 0, 2); /* memory decoding off */
	assert_false(has_ioeventfd(t, other + NOTIFY));
	assert_int_equal(get(t, 0, 4), 0xffffffff);
	set_config(t, 4, 2, 2);
	assert_true(has_ioeventfd(t, other + NOTIFY));
	assert_works(t);
	t->node->ops->unrealize(t->node);
	assert_false(has_ioeventfd(t, other + NOTIFY));
	test_end(t);
}

static void bar_over_ram_is_decoded_nowhere_and_comes_back(void **state)
{
	struct test *t = test_new();
	uint64_t home = t->bar;

	bring_up(t);
	move_bar(t, 0);
	assert_false(has_ioeventfd(t, home + NOTIFY));
	assert_false(has_ioeventfd(t, NOTIFY));
	move_bar(t, home);
	assert_true(has_ioeventfd(t, home + NOTIFY));
	assert_works(t);
	test_end(t);
}

/* --- configuration access capability
 * ----------------------------------------------------------------- */

struct window {
	struct test *t;
	unsigned cap;
};

static void aim(struct window *w, uint8_t bar, uint32_t offset, uint32_t len)
{
	set_config(w->t, w->cap + 4, bar, 1);
	set_config(w->t, w->cap + 8, offset, 4);
	set_config(w->t, w->cap + 12, len, 4);
}

static uint32_t window_read(struct window *w, uint32_t offset, uint32_t len)
{
	aim(w, 0, offset, len);
	return config(w->t, w->cap + 16, len);
}

static void window_write(struct window *w, uint32_t offset, uint32_t value, uint32_t len)
{
	aim(w, 0, offset, len);
	set_config(w->t, w->cap + 16, value, len);
}

static void window_reaches_the_bar(void **state)
{
	struct test *t = test_new();
	struct window w = {.t = t, .cap = find_capability(t, VIRTIO_PCI_CAP_PCI_CFG)};
	uint32_t id, len;

	assert_int_equal(window_read(&w, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	window_write(&w, VIRTIO_PCI_COMMON_STATUS, ACK, 1);
	assert_int_equal(window_read(&w, VIRTIO_PCI_COMMON_STATUS, 1), ACK);
	assert_int_equal(window_read(&w, DEVICE + 4, 4), 1);
	/* Vector control of an entry in the MSI-X table. */
	assert_int_equal(window_read(&w, TABLE + 12, 4), 1);
	window_write(&w, TABLE + 12, 0, 4);
	assert_int_equal(get(t, TABLE + 12, 4), 0);
	bring_up(t);
	offer_output(t);
	window_write(&w, NOTIFY + 4 * TX, TX, 2);
	assert_true(driver_wait_used(&t->f, &t->rings[TX], &id, &len));
	/* Also a reset goes through it. */
	window_write(&w, VIRTIO_PCI_COMMON_STATUS, 0, 1);
	assert_true(device_fixture_run(&t->f, is_reset, t));
	test_end(t);
}

static void window_that_points_nowhere_does_nothing(void **state)
{
	static const struct {
		uint8_t bar;
		uint32_t offset, len;
	} bad[] = {
		{0, 20, 0},	  {0, 20, 3},	       {0, 20, 5},	    {0, 16, 8},
		{0, 16, 16},	  {0, 20, 0xffffffff}, {0, 20, 0x80000001}, {0, SIZE, 1},
		{0, SIZE - 1, 2}, {0, SIZE - 2, 4},    {0, 0xffffffff, 1},  {0, 0xfffffffc, 4},
		{0, 19, 2},	  {0, 18, 4},	       {1, 20, 1},	    {2, 20, 1},
		{5, 20, 1},	  {6, 20, 1},	       {255, 20, 1},
	};
	struct test *t = test_new();
	unsigned cap = find_capability(t, VIRTIO_PCI_CAP_PCI_CFG);
	struct window w = {.t = t, .cap = cap};

	set_status(t, ACK);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		aim(&w, bad[i].bar, bad[i].offset, bad[i].len);
		for (unsigned len = 1; len <= 4; len *= 2) {
			set_config(t, cap + 16, 0, len);
			assert_int_equal(config(t, cap + 16, len), 0);
			set_config(t, cap + 16, 0xffffffff, len);
		}
		assert_int_equal(status(t), ACK);
	}
	test_end(t);
}

/* --- reset, save, load
 * --------------------------------------------------------------------------------- */

static void power_on_reset_puts_registers_back(void **state)
{
	struct test *t = test_new();
	uint64_t home = t->bar;

	bring_up(t);
	move_bar(t, home + 64 * SIZE);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	t->vdev->dev.ops->reset(&t->vdev->dev);
	t->node->ops->reset(t->node);
	t->bar = home;
	assert_int_equal(status(t), 0);
	assert_true(has_ioeventfd(t, home + NOTIFY));
	t->vdev->dev.ops->resume(&t->vdev->dev);
	bring_up(t);
	assert_works(t);
	test_end(t);
}

static void saved_device_goes_on_in_another(void **state)
{
	struct test *t = test_new(), *u;
	AUTO_BUF struct buf buf = {.data = NULL};
	struct guest_memory *memory;
	struct err err = ERR_INIT;
	struct cursor in;
	uint64_t moved = t->bar + 64 * SIZE;

	bring_up(t);
	assert_works(t);
	move_bar(t, moved);
	set(t, VIRTIO_PCI_COMMON_Q_SELECT, TX, 2);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	assert_int_equal(t->node->ops->save(t->node, &buf), 0);
	assert_int_equal(t->vdev->dev.ops->save(&t->vdev->dev, &buf), 0);

	u = test_new();
	/* The guest's memory comes along. */
	memory = u->f.host.memory;
	memcpy(memory->regions[0].host, t->f.host.memory->regions[0].host, FIXTURE_MEMORY_BYTES);
	memcpy(u->rings, t->rings, sizeof(u->rings));
	for (unsigned i = 0; i < QUEUES; i++)
		u->rings[i].memory = memory;
	in = cursor_init(buf.data, buf.len);
	assert_int_equal(u->node->ops->load(u->node, &in, &err), 0);
	assert_int_equal(u->vdev->dev.ops->load(&u->vdev->dev, &in, &err), 0);
	assert_int_equal(cursor_left(&in), 0);
	u->bar = moved;
	assert_int_equal(get(u, VIRTIO_PCI_COMMON_Q_SELECT, 2), TX);
	assert_int_equal(get(u, VIRTIO_PCI_COMMON_Q_MSIX, 2), TX + 1);
	assert_true(has_ioeventfd(u, moved + NOTIFY));
	virtio_device_resume(&u->vdev->dev);
	assert_works(u);
	test_end(u);
	test_end(t);
}

static void cut_state_is_refused(void **state)
{
	struct test *t = test_new();
	AUTO_BUF struct buf buf = {.data = NULL};

	assert_int_equal(t->node->ops->save(t->node, &buf), 0);
	for (size_t len = 0; len < buf.len; len++) {
		struct cursor in = cursor_init(buf.data, len);

		assert_true(t->node->ops->load(t->node, &in, NULL) < 0);
	}
	test_end(t);
}

static void slot_that_is_taken_is_refused_and_nothing_stays(void **state)
{
	struct test *t = test_new();
	struct virtio_device *vdev;
	struct device *node;
	struct err err = ERR_INIT;

	assert_int_equal(virtio_console_new(&t->f.host, "con1", t->chardev, &vdev, &err), 0);
	assert_int_equal(virtio_pci_new(&t->f.host, vdev, t->f.segment, SLOT, false, &node, &err),
			 0);
	assert_int_equal(node->ops->realize(node, &err), -EBUSY);
	assert_true(err_count(&err) > 0);
	node->ops->unrealize(node);
	node->ops->free(node);
	vdev->dev.ops->unrealize(&vdev->dev);
	vdev->dev.ops->free(&vdev->dev);
	test_end(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(function_is_a_modern_virtio_device),
		cmocka_unit_test(capabilities_say_where_everything_is),
		cmocka_unit_test(driver_brings_the_device_up_through_registers),
		cmocka_unit_test(feature_words_beyond_the_second_are_zero),
		cmocka_unit_test(addresses_take_halves_and_whole_words),
		cmocka_unit_test(queues_that_do_not_exist_have_no_size_and_take_nothing),
		cmocka_unit_test(vectors_that_do_not_exist_read_back_as_none),
		cmocka_unit_test(queue_registers_are_frozen_once_enabled_or_going),
		cmocka_unit_test(accesses_of_any_width_in_any_state_do_no_harm),
		cmocka_unit_test(the_rest_of_the_bar_is_within_bounds_too),
		cmocka_unit_test(device_configuration_is_reached_in_every_width),
		cmocka_unit_test(change_of_configuration_sets_isr_and_generation),
		cmocka_unit_test(notifications_reach_queues_that_exist_in_every_width),
		cmocka_unit_test(vector_is_raised_for_its_queue),
		cmocka_unit_test(ioeventfds_follow_the_bar),
		cmocka_unit_test(bar_over_ram_is_decoded_nowhere_and_comes_back),
		cmocka_unit_test(window_reaches_the_bar),
		cmocka_unit_test(window_that_points_nowhere_does_nothing),
		cmocka_unit_test(power_on_reset_puts_registers_back),
		cmocka_unit_test(saved_device_goes_on_in_another),
		cmocka_unit_test(cut_state_is_refused),
		cmocka_unit_test(slot_that_is_taken_is_refused_and_nothing_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
