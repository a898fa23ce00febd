/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/vring_driver.h"
#include "vmm/virtio/virtqueue.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#ifndef THREAD_SANITIZER
#define THREAD_SANITIZER 0
#endif

#define NEXT	 VRING_DESC_F_NEXT
#define WRITE	 VRING_DESC_F_WRITE
#define INDIRECT VRING_DESC_F_INDIRECT

#define EVENT_IDX    (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT_OK  (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define ALL_FEATURES (EVENT_IDX | INDIRECT_OK)

#define MEMORY_BYTES (8 * MIB)
#define RINGS	     0x1000
#define TABLE	     0x40000
#define DATA	     0x100000
#define SIZE	     8
#define MAX_IOV	     1024

struct fixture {
	struct guest_memory *memory;
	struct vring_driver driver;
	struct virtqueue vq;
	struct virtqueue_chain chain;
	struct iovec iov[MAX_IOV];
};

static struct fixture *fixture_new(uint16_t size, uint64_t features)
{
	struct guest_memory_params params = {.size_bytes = MEMORY_BYTES};
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;

	assert_non_null(f);
	assert_int_equal(guest_memory_new(&params, NULL, &f->memory, &err), 0);
	vring_driver_init(&f->driver, f->memory, RINGS, size);
	f->chain = (struct virtqueue_chain){.iov = f->iov, .max_iov = MAX_IOV};
	assert_int_equal(virtqueue_start(&f->vq, f->memory, &f->driver.config, features, &err), 0);
	return f;
}

static void fixture_free(struct fixture *f)
{
	virtqueue_reset(&f->vq);
	guest_memory_free(f->memory);
	free(f);
}

static int pop(struct fixture *f)
{
	return virtqueue_pop(&f->vq, &f->chain);
}

static void *host(struct fixture *f, uint64_t addr)
{
	void *p;

	assert_int_equal(guest_memory_map(f->memory, gpa(addr), 1, GUEST_READ, &p), 0);
	return p;
}

/* One buffer of 16 bytes for the device to write. */
static uint16_t add_one(struct fixture *f)
{
	struct vring_buffer buffer = {.addr = DATA, .len = 16, .write = true};

	return vring_add(&f->driver, &buffer, 1);
}

static void assert_broken(struct fixture *f)
{
	assert_int_equal(pop(f), -EIO);
	assert_true(f->vq.broken);
	assert_int_equal(f->chain.num_out + f->chain.num_in, 0);
	assert_int_equal(pop(f), -EIO);
	assert_false(virtqueue_has_work(&f->vq));
}

/* --- taking ----------------------------------------------------------------------------------- */

static void queue_that_is_not_started_has_nothing(void **state)
{
	struct virtqueue vq = {.desc = NULL};
	struct virtqueue_chain chain = {.iov = NULL};

	assert_int_equal(virtqueue_pop(&vq, &chain), 0);
	assert_false(virtqueue_has_work(&vq));
	assert_false(virtqueue_enable_kicks(&vq));
	virtqueue_disable_kicks(&vq);
	virtqueue_push_head(&vq, 0, 0);
	assert_false(virtqueue_flush(&vq));
	virtqueue_reset(&vq);
}

static void empty_queue_gives_no_chain(void **state)
{
	struct fixture *f = fixture_new(SIZE, ALL_FEATURES);

	assert_int_equal(pop(f), 0);
	assert_false(virtqueue_has_work(&f->vq));
	fixture_free(f);
}

