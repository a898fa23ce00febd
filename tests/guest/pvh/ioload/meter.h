/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time and latencies, told to the host in lines: "begin", then the work in silence, then "end",
 * then figures as "name high low" (32 bits of hex each), latencies as "bucket index count", and
 * "done". The host reads its own clocks and counters when "begin" and "end" arrive; there is a
 * pause after either.
 */
#ifndef TESTS_GUEST_PVH_IOLOAD_METER_H
#define TESTS_GUEST_PVH_IOLOAD_METER_H

#include "tests/guest/pvh/guest.h"

struct meter {
	uint64_t started, until; /* TSC */
	uint64_t requests, bytes, errors;
};

extern uint32_t meter_tsc_khz;

static inline uint64_t meter_now(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* Says "begin" and lets `ms` run from then on. */
void meter_begin(struct meter *m, uint32_t ms);

static inline bool meter_over(const struct meter *m)
{
	return meter_now() >= m->until;
}

/* A request that was started at `started` is done now. */
void meter_count(struct meter *m, uint64_t started, uint32_t bytes);

/* Says the rest. */
void meter_end(struct meter *m, uint32_t kicks);

#endif
