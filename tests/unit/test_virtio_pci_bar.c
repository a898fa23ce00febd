/* SPDX-License-Identifier: Apache-2.0 */
/* The PCI transport: what lies in BAR 0 behind the common configuration, BARs that move, the
 * configuration access capability, state. */
#include "base/fd.h"
#include "tests/unit/pci_guest.h"
#include "vmm/kvm/kvm.h"
#include "vmm/virtio/virtio_console.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Whether KVM takes writes to `addr` itself. */
static bool has_ioeventfd(struct pci_guest *t, uint64_t addr)
{
	AUTO_FD int fd = eventfd_new();
	int rc = kvm_vm_ioeventfd(t->f.host.kvm, addr, 2, false, fd, true);

	if (rc == 0)
		kvm_vm_ioeventfd(t->f.host.kvm, addr, 2, false, fd, false);
	else
		assert_int_equal(rc, -EEXIST);
	return rc < 0;
}

/* --- device configuration, ISR, notifications --------------------------------------------- */

static void device_configuration_is_reached_in_every_width(void **state)
{
	struct pci_guest *t = guest_new(false);

	assert_int_equal(guest_get(t, DEVICE + 4, 4), 1); /* max_nr_ports */
	assert_int_equal(guest_get(t, DEVICE + 4, 1), 1);
	assert_int_equal(guest_get(t, DEVICE + 4, 2), 1);
	assert_int_equal(guest_get(t, DEVICE + 4, 8), 1);
	assert_int_equal(guest_get(t, DEVICE + 8, 8), 0); /* half beyond its end */
	assert_int_equal(guest_get(t, DEVICE + 0xff8, 8), 0);
	guest_free(t);
}

static void change_of_configuration_sets_isr_and_generation(void **state)
{
	struct pci_guest *t = guest_new(false);
	uint64_t before = guest_get(t, VIRTIO_PCI_COMMON_CFGGENERATION, 1);

	guest_bring_up(t);
	virtio_config_changed(t->vdev);
	assert_int_not_equal(guest_get(t, VIRTIO_PCI_COMMON_CFGGENERATION, 1), before);
	assert_int_equal(guest_get(t, ISR, 1), 2);
	assert_int_equal(guest_get(t, ISR, 1), 0);
	virtio_notify_queue(t->vdev, TX);
	virtio_notify_queue(t->vdev, TX);
	assert_int_equal(guest_get(t, ISR, 4), 1);
	assert_int_equal(guest_get(t, ISR, 1), 0);
	guest_free(t);
}

static void notifications_reach_queues_that_exist_in_every_width(void **state)
{
	struct pci_guest *t = guest_new(false);
	uint32_t id, len;

	guest_bring_up(t);
	for (unsigned width = 1; width <= 8; width *= 2) {
		guest_offer_output(t);
		guest_set(t, NOTIFY + 4 * TX, 0xffff, width); /* the address says which queue */
		assert_true(driver_wait_used(&t->f, &t->rings[TX], &id, &len));
	}
	for (unsigned offset = 4 * QUEUES; offset < 0x1000; offset++)
		guest_set(t, NOTIFY + offset, offset, 2);
	guest_assert_works(t);
	guest_free(t);
}

static void vector_is_raised_for_its_queue(void **state)
{
	struct pci_guest *t = guest_new(false);
	unsigned cap = guest_find_capability(t, 0);

	guest_bring_up(t);
	guest_set_config(t, cap + 2, 0x8000, 2); /* on; each vector is still masked */
	guest_assert_works(t);
	device_fixture_run_ms(&t->f, 5);
	assert_int_equal(guest_get(t, PBA, 8), 1 << (TX + 1));
	virtio_config_changed(t->vdev);
	assert_int_equal(guest_get(t, PBA, 8), 1 << (TX + 1) | 1);
	guest_set(t, VIRTIO_PCI_COMMON_MSIX, VIRTIO_MSI_NO_VECTOR, 2);
	virtio_config_changed(t->vdev);
	/* Unmasked, the vector fires into KVM and is no longer pending. */
	guest_set(t, TABLE + 16 * (TX + 1), 0xfee00000, 4);
	guest_set(t, TABLE + 16 * (TX + 1) + 8, 0x4041, 4);
	guest_set(t, TABLE + 16 * (TX + 1) + 12, 0, 4);
	assert_int_equal(guest_get(t, PBA, 8), 1);
	guest_assert_works(t);
	guest_free(t);
}

