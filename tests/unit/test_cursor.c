/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cursor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static void integers_are_little_endian(void **state)
{
	struct cursor c = cursor_init(bytes, sizeof(bytes));

	assert_int_equal(cursor_u8(&c), 1);
	assert_int_equal(cursor_le16(&c), 0x0302);
	assert_int_equal(cursor_le32(&c), 0x07060504);
	assert_true(cursor_le64(&c) == 0x0f0e0d0c0b0a0908);
	assert_true(cursor_ok(&c));
	assert_int_equal(cursor_left(&c), 0);
}

static void reading_past_the_end_gives_zero_and_stays_failed(void **state)
{
	struct cursor c = cursor_init(bytes, 3);

	assert_int_equal(cursor_le32(&c), 0);
	assert_false(cursor_ok(&c));
	assert_int_equal(cursor_left(&c), 0);
	assert_int_equal(cursor_u8(&c), 0);
	cursor_seek(&c, 0);
	assert_false(cursor_ok(&c));
	assert_int_equal(c.pos, 0);
}

static void bytes_that_are_not_there_are_zeroed(void **state)
{
	struct cursor c = cursor_init(bytes, 3);
	uint8_t dst[4] = {9, 9, 9, 9};

	cursor_bytes(&c, dst, 2);
	assert_memory_equal(dst, "\1\2\11\11", 4);
	cursor_bytes(&c, dst, 2);
	assert_memory_equal(dst, "\0\0\11\11", 4);
	assert_false(cursor_ok(&c));
}

static void slice_is_in_place_and_bounded(void **state)
{
	struct cursor c = cursor_init(bytes, sizeof(bytes));

	assert_ptr_equal(cursor_slice(&c, 5), bytes);
	assert_ptr_equal(cursor_slice(&c, 10), bytes + 5);
	assert_non_null(cursor_slice(&c, 0));
	assert_null(cursor_slice(&c, 1));
	assert_false(cursor_ok(&c));
}

static void huge_lengths_do_not_wrap(void **state)
{
	struct cursor c = cursor_init(bytes, sizeof(bytes));

	cursor_skip(&c, 4);
	cursor_skip(&c, SIZE_MAX - 2);
	assert_false(cursor_ok(&c));
	assert_int_equal(c.pos, 4);
}

static void seek_goes_up_to_the_end(void **state)
{
	struct cursor c = cursor_init(bytes, sizeof(bytes));

	cursor_seek(&c, sizeof(bytes));
	assert_true(cursor_ok(&c));
	cursor_seek(&c, 14);
	assert_int_equal(cursor_u8(&c), 15);
	cursor_seek(&c, sizeof(bytes) + 1);
	assert_false(cursor_ok(&c));
}

static void empty_cursor_holds_nothing(void **state)
{
	struct cursor c = cursor_init(NULL, 0);

	cursor_bytes(&c, NULL, 0);
	assert_non_null(cursor_slice(&c, 0));
	assert_true(cursor_ok(&c));
	assert_int_equal(cursor_u8(&c), 0);
	assert_false(cursor_ok(&c));
}

static void buffer_grows_and_reads_back(void **state)
{
	AUTO_BUF struct buf b = {0};
	struct cursor c;

	for (uint32_t i = 0; i < 10000; i++)
		buf_le32(&b, i);
	buf_u8(&b, 0xab);
	buf_le16(&b, 0x1234);
	buf_le64(&b, 0x1122334455667788);
	buf_put(&b, "xyz", 3);
	buf_put(&b, NULL, 0);
	assert_true(buf_ok(&b));
	c = cursor_init(b.data, b.len);
	for (uint32_t i = 0; i < 10000; i++)
		assert_int_equal(cursor_le32(&c), i);
	assert_int_equal(cursor_u8(&c), 0xab);
	assert_int_equal(cursor_le16(&c), 0x1234);
	assert_true(cursor_le64(&c) == 0x1122334455667788);
	assert_memory_equal(cursor_slice(&c, 3), "xyz", 3);
	assert_true(cursor_ok(&c));
	assert_int_equal(cursor_left(&c), 0);
}

static void printf_appends_without_terminator(void **state)
{
	AUTO_BUF struct buf b = {0};
	char big[500];

	memset(big, 'a', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	buf_printf(&b, "%d-%s", 42, "x");
	assert_int_equal(b.len, 4);
	buf_printf(&b, "%s", big);
	assert_int_equal(b.len, 4 + sizeof(big) - 1);
	assert_memory_equal(b.data, "42-xaaa", 7);
}

static void impossible_size_fails_and_keeps_what_is_there(void **state)
{
	AUTO_BUF struct buf b = {0};

	buf_put(&b, "abc", 3);
	buf_put(&b, "x", SIZE_MAX - 1);
	assert_false(buf_ok(&b));
	buf_u8(&b, 1);
	buf_printf(&b, "more");
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, "abc", 3);
	buf_fini(&b);
	assert_true(buf_ok(&b));
	buf_put(&b, "x", (size_t)PTRDIFF_MAX + 1);
	assert_false(buf_ok(&b));
}

/* Sanitizers reserve terabytes of addresses and cannot live under a limit. */
#ifndef SANITIZED
static void failed_allocation_keeps_what_is_there(void **state)
{
	const struct rlimit tight = {.rlim_cur = 256 * MIB, .rlim_max = RLIM_INFINITY};
	const size_t len = 400 * MIB;
	AUTO_BUF struct buf b = {0};
	struct rlimit saved;

	buf_put(&b, "abc", 3);
	assert_int_equal(getrlimit(RLIMIT_AS, &saved), 0);
	assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
	buf_put(&b, "x", len);
	setrlimit(RLIMIT_AS, &saved);
	assert_false(buf_ok(&b));
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, "abc", 3);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(integers_are_little_endian),
		cmocka_unit_test(reading_past_the_end_gives_zero_and_stays_failed),
		cmocka_unit_test(bytes_that_are_not_there_are_zeroed),
		cmocka_unit_test(slice_is_in_place_and_bounded),
		cmocka_unit_test(huge_lengths_do_not_wrap),
		cmocka_unit_test(seek_goes_up_to_the_end),
		cmocka_unit_test(empty_cursor_holds_nothing),
		cmocka_unit_test(buffer_grows_and_reads_back),
		cmocka_unit_test(printf_appends_without_terminator),
		cmocka_unit_test(impossible_size_fails_and_keeps_what_is_there),
#ifndef SANITIZED
		cmocka_unit_test(failed_allocation_keeps_what_is_there),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