static void chain_is_given_with_readable_before_writable_parts(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 16},
		{.addr = DATA + 0x1000, .len = 100},
		{.addr = DATA + 0x2000, .len = 512, .write = true},
		{.addr = DATA + 0x3000, .len = 1, .write = true},
	};
	uint16_t head = vring_add(&f->driver, buffers, 4);

	assert_true(virtqueue_has_work(&f->vq));
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.head, head);
	assert_int_equal(f->chain.num_out, 2);
	assert_int_equal(f->chain.num_in, 2);
	assert_int_equal(f->chain.out_bytes, 116);
	assert_int_equal(f->chain.in_bytes, 513);
	for (unsigned i = 0; i < 4; i++) {
		assert_ptr_equal(f->iov[i].iov_base, host(f, buffers[i].addr));
		assert_int_equal(f->iov[i].iov_len, buffers[i].len);
	}
	assert_int_equal(pop(f), 0);
	fixture_free(f);
}

static void chain_as_long_as_the_queue_is_taken(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	struct vring_buffer buffers[SIZE];

	for (unsigned i = 0; i < SIZE; i++)
		buffers[i] = (struct vring_buffer){.addr = DATA, .len = 1};
	vring_add(&f->driver, buffers, SIZE);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.num_out, SIZE);
	fixture_free(f);
}

static void empty_descriptors_are_left_out(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	const struct vring_buffer buffers[] = {
		{.addr = UINT64_MAX, .len = 0},
		{.addr = DATA, .len = 4},
		{.addr = DATA, .len = 0, .write = true},
	};

	vring_add(&f->driver, buffers, 3);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.num_out, 1);
	assert_int_equal(f->chain.num_in, 0);
	fixture_free(f);
}

static void full_queue_is_not_an_avail_index_that_jumps(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);

	for (unsigned i = 0; i < SIZE; i++)
		add_one(f);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 0);
	fixture_free(f);
}

static void avail_index_ahead_by_more_than_the_size_breaks_the_queue(void **state)
{
	const uint16_t jumps[] = {SIZE + 1, 1000, 0x8000, 0xffff};

	for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
		struct fixture *f = fixture_new(SIZE, 0);

		vring_set_avail_idx(&f->driver, jumps[i]);
		assert_broken(f);
		fixture_free(f);
	}
}

static void head_beyond_the_table_breaks_the_queue(void **state)
{
	const uint16_t heads[] = {SIZE, SIZE + 1, 0x7fff, 0xffff};

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		struct fixture *f = fixture_new(SIZE, 0);

		vring_offer(&f->driver, heads[i]);
		assert_broken(f);
		fixture_free(f);
	}
}

static void head_that_is_in_flight_breaks_the_queue(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	uint16_t head = add_one(f);

	assert_int_equal(pop(f), 1);
	vring_offer(&f->driver, head);
	assert_broken(f);
	fixture_free(f);
}

static void head_may_come_again_after_its_answer(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	uint16_t head = add_one(f);

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pop(f), 1);
		virtqueue_push(&f->vq, &f->chain, 0);
		vring_offer(&f->driver, head);
	}
	fixture_free(f);
}

struct bad_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

static void chains_that_make_no_sense_break_the_queue(void **state)
{
	static const struct bad_desc chains[][3] = {
		{{DATA, 4, NEXT, 0}},				  /* self-link */
		{{DATA, 4, NEXT, 1}, {DATA, 4, NEXT, 0}},	  /* loop */
		{{DATA, 0, NEXT, 0}},				  /* empty self-link */
		{{DATA, 0, NEXT, 1}, {DATA, 0, NEXT | WRITE, 0}}, /* empty loop */
		{{DATA, 4, NEXT, SIZE}},			  /* beyond the table */
		{{DATA, 4, NEXT, 0xffff}},			  /* far beyond */
		{{DATA, 4, NEXT | WRITE, 1}, {DATA, 4, 0, 0}},	  /* readable last */
		{{DATA, 4, NEXT, 1}, {DATA, 4, NEXT | WRITE, 2}, {DATA, 4, 0, 0}},
		{{MEMORY_BYTES - 1, 2, 0, 0}}, /* over the end */
		{{MEMORY_BYTES, 1, WRITE, 0}}, /* behind the end */
		{{UINT64_MAX, 1, 0, 0}},
		{{UINT64_MAX, 0xffffffff, WRITE, 0}}, /* wraps */
		{{DATA, 0xffffffff, 0, 0}},
		{{0xc0000000, 4, WRITE, 0}}, /* a BAR */
		{{0xfee00000, 4, WRITE, 0}}, /* the local APIC */
	};

	for (size_t i = 0; i < ARRAY_SIZE(chains); i++) {
		struct fixture *f = fixture_new(SIZE, ALL_FEATURES);

		for (unsigned k = 0; k < 3; k++)
			vring_set_desc(&f->driver, 0, k, chains[i][k].addr, chains[i][k].len,
				       chains[i][k].flags, chains[i][k].next);
		vring_offer(&f->driver, 0);
		assert_broken(f);
		fixture_free(f);
	}
}

