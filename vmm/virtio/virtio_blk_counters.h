/* SPDX-License-Identifier: Apache-2.0 */
/* What vm.counters tells of a disk. Counted by the queues' threads, read by the main thread,
 * without a lock. */
#ifndef VMM_VIRTIO_VIRTIO_BLK_COUNTERS_H
#define VMM_VIRTIO_VIRTIO_BLK_COUNTERS_H

#include "storage/block.h"

#include <stdatomic.h>

struct json;

/* Of one direction; latencies in microseconds from the guest's request to its answer. */
struct virtio_blk_flow {
	atomic_uint_fast64_t bytes;
	atomic_uint_fast64_t ops;
	atomic_uint_fast64_t latency_sum;
	atomic_uint_fast64_t latency_min; /* UINT64_MAX before the first */
	atomic_uint_fast64_t latency_max;
};

struct virtio_blk_counters {
	struct virtio_blk_flow read;
	struct virtio_blk_flow write;
};

void virtio_blk_counters_init(struct virtio_blk_counters *c);

/* Counts a request that succeeded; operations that move no data are not counted. */
void virtio_blk_count(struct virtio_blk_counters *c, enum block_op op, uint64_t bytes,
		      uint64_t latency_ns);

/* {"read_bytes":..,...}; NULL when out of memory. Before the first request minimum and average are
 * the largest integer, maximum 0. */
struct json *virtio_blk_counters_json(const struct virtio_blk_counters *c);

#endif
