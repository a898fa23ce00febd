/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Ring fields are accessed with the __atomic builtins, each exactly once: a load acquires the
 * driver's index before anything behind it is read, a store releases our index after everything
 * behind it was written. Where a store of ours must be ordered before a load of the driver's field
 * (publish, then look whether an interrupt is wanted; ask for kicks, then look for work) a full
 * fence stands between. Descriptors are copied whole, and a compiler fence keeps the copy a copy.
 *
 * The masks below are safe since virtqueue_start() takes powers of two only; heads and descriptor
 * numbers are compared with the table's length before use.
 */
#include "vmm/virtio/virtqueue.h"

#include "base/endian.h"
#include "base/state.h"

#include <errno.h>
#include <linux/virtio_ring.h>
#include <string.h>

/* 2.7.5 */
struct descriptor {
	le64_t addr;
	le32_t len;
	le16_t flags;
	le16_t next;
};
static_assert(sizeof(struct descriptor) == 16, "2.7.5");

/* 2.7.6: followed by ring[size] and used_event */
struct avail_ring {
	le16_t flags;
	le16_t idx;
	le16_t ring[];
};
static_assert(sizeof(struct avail_ring) == 4, "2.7.6");

struct used_elem {
	le32_t id;
	le32_t len;
};
static_assert(sizeof(struct used_elem) == 8, "2.7.8");

/* 2.7.8: followed by ring[size] and avail_event */
struct used_ring {
	le16_t flags;
	le16_t idx;
	struct used_elem ring[];
};
static_assert(sizeof(struct used_ring) == 4, "2.7.8");

/* --- ring fields -------------------------------------------------------------------------- */

static uint16_t load16(const le16_t *field, int order)
{
	return le16toh(order == __ATOMIC_ACQUIRE ? __atomic_load_n(&field->raw, __ATOMIC_ACQUIRE)
						 : __atomic_load_n(&field->raw, __ATOMIC_RELAXED));
}

/* Stores to a field of the used ring, and marks it dirty. */
static void store16(struct virtqueue *vq, le16_t *field, uint16_t value)
{
	__atomic_store_n(&field->raw, htole16(value), __ATOMIC_RELEASE);
	guest_memory_written(vq->memory, field, sizeof(*field));
}

static const struct avail_ring *avail_ring(const struct virtqueue *vq)
{
	return vq->avail;
}

static struct used_ring *used_ring(const struct virtqueue *vq)
{
	return vq->used;
}

/* The driver's wish: interrupt once this used index is passed. Behind the available ring. */
static uint16_t used_event(const struct virtqueue *vq)
{
	return load16(&avail_ring(vq)->ring[vq->config.size], __ATOMIC_RELAXED);
}

/* Our wish: kick once this available index is passed. Behind the used ring. */
static le16_t *avail_event(const struct virtqueue *vq)
{
	return (le16_t *)(void *)&used_ring(vq)->ring[vq->config.size];
}

static uint16_t num_pending(const struct virtqueue *vq)
{
	uint16_t idx = load16(&avail_ring(vq)->idx, __ATOMIC_ACQUIRE);

	return (uint16_t)(idx - vq->next_avail);
}

/* --- heads in flight ---------------------------------------------------------------------- */

static bool in_flight(const struct virtqueue *vq, uint16_t head)
{
	return vq->in_flight[head / 64] >> (head % 64) & 1;
}

static void set_in_flight(struct virtqueue *vq, uint16_t head)
{
	vq->in_flight[head / 64] |= (uint64_t)1 << (head % 64);
	vq->num_in_flight++;
}

static void clear_in_flight(struct virtqueue *vq, uint16_t head)
{
	vq->in_flight[head / 64] &= ~((uint64_t)1 << (head % 64));
	vq->num_in_flight--;
}

/* --- life --------------------------------------------------------------------------------- */

static int check_config(const struct virtqueue_config *config, struct err *err)
{
	if (!is_power_of_two(config->size) || config->size > config->max_size ||
	    config->size > VIRTQUEUE_MAX_SIZE)
		return err_set(err, -EINVAL, "queue size %u is not a power of two up to %u",
			       config->size, config->max_size);
	if (config->desc.v % 16 || config->avail.v % 2 || config->used.v % 4)
		return err_set(err, -EINVAL, "rings are not aligned");
	return 0;
}