static void byte_total_beyond_32_bits_breaks_the_queue(void **state)
{
	struct fixture *f = fixture_new(SIZE, ALL_FEATURES);
	struct vring_buffer *buffers = calloc(1024, sizeof(*buffers));

	assert_non_null(buffers);
	for (unsigned i = 0; i < 1024; i++)
		buffers[i] = (struct vring_buffer){.addr = 0, .len = MEMORY_BYTES};
	vring_add_indirect(&f->driver, TABLE, buffers, 1024);
	assert_broken(f);
	free(buffers);
	fixture_free(f);
}

static void chain_of_more_pieces_than_there_is_room_for_is_in_flight(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 1}, {.addr = DATA, .len = 1}, {.addr = DATA, .len = 1}};
	uint16_t head = vring_add(&f->driver, buffers, 3);
	uint32_t id, len;

	f->chain.max_iov = 2;
	f->iov[2].iov_len = 12345;
	assert_int_equal(pop(f), -E2BIG);
	assert_int_equal(f->iov[2].iov_len, 12345);
	assert_int_equal(f->chain.head, head);
	assert_int_equal(f->chain.num_out, 0);
	assert_int_equal(f->vq.num_in_flight, 1);
	virtqueue_push(&f->vq, &f->chain, 0);
	virtqueue_flush(&f->vq);
	assert_true(vring_get_used(&f->driver, &id, &len));
	assert_int_equal(id, head);
	assert_false(f->vq.broken);
	fixture_free(f);
}

static void chain_that_is_put_back_comes_again(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	uint16_t head = add_one(f);

	assert_int_equal(pop(f), 1);
	virtqueue_unpop(&f->vq, &f->chain);
	assert_int_equal(f->vq.num_in_flight, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.head, head);
	fixture_free(f);
}

static void broken_queue_works_again_after_reset(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);

	vring_offer(&f->driver, 0xffff);
	assert_broken(f);
	virtqueue_reset(&f->vq);
	vring_driver_reset(&f->driver);
	assert_int_equal(virtqueue_start(&f->vq, f->memory, &f->driver.config, 0, NULL), 0);
	add_one(f);
	assert_int_equal(pop(f), 1);
	fixture_free(f);
}

/* --- indirect tables ---------------------------------------------------------------------------
 */

static void indirect_table_is_followed(void **state)
{
	struct fixture *f = fixture_new(SIZE, INDIRECT_OK);
	const struct vring_buffer buffers[] = {{.addr = DATA, .len = 5},
					       {.addr = DATA + 64, .len = 7, .write = true}};

	vring_add_indirect(&f->driver, TABLE + 4, buffers, 2); /* any alignment */
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.out_bytes, 5);
	assert_int_equal(f->chain.in_bytes, 7);
	assert_ptr_equal(f->iov[1].iov_base, host(f, DATA + 64));
	fixture_free(f);
}