/* --- BARs and ioeventfds ------------------------------------------------------------------ */

static void move_bar(struct pci_guest *t, uint64_t base)
{
	guest_set_config(t, 0x10, (uint32_t)base, 4);
	guest_set_config(t, 0x14, base >> 32, 4);
	t->bar = base;
}

static void ioeventfds_follow_the_bar(void **state)
{
	struct pci_guest *t = guest_new(false);
	uint64_t home = t->bar, other = home + 64 * SIZE;

	for (unsigned i = 0; i < QUEUES; i++)
		assert_true(has_ioeventfd(t, home + NOTIFY + 4 * i));
	assert_false(has_ioeventfd(t, home + NOTIFY + 4 * QUEUES));
	move_bar(t, other);
	assert_false(has_ioeventfd(t, home + NOTIFY));
	for (unsigned i = 0; i < QUEUES; i++)
		assert_true(has_ioeventfd(t, other + NOTIFY + 4 * i));
	guest_bring_up(t);
	guest_assert_works(t);
	guest_set_config(t, 4, 0, 2); /* memory decoding off */
	assert_false(has_ioeventfd(t, other + NOTIFY));
	assert_int_equal(guest_get(t, 0, 4), 0xffffffff);
	guest_set_config(t, 4, 2, 2);
	assert_true(has_ioeventfd(t, other + NOTIFY));
	guest_assert_works(t);
	t->node->ops->unrealize(t->node);
	assert_false(has_ioeventfd(t, other + NOTIFY));
	guest_free(t);
}

static void bar_over_ram_is_decoded_nowhere_and_comes_back(void **state)
{
	struct pci_guest *t = guest_new(false);
	uint64_t home = t->bar;

	guest_bring_up(t);
	move_bar(t, 0);
	assert_false(has_ioeventfd(t, home + NOTIFY));
	assert_false(has_ioeventfd(t, NOTIFY));
	move_bar(t, home);
	assert_true(has_ioeventfd(t, home + NOTIFY));
	guest_assert_works(t);
	guest_free(t);
}

/* --- configuration access capability ------------------------------------------------------ */

struct window {
	struct pci_guest *t;
	unsigned cap;
};

static void aim(struct window *w, uint8_t bar, uint32_t offset, uint32_t len)
{
	guest_set_config(w->t, w->cap + 4, bar, 1);
	guest_set_config(w->t, w->cap + 8, offset, 4);
	guest_set_config(w->t, w->cap + 12, len, 4);
}

static uint32_t window_read(struct window *w, uint32_t offset, uint32_t len)
{
	aim(w, 0, offset, len);
	return guest_config(w->t, w->cap + 16, len);
}

static void window_write(struct window *w, uint32_t offset, uint32_t value, uint32_t len)
{
	aim(w, 0, offset, len);
	guest_set_config(w->t, w->cap + 16, value, len);
}

