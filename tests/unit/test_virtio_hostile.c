/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every virtio device does with a driver that means harm: it asks for a reset and works after
 * it. Each test runs for each device, on a real backend.
 */
#include "tests/unit/hostile_rig.h"

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#else
#define THREAD_SANITIZER 0
#endif

#define NEXT	 VRING_DESC_F_NEXT
#define WRITE	 VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT
#define SIZE	 HOSTILE_RING_SIZE
#define TABLE	 (HOSTILE_DATA + 256 * KIB)

static void kick_all(struct hostile_rig *rig)
{
	for (unsigned i = 0; i < rig->vdev->num_queues; i++)
		virtio_kick_queue(rig->vdev, i);
}

/* --- nonsense ------------------------------------------------------------------------------- */

struct descriptor {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct nonsense {
	const char *what;
	struct descriptor desc[2];  /* of the queue's table; offered is 0 */
	struct descriptor table[2]; /* of the indirect table */
	uint16_t head;
	uint16_t ahead; /* how far the available index jumps besides */
};

#define AT(addr_, len_)                                                                  \
	{                                                                                \
		.what = #addr_ " + " #len_, .desc = { {.addr = (addr_), .len = (len_)} } \
	}

static const struct nonsense nonsense[] = {
	/* Where there is no RAM: its end, the hole, devices, the end of everything. */
	AT(FIXTURE_MEMORY_BYTES - 1, 2),
	AT(FIXTURE_MEMORY_BYTES, 1),
	AT(FIXTURE_MEMORY_BYTES - 4096, UINT32_MAX),
	AT(0, FIXTURE_MEMORY_BYTES + 1),
	AT(0xc0000000, 4096),
	AT(0xe8000000, 4),
	AT(0xfec00000, 16),
	AT(0xfee00000, 16),
	AT(0xffffffff, 2),
	AT(1ULL << 32, 16),
	AT(1ULL << 63, 16),
	AT(UINT64_MAX, 1),
	AT(UINT64_MAX - 15, 32),
	AT(UINT64_MAX - 511, 512),
	/* Chains that are none. */
	{.what = "loop of one", .desc = {{HOSTILE_DATA, 16, NEXT, 0}}},
	{.what = "loop of two", .desc = {{HOSTILE_DATA, 16, NEXT, 1}, {HOSTILE_DATA, 16, NEXT, 0}}},
	{.what = "loop of nothing", .desc = {{0, 0, NEXT, 1}, {0, 0, NEXT, 0}}},
	{.what = "next is the size", .desc = {{HOSTILE_DATA, 16, NEXT, SIZE}}},
	{.what = "next is all ones", .desc = {{HOSTILE_DATA, 16, NEXT, 0xffff}}},
	{.what = "readable behind writable",
	 .desc = {{HOSTILE_DATA, 16, NEXT | WRITE, 1}, {HOSTILE_DATA, 16, 0, 0}}},
	{.what = "head is the size", .head = SIZE},
	{.what = "head is all ones", .head = 0xffff},
	{.what = "available index one too far", .ahead = SIZE},
	{.what = "available index half round", .ahead = 0x8000},
	{.what = "available index goes back", .ahead = 0xfffe},
	/* Indirect tables that are none. */
	{.what = "empty table", .desc = {{TABLE, 0, INDIRECT, 0}}},
	{.what = "table of a piece", .desc = {{TABLE, 15, INDIRECT, 0}}},
	{.what = "table of one and a piece", .desc = {{TABLE, 17, INDIRECT, 0}}},
	{.what = "endless table", .desc = {{TABLE, 0xfffffff0, INDIRECT, 0}}},
	{.what = "table past the end", .desc = {{FIXTURE_MEMORY_BYTES - 16, 32, INDIRECT, 0}}},
	{.what = "table nowhere", .desc = {{UINT64_MAX - 15, 16, INDIRECT, 0}}},
	{.what = "table in a table",
	 .desc = {{TABLE, 32, INDIRECT, 0}},
	 .table = {{TABLE, 32, INDIRECT, 0}}},
	{.what = "loop in a table",
	 .desc = {{TABLE, 32, INDIRECT, 0}},
	 .table = {{HOSTILE_DATA, 1, NEXT, 1}, {HOSTILE_DATA, 1, NEXT, 0}}},
	{.what = "next past the table",
	 .desc = {{TABLE, 32, INDIRECT, 0}},
	 .table = {{HOSTILE_DATA, 1, NEXT, 2}}},
	{.what = "table that goes on", .desc = {{TABLE, 16, INDIRECT | NEXT, 1}}},
};

static void lay(struct vring_driver *ring, uint64_t table, const struct descriptor *desc,
		uint16_t flags)
{
	for (unsigned i = 0; i < 2; i++)
		vring_set_desc(ring, table, i, desc[i].addr, desc[i].len, desc[i].flags | flags,
			       desc[i].next);
}

/* Whether it is the device that writes makes no difference; nor does what came before. */
static void commit(struct hostile_rig *rig, unsigned queue, const struct nonsense *n, bool write)
{
	struct vring_driver *ring = &rig->rings[queue];
	uint16_t flags = write && !(n->desc[0].flags & INDIRECT) ? WRITE : 0;

	if (!hostile_bring_up(rig))
		fail_msg("%s does not come up for \"%s\"", rig->kind->name, n->what);
	lay(ring, 0, n->desc, flags);
	lay(ring, TABLE, n->table, write && !(n->table[0].flags & INDIRECT) ? WRITE : 0);
	vring_offer(ring, n->head);
	if (n->ahead)
		vring_set_avail_idx(ring, (uint16_t)(ring->avail_idx + n->ahead));
	if (rig->kind->provoke)
		rig->kind->provoke(rig);
	virtio_kick_queue(rig->vdev, queue);
	if (!device_fixture_run(rig->f, hostile_needs_reset, rig->vdev))
		fail_msg("%s, queue %u takes \"%s\" (%s)", rig->kind->name, queue, n->what,
			 write ? "writable" : "readable");
	driver_reset(rig->f, rig->vdev);
}

/* A chain whose parts differ in direction is the same nonsense either way. */
static bool is_mixed(const struct nonsense *n)
{
	return n->desc[0].flags & WRITE;
}

static void nonsense_on_any_queue_needs_a_reset_and_the_device_lives_on(void **state)
{
	struct hostile_rig *rig = hostile_rig_new(*state);

	for (unsigned queue = 0; queue < rig->kind->num_queues; queue++) {
		for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++) {
			commit(rig, queue, &nonsense[i], false);
			if (!is_mixed(&nonsense[i]))
				commit(rig, queue, &nonsense[i], true);
		}
		hostile_assert_works(rig);
		driver_reset(rig->f, rig->vdev);
	}
	hostile_rig_end(rig);
}