static void indirect_table_may_be_longer_than_the_queue(void **state)
{
	struct fixture *f = fixture_new(SIZE, INDIRECT_OK);
	struct vring_buffer buffers[VIRTQUEUE_MAX_INDIRECT];

	for (unsigned i = 0; i < VIRTQUEUE_MAX_INDIRECT; i++)
		buffers[i] = (struct vring_buffer){.addr = DATA, .len = 1};
	vring_add_indirect(&f->driver, TABLE, buffers, VIRTQUEUE_MAX_INDIRECT);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.num_out, VIRTQUEUE_MAX_INDIRECT);
	fixture_free(f);
}

static void indirect_table_may_follow_direct_descriptors(void **state)
{
	struct fixture *f = fixture_new(SIZE, INDIRECT_OK);

	vring_set_desc(&f->driver, TABLE, 0, DATA, 7, WRITE, 0);
	vring_set_desc(&f->driver, 0, 0, DATA, 5, NEXT, 3);
	/* 2.7.5.3.2: the table's own write flag means nothing */
	vring_set_desc(&f->driver, 0, 3, TABLE, 16, INDIRECT | WRITE, 0);
	vring_offer(&f->driver, 0);
	assert_int_equal(pop(f), 1);
	assert_int_equal(f->chain.out_bytes, 5);
	assert_int_equal(f->chain.in_bytes, 7);
	fixture_free(f);
}

static void indirect_tables_that_make_no_sense_break_the_queue(void **state)
{
	static const struct {
		struct bad_desc head;
		struct bad_desc table[2];
		uint64_t features;
	} cases[] = {
		{{TABLE, 16, INDIRECT, 0}, {{DATA, 1, 0, 0}}, 0}, /* not negotiated */
		{{TABLE, 0, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{TABLE, 15, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{TABLE, 17, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{TABLE, 16 * 1025, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{TABLE, 0xfffffff0, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{MEMORY_BYTES - 16, 32, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{UINT64_MAX - 15, 16, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{0xc0000000, 16, INDIRECT, 0}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{TABLE, 16, INDIRECT | NEXT, 1}, {{DATA, 1, 0, 0}}, INDIRECT_OK},
		{{TABLE, 16, INDIRECT, 0}, {{TABLE, 16, INDIRECT, 0}}, INDIRECT_OK}, /* nested */
		{{TABLE, 16, INDIRECT, 0}, {{DATA, 1, NEXT, 0}}, INDIRECT_OK},	     /* loop */
		{{TABLE, 16, INDIRECT, 0}, {{DATA, 1, NEXT, 1}}, INDIRECT_OK},	     /* beyond */
		{{TABLE, 32, INDIRECT, 0}, {{DATA, 0, NEXT, 1}, {DATA, 0, NEXT, 0}}, INDIRECT_OK},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct fixture *f = fixture_new(SIZE, cases[i].features);
		const struct bad_desc *head = &cases[i].head;

		for (unsigned k = 0; k < 2; k++)
			vring_set_desc(&f->driver, TABLE, k, cases[i].table[k].addr,
				       cases[i].table[k].len, cases[i].table[k].flags,
				       cases[i].table[k].next);
		vring_set_desc(&f->driver, 0, 0, head->addr, head->len, head->flags, head->next);
		vring_offer(&f->driver, 0);
		assert_broken(f);
		fixture_free(f);
	}
}

/* --- starting ----------------------------------------------------------------------------------
 */

static void start_refuses_sizes_and_alignments_that_are_not_allowed(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	struct virtqueue vq = {.desc = NULL};
	const uint16_t sizes[] = {0, 3, 6, 2 * SIZE, 0xffff};
	struct virtqueue_config config;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		config = f->driver.config;
		config.size = sizes[i];
		assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, &err), -EINVAL);
		assert_true(err_count(&err) > 0);
	}
	config = f->driver.config;
	config.desc.v += 8;
	assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), -EINVAL);
	config = f->driver.config;
	config.avail.v += 1;
	assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), -EINVAL);
	config = f->driver.config;
	config.used.v += 2;
	assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), -EINVAL);
	fixture_free(f);
}

