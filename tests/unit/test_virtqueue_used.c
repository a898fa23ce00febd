/* SPDX-License-Identifier: Apache-2.0 */
/* Answering chains, notifications, state. */
#include "base/tsan.h"
#include "tests/unit/virtqueue_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* --- answering ---------------------------------------------------------------------------- */

static void answer_is_seen_after_flush_with_its_length(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	uint16_t head;
	uint32_t id, len;

	vq_add_one(f);
	head = vq_add_one(f);
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(vq_pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 9);
	assert_false(vring_get_used(&f->driver, &id, &len));
	assert_true(virtqueue_flush(&f->vq));
	assert_true(vring_get_used(&f->driver, &id, &len));
	assert_int_equal(id, head);
	assert_int_equal(len, 9);
	assert_false(vring_get_used(&f->driver, &id, &len));
	vq_fixture_free(f);
}

static void answer_to_what_is_not_in_flight_is_dropped(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);

	virtqueue_push_head(&f->vq, 3, 0);
	virtqueue_push_head(&f->vq, SIZE, 0);
	virtqueue_push_head(&f->vq, 0xffff, 0);
	assert_false(virtqueue_flush(&f->vq));
	assert_int_equal(vring_used_idx(&f->driver), 0);
	vq_fixture_free(f);
}

static void written_length_never_exceeds_the_writable_part(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	uint32_t id, len;

	vq_add_one(f);
	assert_int_equal(vq_pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 1000);
	virtqueue_flush(&f->vq);
	assert_true(vring_get_used(&f->driver, &id, &len));
	assert_int_equal(len, 16);
	vq_fixture_free(f);
}

static void indices_wrap(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, EVENT_IDX);
	uint32_t id, len;

	for (unsigned i = 0; i < 70000; i++) {
		uint16_t head = vq_add_one(f);

		vring_set_used_event(&f->driver, f->driver.used_seen);
		assert_int_equal(vq_pop(f), 1);
		virtqueue_push(&f->vq, &f->chain, i % 16);
		assert_true(virtqueue_flush(&f->vq));
		assert_true(vring_get_used(&f->driver, &id, &len));
		assert_int_equal(id, head);
		assert_int_equal(len, i % 16);
	}
	vq_fixture_free(f);
}

static bool dirty(struct vq_fixture *f, const uint64_t *log, uint64_t addr)
{
	return log[addr / 4096 / 64] >> (addr / 4096 % 64) & 1;
}

static void written_pages_are_marked_dirty_and_no_others(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
	uint64_t log[MEMORY_BYTES / 4096 / 64] = {0};
	const struct vring_buffer buffers[] = {
		{.addr = DATA, .len = 16},
		{.addr = DATA + 0x1000, .len = 16, .write = true},
		{.addr = DATA + 0x2000, .len = 4097, .write = true},
		{.addr = DATA + 0x5000, .len = 16, .write = true},
	};

	vring_add(&f->driver, buffers, 4);
	f->memory->dirty_log = log;
	assert_int_equal(vq_pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 16 + 4097);
	virtqueue_flush(&f->vq);
	f->memory->dirty_log = NULL;
	assert_false(dirty(f, log, DATA));
	assert_true(dirty(f, log, DATA + 0x1000));
	assert_true(dirty(f, log, DATA + 0x2000));
	assert_true(dirty(f, log, DATA + 0x3000));
	assert_false(dirty(f, log, DATA + 0x5000));
	assert_true(dirty(f, log, f->driver.config.used.v));
	vq_fixture_free(f);
}

/* --- notifications ------------------------------------------------------------------------ */

static bool answer_one(struct vq_fixture *f)
{
	vq_add_one(f);
	assert_int_equal(vq_pop(f), 1);
	virtqueue_push(&f->vq, &f->chain, 0);
	return virtqueue_flush(&f->vq);
}

static void driver_that_wants_no_interrupt_gets_none(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);

	assert_true(answer_one(f));
	vring_set_avail_flags(&f->driver, VRING_AVAIL_F_NO_INTERRUPT);
	assert_false(answer_one(f));
	vring_set_avail_flags(&f->driver, 0);
	assert_true(answer_one(f));
	assert_false(virtqueue_flush(&f->vq)); /* nothing new */
	vq_fixture_free(f);
}