/* The devices that hold several chains at a time: each of them once. (The block device on a slow
 * disk: test_virtio_blk_life.c.) */
static void head_that_comes_again_while_it_is_held_needs_a_reset(void **state)
{
	struct hostile_rig *rig = hostile_rig_new(*state);

	for (unsigned apart = 1; apart < SIZE; apart++) {
		assert_true(hostile_bring_up(rig));
		for (unsigned i = 0; i < apart; i++)
			rig->kind->offer(rig, 0);
		vring_offer(&rig->rings[0], 0);
		virtio_kick_queue(rig->vdev, 0);
		assert_true(device_fixture_run(rig->f, hostile_needs_reset, rig->vdev));
		driver_reset(rig->f, rig->vdev);
	}
	hostile_assert_works(rig);
	hostile_rig_end(rig);
}

/* Rings that are not RAM, or that the queue would run out of. */
static void rings_anywhere_need_a_reset_and_the_device_lives_on(void **state)
{
	static const uint64_t places[] = {
		FIXTURE_MEMORY_BYTES, FIXTURE_MEMORY_BYTES - 16, 0xc0000000, 0xfee00000, 1ULL << 32,
		1ULL << 63,	      UINT64_MAX & ~15ULL};
	struct hostile_rig *rig = hostile_rig_new(*state);
	struct virtqueue_config sound;

	for (unsigned what = 0; what < 3; what++) {
		for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
			struct virtqueue_config *config = &rig->rings[0].config;

			assert_true(hostile_bring_up(rig));
			driver_reset(rig->f, rig->vdev);
			sound = *config;
			driver_negotiate(rig->vdev, 0);
			*(what == 0   ? &config->desc
			  : what == 1 ? &config->avail
				      : &config->used) = gpa(places[i]);
			assert_true(virtio_configure_queue(rig->vdev, 0, config));
			*config = sound;
			driver_ok(rig->vdev);
			assert_true(hostile_needs_reset(rig->vdev));
			kick_all(rig);
			driver_reset(rig->f, rig->vdev);
		}
	}
	hostile_assert_works(rig);
	hostile_rig_end(rig);
}

