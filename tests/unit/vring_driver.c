/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vring_driver.h"

#include "base/endian.h"

#include <linux/virtio_ring.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void *host(const struct vring_driver *d, uint64_t addr, unsigned len)
{
	void *p;

	assert_int_equal(guest_memory_map(d->memory, gpa(addr), len, GUEST_WRITE, &p), 0);
	return p;
}

/* Fields of 16 bits are the indices and flags: what the other side synchronises with. */
static void put(struct vring_driver *d, uint64_t addr, uint64_t value, unsigned len)
{
	void *p = host(d, addr, len);

	if (len == 2 && addr % 2 == 0)
		__atomic_store_n((uint16_t *)p, htole16((uint16_t)value), __ATOMIC_SEQ_CST);
	else
		le_store(p, value, len);
}

static uint64_t get(const struct vring_driver *d, uint64_t addr, unsigned len)
{
	const void *p = host(d, addr, len);

	if (len == 2)
		return le16toh(__atomic_load_n((const uint16_t *)p, __ATOMIC_SEQ_CST));
	return le_load(p, len);
}

static uint64_t avail_entry(const struct vring_driver *d, unsigned i)
{
	return d->config.avail.v + 4 + 2 * (uint64_t)i;
}

static uint64_t used_entry(const struct vring_driver *d, unsigned i)
{
	return d->config.used.v + 4 + 8 * (uint64_t)i;
}

uint64_t vring_driver_init(struct vring_driver *d, struct guest_memory *memory, uint64_t base,
			   uint16_t size)
{
	*d = (struct vring_driver){.memory = memory};
	d->config.max_size = d->config.size = size;
	d->config.enabled = true;
	d->config.desc = gpa(base);
	d->config.avail = gpa(base + 16 * (uint64_t)size);
	d->config.used = gpa(align_up(avail_entry(d, size) + 2, 4));
	vring_driver_reset(d);
	return align_up(used_entry(d, size) + 2, 4096);
}

void vring_driver_reset(struct vring_driver *d)
{
	for (uint64_t at = d->config.desc.v; at < used_entry(d, d->config.size); at += 4)
		put(d, at, 0, 4);
	d->avail_idx = d->used_seen = d->next_desc = 0;
}

void vring_set_desc(struct vring_driver *d, uint64_t table, unsigned index, uint64_t addr,
		    uint32_t len, uint16_t flags, uint16_t next)
{
	uint64_t at = (table ? table : d->config.desc.v) + 16 * (uint64_t)index;

	put(d, at, addr, 8);
	put(d, at + 8, len, 4);
	put(d, at + 12, flags, 2);
	put(d, at + 14, next, 2);
}

void vring_offer(struct vring_driver *d, uint16_t head)
{
	put(d, avail_entry(d, d->avail_idx % d->config.size), head, 2);
	vring_set_avail_idx(d, d->avail_idx + 1);
}

void vring_set_avail_idx(struct vring_driver *d, uint16_t idx)
{
	d->avail_idx = idx;
	put(d, d->config.avail.v + 2, idx, 2);
}

void vring_set_avail_flags(struct vring_driver *d, uint16_t flags)
{
	put(d, d->config.avail.v, flags, 2);
}

void vring_set_used_event(struct vring_driver *d, uint16_t event)
{
	put(d, avail_entry(d, d->config.size), event, 2);
}

static uint16_t flags_of(const struct vring_buffer *buffer, bool last)
{
	return (buffer->write ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT);
}

static uint16_t take_desc(struct vring_driver *d)
{
	return d->next_desc++ % d->config.size;
}

uint16_t vring_add(struct vring_driver *d, const struct vring_buffer *buffers, unsigned n)
{
	uint16_t head = take_desc(d), at = head;

	for (unsigned i = 0; i < n; i++) {
		bool last = i == n - 1;
		uint16_t next = last ? 0 : take_desc(d);

		vring_set_desc(d, 0, at, buffers[i].addr, buffers[i].len,
			       flags_of(&buffers[i], last), next);
		at = next;
	}
	vring_offer(d, head);
	return head;
}

uint16_t vring_add_indirect(struct vring_driver *d, uint64_t table,
			    const struct vring_buffer *buffers, unsigned n)
{
	uint16_t head = take_desc(d);

	for (unsigned i = 0; i < n; i++)
		vring_set_desc(d, table, i, buffers[i].addr, buffers[i].len,
			       flags_of(&buffers[i], i == n - 1), (uint16_t)(i + 1));
	vring_set_desc(d, 0, head, table, 16 * n, VRING_DESC_F_INDIRECT, 0);
	vring_offer(d, head);
	return head;
}

bool vring_get_used(struct vring_driver *d, uint32_t *ret_id, uint32_t *ret_len)
{
	uint64_t at = used_entry(d, d->used_seen % d->config.size);

	if (vring_used_idx(d) == d->used_seen)
		return false;
	*ret_id = (uint32_t)get(d, at, 4);
	*ret_len = (uint32_t)get(d, at + 4, 4);
	d->used_seen++;
	return true;
}

uint16_t vring_used_idx(const struct vring_driver *d)
{
	return (uint16_t)get(d, d->config.used.v + 2, 2);
}

uint16_t vring_used_flags(const struct vring_driver *d)
{
	return (uint16_t)get(d, d->config.used.v, 2);
}

uint16_t vring_kick_event(const struct vring_driver *d)
{
	return (uint16_t)get(d, used_entry(d, d->config.size), 2);
}