static void event_idx_interrupts_when_the_event_is_passed(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, EVENT_IDX);

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
		vq_add_one(f);
		assert_int_equal(vq_pop(f), 1);
		virtqueue_push(&f->vq, &f->chain, 0);
	}
	assert_true(virtqueue_flush(&f->vq)); /* 5, 6, 7: passed in the middle */
	assert_false(virtqueue_flush(&f->vq));
	/* The flag means nothing with event_idx. */
	vring_set_avail_flags(&f->driver, VRING_AVAIL_F_NO_INTERRUPT);
	vring_set_used_event(&f->driver, 8);
	assert_true(answer_one(f));
	vq_fixture_free(f);
}

static void enabling_kicks_sees_what_came_meanwhile(void **state)
{
	const uint64_t features[] = {0, EVENT_IDX};

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		struct vq_fixture *f = vq_fixture_new(SIZE, features[i]);

		virtqueue_disable_kicks(&f->vq);
		assert_int_equal(vq_pop(f), 0);
		assert_false(virtqueue_enable_kicks(&f->vq));
		virtqueue_disable_kicks(&f->vq);
		vq_add_one(f);
		assert_true(virtqueue_enable_kicks(&f->vq));
		vq_fixture_free(f);
	}
}

static void kicks_are_asked_for_in_the_negotiated_way(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);

	virtqueue_disable_kicks(&f->vq);
	assert_int_equal(vring_used_flags(&f->driver), VRING_USED_F_NO_NOTIFY);
	virtqueue_enable_kicks(&f->vq);
	assert_int_equal(vring_used_flags(&f->driver), 0);
	vq_fixture_free(f);

	f = vq_fixture_new(SIZE, EVENT_IDX);
	for (unsigned i = 0; i < 3; i++)
		answer_one(f);
	virtqueue_disable_kicks(&f->vq);
	assert_int_equal(vring_used_flags(&f->driver), 0);
	assert_int_equal(vring_kick_event(&f->driver), 0);
	virtqueue_enable_kicks(&f->vq);
	assert_int_equal(vring_kick_event(&f->driver), 3);
	vq_fixture_free(f);
}

/* --- bytes -------------------------------------------------------------------------------- */

static void bytes_are_copied_across_pieces(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, 0);
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
	assert_int_equal(vq_pop(f), 1);
	assert_int_equal(virtqueue_chain_read(&f->chain, 0, text, sizeof(text)), 8);
	assert_string_equal(text, "abcdefgh");
	assert_int_equal(virtqueue_chain_read(&f->chain, 2, text, 2), 2);
	assert_memory_equal(text, "cd", 2);
	assert_int_equal(virtqueue_chain_read(&f->chain, 8, text, 1), 0);
	assert_int_equal(virtqueue_chain_read(&f->chain, SIZE_MAX, text, 1), 0);

	assert_int_equal(virtqueue_chain_write(&f->chain, 1, "12345678", 8), 5);
	assert_memory_equal((char *)vq_host(f, DATA + 0x201), "1", 1);
	assert_memory_equal(vq_host(f, DATA + 0x300), "2345", 4);
	assert_int_equal(virtqueue_chain_write(&f->chain, 6, "x", 1), 0);
	vq_fixture_free(f);
}

/* --- state -------------------------------------------------------------------------------- */

static void indices_survive_save_and_load(void **state)
{
	struct vq_fixture *f = vq_fixture_new(SIZE, EVENT_IDX);
	struct virtqueue other = {.desc = NULL};
	AUTO_BUF struct buf buf = {.data = NULL};
	struct cursor in;
	uint16_t head;

	for (unsigned i = 0; i < 5; i++)
		answer_one(f);
	head = vq_add_one(f);
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
	vq_fixture_free(f);
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

/* --- a driver that changes things under our hands ----------------------------------------- */

struct racer {
	struct vq_fixture *f;
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
	struct vq_fixture *f;
	struct racer racer = {.f = NULL};
	const uint8_t *ram;
	pthread_t thread;
	uint8_t byte;

	if (THREAD_SANITIZER)
		skip(); /* the race is the point */
	f = racer.f = vq_fixture_new(SIZE, ALL_FEATURES);
	ram = vq_host(f, 0);
	assert_int_equal(pthread_create(&thread, NULL, race, &racer), 0);
	for (unsigned i = 0; i < 20000; i++) {
		vring_offer(&f->driver, i % SIZE);
		if (vq_pop(f) == 1) {
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
	vq_fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
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