static void start_refuses_rings_that_do_not_lie_in_ram(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	struct virtqueue vq = {.desc = NULL};
	struct virtqueue_config config;
	const uint64_t places[] = {MEMORY_BYTES, MEMORY_BYTES - 16, 0xc0000000, UINT64_MAX - 15};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		config = f->driver.config;
		config.desc.v = places[i];
		assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), -EFAULT);
		config = f->driver.config;
		config.avail.v = places[i];
		assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), -EFAULT);
		config = f->driver.config;
		config.used.v = places[i];
		assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), -EFAULT);
		assert_null(vq.desc);
	}
	/* The events behind the rings count, too. */
	config = f->driver.config;
	config.avail.v = MEMORY_BYTES - (4 + 2 * SIZE);
	assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), -EFAULT);
	config.avail.v -= 2;
	assert_int_equal(virtqueue_start(&vq, f->memory, &config, 0, NULL), 0);
	virtqueue_reset(&vq);
	fixture_free(f);
}

/* --- answering ---------------------------------------------------------------------------------
 */

static void answer_is_seen_after_flush_with_its_length(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	uint16_t head;
	uint32_t id, len;

	add_one(f);
	head = add_one(f);
	assert_int_equal(pop(f), 1);
	assert_int_equal(pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 9);
	assert_false(vring_get_used(&f->driver, &id, &len));
	assert_true(virtqueue_flush(&f->vq));
	assert_true(vring_get_used(&f->driver, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 9);
	assert_false(vring_get_used(&f->driver, &id, &len));
	fixture_free(f);
}

static void answer_to_what_is_not_in_flight_is_dropped(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);

	virtqueue_push_head(&f->vq, 3, 0);
	virtqueue_push_head(&f->vq, SIZE, 0);
	virtqueue_push_head(&f->vq, 0xffff, 0);
	assert_false(virtqueue_flush(&f->vq));
	assert_int_equal(vring_used_idx(&f->driver), 0);
	fixture_free(f);
}

static void written_length_never_exceeds_the_writable_part(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	uint32_t id, len;

	add_one(f);
	assert_int_equal(pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 1000);
	virtqueue_flush(&f->vq);
	assert_true(vring_get_used(&f->driver, &id, &len));
	assert_int_equal(len, 16);
	fixture_free(f);
}

static void indices_wrap(void **state)
{
	struct fixture *f = fixture_new(SIZE, EVENT_IDX);
	uint32_t id, len;

	for (unsigned i = 0; i < 70000; i++) {
		uint16_t head = add_one(f);

		vring_set_used_event(&f->driver, f->driver.used_seen);
		assert_int_equal(pop(f), 1);
		virtqueue_push(&f->vq, &f->chain, i % 16);
		assert_true(virtqueue_flush(&f->vq));
		assert_true(vring_get_used(&f->driver, &id, &len));
		assert_int_equal(id, head);
		assert_int_equal(len, i % 16);
	}
	fixture_free(f);
}

static bool dirty(struct fixture *f, const uint64_t *log, uint64_t addr)
{
	return log[addr / 4096 / 64] >> (addr / 4096 % 64) & 1;
}

static void written_pages_are_marked_dirty_and_no_others(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	uint64_t log[MEMORY_BYTES / 4096 / 64] = {0};
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 16},
		{.addr = DATA + 0x1000, .len = 16, .write = true},
		{.addr = DATA + 0x2000, .len = 4097, .write = true},
		{.addr = DATA + 0x5000, .len = 16, .write = true},
	};

	vring_add(&f->driver, buffers, 4);
	f->memory->dirty_log = log;
	assert_int_equal(pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 16 + 4097);
	virtqueue_flush(&f->vq);
	f->memory->dirty_log = NULL;
	assert_false(dirty(f, log, DATA));
	assert_true(dirty(f, log, DATA + 0x1000));
	assert_true(dirty(f, log, DATA + 0x2000));
	assert_true(dirty(f, log, DATA + 0x3000));
	assert_false(dirty(f, log, DATA + 0x5000));
	assert_true(dirty(f, log, f->driver.config.used.v));
	fixture_free(f);
}

