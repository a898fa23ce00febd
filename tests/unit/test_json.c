/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static struct json *parse(const char *text)
{
	struct json *v = json_parse(text, strlen(text), NULL);

	assert_non_null(v);
	return v;
}

static void assert_refused(const char *buf, size_t len, const char *word)
{
	struct err err = ERR_INIT;

	assert_null(json_parse(buf, len, &err));
	assert_int_equal(err.kind, ERR_BAD_REQUEST);
	assert_int_equal(err_count(&err), 1);
	assert_non_null(strstr(err_message(&err, 0), "line "));
	if (word)
		assert_non_null(strstr(err_message(&err, 0), word));
	assert_null(json_parse(buf, len, NULL));
}

static void refuse(const char *text, const char *word)
{
	assert_refused(text, strlen(text), word);
}

static void assert_dumps(const struct json *v, const char *want)
{
	AUTO_FREE char *text = json_dump(v, false);

	assert_non_null(text);
	assert_string_equal(text, want);
}

static void every_kind_is_parsed(void **state)
{
	AUTO_JSON struct json *v =
		parse("[null, true, false, -5, 1.5, \"s\", [], {}, 1e2, \"\\ud83d\\ude42\"]");

	assert_int_equal(json_kind(v), JSON_ARRAY);
	assert_int_equal(json_size(v), 10);
	assert_int_equal(json_kind(json_at(v, 0)), JSON_NULL);
	assert_true(json_bool(json_at(v, 1)));
	assert_int_equal(json_kind(json_at(v, 2)), JSON_BOOL);
	assert_false(json_bool(json_at(v, 2)));
	assert_int_equal(json_int(json_at(v, 3)), -5);
	assert_true(json_real(json_at(v, 4)) == 1.5);
	assert_string_equal(json_string(json_at(v, 5)), "s");
	assert_int_equal(json_kind(json_at(v, 6)), JSON_ARRAY);
	assert_int_equal(json_kind(json_at(v, 7)), JSON_OBJECT);
	assert_int_equal(json_kind(json_at(v, 8)), JSON_REAL);
	assert_string_equal(json_string(json_at(v, 9)), "\xf0\x9f\x99\x82");
	assert_null(json_at(v, 10));
}

static void scalars_are_whole_documents_too(void **state)
{
	AUTO_JSON struct json *v = parse(" 12 ");

	assert_int_equal(json_int(v), 12);
}

static void getters_give_nothing_for_other_kinds_and_null(void **state)
{
	AUTO_JSON struct json *v = parse("[\"x\", 1]");

	assert_int_equal(json_int(json_at(v, 0)), 0);
	assert_null(json_string(json_at(v, 1)));
	assert_true(json_real(json_at(v, 1)) == 0);
	assert_false(json_bool(json_at(v, 1)));
	assert_null(json_member(v, "x"));
	assert_null(json_at(json_at(v, 0), 0));
	assert_int_equal(json_size(json_at(v, 0)), 0);
	assert_int_equal(json_kind(NULL), JSON_NULL);
	assert_int_equal(json_int(NULL), 0);
	assert_null(json_string(NULL));
	assert_null(json_member(NULL, "x"));
	assert_int_equal(json_size(NULL), 0);
	assert_null(json_get_ref(NULL));
	json_put(NULL);
}

static void integers_are_int64(void **state)
{
	AUTO_JSON struct json *v = parse("[9223372036854775807, -9223372036854775808]");

	assert_true(json_int(json_at(v, 0)) == INT64_MAX);
	assert_true(json_int(json_at(v, 1)) == INT64_MIN);
	refuse("9223372036854775808", "too big");
	refuse("-9223372036854775809", "too big");
	refuse("[1e999]", NULL);
}

