/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/utf8.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void functions_return_the_code_without_an_err(void **state)
{
	assert_int_equal(err_set(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_set_kind(NULL, ERR_BUSY, -EBUSY, "x"), -EBUSY);
	assert_int_equal(err_set_errno(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_wrap(NULL, -EIO, "x"), -EIO);
	assert_int_equal(err_count(NULL), 0);
	assert_string_equal(err_message(NULL, 0), "");
}

static void messages_come_outermost_first(void **state)
{
	struct err err = ERR_INIT;
	char buf[64];

	assert_int_equal(err_set(&err, -ENOENT, "no %s", "file"), -ENOENT);
	assert_int_equal(err_wrap(&err, -EIO, "cannot open disk %d", 3), -EIO);
	assert_int_equal(err_wrap(&err, -EIO, "cannot boot"), -EIO);
	assert_int_equal(err_count(&err), 3);
	assert_string_equal(err_message(&err, 0), "cannot boot");
	assert_string_equal(err_message(&err, 1), "cannot open disk 3");
	assert_string_equal(err_message(&err, 2), "no file");
	assert_string_equal(err_message(&err, 3), "");
	assert_string_equal(err_format(&err, buf, sizeof(buf)),
			    "cannot boot: cannot open disk 3: no file");
}

static void wrapping_keeps_code_and_kind_of_the_origin(void **state)
{
	struct err err = ERR_INIT;

	err_set_kind(&err, ERR_NOT_FOUND, -ENODEV, "no VM");
	err_wrap(&err, -EIO, "cannot pause");
	assert_int_equal(err.code, -ENODEV);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void wrapping_an_unset_err_starts_the_chain(void **state)
{
	struct err err = ERR_INIT;

	err_wrap(&err, -EIO, "outer");
	assert_int_equal(err.code, -EIO);
	assert_int_equal(err_count(&err), 1);
	assert_string_equal(err_message(&err, 0), "outer");
}

static void setting_again_forgets_what_was_there(void **state)
{
	struct err err = ERR_INIT;

	err_set_kind(&err, ERR_BUSY, -EBUSY, "one");
	err_wrap(&err, -EBUSY, "two");
	err_set(&err, -EIO, "[%s]", err_message(&err, 0));
	assert_int_equal(err_count(&err), 1);
	assert_int_equal(err.kind, ERR_INTERNAL);
	assert_string_equal(err_message(&err, 0), "[two]");
}

static void errno_text_follows_the_message(void **state)
{
	struct err err = ERR_INIT;

	err_set_errno(&err, -ENOENT, "cannot open %s", "x");
	err_wrap(&err, -ENOENT, "outer");
	assert_string_equal(err_message(&err, 1), "cannot open x: No such file or directory");
	assert_string_equal(err_message(&err, 0), "outer");
}

static void long_message_leaves_room_for_the_levels_above(void **state)
{
	char path[5000];
	struct err err = ERR_INIT;

	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	err_set_errno(&err, -ENOENT, "cannot open %s", path);
	err_wrap(&err, -ENOENT, "cannot boot");
	assert_int_equal(err_count(&err), 2);
	assert_string_equal(err_message(&err, 0), "cannot boot");
	assert_non_null(strstr(err_message(&err, 1), "No such file"));
}

static void full_chain_stays_terminated_and_within_bounds(void **state)
{
	struct err err = ERR_INIT;
	char buf[16];

	err_set(&err, -EIO, "origin");
	for (int i = 0; i < 1000; i++)
		err_wrap(&err, -EIO, "level %d", i);
	assert_true(err.len <= ERR_TEXT_MAX);
	assert_int_equal(err.text[err.len - 1], '\0');
	assert_string_equal(err_message(&err, err_count(&err) - 1), "origin");
	for (size_t i = 0; i < err_count(&err); i++)
		assert_true(err_message(&err, i) < err.text + err.len);
	err_format(&err, buf, sizeof(buf));
	assert_int_equal(strlen(buf), sizeof(buf) - 1);
}

static void messages_are_utf8_whatever_they_quote(void **state)
{
	struct err err = ERR_INIT;
	char smileys[1200];

	err_set(&err, -EINVAL, "key \"%s\"", "a\xff\xc3(\xe2\x82z");
	assert_string_equal(err_message(&err, 0), "key \"a?"
						  "?(??z\"");

	for (size_t i = 0; i + 4 < sizeof(smileys); i += 4)
		memcpy(smileys + i, "\xf0\x9f\x99\x82", 5);
	for (int shift = 0; shift < 4; shift++) {
		err_set(&err, -EINVAL, "%.*s%s", shift, "abc", smileys);
		err_wrap(&err, -EINVAL, "%s", smileys);
		err_wrap(&err, -EINVAL, "%s", smileys);
		for (size_t i = 0; i < err_count(&err); i++) {
			const char *m = err_message(&err, i);

			assert_true(utf8_valid(m, strlen(m)));
			assert_null(strchr(m, '?'));
		}
	}
}

static void utf8_refuses_overlong_cut_surrogate_and_too_large(void **state)
{
	static const char *const bad[] = {
		"\x80",
		"\xc0\x80",
		"\xc1\xbf",
		"\xe0\x9f\xbf",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf8\x88\x80\x80",
		"\xe2\x82",
		"\xf0\x9f\x99",
		"\xff",
	};
	static const char *const good[] = {
		"a",
		"\x7f",
		"\xc2\x80",
		"\xdf\xbf",
		"\xe0\xa0\x80",
		"\xed\x9f\xbf",
		"\xee\x80\x80",
		"\xf0\x90\x80\x80",
		"\xf4\x8f\xbf\xbf",
		"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(utf8_valid(bad[i], strlen(bad[i])));
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(utf8_valid(good[i], strlen(good[i])));
	assert_true(utf8_valid("a\0b", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(functions_return_the_code_without_an_err),
		cmocka_unit_test(messages_come_outermost_first),
		cmocka_unit_test(wrapping_keeps_code_and_kind_of_the_origin),
		cmocka_unit_test(wrapping_an_unset_err_starts_the_chain),
		cmocka_unit_test(setting_again_forgets_what_was_there),
		cmocka_unit_test(errno_text_follows_the_message),
		cmocka_unit_test(long_message_leaves_room_for_the_levels_above),
		cmocka_unit_test(full_chain_stays_terminated_and_within_bounds),
		cmocka_unit_test(messages_are_utf8_whatever_they_quote),
		cmocka_unit_test(utf8_refuses_overlong_cut_surrogate_and_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