/* --- notifications ------------------------------------------------------------------------------
 */

static bool answer_one(struct fixture *f)
{
	add_one(f);
	assert_int_equal(pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 0);
	return virtqueue_flush(&f->vq);
}

static void driver_that_wants_no_interrupt_gets_none(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);

	assert_true(answer_one(f));
	vring_set_avail_flags(&f->driver, VRING_AVAIL_F_NO_INTERRUPT);
	assert_false(answer_one(f));
	vring_set_avail_flags(&f->driver, 0);
	assert_true(answer_one(f));
	assert_false(virtqueue_flush(&f->vq)); /* nothing new */
	fixture_free(f);
}

static void event_idx_interrupts_when_the_event_is_passed(void **state)
{
	struct fixture *f = fixture_new(SIZE, EVENT_IDX);

	vring_set_used_event(&f->driver, 0x7000);
	assert_true(answer_one(f)); /* the first one always does */
	assert_false(answer_one(f));
	vring_set_used_event(&f->driver, 2);
	assert_true(answer_one(f)); /* index 2 was used */
	assert_false(answer_one(f));
	vring_set_used_event(&f->driver, 2);
	assert_false(answer_one(f)); /* behind us */
	vring_set_used_event(&f->driver, 6);
	for (unsigned i = 0; i < 3; i++) {
		add_one(f);
		assert_int_equal(pop(f), 1);
		virtqueue_push(&f->vq, &f->chain, 0);
	}
	assert_true(virtqueue_flush(&f->vq)); /* 5, 6, 7: passed in the middle */
	assert_false(virtqueue_flush(&f->vq));
	/* The flag means nothing with event_idx. */
	vring_set_avail_flags(&f->driver, VRING_AVAIL_F_NO_INTERRUPT);
	vring_set_used_event(&f->driver, 8);
	assert_true(answer_one(f));
	fixture_free(f);
}

static void enabling_kicks_sees_what_came_meanwhile(void **state)
{
	const uint64_t features[] = {0, EVENT_IDX};

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		struct fixture *f = fixture_new(SIZE, features[i]);

		virtqueue_disable_kicks(&f->vq);
		assert_int_equal(pop(f), 0);
		assert_false(virtqueue_enable_kicks(&f->vq));
		virtqueue_disable_kicks(&f->vq);
		add_one(f);
		assert_true(virtqueue_enable_kicks(&f->vq));
		fixture_free(f);
	}
}

static void kicks_are_asked_for_in_the_negotiated_way(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);

	virtqueue_disable_kicks(&f->vq);
	assert_int_equal(vring_used_flags(&f->driver), VRING_USED_F_NO_NOTIFY);
	virtqueue_enable_kicks(&f->vq);
	assert_int_equal(vring_used_flags(&f->driver), 0);
	fixture_free(f);

	f = fixture_new(SIZE, EVENT_IDX);
	for (unsigned i = 0; i < 3; i++)
		answer_one(f);
	virtqueue_disable_kicks(&f->vq);
	assert_int_equal(vring_used_flags(&f->driver), 0);
	assert_int_equal(vring_kick_event(&f->driver), 0);
	virtqueue_enable_kicks(&f->vq);
	assert_int_equal(vring_kick_event(&f->driver), 3);
	fixture_free(f);
}

/* --- bytes --------------------------------------------------------------------------------------
 */

