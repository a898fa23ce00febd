/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pvh/ioload/meter.h"

#define PAUSE_MS 15

/* Buckets of latencies: below 16 cycles one each, from there on sixteen to the power of two. */
#define NUM_BUCKETS 464

uint32_t meter_tsc_khz = 2000000;

static uint32_t buckets[NUM_BUCKETS];

static uint64_t cycles(uint32_t ms)
{
	return (uint64_t)ms * meter_tsc_khz;
}

static void pause_ms(uint32_t ms)
{
	uint64_t until = meter_now() + cycles(ms);

	while (meter_now() < until)
		__asm__ volatile("pause");
}

void meter_begin(struct meter *m, uint32_t ms)
{
	memset(buckets, 0, sizeof(buckets));
	guest_print("begin");
	pause_ms(PAUSE_MS);
	*m = (struct meter){.started = meter_now()};
	m->until = m->started + cycles(ms);
}

static unsigned bucket_of(uint64_t latency)
{
	uint32_t n = latency > UINT32_MAX ? UINT32_MAX : (uint32_t)latency;
	unsigned top = n < 16 ? 3 : 31 - (unsigned)__builtin_clz(n);

	return n < 16 ? n : (top - 3) * 16 + (n >> (top - 4) & 15);
}

void meter_count(struct meter *m, uint64_t started, uint32_t bytes)
{
	m->requests++;
	m->bytes += bytes;
	buckets[bucket_of(meter_now() - started)]++;
}

/* The line may be one that loses what comes before it is ready. */
static void put(char c)
{
	while (!(in8(GUEST_COM1 + 5) & 0x20))
		;
	out8(GUEST_COM1, (uint8_t)c);
}

static void say(const char *name, uint32_t first, uint32_t second)
{
	const uint32_t numbers[] = {first, second};

	while (*name)
		put(*name++);
	for (unsigned i = 0; i < 2; i++) {
		unsigned shift = 32;

		put(' ');
		while (shift > 4 && !(numbers[i] >> (shift - 4)))
			shift -= 4;
		for (; shift; shift -= 4)
			put("0123456789abcdef"[numbers[i] >> (shift - 4) & 15]);
	}
	put('\n');
}

static void say64(const char *name, uint64_t n)
{
	say(name, (uint32_t)(n >> 32), (uint32_t)n);
}

void meter_end(struct meter *m, uint32_t kicks)
{
	uint64_t took = meter_now() - m->started;

	guest_print("end");
	pause_ms(PAUSE_MS);
	say64("cycles", took);
	say64("requests", m->requests);
	say64("bytes", m->bytes);
	say64("errors", m->errors);
	say64("kicks", kicks);
	for (unsigned i = 0; i < NUM_BUCKETS; i++)
		if (buckets[i])
			say("bucket", i, buckets[i]);
	guest_print("done");
}
