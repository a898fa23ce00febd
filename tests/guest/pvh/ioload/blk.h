/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_GUEST_PVH_IOLOAD_BLK_H
#define TESTS_GUEST_PVH_IOLOAD_BLK_H

#include "tests/guest/pvh/ioload/virtio.h"

#define BLK_MAX_DEPTH 32
#define BLK_MAX_BYTES (128 * 1024)

struct blk_work {
	bool write, random;
	uint32_t bytes; /* a request; a multiple of 512 up to BLK_MAX_BYTES */
	uint32_t depth; /* requests in flight, up to BLK_MAX_DEPTH */
	uint32_t ms;
};

/* Reads or writes over and over, as fast as the device answers. */
void blk_run(uint32_t ecam, const struct blk_work *work);

#endif