static void bytes_are_copied_across_pieces(void **state)
{
	struct fixture *f = fixture_new(SIZE, 0);
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 3},
		{.addr = DATA + 0x100, .len = 5},
		{.addr = DATA + 0x200, .len = 2, .write = true},
		{.addr = DATA + 0x300, .len = 4, .write = true},
	};
	char text[16] = "";

	guest_memory_write(f->memory, gpa(DATA), "abc", 3);
	guest_memory_write(f->memory, gpa(DATA + 0x100), "defgh", 5);
	vring_add(&f->driver, buffers, 4);
	assert_int_equal(pop(f), 1);
	assert_int_equal(virtqueue_chain_read(&f->chain, 0, text, sizeof(text)), 8);
	assert_string_equal(text, "abcdefgh");
	assert_int_equal(virtqueue_chain_read(&f->chain, 2, text, 2), 2);
	assert_memory_equal(text, "cd", 2);
	assert_int_equal(virtqueue_chain_read(&f->chain, 8, text, 1), 0);
	assert_int_equal(virtqueue_chain_read(&f->chain, SIZE_MAX, text, 1), 0);

	assert_int_equal(virtqueue_chain_write(&f->chain, 1, "12345678", 8), 5);
	assert_memory_equal((char *)host(f, DATA + 0x201), "1", 1);
	assert_memory_equal(host(f, DATA + 0x300), "2345", 4);
	assert_int_equal(virtqueue_chain_write(&f->chain, 6, "x", 1), 0);
	fixture_free(f);
}

/* --- state --------------------------------------------------------------------------------------
 */

static void indices_survive_save_and_load(void **state)
{
	struct fixture *f = fixture_new(SIZE, EVENT_IDX);
	struct virtqueue other = {.desc = NULL};
	AUTO_BUF struct buf buf = {.data = NULL};
	struct cursor in;
	uint16_t head;

	for (unsigned i = 0; i < 5; i++)
		answer_one(f);
	head = add_one(f);
	assert_int_equal(virtqueue_save(&f->vq, &buf), 0);
	in = cursor_init(buf.data, buf.len);
	assert_int_equal(virtqueue_load(&other, &in, NULL), 0);
	assert_int_equal(virtqueue_start(&other, f->memory, &f->driver.config, EVENT_IDX, NULL), 0);
	assert_int_equal(virtqueue_pop(&other, &f->chain), 1);
	assert_int_equal(f->chain.head, head);
	assert_int_equal(virtqueue_save(&other, &buf), -EBUSY);
	virtqueue_push(&other, &f->chain, 0);
	assert_true(virtqueue_flush(&other));
	assert_int_equal(vring_used_idx(&f->driver), 6);
	virtqueue_reset(&other);
	fixture_free(f);
}

static void cut_state_is_refused(void **state)
{
	struct virtqueue vq = {.next_avail = 7};
	AUTO_BUF struct buf buf = {.data = NULL};

	assert_int_equal(virtqueue_save(&vq, &buf), 0);
	for (size_t len = 0; len < buf.len; len++) {
		struct cursor in = cursor_init(buf.data, len);
		struct virtqueue other = {.next_avail = 3};

		assert_true(virtqueue_load(&other, &in, NULL) < 0);
		assert_int_equal(other.next_avail, 3);
	}
}

/* --- a driver that changes things under our hands ------------------------------------------------
 */

struct racer {
	struct fixture *f;
	atomic_bool stop;
};

static void *race(void *arg)
{
	struct racer *racer = arg;
	static const uint64_t addrs[] = {DATA, UINT64_MAX, 0xc0000000, MEMORY_BYTES - 1, TABLE};
	static const uint16_t flags[] = {0, NEXT, WRITE, INDIRECT, NEXT | WRITE};

	for (unsigned i = 0; !atomic_load(&racer->stop); i++)
		vring_set_desc(&racer->f->driver, 0, i % SIZE, addrs[i % 5],
			       i % 7 ? 32 : 0xfffffff0, flags[i % 3 + i % 2], i % (SIZE + 2));
	return NULL;
}

