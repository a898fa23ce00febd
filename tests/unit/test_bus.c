/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus/bus.h"

#include "base/thread.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A range that records what reached it. */
struct probe {
	struct bus_range range;
	uint64_t offset;
	unsigned len;
	unsigned reads, writes;
};

static void probe_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct probe *p = arg;

	p->offset = offset;
	p->len = len;
	p->reads++;
	memset(data, 0x5a, len);
}

static void probe_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct probe *p = arg;

	p->offset = offset;
	p->len = len;
	p->writes++;
}

static const struct bus_ops probe_ops = {.read = probe_read, .write = probe_write};

static void probe_init(struct probe *p, uint64_t base, uint64_t size)
{
	memset(p, 0, sizeof(*p));
	p->range = (struct bus_range){
		.name = "probe", .ops = &probe_ops, .arg = p, .base = base, .size_bytes = size};
}

static struct bus *make_bus(void)
{
	struct bus *bus = NULL;

	assert_int_equal(bus_new("test", &bus), 0);
	return bus;
}

static void access_reaches_the_range_that_holds_it(void **state)
{
	struct bus *bus = make_bus();
	struct probe p[40];
	uint8_t data[8];

	/* In an order that is not sorted, and more than the first allocation. */
	for (unsigned i = 0; i < 40; i++) {
		unsigned n = i * 7 % 40;

		probe_init(&p[n], 0x1000 + n * 0x20, 0x10);
		assert_int_equal(bus_add(bus, &p[n].range, NULL), 0);
	}
	for (unsigned i = 0; i < 40; i++) {
		assert_true(bus_read(bus, 0x1000 + i * 0x20 + 4, data, 4));
		assert_int_equal(p[i].reads, 1);
		assert_int_equal(p[i].offset, 4);
		assert_int_equal(data[3], 0x5a);
		assert_true(bus_write(bus, 0x1000 + i * 0x20 + 0xf, data, 1));
		assert_int_equal(p[i].writes, 1);
	}
	for (unsigned i = 0; i < 40; i++)
		bus_remove(bus, &p[i].range);
	bus_free(bus);
}

static void access_to_nobody_reads_ones(void **state)
{
	struct bus *bus = make_bus();
	uint64_t data = 0;

	assert_false(bus_read(bus, 0, &data, 8));
	assert_true(data == UINT64_MAX);
	data = 0;
	assert_false(bus_read(bus, UINT64_MAX, &data, 1));
	assert_int_equal(data, 0xff);
	assert_false(bus_write(bus, UINT64_MAX - 3, &data, 8));
	bus_free(bus);
}

static void straddling_and_odd_widths_reach_nobody(void **state)
{
	struct bus *bus = make_bus();
	struct probe p;

	probe_init(&p, 0x100, 8);
	assert_int_equal(bus_add(bus, &p.range, NULL), 0);
	for (unsigned len = 1; len <= 8; len++) {
		bool width = len == 1 || len == 2 || len == 4 || len == 8;

		for (uint64_t addr = 0xf0; addr < 0x110; addr++) {
			uint8_t data[8] = {0};
			bool inside = addr >= 0x100 && addr + len <= 0x108;

			assert_int_equal(bus_read(bus, addr, data, len), width && inside);
			assert_int_equal(bus_write(bus, addr, data, len), width && inside);
			if (!(width && inside))
				for (unsigned i = 0; i < len; i++)
					assert_int_equal(data[i], 0xff);
		}
	}
	bus_remove(bus, &p.range);
	bus_free(bus);
}

