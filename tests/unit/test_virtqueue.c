/* SPDX-License-Identifier: Apache-2.0 */
/* Taking chains: what a driver may offer, and what it may not. */
#include "tests/unit/virtqueue_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void assert_broken(struct vq_fixture *f)
{
	assert_int_equal(vq_pop(f), -EIO);
	assert_true(f->vq.broken);
	assert_int_equal(f->chain.num_out + f->chain.num_in, 0);
	assert_int_equal(vq_pop(f), -EIO);
	assert_false(virtqueue_has_work(&f->vq));
}

/* --- taking ------------------------------------------------------------------------------- */

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
	struct vq_fixture *f = vq_fixture_new(SIZE, ALL_FEATURES);

	assert_int_equal(vq_pop(f), 0);
	assert_false(virtqueue_has_work(&f->vq));
	vq_fixture_free(f);
}

static void chain_is_given_with_readable_before_writable_parts(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 16},
		{.addr = DATA + 0x1000, .len = 100},
		{.addr = DATA + 0x2000, .len = 512, .write = true},
		{.addr = DATA + 0x3000, .len = 1, .write = true},
	};
	uint16_t head = vring_add(&f->driver, buffers, 4);

	assert_true(virtqueue_has_work(&f->vq));
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(f->chain.head, head);
	assert_int_equal(f->chain.num_out, 2);
	assert_int_equal(f->chain.num_in, 2);
	assert_int_equal(f->chain.out_bytes, 116);
	assert_int_equal(f->chain.in_bytes, 513);
	for (unsigned i = 0; i < 4; i++) {
		assert_ptr_equal(f->iov[i].iov_base, vq_host(f, buffers[i].addr));
		assert_int_equal(f->iov[i].iov_len, buffers[i].len);
	}
	assert_int_equal(vq_pop(f), 0);
	vq_fixture_free(f);
}

static void chain_as_long_as_the_queue_is_taken(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	struct vring_buffer buffers[SIZE];

	for (unsigned i = 0; i < SIZE; i++)
		buffers[i] = (struct vring_buffer){.addr = DATA, .len = 1};
	vring_add(&f->driver, buffers, SIZE);
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(f->chain.num_out, SIZE);
	vq_fixture_free(f);
}

static void empty_descriptors_are_left_out(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	const struct vring_buffer buffers[] = {
		{.addr = UINT64_MAX, .len = 0},
		{.addr = DATA, .len = 4},
		{.addr = DATA, .len = 0, .write = true},
	};

	vring_add(&f->driver, buffers, 3);
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(f->chain.num_out, 1);
	assert_int_equal(f->chain.num_in, 0);
	vq_fixture_free(f);
}

static void full_queue_is_not_an_avail_index_that_jumps(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);

	for (unsigned i = 0; i < SIZE; i++)
		vq_add_one(f);
	for (unsigned i = 0; i < SIZE; i++)
		assert_int_equal(vq_pop(f), 1);
	assert_int_equal(vq_pop(f), 0);
	vq_fixture_free(f);
}

static void avail_index_ahead_by_more_than_the_size_breaks_the_queue(void **state)
{
	const uint16_t jumps[] = {SIZE + 1, 1000, 0x8000, 0xffff};

	for (size_t i = 0; i < ARRAY_SIZE(jumps); i++) {
		struct vq_fixture *f = vq_fixture_new(SIZE, 0);

		vring_set_avail_idx(&f->driver, jumps[i]);
		assert_broken(f);
		vq_fixture_free(f);
	}
}

static void head_beyond_the_table_breaks_the_queue(void **state)
{
	const uint16_t heads[] = {SIZE, SIZE + 1, 0x7fff, 0xffff};

	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		struct vq_fixture *f = vq_fixture_new(SIZE, 0);

		vring_offer(&f->driver, heads[i]);
		assert_broken(f);
		vq_fixture_free(f);
	}
}

static void head_that_is_in_flight_breaks_the_queue(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	uint16_t head = vq_add_one(f);

	assert_int_equal(vq_pop(f), 1);
	vring_offer(&f->driver, head);
	assert_broken(f);
	vq_fixture_free(f);
}

static void head_may_come_again_after_its_answer(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	uint16_t head = vq_add_one(f);

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(vq_pop(f), 1);
		virtqueue_push(&f->vq, &f->chain, 0);
		vring_offer(&f->driver, head);
	}
	vq_fixture_free(f);
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
		struct vq_fixture *f = vq_fixture_new(SIZE, ALL_FEATURES);

		for (unsigned k = 0; k < 3; k++)
			vring_set_desc(&f->driver, 0, k, chains[i][k].addr, chains[i][k].len,
				       chains[i][k].flags, chains[i][k].next);
		vring_offer(&f->driver, 0);
		assert_broken(f);
		vq_fixture_free(f);
	}
}