/* --- a driver that changes things while they are read --------------------------------------- */

/* vring_driver_init() gives each ring a page, of which a small one needs little. */
#define RING_BYTES(rig) ((rig)->vdev->num_queues * 4096ULL)
#define RING_USED	512
#define ROUNDS		400
#define PATIENCE	20000 /* rounds, on a machine that has no time for the thread */

struct scribbler {
	struct hostile_rig *rig;
	void *rings, *data;
	uint32_t random;
	atomic_bool stop;
};

/* A field of 16 bits becomes something that is rather likely to be taken. */
static uint16_t plausible(uint32_t random)
{
	switch (random >> 28) {
	case 0: return (uint16_t)random;
	case 1: return NEXT | WRITE;
	case 2: return INDIRECT;
	case 3: return 512;
	default: return (uint16_t)(random >> 8) % (2 * SIZE);
	}
}

static void *scribble(void *arg)
{
	struct scribbler *s = arg;
	volatile uint16_t *rings = s->rings, *data = s->data;

	while (!atomic_load(&s->stop)) {
		uint32_t where = hostile_random(&s->random), what = hostile_random(&s->random);
		uint32_t ring = (where >> 16) % s->rig->vdev->num_queues;

		if (where & 1)
			rings[ring * 2048 + where / 2 % (RING_USED / 2)] = plausible(what);
		else
			data[where / 2 % 32768] = plausible(what);
	}
	return NULL;
}

static void scribbler_start(struct scribbler *s, struct hostile_rig *rig, pthread_t *thread)
{
	*s = (struct scribbler){.rig = rig, .random = 20261125};
	assert_int_equal(guest_memory_map(rig->f->host.memory, gpa(FIXTURE_RINGS), RING_BYTES(rig),
					  GUEST_WRITE, &s->rings),
			 0);
	assert_int_equal(guest_memory_map(rig->f->host.memory, gpa(HOSTILE_DATA), 64 * KIB,
					  GUEST_WRITE, &s->data),
			 0);
	assert_int_equal(pthread_create(thread, NULL, scribble, s), 0);
}

static void driver_that_scribbles_over_its_rings_harms_itself_only(void **state)
{
	struct hostile_rig *rig;
	struct scribbler scribbler;
	unsigned resets = 0;
	pthread_t thread;

	if (THREAD_SANITIZER)
		skip(); /* the race is the point */
	rig = hostile_rig_new(*state);
	assert_true(hostile_bring_up(rig));
	scribbler_start(&scribbler, rig, &thread);
	for (unsigned round = 0; round < ROUNDS || (!resets && round < PATIENCE); round++) {
		for (unsigned i = 0; i < rig->kind->num_queues; i++)
			rig->kind->offer(rig, i);
		if (rig->kind->provoke)
			rig->kind->provoke(rig);
		kick_all(rig);
		device_fixture_run_ms(rig->f, 1);
		if (hostile_needs_reset(rig->vdev)) {
			driver_reset(rig->f, rig->vdev);
			hostile_bring_up(rig);
			resets++;
		}
	}
	atomic_store(&scribbler.stop, true);
	pthread_join(thread, NULL);
	assert_true(resets > 0);
	hostile_assert_works(rig);
	hostile_rig_end(rig);
}

/* --- floods --------------------------------------------------------------------------------- */

/* Rings full of all that one chain can ask for. */
static void fill_rings(struct hostile_rig *rig)
{
	struct vring_buffer buffers[62];

	for (unsigned queue = 0; queue < rig->vdev->num_queues; queue++) {
		bool write = rig->kind != &hostile_console && queue == 0;

		for (unsigned i = 0; i < ARRAY_SIZE(buffers); i++)
			buffers[i] = (struct vring_buffer){
				.addr = HOSTILE_DATA, .len = HOSTILE_DATA_BYTES, .write = write};
		for (unsigned i = 0; i < SIZE; i++)
			vring_add_indirect(&rig->rings[queue], TABLE + 1024 * (uint64_t)queue,
					   buffers, ARRAY_SIZE(buffers));
	}
}