static void overlap_is_refused_and_names_both(void **state)
{
	static const struct {
		uint64_t base, size;
	} bad[] = {{0x100, 0x10}, {0xff, 2}, {0x10f, 1}, {0x0, 0x1000}, {0x108, 0x100}};
	struct bus *bus = make_bus();
	struct err err = ERR_INIT;
	struct probe a, b;

	probe_init(&a, 0x100, 0x10);
	a.range.name = "first";
	assert_int_equal(bus_add(bus, &a.range, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		probe_init(&b, bad[i].base, bad[i].size);
		b.range.name = "second";
		assert_int_equal(bus_add(bus, &b.range, &err), -EEXIST);
		assert_non_null(strstr(err_message(&err, 0), "first"));
		assert_non_null(strstr(err_message(&err, 0), "second"));
	}
	probe_init(&b, 0x110, 1);
	assert_int_equal(bus_add(bus, &b.range, NULL), 0);
	bus_remove(bus, &a.range);
	bus_remove(bus, &b.range);
	bus_free(bus);
}

static void range_that_wraps_is_refused(void **state)
{
	struct bus *bus = make_bus();
	struct probe p;
	uint8_t byte;

	probe_init(&p, UINT64_MAX - 3, 8);
	assert_int_equal(bus_add(bus, &p.range, NULL), -EINVAL);
	probe_init(&p, 0, 0);
	assert_int_equal(bus_add(bus, &p.range, NULL), -EINVAL);
	/* Right up to the end is a legal place. */
	probe_init(&p, UINT64_MAX - 7, 8);
	assert_int_equal(bus_add(bus, &p.range, NULL), 0);
	assert_true(bus_read(bus, UINT64_MAX, &byte, 1));
	assert_int_equal(bus_move(bus, &p.range, UINT64_MAX - 3), -EINVAL);
	bus_remove(bus, &p.range);
	bus_free(bus);
}

static void failed_move_leaves_the_range_where_it_was(void **state)
{
	struct bus *bus = make_bus();
	struct probe a, b;
	uint8_t byte;

	probe_init(&a, 0x100, 0x10);
	probe_init(&b, 0x200, 0x10);
	assert_int_equal(bus_add(bus, &a.range, NULL), 0);
	assert_int_equal(bus_add(bus, &b.range, NULL), 0);
	assert_int_equal(bus_move(bus, &a.range, 0x1f8), -EEXIST);
	assert_true(bus_read(bus, 0x100, &byte, 1));
	/* Over its own old place is no conflict; past its neighbour keeps the order. */
	assert_int_equal(bus_move(bus, &a.range, 0x108), 0);
	assert_false(bus_read(bus, 0x100, &byte, 1));
	assert_true(bus_read(bus, 0x117, &byte, 1));
	assert_int_equal(bus_move(bus, &a.range, 0x300), 0);
	assert_true(bus_read(bus, 0x300, &byte, 1));
	assert_true(bus_read(bus, 0x200, &byte, 1));
	assert_int_equal(b.reads, 1);
	bus_remove(bus, &a.range);
	assert_int_equal(bus_move(bus, &a.range, 0x400), -EINVAL);
	bus_remove(bus, &a.range);
	bus_remove(bus, &b.range);
	bus_free(bus);
}

/* --- concurrency --- */

struct slow {
	struct bus_range range;
	atomic_bool entered, release, left;
};

static void slow_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct slow *s = arg;

	s->entered = true;
	while (!s->release)
		usleep(100);
	s->left = true;
}

static const struct bus_ops slow_ops = {.read = slow_read, .write = probe_write};

static void *read_slow(void *arg)
{
	uint8_t byte;

	bus_read(arg, 0x100, &byte, 1);
	return NULL;
}

static void *release_later(void *arg)
{
	usleep(20000);
	((struct slow *)arg)->release = true;
	return NULL;
}

static void remove_waits_until_the_handler_is_out(void **state)
{
	struct bus *bus = make_bus();
	struct slow s = {
		.range = {.name = "slow", .ops = &slow_ops, .base = 0x100, .size_bytes = 1}};
	struct thread reader = {0}, releaser = {0};

	s.range.arg = &s;
	assert_int_equal(bus_add(bus, &s.range, NULL), 0);
	assert_int_equal(thread_start(&reader, "reader", THREAD_VCPU, read_slow, bus), 0);
	while (!s.entered)
		usleep(100);
	/* Taking it out without the wait does not spare the later removal the wait. */
	bus_remove_nowait(bus, &s.range);
	assert_false(s.left);
	assert_int_equal(thread_start(&releaser, "releaser", THREAD_WORKER, release_later, &s), 0);
	bus_remove(bus, &s.range);
	assert_true(s.left);
	thread_join(&reader);
	thread_join(&releaser);
	bus_free(bus);
}