static void malformed_documents_are_refused(void **state)
{
	static const char *const bad[] = {
		"",
		" ",
		"{",
		"[1,]",
		"{\"a\":1,}",
		"{a:1}",
		"[1] x",
		"[1][2]",
		"nul",
		"'a'",
		"\"a",
		"\"\\x\"",
		"01",
		"+1",
		"[1 2]",
		"NaN",
		"/**/1",
		"\"\t\"",
		"\"\n\"",
		"\"\xff\"",
		"[\"\xc0\x80\"]",
		"\"\xed\xa0\x80\"",
		"}",
		"\"\\ud800\"",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refuse(bad[i], NULL);
	assert_refused("1\0", 2, NULL);
	assert_refused("\0", 1, NULL);
	assert_refused("[1\0,2]", 6, "line 1 column 3");
	assert_refused("\"\\\0\"", 4, NULL);
	assert_refused(NULL, 0, NULL);
}

static void nul_inside_strings_and_keys_is_refused(void **state)
{
	refuse("\"a\\u0000b\"", NULL);
	refuse("{\"a\\u0000b\":1}", NULL);
	assert_refused("\"a\0b\"", 5, NULL);
}

static void duplicate_keys_are_refused_at_any_depth(void **state)
{
	refuse("{\"a\":1,\"a\":1}", "duplicate");
	refuse("[{\"b\":{\"a\":1,\"\\u0061\":1}}]", "duplicate");
}

static void message_says_line_and_column(void **state)
{
	refuse("{\n  \"a\": 1,\n  \"b\": x\n}", "line 3 column ");
}

static char *nested(unsigned depth, size_t *ret_len)
{
	char *text = malloc((size_t)2 * depth + 1);

	assert_non_null(text);
	memset(text, '[', depth);
	memset(text + depth, ']', depth);
	*ret_len = (size_t)2 * depth;
	return text;
}

static void nesting_is_bounded_at_64(void **state)
{
	static const unsigned too_deep[] = {65, 2000, 2049, 1000000};
	size_t len;
	AUTO_FREE char *ok = nested(64, &len);
	AUTO_JSON struct json *v = json_parse(ok, len, NULL);

	assert_non_null(v);
	for (size_t i = 0; i < ARRAY_SIZE(too_deep); i++) {
		AUTO_FREE char *deep = nested(too_deep[i], &len);

		assert_refused(deep, len, "nested");
	}
}

/* "[" times*unit "]", terminated. Unit ends with a comma, which the last one loses. */
static char *repeated(const char *unit, size_t times, size_t *ret_len)
{
	size_t n = strlen(unit);
	char *text = malloc(n * times + 2);

	assert_non_null(text);
	for (size_t i = 0; i < times; i++)
		memcpy(text + 1 + i * n, unit, n);
	text[0] = '[';
	text[n * times] = ']';
	text[n * times + 1] = '\0';
	*ret_len = n * times + 1;
	return text;
}

/* One more value or container than allowed would make the whole of 4 MiB take 300 MiB. */
static void number_of_values_is_bounded(void **state)
{
	static const struct {
		const char *unit;
		size_t most;
		const char *words;
	} kinds[] = {
		{"0,", 131072, "131072 values"},
		{"\"[{,\",", 131072, "131072 values"},
		{"[],", 16383, "16384 arrays and objects"},
		{"{},", 16383, "16384 arrays and objects"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t len;
		AUTO_FREE char *most = repeated(kinds[i].unit, kinds[i].most, &len);
		AUTO_JSON struct json *v = json_parse(most, len, NULL);
		AUTO_FREE char *more = repeated(kinds[i].unit, kinds[i].most + 1, &len);

		assert_int_equal(json_size(v), kinds[i].most);
		assert_refused(more, len, kinds[i].words);
	}
}

static void brackets_in_strings_do_not_nest(void **state)
{
	char text[300] = "[\"\\\"";
	AUTO_JSON struct json *v = NULL;

	memset(text + 4, '[', 200);
	strcpy(text + 204, "\\\\\", 1]");
	v = parse(text);
	assert_int_equal(json_size(v), 2);
}

static void output_is_ascii(void **state)
{
	AUTO_JSON struct json *v = json_new_string("\xc3\xa9\xf0\x9f\x99\x82\n\"\\");

	assert_dumps(v, "\"\\u00E9\\uD83D\\uDE42\\n\\\"\\\\\"");
}

static void order_of_insertion_is_kept(void **state)
{
	static const char *const keys[] = {"z", "a", "m"};
	AUTO_JSON struct json *o = json_new_object();
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_int_equal(json_set(o, keys[i], json_new_int((int64_t)i)), 0);
	assert_dumps(o, "{\"z\":0,\"a\":1,\"m\":2}");
	for (struct json_iter *it = json_first(o); it; it = json_next(o, it), n++) {
		assert_string_equal(json_iter_key(it), keys[n]);
		assert_int_equal(json_int(json_iter_value(it)), n);
	}
	assert_int_equal(n, 3);
	json_remove(o, "a");
	json_remove(o, "absent");
	assert_dumps(o, "{\"z\":0,\"m\":2}");
	assert_null(json_first(NULL));
}

static void pretty_output_is_indented_by_two(void **state)
{
	AUTO_JSON struct json *v = parse("{\"a\":[1]}");
	AUTO_FREE char *text = json_dump(v, true);

	assert_string_equal(text, "{\n  \"a\": [\n    1\n  ]\n}");
}

static void putting_nothing_is_out_of_memory(void **state)
{
	AUTO_JSON struct json *o = json_new_object();
	AUTO_JSON struct json *a = json_new_array();

	assert_int_equal(json_set(o, "k", NULL), -ENOMEM);
	assert_int_equal(json_append(a, NULL), -ENOMEM);
}

static void putting_takes_the_reference_also_on_failure(void **state)
{
	AUTO_JSON struct json *a = json_new_array();
	AUTO_JSON struct json *s = json_new_string("x");

	assert_int_equal(json_set(a, "k", json_get_ref(s)), -EINVAL);
	assert_int_equal(json_append(s, json_get_ref(s)), -EINVAL);
	assert_int_equal(json_append(a, json_get_ref(a)), -EINVAL);
	assert_int_equal(json_set(NULL, "k", json_get_ref(s)), -EINVAL);
	assert_int_equal(json_append(a, json_get_ref(s)), 0);
	assert_dumps(a, "[\"x\"]");
}

static void what_is_not_utf8_does_not_get_in(void **state)
{
	AUTO_JSON struct json *o = json_new_object();

	assert_null(json_new_string("\xff"));
	assert_null(json_new_string(NULL));
	assert_int_equal(json_set(o, "\xff", json_new_int(1)), -EINVAL);
}

static void copy_is_deep(void **state)
{
	AUTO_JSON struct json *v = parse("{\"a\":[1]}");
	AUTO_JSON struct json *copy = json_copy(v);

	assert_int_equal(json_append(json_member(copy, "a"), json_new_bool(true)), 0);
	assert_dumps(v, "{\"a\":[1]}");
	assert_dumps(copy, "{\"a\":[1,true]}");
}

static void new_uint_clips(void **state)
{
	AUTO_JSON struct json *v = json_new_uint(UINT64_MAX);
	AUTO_JSON struct json *n = json_new_null();

	assert_true(json_int(v) == INT64_MAX);
	assert_int_equal(json_kind(n), JSON_NULL);
}

/* Any prefix and any one changed byte of a document is answered, never crashed on. */
static void mutated_documents_are_survived(void **state)
{
	static const char text[] =
		"{\"a\":[1,-2.5e3,\"\\u00e9\xc3\xa9\"],\"b\":{\"c\":null,\"d\":true}}";
	const size_t len = sizeof(text) - 1;

	for (size_t i = 0; i < len; i++) {
		AUTO_FREE char *exact = malloc(len);

		assert_non_null(exact);
		memcpy(exact, text, len);
		json_put(json_parse(exact + i, len - i, NULL));
		json_put(json_parse(exact, i, NULL));
		for (int c = 0; c < 256; c++) {
			exact[i] = (char)c;
			json_put(json_parse(exact, len, NULL));
		}
	}
}

/* Sanitizers reserve terabytes of addresses and cannot live under a limit. */
#ifndef SANITIZED
static size_t mapped_bytes(void)
{
	FILE *statm = fopen("/proc/self/statm", "re");
	size_t pages = 0;

	assert_non_null(statm);
	assert_int_equal(fscanf(statm, "%zu", &pages), 1);
	fclose(statm);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void running_out_of_memory_is_an_internal_error(void **state)
{
	const size_t n = 131000; /* values of 64 bytes each */
	AUTO_FREE char *text = repeated("\"x\",", n, &(size_t){0});
	struct err err = ERR_INIT;
	struct rlimit saved, tight;
	struct json *v;

	assert_int_equal(getrlimit(RLIMIT_AS, &saved), 0);
	tight = (struct rlimit){.rlim_cur = mapped_bytes() + 2 * MIB, .rlim_max = saved.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_AS, &tight), 0);
	v = json_parse(text, strlen(text), &err);
	setrlimit(RLIMIT_AS, &saved);
	assert_null(v);
	assert_int_equal(err.code, -ENOMEM);
	assert_int_equal(err.kind, ERR_INTERNAL);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_is_parsed),
		cmocka_unit_test(scalars_are_whole_documents_too),
		cmocka_unit_test(getters_give_nothing_for_other_kinds_and_null),
		cmocka_unit_test(integers_are_int64),
		cmocka_unit_test(malformed_documents_are_refused),
		cmocka_unit_test(nul_inside_strings_and_keys_is_refused),
		cmocka_unit_test(duplicate_keys_are_refused_at_any_depth),
		cmocka_unit_test(message_says_line_and_column),
		cmocka_unit_test(nesting_is_bounded_at_64),
		cmocka_unit_test(number_of_values_is_bounded),
		cmocka_unit_test(brackets_in_strings_do_not_nest),
		cmocka_unit_test(output_is_ascii),
		cmocka_unit_test(order_of_insertion_is_kept),
		cmocka_unit_test(pretty_output_is_indented_by_two),
		cmocka_unit_test(putting_nothing_is_out_of_memory),
		cmocka_unit_test(putting_takes_the_reference_also_on_failure),
		cmocka_unit_test(what_is_not_utf8_does_not_get_in),
		cmocka_unit_test(copy_is_deep),
		cmocka_unit_test(new_uint_clips),
		cmocka_unit_test(mutated_documents_are_survived),
#ifndef SANITIZED
		cmocka_unit_test(running_out_of_memory_is_an_internal_error),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
