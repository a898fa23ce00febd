/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/guest_program.h"

#include "base/log.h"
#include "tests/fuzz/iothreads.h"
#include "tests/fuzz/turns.h"

#include <linux/virtio_config.h>
#include <stdlib.h>
#include <string.h>

#define RING_SIZE  16
#define DATA_BYTES (192 * KIB) /* what can be reached from the data area by 16 bits, and more */
#define OPS_MAX	   256

void fuzz_machine_init(struct device_fixture *f)
{
	device_fixture_init(f, false);
	log_set_level(LOG_ERROR);
}

void fuzz_guest_init(struct fuzz_guest *g)
{
	uint64_t at = FIXTURE_RINGS;

	if (g->vdev->dev.ops->realize(&g->vdev->dev, NULL) < 0)
		abort();
	transport_counts_connect(&g->transport, g->vdev);
	for (unsigned i = 0; i < g->vdev->num_queues; i++)
		at = vring_driver_init(&g->rings[i], g->f.host.memory, at, RING_SIZE);
	if (at > FIXTURE_DATA)
		abort();
}

/* --- the machine's life ------------------------------------------------------------------- */

static void at_rest(struct loop_task *task)
{
	*(bool *)task->arg = true;
}

void fuzz_quiesce(struct device_fixture *f, struct device *dev)
{
	struct quiesce q;
	bool rests = false;

	quiesce_init(&q, f->host.main_loop, at_rest, &rests);
	if (dev->ops->quiesce)
		dev->ops->quiesce(dev, &q);
	quiesce_release(&q);
	while (!rests) {
		iothreads_run();
		run_turn(f->host.main_loop);
	}
}

static void resume(struct fuzz_guest *g)
{
	g->vdev->dev.ops->resume(&g->vdev->dev);
}

static void save_and_load(struct fuzz_guest *g)
{
	struct device *dev = &g->vdev->dev;
	struct buf state = {0};
	struct cursor in;

	fuzz_quiesce(&g->f, dev);
	if (dev->ops->save(dev, &state) < 0)
		abort();
	in = cursor_init(state.data, state.len);
	if (dev->ops->load(dev, &in, NULL) < 0)
		abort();
	buf_fini(&state);
	resume(g);
}

static void load_any(struct fuzz_guest *g, struct cursor *c)
{
	size_t len = MIN((size_t)cursor_le16(c), cursor_left(c));
	struct cursor in = cursor_init(cursor_slice(c, len), len);
	struct device *dev = &g->vdev->dev;
	struct err err = ERR_INIT;

	fuzz_quiesce(&g->f, dev);
	if (len && dev->ops->load(dev, &in, &err) < 0) {
		if (!err_count(&err))
			abort();
		dev->ops->reset(dev);
	}
	resume(g);
}

static void reset(struct fuzz_guest *g)
{
	virtio_set_status(g->vdev, 0);
	fuzz_quiesce(&g->f, &g->vdev->dev);
	if (virtio_status(g->vdev))
		abort();
	resume(g);
}

/* --- the driver --------------------------------------------------------------------------- */

static struct vring_driver *ring_at(struct fuzz_guest *g, struct cursor *c, unsigned *ret_queue)
{
	unsigned queue = cursor_u8(c) % g->vdev->num_queues;

	if (ret_queue)
		*ret_queue = queue;
	return &g->rings[queue];
}

/* kind: bit 0 = the device writes; bits 1..2 = where: data area, rings, end of memory, nowhere; bit
 * 3 = much longer. */
static struct vring_buffer buffer_at(struct cursor *c)
{
	uint8_t kind = cursor_u8(c);
	struct vring_buffer b = {.addr = cursor_le16(c), .len = cursor_le16(c), .write = kind & 1};

	switch (kind >> 1 & 3) {
	case 0: b.addr += FIXTURE_DATA; break;
	case 1: break;
	case 2: b.addr = FIXTURE_MEMORY_BYTES - b.addr; break;
	default: b.addr <<= 48; break;
	}
	if (kind & 8)
		b.len <<= 16;
	return b;
}

static void add_chain(struct fuzz_guest *g, struct cursor *c)
{
	struct vring_driver *ring = ring_at(g, c, NULL);
	unsigned n = cursor_u8(c) % 8 + 1;
	struct vring_buffer buffers[8];

	for (unsigned i = 0; i < n; i++)
		buffers[i] = buffer_at(c);
	vring_add(ring, buffers, n);
}

static void write_data(struct fuzz_guest *g, struct cursor *c)
{
	uint64_t addr = FIXTURE_DATA + cursor_le16(c);
	size_t len = MIN((size_t)cursor_u8(c), cursor_left(c));
	const void *data = cursor_slice(c, len);

	if (len)
		guest_memory_write(g->f.host.memory, gpa(addr), data, len);
}