struct storm {
	struct bus *bus;
	atomic_bool stop;
	atomic_uint wrong;
	atomic_ulong hits;
};

/* A range that knows whether it may be called. */
struct guarded {
	struct bus_range range;
	struct storm *storm;
	atomic_bool alive;
};

static void guarded_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct guarded *g = arg;

	if (!g->alive || offset + len > g->range.size_bytes)
		g->storm->wrong++;
	g->storm->hits++;
	memset(data, 0, len);
}

static const struct bus_ops guarded_ops = {.read = guarded_read, .write = probe_write};

static void *dispatch_storm(void *arg)
{
	struct storm *s = arg;
	unsigned seed = (unsigned)(uintptr_t)&seed;
	uint64_t data;

	while (!s->stop) {
		seed = seed * 1103515245 + 12345;
		bus_read(s->bus, seed >> 16 & 0x3ff, &data, 1U << (seed >> 28 & 3));
	}
	return NULL;
}

static void ranges_come_move_and_go_under_dispatch(void **state)
{
	struct storm storm = {.bus = make_bus()};
	struct thread threads[3] = {0};

	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		assert_int_equal(
			thread_start(&threads[i], "storm", THREAD_VCPU, dispatch_storm, &storm), 0);
	for (unsigned round = 0; round < 3000; round++) {
		/* On the heap, so that a late touch is seen by the sanitizer. */
		struct guarded *g = calloc(1, sizeof(*g));

		assert_non_null(g);
		g->range = (struct bus_range){.name = "guarded",
					      .ops = &guarded_ops,
					      .arg = g,
					      .base = round % 13 * 0x40,
					      .size_bytes = 0x40};
		g->storm = &storm;
		g->alive = true;
		assert_int_equal(bus_add(storm.bus, &g->range, NULL), 0);
		assert_int_equal(bus_move(storm.bus, &g->range, round % 7 * 0x20), 0);
		if (round % 2)
			bus_remove_nowait(storm.bus, &g->range);
		bus_remove(storm.bus, &g->range);
		g->alive = false;
		memset(&g->range, 0xff, sizeof(g->range));
		free(g);
	}
	storm.stop = true;
	for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
		thread_join(&threads[i]);
	assert_int_equal(storm.wrong, 0);
	bus_free(storm.bus);
}

/* A handler that moves its own range, as a BAR does through the PCI_CFG window. */
struct mover {
	struct bus_range range;
	struct bus *bus;
};

static void mover_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct mover *m = arg;

	assert_int_equal(bus_move(m->bus, &m->range, 0x800), 0);
	bus_remove_nowait(m->bus, &m->range);
}

static const struct bus_ops mover_ops = {.read = probe_read, .write = mover_write};

static void handler_may_move_and_remove_its_own_range(void **state)
{
	struct bus *bus = make_bus();
	struct mover m = {.range = {.name = "m", .ops = &mover_ops, .base = 0x100, .size_bytes = 1},
			  .bus = bus};
	uint8_t byte = 0;

	m.range.arg = &m;
	assert_int_equal(bus_add(bus, &m.range, NULL), 0);
	assert_true(bus_write(bus, 0x100, &byte, 1));
	assert_false(bus_write(bus, 0x800, &byte, 1));
	bus_remove(bus, &m.range);
	bus_free(bus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(access_reaches_the_range_that_holds_it),
		cmocka_unit_test(access_to_nobody_reads_ones),
		cmocka_unit_test(straddling_and_odd_widths_reach_nobody),
		cmocka_unit_test(overlap_is_refused_and_names_both),
		cmocka_unit_test(range_that_wraps_is_refused),
		cmocka_unit_test(failed_move_leaves_the_range_where_it_was),
		cmocka_unit_test(remove_waits_until_the_handler_is_out),
		cmocka_unit_test(ranges_come_move_and_go_under_dispatch),
		cmocka_unit_test(handler_may_move_and_remove_its_own_range),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
