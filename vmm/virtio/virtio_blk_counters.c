/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/virtio_blk_counters.h"

#include "base/json.h"

#include <stdio.h>

void virtio_blk_counters_init(struct virtio_blk_counters *c)
{
	atomic_store(&c->read.latency_min, UINT64_MAX);
	atomic_store(&c->write.latency_min, UINT64_MAX);
}

/* The queues of a disk count together: a minimum is only replaced by a smaller one. */
static void lower(atomic_uint_fast64_t *v, uint64_t to)
{
	uint64_t old = atomic_load_explicit(v, memory_order_relaxed);

	while (to < old && !atomic_compare_exchange_weak(v, &old, to))
		;
}

static void raise_to(atomic_uint_fast64_t *v, uint64_t to)
{
	uint64_t old = atomic_load_explicit(v, memory_order_relaxed);

	while (to > old && !atomic_compare_exchange_weak(v, &old, to))
		;
}

void virtio_blk_count(struct virtio_blk_counters *c, enum block_op op, uint64_t bytes,
		      uint64_t latency_ns)
{
	struct virtio_blk_flow *flow = op == BLOCK_READ ? &c->read : &c->write;
	uint64_t us = latency_ns / 1000;

	if (op != BLOCK_READ && op != BLOCK_WRITE)
		return;
	atomic_fetch_add_explicit(&flow->bytes, bytes, memory_order_relaxed);
	atomic_fetch_add_explicit(&flow->ops, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&flow->latency_sum, us, memory_order_relaxed);
	lower(&flow->latency_min, us);
	raise_to(&flow->latency_max, us);
}

static int put(struct json *o, const char *direction, const char *what, uint64_t v)
{
	char key[32];

	snprintf(key, sizeof(key), "%s_%s", direction, what);
	return json_set(o, key, json_new_uint(v));
}

static int put_flow(struct json *o, const char *direction, const struct virtio_blk_flow *flow)
{
	uint64_t ops = atomic_load(&flow->ops);
	uint64_t avg = ops ? atomic_load(&flow->latency_sum) / ops : UINT64_MAX;
	int r = put(o, direction, "bytes", atomic_load(&flow->bytes));

	if (r >= 0)
		r = put(o, direction, "ops", ops);
	if (r >= 0)
		r = put(o, direction, "latency_min", atomic_load(&flow->latency_min));
	if (r >= 0)
		r = put(o, direction, "latency_max", atomic_load(&flow->latency_max));
	if (r >= 0)
		r = put(o, direction, "latency_avg", avg);
	return r;
}

struct json *virtio_blk_counters_json(const struct virtio_blk_counters *c)
{
	struct json *o = json_new_object();

	if (!o || put_flow(o, "read", &c->read) < 0 || put_flow(o, "write", &c->write) < 0) {
		json_put(o);
		return NULL;
	}
	return o;
}