static int map_rings(struct virtqueue *vq, struct err *err)
{
	const struct virtqueue_config *config = &vq->config;
	uint64_t size = config->size;
	int rc;

	rc = guest_memory_map(vq->memory, config->desc, size * sizeof(struct descriptor),
			      GUEST_READ, &vq->desc);
	if (rc == 0)
		rc = guest_memory_map(vq->memory, config->avail,
				      sizeof(struct avail_ring) + (size + 1) * sizeof(le16_t),
				      GUEST_READ, &vq->avail);
	if (rc == 0)
		rc = guest_memory_map(vq->memory, config->used,
				      sizeof(struct used_ring) + size * sizeof(struct used_elem) +
					      sizeof(le16_t),
				      GUEST_WRITE, &vq->used);
	if (rc < 0)
		return err_set(err, rc, "rings do not lie in RAM");
	return 0;
}

int virtqueue_start(struct virtqueue *vq, struct guest_memory *memory,
		    const struct virtqueue_config *config, uint64_t features, struct err *err)
{
	int rc;

	virtqueue_stop(vq);
	rc = check_config(config, err);
	if (rc < 0)
		return rc;
	vq->memory = memory;
	vq->config = *config;
	rc = map_rings(vq, err);
	if (rc < 0)
		goto fail;
	vq->in_flight = calloc((config->size + 63U) / 64, sizeof(*vq->in_flight));
	if (!vq->in_flight) {
		rc = err_set(err, -ENOMEM, "out of memory");
		goto fail;
	}
	vq->num_in_flight = 0;
	vq->event_idx = features >> VIRTIO_RING_F_EVENT_IDX & 1;
	vq->indirect = features >> VIRTIO_RING_F_INDIRECT_DESC & 1;
	vq->signalled_used = vq->next_used;
	vq->signalled_valid = false;
	return 0;

fail:
	virtqueue_stop(vq);
	return rc;
}

void virtqueue_stop(struct virtqueue *vq)
{
	vq->desc = vq->avail = vq->used = NULL;
	free(TAKE(vq->in_flight));
	vq->num_in_flight = 0;
}

void virtqueue_reset(struct virtqueue *vq)
{
	virtqueue_stop(vq);
	memset(vq, 0, sizeof(*vq));
}

/* --- taking chains ------------------------------------------------------------------------ */

/* Where a walk along a chain is. */
struct walk {
	const struct descriptor *table;
	uint32_t table_len; /* descriptors */
	uint32_t left;	    /* that may still come from this table: ends loops */
	uint32_t total;	    /* that the chain has had */
	uint32_t next;
	bool in_indirect;
	uint64_t bytes;
	unsigned num_iov; /* may exceed the chain's max_iov: then only counted */
};

static struct descriptor copy_descriptor(const struct descriptor *src)
{
	struct descriptor copy;

	memcpy(&copy, src, sizeof(copy));
	atomic_signal_fence(memory_order_seq_cst);
	return copy;
}

/* The last direct descriptor names a table of its own: goes on there. The descriptor's own write
 * flag means nothing (2.7.5.3.2). */
static int enter_indirect(const struct virtqueue *vq, struct walk *walk,
			  const struct descriptor *desc)
{
	uint32_t len = le32_get(desc->len);
	uint32_t count = len / sizeof(struct descriptor);
	void *table;

	if (!vq->indirect || walk->in_indirect || le16_get(desc->flags) & VRING_DESC_F_NEXT)
		return -EIO;
	if (!count || len % sizeof(struct descriptor) || count > VIRTQUEUE_MAX_INDIRECT)
		return -EIO;
	if (guest_memory_map(vq->memory, gpa(le64_get(desc->addr)), len, GUEST_READ, &table) < 0)
		return -EIO;
	walk->table = table;
	walk->table_len = count;
	walk->left = count;
	walk->next = 0;
	walk->in_indirect = true;
	return 0;
}

/* Adds one buffer. Empty ones are left out. */
static int add_buffer(const struct virtqueue *vq, struct walk *walk, const struct descriptor *desc,
		      struct virtqueue_chain *chain)
{
	bool in = le16_get(desc->flags) & VRING_DESC_F_WRITE;
	uint32_t len = le32_get(desc->len);
	void *host;