static void chains_that_change_while_they_are_read_stay_within_ram(void **state)
{
	struct fixture *f;
	struct racer racer = {.f = NULL};
	const uint8_t *ram;
	pthread_t thread;
	uint8_t byte;

	if (THREAD_SANITIZER)
		skip(); /* the race is the point */
	f = racer.f = fixture_new(SIZE, ALL_FEATURES);
	ram = host(f, 0);
	assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
	for (unsigned i = 0; i < 20000; i++) {
		vring_offer(&f->driver, i % SIZE);
		if (pop(f) == 1) {
			for (unsigned k = 0; k < f->chain.num_out + f->chain.num_in; k++)
				assert_true(range_within((uintptr_t)f->iov[k].iov_base,
							 f->iov[k].iov_len, (uintptr_t)ram,
							 MEMORY_BYTES));
			virtqueue_chain_read(&f->chain, 0, &byte, 1);
			virtqueue_push(&f->vq, &f->chain, 0);
			virtqueue_flush(&f->vq);
			continue;
		}
		virtqueue_reset(&f->vq);
		vring_set_avail_idx(&f->driver, 0);
		assert_int_equal(
			virtqueue_start(&f->vq, f->memory, &f->driver.config, ALL_FEATURES, NULL),
			0);
	}
	atomic_store(&racer.stop, true);
	pthread_join(thread, NULL);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queue_that_is_not_started_has_nothing),
		cmocka_unit_test(empty_queue_gives_no_chain),
		cmocka_unit_test(chain_is_given_with_readable_before_writable_parts),
		cmocka_unit_test(chain_as_long_as_the_queue_is_taken),
		cmocka_unit_test(empty_descriptors_are_left_out),
		cmocka_unit_test(full_queue_is_not_an_avail_index_that_jumps),
		cmocka_unit_test(avail_index_ahead_by_more_than_the_size_breaks_the_queue),
		cmocka_unit_test(head_beyond_the_table_breaks_the_queue),
		cmocka_unit_test(head_that_is_in_flight_breaks_the_queue),
		cmocka_unit_test(head_may_come_again_after_its_answer),
		cmocka_unit_test(chains_that_make_no_sense_break_the_queue),
		cmocka_unit_test(byte_total_beyond_32_bits_breaks_the_queue),
		cmocka_unit_test(chain_of_more_pieces_than_there_is_room_for_is_in_flight),
		cmocka_unit_test(chain_that_is_put_back_comes_again),
		cmocka_unit_test(broken_queue_works_again_after_reset),
		cmocka_unit_test(indirect_table_is_followed),
		cmocka_unit_test(indirect_table_may_be_longer_than_the_queue),
		cmocka_unit_test(indirect_table_may_follow_direct_descriptors),
		cmocka_unit_test(indirect_tables_that_make_no_sense_break_the_queue),
		cmocka_unit_test(start_refuses_sizes_and_alignments_that_are_not_allowed),
		cmocka_unit_test(start_refuses_rings_that_do_not_lie_in_ram),
		cmocka_unit_test(answer_is_seen_after_flush_with_its_length),
		cmocka_unit_test(answer_to_what_is_not_in_flight_is_dropped),
		cmocka_unit_test(written_length_never_exceeds_the_writable_part),
		cmocka_unit_test(indices_wrap),
		cmocka_unit_test(written_pages_are_marked_dirty_and_no_others),
		cmocka_unit_test(driver_that_wants_no_interrupt_gets_none),
		cmocka_unit_test(event_idx_interrupts_when_the_event_is_passed),
		cmocka_unit_test(enabling_kicks_sees_what_came_meanwhile),
		cmocka_unit_test(kicks_are_asked_for_in_the_negotiated_way),
		cmocka_unit_test(bytes_are_copied_across_pieces),
		cmocka_unit_test(indices_survive_save_and_load),
		cmocka_unit_test(cut_state_is_refused),
		cmocka_unit_test(chains_that_change_while_they_are_read_stay_within_ram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