static void byte_total_beyond_32_bits_breaks_the_queue(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, ALL_FEATURES);
	struct vring_buffer *buffers = calloc(1024, sizeof(*buffers));

	assert_non_null(buffers);
	for (unsigned i = 0; i < 1024; i++)
		buffers[i] = (struct vring_buffer){.addr = 0, .len = MEMORY_BYTES};
	vring_add_indirect(&f->driver, TABLE, buffers, 1024);
	assert_broken(f);
	free(buffers);
	vq_fixture_free(f);
}

static void chain_of_more_pieces_than_there_is_room_for_is_in_flight(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 1}, {.addr = DATA, .len = 1}, {.addr = DATA, .len = 1}};
	uint16_t head = vring_add(&f->driver, buffers, 3);
	uint32_t id, len;

	f->chain.max_iov = 2;
	f->iov[2].iov_len = 12345;
	assert_int_equal(vq_pop(f), -E2BIG);
	assert_int_equal(f->iov[2].iov_len, 12345);
	assert_int_equal(f->chain.head, head);
	assert_int_equal(f->chain.num_out, 0);
	assert_int_equal(f->vq.num_in_flight, 1);
	virtqueue_push(&f->vq, &f->chain, 0);
	virtqueue_flush(&f->vq);
	assert_true(vring_get_used(&f->driver, &id, &len));
	assert_int_equal(id, head);
	assert_false(f->vq.broken);
	vq_fixture_free(f);
}

static void chain_that_is_put_back_comes_again(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	uint16_t head = vq_add_one(f);

	assert_int_equal(vq_pop(f), 1);
	virtqueue_unpop(&f->vq, &f->chain);
	assert_int_equal(f->vq.num_in_flight, 0);
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(f->chain.head, head);
	vq_fixture_free(f);
}

static void broken_queue_works_again_after_reset(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);

	vring_offer(&f->driver, 0xffff);
	assert_broken(f);
	virtqueue_reset(&f->vq);
	vring_driver_reset(&f->driver);
	assert_int_equal(virtqueue_start(&f->vq, f->memory, &f->driver.config, 0, NULL), 0);
	vq_add_one(f);
	assert_int_equal(vq_pop(f), 1);
	vq_fixture_free(f);
}

/* --- indirect tables ---------------------------------------------------------------------- */

static void indirect_table_is_followed(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, INDIRECT_OK);
	const struct vring_buffer buffers[] = {{.addr = DATA, .len = 5},
					       {.addr = DATA + 64, .len = 7, .write = true}};

	vring_add_indirect(&f->driver, TABLE + 4, buffers, 2); /* any alignment */
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(f->chain.out_bytes, 5);
	assert_int_equal(f->chain.in_bytes, 7);
	assert_ptr_equal(f->iov[1].iov_base, vq_host(f, DATA + 64));
	vq_fixture_free(f);
}

static void indirect_table_may_be_longer_than_the_queue(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, INDIRECT_OK);
	struct vring_buffer buffers[VIRTQUEUE_MAX_INDIRECT];

	for (unsigned i = 0; i < VIRTQUEUE_MAX_INDIRECT; i++)
		buffers[i] = (struct vring_buffer){.addr = DATA, .len = 1};
	vring_add_indirect(&f->driver, TABLE, buffers, VIRTQUEUE_MAX_INDIRECT);
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(f->chain.num_out, VIRTQUEUE_MAX_INDIRECT);
	vq_fixture_free(f);
}

static void indirect_table_may_follow_direct_descriptors(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, INDIRECT_OK);

	vring_set_desc(&f->driver, TABLE, 0, DATA, 7, WRITE, 0);
	vring_set_desc(&f->driver, 0, 0, DATA, 5, NEXT, 3);
	/* 2.7.5.3.2: the table's own write flag means nothing */
	vring_set_desc(&f->driver, 0, 3, TABLE, 16, INDIRECT | WRITE, 0);
	vring_offer(&f->driver, 0);
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(f->chain.out_bytes, 5);
	assert_int_equal(f->chain.in_bytes, 7);
	vq_fixture_free(f);
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
		struct vq_fixture *f = vq_fixture_new(SIZE, cases[i].features);
		const struct bad_desc *head = &cases[i].head;

		for (unsigned k = 0; k < 2; k++)
			vring_set_desc(&f->driver, TABLE, k, cases[i].table[k].addr,
				       cases[i].table[k].len, cases[i].table[k].flags,
				       cases[i].table[k].next);
		vring_set_desc(&f->driver, 0, 0, head->addr, head->len, head->flags, head->next);
		vring_offer(&f->driver, 0);
		assert_broken(f);
		vq_fixture_free(f);
	}
}

/* --- starting ----------------------------------------------------------------------------- */

static void start_refuses_sizes_and_alignments_that_are_not_allowed(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
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
	vq_fixture_free(f);
}

static void start_refuses_rings_that_do_not_lie_in_ram(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
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
	vq_fixture_free(f);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
