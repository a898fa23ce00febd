/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/device_fixture.h"

#include "vmm/bus/irq.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/layout.h"
#include "vmm/pci/pci.h"

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TIMEOUT_MS 5000

static void device_event(void *arg, const char *source, const char *event, const char *id)
{
	struct device_fixture *f = arg;

	assert_string_equal(source, "virtio-device");
	if (!strcmp(event, "activated"))
		atomic_fetch_add(&f->activated, 1);
	else if (!strcmp(event, "reset"))
		atomic_fetch_add(&f->resets, 1);
	else
		fail_msg("event %s of %s", event, id);
}

static void guest_request(void *arg, enum guest_request request)
{
	fail_msg("the device asked for %d", request);
}

static void add_kvm(struct device_fixture *f)
{
	struct pci_segment_params params = {
		.ecam_base = LAYOUT_ECAM_START,
		.mmio32_base = LAYOUT_MMIO32_START,
		.mmio32_size = LAYOUT_MMIO32_SIZE,
		.mmio64_base = LAYOUT_MMIO64_ALIGN * 2,
		.mmio64_size = 64 * GIB,
		.memory = f->host.memory,
	};
	struct err err = ERR_INIT;
	char text[256];

	if (kvm_vm_new(1, &f->host.kvm, &err) < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
	assert_int_equal(irq_router_new(f->host.kvm, &f->host.irq), 0);
	assert_int_equal(pci_segment_new(&params, f->host.mmio, f->host.pio, &f->segment, &err), 0);
}

void device_fixture_require_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return;
	print_message("skipped: /dev/kvm cannot be opened here\n");
	skip();
}

void device_fixture_init(struct device_fixture *f, bool with_kvm)
{
	struct guest_memory_params params = {.size_bytes = FIXTURE_MEMORY_BYTES};
	struct err err = ERR_INIT;

	memset(f, 0, sizeof(*f));
	f->host.arg = f;
	f->host.device_event = device_event;
	f->host.guest_request = guest_request;
	assert_int_equal(loop_new(&f->host.main_loop), 0);
	assert_int_equal(guest_memory_new(&params, NULL, &f->host.memory, &err), 0);
	assert_int_equal(bus_new("pio", &f->host.pio), 0);
	assert_int_equal(bus_new("mmio", &f->host.mmio), 0);
	if (with_kvm)
		add_kvm(f);
}

void device_fixture_fini(struct device_fixture *f)
{
	pci_segment_free(f->segment);
	irq_router_free(f->host.irq);
	kvm_vm_free(f->host.kvm);
	bus_free(f->host.mmio);
	bus_free(f->host.pio);
	guest_memory_free(f->host.memory);
	loop_free(f->host.main_loop);
}

/* --- running the loop --------------------------------------------------------------------- */

struct wait {
	struct loop *loop;
	bool (*cond)(void *arg);
	void *arg;
	uint64_t deadline_ns;
	bool met;
};

static void look(struct loop_timer *t, void *arg)
{
	struct wait *wait = arg;

	wait->met = wait->cond(wait->arg);
	if (wait->met || loop_now_ns() >= wait->deadline_ns)
		loop_stop(wait->loop);
}

static bool run_for(struct device_fixture *f, unsigned ms, bool (*cond)(void *arg), void *arg)
{
	struct wait wait = {
		.loop = f->host.main_loop,
		.cond = cond,
		.arg = arg,
		.deadline_ns = loop_now_ns() + ms * 1000000ULL,
	};
	struct loop_timer *timer;

	assert_int_equal(loop_timer_new(wait.loop, look, &wait, &timer), 0);
	loop_timer_start(timer, 0, 1);
	loop_run(wait.loop);
	loop_timer_free(timer);
	return wait.met;
}

bool device_fixture_run(struct device_fixture *f, bool (*cond)(void *arg), void *arg)
{
	return run_for(f, TIMEOUT_MS, cond, arg);
}

static bool never(void *arg)
{
	return false;
}

void device_fixture_run_ms(struct device_fixture *f, unsigned ms)
{
	run_for(f, ms, never, NULL);
}

/* --- life of a device --------------------------------------------------------------------- */

static void at_rest(struct loop_task *task)
{
	*(bool *)task->arg = true;
}

static bool is_true(void *arg)
{
	return *(bool *)arg;
}

void device_fixture_quiesce(struct device_fixture *f, struct device *dev)
{
	struct quiesce q;
	bool done = false;

	quiesce_init(&q, f->host.main_loop, at_rest, &done);
	if (dev->ops->quiesce)
		dev->ops->quiesce(dev, &q);
	quiesce_release(&q);
	assert_true(device_fixture_run(f, is_true, &done));
}

void device_fixture_end(struct device_fixture *f, struct device *dev)
{
	device_fixture_quiesce(f, dev);
	dev->ops->unrealize(dev);
	dev->ops->free(dev);
}

/* --- a transport that counts -------------------------------------------------------------- */

static void count_queue(void *transport, unsigned queue)
{
	struct transport_counts *t = transport;

	assert_in_range(queue, 0, VIRTIO_MAX_QUEUES - 1);
	atomic_fetch_add(&t->queues[queue], 1);
}

static void count_config(void *transport)
{
	struct transport_counts *t = transport;

	atomic_fetch_add(&t->config, 1);
}

static void set_active(void *transport, bool active)
{
	struct transport_counts *t = transport;

	t->active = active;
}

static const struct virtio_transport_ops counting = {
	.notify_queue = count_queue,
	.notify_config = count_config,
	.activated = set_active,
};

void transport_counts_connect(struct transport_counts *t, struct virtio_device *vdev)
{
	memset(t, 0, sizeof(*t));
	virtio_set_transport(vdev, &counting, t);
}

/* --- a driver's steps --------------------------------------------------------------------- */

static void add_status(struct virtio_device *vdev, uint8_t bit)
{
	uint8_t status = virtio_status(vdev) | bit;

	virtio_set_status(vdev, status);
	assert_int_equal(virtio_status(vdev) & bit, bit);
}

void driver_negotiate(struct virtio_device *vdev, uint64_t features)
{
	features |= 1ULL << VIRTIO_F_VERSION_1;
	virtio_set_status(vdev, 0);
	assert_int_equal(virtio_status(vdev), 0);
	add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	add_status(vdev, VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(vdev, 0, (uint32_t)features);
	virtio_set_driver_features(vdev, 1, (uint32_t)(features >> 32));
	add_status(vdev, VIRTIO_CONFIG_S_FEATURES_OK);
}

void driver_enable_queue(struct virtio_device *vdev, unsigned queue, const struct vring_driver *d)
{
	assert_true(virtio_configure_queue(vdev, queue, &d->config));
}

void driver_ok(struct virtio_device *vdev)
{
	add_status(vdev, VIRTIO_CONFIG_S_DRIVER_OK);
}

static bool status_is_zero(void *arg)
{
	return virtio_status(arg) == 0;
}

void driver_reset(struct device_fixture *f, struct virtio_device *vdev)
{
	virtio_set_status(vdev, 0);
	assert_true(device_fixture_run(f, status_is_zero, vdev));
}

static bool has_answer(void *arg)
{
	struct vring_driver *d = arg;

	return vring_used_idx(d) != d->used_seen;
}

bool driver_wait_used(struct device_fixture *f, struct vring_driver *d, uint32_t *ret_id,
		      uint32_t *ret_len)
{
	return device_fixture_run(f, has_answer, d) && vring_get_used(d, ret_id, ret_len);
}