static void set_descriptor(struct fuzz_guest *g, struct cursor *c)
{
	struct vring_driver *ring = ring_at(g, c, NULL);
	unsigned index = cursor_le16(c) % RING_SIZE;
	uint64_t addr = cursor_le64(c);
	uint32_t len = cursor_le32(c);
	uint16_t flags = cursor_le16(c);

	vring_set_desc(ring, 0, index, addr, len, flags, cursor_le16(c));
}

static void negotiate(struct fuzz_guest *g, uint64_t mask)
{
	uint64_t features = virtio_offered_features(g->vdev) & mask;

	reset(g);
	features |= 1ULL << VIRTIO_F_VERSION_1;
	virtio_set_status(g->vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_set_status(g->vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(g->vdev, 0, (uint32_t)features);
	virtio_set_driver_features(g->vdev, 1, (uint32_t)(features >> 32));
	virtio_set_status(g->vdev, virtio_status(g->vdev) | VIRTIO_CONFIG_S_FEATURES_OK);
}

/* kind: 0 = the rings as they should be; else used, available or descriptors are elsewhere. */
static void enable_queue(struct fuzz_guest *g, struct cursor *c)
{
	unsigned queue;
	struct virtqueue_config config = ring_at(g, c, &queue)->config;
	uint8_t kind;

	config.size = (uint16_t)(1 << cursor_u8(c) % 9);
	kind = cursor_u8(c);
	config.enabled = true;
	if (kind & 1)
		config.used = gpa(config.desc.v);
	if (kind & 2)
		config.avail = gpa(FIXTURE_MEMORY_BYTES - 2 * (kind & 0xf0));
	if (kind & 4)
		config.desc = gpa((uint64_t)kind << 56 | 8 * (kind & 8));
	virtio_configure_queue(g->vdev, queue, &config);
}

static void config_space(struct fuzz_guest *g, struct cursor *c, bool write)
{
	uint32_t offset = cursor_le16(c);
	unsigned len = 1U << cursor_u8(c) % 4;
	uint64_t value;

	/* Beyond 32 bits' sum is what a transport lets nobody reach. */
	if (write) {
		value = cursor_le64(c);
		virtio_config_write(g->vdev, offset, &value, len);
	} else {
		virtio_config_read(g->vdev, offset, &value, len);
	}
}

static void kick(struct fuzz_guest *g, struct cursor *c)
{
	unsigned queue;

	ring_at(g, c, &queue);
	virtio_kick_queue(g->vdev, queue);
	iothreads_run();
}

static void host_input(struct fuzz_guest *g, struct cursor *c)
{
	size_t len = MIN((size_t)cursor_u8(c), cursor_left(c));
	const uint8_t *data = cursor_slice(c, len);

	if (g->host_input && len)
		g->host_input(g->arg, data, len);
	run_turns(g->f.host.main_loop);
	iothreads_run();
}

static void set_flags(struct fuzz_guest *g, struct cursor *c)
{
	struct vring_driver *ring = ring_at(g, c, NULL);

	vring_set_avail_flags(ring, cursor_le16(c));
	vring_set_used_event(ring, cursor_le16(c));
}

static void step(struct fuzz_guest *g, struct cursor *c)
{
	struct vring_driver *ring;

	switch (cursor_u8(c) % 16) {
	case 0: add_chain(g, c); break;
	case 1: write_data(g, c); break;
	case 2: set_descriptor(g, c); break;
	case 3:
		ring = ring_at(g, c, NULL);
		vring_offer(ring, cursor_le16(c));
		break;
	case 4:
		ring = ring_at(g, c, NULL);
		vring_set_avail_idx(ring, cursor_le16(c));
		break;
	case 5: negotiate(g, cursor_le64(c)); break;
	case 6: enable_queue(g, c); break;
	case 7:
		virtio_set_status(g->vdev, virtio_status(g->vdev) | VIRTIO_CONFIG_S_DRIVER_OK);
		break;
	case 8: kick(g, c); break;
	case 9: reset(g); break;
	case 10: save_and_load(g); break;
	case 11: config_space(g, c, false); break;
	case 12: config_space(g, c, true); break;
	case 13: host_input(g, c); break;
	case 14: load_any(g, c); break;
	case 15: set_flags(g, c); break;
	}
}

static void forget(struct fuzz_guest *g)
{
	void *data;

	for (unsigned i = 0; i < g->vdev->num_queues; i++)
		vring_driver_reset(&g->rings[i]);
	if (guest_memory_map(g->f.host.memory, gpa(FIXTURE_DATA), DATA_BYTES, GUEST_WRITE, &data) <
	    0)
		abort();
	memset(data, 0, DATA_BYTES);
}

void fuzz_guest_run(struct fuzz_guest *g, const uint8_t *data, size_t size)
{
	struct cursor c = cursor_init(data, size);

	forget(g);
	for (unsigned i = 0; i < OPS_MAX && cursor_left(&c); i++)
		step(g, &c);
	reset(g);
}