	if (!in && chain->num_in)
		return -EIO; /* 2.7.4.2: readable ones come first */
	if (!len)
		return 0;
	walk->bytes += len;
	if (walk->bytes > UINT32_MAX)
		return -EIO;
	if (guest_memory_map(vq->memory, gpa(le64_get(desc->addr)), len,
			     in ? GUEST_WRITE : GUEST_READ, &host) < 0)
		return -EIO;
	if (walk->num_iov < chain->max_iov)
		chain->iov[walk->num_iov] = (struct iovec){.iov_base = host, .iov_len = len};
	walk->num_iov++;
	if (in) {
		chain->num_in++;
		chain->in_bytes += len;
	} else {
		chain->num_out++;
		chain->out_bytes += len;
	}
	return 0;
}

/* Handles one descriptor. Returns 1 when the chain goes on, 0 at its end, -EIO for nonsense. */
static int walk_step(const struct virtqueue *vq, struct walk *walk, struct virtqueue_chain *chain)
{
	struct descriptor desc;
	int rc;

	if (walk->next >= walk->table_len || !walk->left || walk->total >= VIRTQUEUE_MAX_INDIRECT)
		return -EIO;
	desc = copy_descriptor(&walk->table[walk->next]);
	walk->left--;
	if (le16_get(desc.flags) & VRING_DESC_F_INDIRECT) {
		rc = enter_indirect(vq, walk, &desc);
		return rc < 0 ? rc : 1;
	}
	walk->total++;
	rc = add_buffer(vq, walk, &desc, chain);
	if (rc < 0)
		return rc;
	walk->next = le16_get(desc.next);
	return !!(le16_get(desc.flags) & VRING_DESC_F_NEXT);
}

static void clear_chain(struct virtqueue_chain *chain)
{
	chain->num_out = chain->num_in = 0;
	chain->out_bytes = chain->in_bytes = 0;
}

static int walk_chain(const struct virtqueue *vq, uint16_t head, struct virtqueue_chain *chain)
{
	struct walk walk = {
		.table = vq->desc,
		.table_len = vq->config.size,
		.left = vq->config.size,
		.next = head,
	};
	int rc;

	clear_chain(chain);
	do
		rc = walk_step(vq, &walk, chain);
	while (rc > 0);
	if (rc == 0 && walk.num_iov > chain->max_iov)
		rc = -E2BIG;
	if (rc < 0)
		clear_chain(chain);
	return rc;
}

static int mark_broken(struct virtqueue *vq)
{
	vq->broken = true;
	return -EIO;
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_chain *chain)
{
	uint16_t pending, head;
	int rc;

	clear_chain(chain);
	if (vq->broken)
		return -EIO;
	if (!vq->desc)
		return 0;
	pending = num_pending(vq);
	if (!pending)
		return 0;
	if (pending > vq->config.size)
		return mark_broken(vq);
	head = load16(&avail_ring(vq)->ring[vq->next_avail & (vq->config.size - 1)],
		      __ATOMIC_RELAXED);
	if (head >= vq->config.size || in_flight(vq, head))
		return mark_broken(vq);
	rc = walk_chain(vq, head, chain);
	if (rc == -EIO)
		return mark_broken(vq);
	chain->head = head;
	set_in_flight(vq, head);
	vq->next_avail++;
	return rc < 0 ? rc : 1;
}

void virtqueue_unpop(struct virtqueue *vq, const struct virtqueue_chain *chain)
{
	if (!vq->desc || chain->head >= vq->config.size || !in_flight(vq, chain->head))
		return;
	clear_in_flight(vq, chain->head);
	vq->next_avail--;
}

/* --- answering ---------------------------------------------------------------------------- */

void virtqueue_push_head(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	struct used_elem *elem;

	if (!vq->desc || head >= vq->config.size || !in_flight(vq, head))
		return;
	elem = &used_ring(vq)->ring[vq->next_used & (vq->config.size - 1)];
	*elem = (struct used_elem){.id = le32(head), .len = le32(written)};
	guest_memory_written(vq->memory, elem, sizeof(*elem));
	clear_in_flight(vq, head);
	vq->next_used++;
}