static void window_reaches_the_bar(void **state)
{
	struct pci_guest *t = guest_new(false);
	struct window w = {.t = t, .cap = guest_find_capability(t, VIRTIO_PCI_CAP_PCI_CFG)};
	uint32_t id, len;

	assert_int_equal(window_read(&w, VIRTIO_PCI_COMMON_NUMQ, 2), QUEUES);
	window_write(&w, VIRTIO_PCI_COMMON_STATUS, ACK, 1);
	assert_int_equal(window_read(&w, VIRTIO_PCI_COMMON_STATUS, 1), ACK);
	assert_int_equal(window_read(&w, DEVICE + 4, 4), 1);
	/* Vector control of an entry in the MSI-X table. */
	assert_int_equal(window_read(&w, TABLE + 12, 4), 1);
	window_write(&w, TABLE + 12, 0, 4);
	assert_int_equal(guest_get(t, TABLE + 12, 4), 0);
	guest_bring_up(t);
	guest_offer_output(t);
	window_write(&w, NOTIFY + 4 * TX, TX, 2);
	assert_true(driver_wait_used(&t->f, &t->rings[TX], &id, &len));
	/* Also a reset goes through it. */
	window_write(&w, VIRTIO_PCI_COMMON_STATUS, 0, 1);
	assert_true(device_fixture_run(&t->f, guest_sees_reset, t));
	guest_free(t);
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
	struct pci_guest *t = guest_new(false);
	unsigned cap = guest_find_capability(t, VIRTIO_PCI_CAP_PCI_CFG);
	struct window w = {.t = t, .cap = cap};

	guest_set_status(t, ACK);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		aim(&w, bad[i].bar, bad[i].offset, bad[i].len);
		for (unsigned len = 1; len <= 4; len *= 2) {
			guest_set_config(t, cap + 16, 0, len);
			assert_int_equal(guest_config(t, cap + 16, len), 0);
			guest_set_config(t, cap + 16, 0xffffffff, len);
		}
		assert_int_equal(guest_status(t), ACK);
	}
	guest_free(t);
}

/* --- reset, save, load -------------------------------------------------------------------- */

static void power_on_reset_puts_registers_back(void **state)
{
	struct pci_guest *t = guest_new(false);
	uint64_t home = t->bar;

	guest_bring_up(t);
	move_bar(t, home + 64 * SIZE);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	t->vdev->dev.ops->reset(&t->vdev->dev);
	t->node->ops->reset(t->node);
	t->bar = home;
	assert_int_equal(guest_status(t), 0);
	assert_true(has_ioeventfd(t, home + NOTIFY));
	t->vdev->dev.ops->resume(&t->vdev->dev);
	guest_bring_up(t);
	guest_assert_works(t);
	guest_free(t);
}

static void saved_device_goes_on_in_another(void **state)
{
	struct pci_guest *t = guest_new(false), *u;
	AUTO_BUF struct buf buf = {.data = NULL};
	struct guest_memory *memory;
	struct err err = ERR_INIT;
	struct cursor in;
	uint64_t moved = t->bar + 64 * SIZE;

	guest_bring_up(t);
	guest_assert_works(t);
	move_bar(t, moved);
	guest_set(t, VIRTIO_PCI_COMMON_Q_SELECT, TX, 2);
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	assert_int_equal(t->node->ops->save(t->node, &buf), 0);
	assert_int_equal(t->vdev->dev.ops->save(&t->vdev->dev, &buf), 0);

	u = guest_new(false);
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
	assert_int_equal(guest_get(u, VIRTIO_PCI_COMMON_Q_SELECT, 2), TX);
	assert_int_equal(guest_get(u, VIRTIO_PCI_COMMON_Q_MSIX, 2), TX + 1);
	assert_true(has_ioeventfd(u, moved + NOTIFY));
	virtio_device_resume(&u->vdev->dev);
	guest_assert_works(u);
	guest_free(u);
	guest_free(t);
}

static void cut_state_is_refused(void **state)
{
	struct pci_guest *t = guest_new(false);
	AUTO_BUF struct buf buf = {.data = NULL};

	assert_int_equal(t->node->ops->save(t->node, &buf), 0);
	for (size_t len = 0; len < buf.len; len++) {
		struct cursor in = cursor_init(buf.data, len);

		assert_true(t->node->ops->load(t->node, &in, NULL) < 0);
	}
	guest_free(t);
}

static void slot_that_is_taken_is_refused_and_nothing_stays(void **state)
{
	struct pci_guest *t = guest_new(false);
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
	guest_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