static void flood_leaves_nothing_behind_in_the_process(void **state)
{
	struct hostile_rig *rig = hostile_rig_new(*state);
	size_t before = 0, most = 0;

	for (unsigned round = 0; round < 60; round++) {
		if (!hostile_bring_up(rig))
			fail_msg("%s does not come up", rig->kind->name);
		fill_rings(rig);
		if (rig->kind->provoke)
			rig->kind->provoke(rig);
		kick_all(rig);
		device_fixture_run_ms(rig->f, 2);
		most = MAX(most, hostile_heap_bytes());
		driver_reset(rig->f, rig->vdev);
		if (round == 5)
			before = hostile_heap_bytes();
	}
	/* What a ring's worth of requests takes while it is being worked on, and no more. */
	assert_in_range(most, 0, before + MIB);
	assert_in_range(hostile_heap_bytes(), 0, before + 64 * KIB);
	hostile_assert_works(rig);
	hostile_rig_end(rig);
}

/* --- life, in any order --------------------------------------------------------------------- */

struct life {
	struct hostile_rig *rig;
	uint32_t random;
	bool pausing, at_rest;
	struct quiesce q;
};

static void is_at_rest(struct loop_task *task)
{
	((struct life *)task->arg)->at_rest = true;
}

static bool rests(void *arg)
{
	return ((struct life *)arg)->at_rest;
}

static void begin_pause(struct life *life)
{
	struct device *dev = &life->rig->vdev->dev;

	if (life->pausing)
		return;
	life->pausing = true;
	life->at_rest = false;
	quiesce_init(&life->q, life->rig->f->host.main_loop, is_at_rest, life);
	dev->ops->quiesce(dev, &life->q);
	quiesce_release(&life->q);
}

/* The machine's way through a pause: rest, perhaps save and load or a power-on reset, resume. */
static void end_pause(struct life *life)
{
	struct device *dev = &life->rig->vdev->dev;
	AUTO_BUF struct buf state = {.data = NULL};
	struct cursor in;

	if (!life->pausing)
		return;
	assert_true(device_fixture_run(life->rig->f, rests, life));
	if (hostile_random(&life->random) % 2) {
		assert_int_equal(dev->ops->save(dev, &state), 0);
		in = cursor_init(state.data, state.len);
		assert_int_equal(dev->ops->load(dev, &in, NULL), 0);
	} else if (hostile_random(&life->random) % 4 == 0) {
		dev->ops->reset(dev);
	}
	life->pausing = false;
	dev->ops->resume(dev);
}

static void live(struct life *life)
{
	struct hostile_rig *rig = life->rig;
	unsigned queue = hostile_random(&life->random) % rig->kind->num_queues;
	uint32_t random = hostile_random(&life->random);

	switch (random % 12) {
	case 0: virtio_set_status(rig->vdev, 0); break;
	case 1: hostile_bring_up(rig); break;
	case 2: rig->kind->offer(rig, queue); break;
	case 3:
	case 4:
		rig->kind->offer(rig, queue);
		virtio_kick_queue(rig->vdev, queue);
		break;
	case 5: kick_all(rig); break;
	case 6: begin_pause(life); break;
	case 7:
	case 8: end_pause(life); break;
	case 9: device_fixture_run_ms(rig->f, random >> 16 & 1); break;
	case 10:
		if (rig->kind->provoke)
			rig->kind->provoke(rig);
		break;
	case 11:
		if (random >> 16 & 3)
			virtio_set_status(rig->vdev, (uint8_t)(random >> 8));
		else
			vring_offer(&rig->rings[queue], (uint16_t)(random >> 8));
		break;
	}
}

static void resets_pauses_and_requests_in_any_order_end_well(void **state)
{
	struct life life = {.rig = hostile_rig_new(*state)};

	for (uint32_t seed = 1; seed <= 25; seed++) {
		life.random = seed * 2654435761u;
		hostile_bring_up(life.rig);
		for (unsigned i = 0; i < 100; i++)
			live(&life);
		end_pause(&life);
		hostile_assert_works(life.rig);
	}
	hostile_rig_end(life.rig);
}

#define TEST(test, device)                                   \
	((struct CMUnitTest){.name = #test " (" #device ")", \
			     .test_func = (test),            \
			     .initial_state = (void *)(uintptr_t)&hostile_##device})
#define EACH(test) TEST(test, rng), TEST(test, console), TEST(test, blk), TEST(test, net)

int main(void)
{
	const struct CMUnitTest tests[] = {
		EACH(nonsense_on_any_queue_needs_a_reset_and_the_device_lives_on),
		TEST(head_that_comes_again_while_it_is_held_needs_a_reset, net),
		EACH(rings_anywhere_need_a_reset_and_the_device_lives_on),
		EACH(driver_that_scribbles_over_its_rings_harms_itself_only),
		EACH(flood_leaves_nothing_behind_in_the_process),
		EACH(resets_pauses_and_requests_in_any_order_end_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