void virtqueue_push(struct virtqueue *vq, const struct virtqueue_chain *chain, uint32_t written)
{
	const struct iovec *iov = chain->iov + chain->num_out;
	uint32_t left;

	written = MIN(written, chain->in_bytes);
	left = written;
	for (unsigned i = 0; i < chain->num_in && left; i++) {
		uint32_t part = (uint32_t)MIN(iov[i].iov_len, (size_t)left);

		guest_memory_written(vq->memory, iov[i].iov_base, part);
		left -= part;
	}
	virtqueue_push_head(vq, chain->head, written);
}

bool virtqueue_flush(struct virtqueue *vq)
{
	uint16_t old = vq->signalled_used;
	bool first = !vq->signalled_valid;

	if (!vq->desc || vq->next_used == old)
		return false;
	store16(vq, &used_ring(vq)->idx, vq->next_used);
	vq->signalled_used = vq->next_used;
	vq->signalled_valid = true;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (vq->event_idx)
		return first || vring_need_event(used_event(vq), vq->next_used, old);
	return !(load16(&avail_ring(vq)->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT);
}

/* --- kicks -------------------------------------------------------------------------------- */

void virtqueue_disable_kicks(struct virtqueue *vq)
{
	/* With event_idx an avail_event that stays behind means the same. */
	if (vq->desc && !vq->event_idx)
		store16(vq, &used_ring(vq)->flags, VRING_USED_F_NO_NOTIFY);
}

bool virtqueue_enable_kicks(struct virtqueue *vq)
{
	if (!vq->desc)
		return false;
	if (vq->event_idx)
		store16(vq, avail_event(vq), vq->next_avail);
	else
		store16(vq, &used_ring(vq)->flags, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return virtqueue_has_work(vq);
}

bool virtqueue_has_work(const struct virtqueue *vq)
{
	return vq->desc && !vq->broken && num_pending(vq);
}

void virtqueue_set_broken(struct virtqueue *vq)
{
	vq->broken = true;
}

/* --- bytes of a chain --------------------------------------------------------------------- */

/* Copies between `buf` and the bytes from `offset` on of n iovecs; returns how many. */
static size_t copy_iov(const struct iovec *iov, unsigned n, size_t offset, void *buf, size_t len,
		       bool to_iov)
{
	uint8_t *p = buf;
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint8_t *base = iov[i].iov_base;
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - offset, len - done);
		if (to_iov)
			memcpy(base + offset, p + done, part);
		else
			memcpy(p + done, base + offset, part);
		done += part;
		offset = 0;
	}
	atomic_signal_fence(memory_order_seq_cst);
	return done;
}

size_t virtqueue_chain_read(const struct virtqueue_chain *chain, size_t offset, void *dst,
			    size_t len)
{
	return copy_iov(chain->iov, chain->num_out, offset, dst, len, false);
}

size_t virtqueue_chain_write(const struct virtqueue_chain *chain, size_t offset, const void *src,
			     size_t len)
{
	/* copy_iov() only reads buf when it copies to the chain. */
	void *buf = (void *)(uintptr_t)src;

	return copy_iov(chain->iov + chain->num_out, chain->num_in, offset, buf, len, true);
}

/* --- state -------------------------------------------------------------------------------- */

static const struct state_field fields[] = {
	STATE_FIELD(STATE_U16, struct virtqueue, next_avail),
	STATE_FIELD(STATE_U16, struct virtqueue, next_used),
	STATE_FIELD(STATE_BOOL, struct virtqueue, broken),
};

static const struct state_layout layout = {
	.name = "virtqueue",
	.version = 1,
	.fields = fields,
	.num_fields = ARRAY_SIZE(fields),
	.struct_size = sizeof(struct virtqueue),
};

int virtqueue_save(const struct virtqueue *vq, struct buf *out)
{
	if (vq->num_in_flight && !vq->broken)
		return -EBUSY;
	return state_save(out, &layout, vq);
}

int virtqueue_load(struct virtqueue *vq, struct cursor *in, struct err *err)
{
	return state_load(in, &layout, vq, err);
}
