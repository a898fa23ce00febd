/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rings of any content, which change between any two steps of a device that follows the rules. What
 * it is given lies in memory, is as long as it says, and comes once.
 *
 * Input: size, features, where the rings are; then steps of a byte each; pokes carry an address and
 * a value.
 */
#include "vmm/virtio/virtqueue.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY_BYTES (2 * MIB)
#define REACH	     (64 * KIB) /* of rings and pokes */
#define MAX_IOV	     64
#define HELD_MAX     8

struct device {
	struct guest_memory *memory;
	struct virtqueue vq;
	struct virtqueue_chain held[HELD_MAX];
	struct iovec iov[HELD_MAX][MAX_IOV];
	unsigned num_held;
};

static void check_chain(const struct device *d, const struct virtqueue_chain *chain)
{
	const struct guest_region *ram = &d->memory->regions[0];
	uint64_t bytes[2] = {0};

	/* It may be empty: buffers of no length are left out. */
	if (chain->num_out + chain->num_in > MAX_IOV)
		abort();
	for (unsigned i = 0; i < chain->num_out + chain->num_in; i++) {
		const uint8_t *p = chain->iov[i].iov_base;
		size_t len = chain->iov[i].iov_len;

		if (p < ram->host || len > ram->size_bytes ||
		    (size_t)(p - ram->host) > ram->size_bytes - len)
			abort();
		bytes[i >= chain->num_out] += len;
	}
	if (bytes[0] != chain->out_bytes || bytes[1] != chain->in_bytes)
		abort();
	for (unsigned i = 0; i < d->num_held; i++) {
		if (d->held[i].head == chain->head)
			abort();
	}
}

static void pop(struct device *d)
{
	struct virtqueue_chain *chain = &d->held[d->num_held];
	int rc;

	if (d->num_held == HELD_MAX)
		return;
	*chain = (struct virtqueue_chain){.iov = d->iov[d->num_held], .max_iov = MAX_IOV};
	rc = virtqueue_pop(&d->vq, chain);
	if (rc == -E2BIG)
		virtqueue_push_head(&d->vq, chain->head, 0);
	if (rc != 1)
		return;
	check_chain(d, chain);
	d->num_held++;
}

static void push(struct device *d)
{
	struct virtqueue_chain *chain;
	uint8_t bytes[300] = {0};
	size_t n;

	if (!d->num_held)
		return;
	chain = &d->held[--d->num_held];
	virtqueue_chain_read(chain, chain->out_bytes / 2, bytes, sizeof(bytes));
	n = virtqueue_chain_write(chain, chain->in_bytes / 3, bytes, sizeof(bytes));
	virtqueue_push(&d->vq, chain, (uint32_t)(chain->in_bytes / 3 + n));
}

static void unpop(struct device *d)
{
	struct virtqueue_chain *chain = &d->held[d->num_held];

	if (d->num_held == HELD_MAX)
		return;
	*chain = (struct virtqueue_chain){.iov = d->iov[d->num_held], .max_iov = MAX_IOV};
	if (virtqueue_pop(&d->vq, chain) == 1)
		virtqueue_unpop(&d->vq, chain);
}

static void save_and_load(struct device *d)
{
	struct buf state = {0};
	struct cursor in;

	if (virtqueue_save(&d->vq, &state) >= 0) {
		in = cursor_init(state.data, state.len);
		if (virtqueue_load(&d->vq, &in, NULL) < 0)
			abort();
	}
	buf_fini(&state);
}

static void poke(struct device *d, struct cursor *c)
{
	uint64_t addr = cursor_le16(c);
	uint64_t value = cursor_le64(c);

	guest_memory_write(d->memory, gpa(addr), &value, sizeof(value));
}

static void step(struct device *d, struct cursor *c)
{
	switch (cursor_u8(c) % 9) {
	case 0: pop(d); break;
	case 1: push(d); break;
	case 2: virtqueue_flush(&d->vq); break;
	case 3: virtqueue_disable_kicks(&d->vq); break;
	case 4: virtqueue_enable_kicks(&d->vq); break;
	case 5: poke(d, c); break;
	case 6: unpop(d); break;
	case 7: save_and_load(d); break;
	case 8: virtqueue_has_work(&d->vq); break;
	}
}

static int start(struct device *d, struct cursor *c)
{
	struct virtqueue_config config = {.max_size = 256, .enabled = true};
	uint64_t features = 0;
	uint8_t bits;

	config.size = (uint16_t)(1 << cursor_u8(c) % 9);
	bits = cursor_u8(c);
	if (bits & 1)
		features |= 1ULL << VIRTIO_RING_F_EVENT_IDX;
	if (bits & 2)
		features |= 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	config.desc = gpa(cursor_le16(c));
	config.avail = gpa(cursor_le16(c));
	config.used = gpa(cursor_le16(c));
	if (bits & 4)
		config.used = gpa(MEMORY_BYTES - config.used.v);
	return virtqueue_start(&d->vq, d->memory, &config, features, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct guest_memory_params params = {.size_bytes = MEMORY_BYTES};
	struct cursor c = cursor_init(data, size);
	static struct device d;

	if (!d.memory && guest_memory_new(&params, NULL, &d.memory, NULL) < 0)
		abort();
	memset(d.memory->regions[0].host, 0, REACH + 8);
	d.num_held = 0;
	if (start(&d, &c) >= 0) {
		while (cursor_left(&c))
			step(&d, &c);
	}
	virtqueue_reset(&d.vq);
	return 0;
}
