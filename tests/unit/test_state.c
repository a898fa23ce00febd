/* SPDX-License-Identifier: Apache-2.0 */
#include "base/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct chip {
	void *lock; /* not in the list */
	uint8_t a;
	uint16_t b;
	uint32_t c[3];
	uint64_t d;
	bool on;
	uint32_t added;
};

static const struct state_field fields[] = {
	STATE_FIELD(STATE_U8, struct chip, a),
	STATE_FIELD(STATE_U16, struct chip, b),
	STATE_ARRAY(STATE_U32, struct chip, c),
	STATE_FIELD(STATE_U64, struct chip, d),
	STATE_FIELD(STATE_BOOL, struct chip, on),
	{.name = "added",
	 .type = STATE_U32,
	 .offset = offsetof(struct chip, added),
	 .count = 1,
	 .since = 2},
};

static const struct state_layout v1 = {"chip", 1, fields, ARRAY_SIZE(fields) - 1,
				       sizeof(struct chip)};
static const struct state_layout v2 = {"chip", 2, fields, ARRAY_SIZE(fields), sizeof(struct chip)};

static const struct chip sample = {
	.a = 1, .b = 0x203, .c = {4, 5, 0xffffffff}, .d = UINT64_MAX, .on = true, .added = 77};

/* Body of version 1: 1 + 2 + 12 + 8 + 1; header: 2 + 4 + 2 + 4. */
#define V1_LEN (24 + 12)
#define BODY   12

static void assert_same_v1(const struct chip *x, const struct chip *y)
{
	assert_int_equal(x->a, y->a);
	assert_int_equal(x->b, y->b);
	assert_memory_equal(x->c, y->c, sizeof(x->c));
	assert_true(x->d == y->d);
	assert_int_equal(x->on, y->on);
}

static void what_is_saved_is_loaded(void **state)
{
	AUTO_BUF struct buf out = {0};
	struct chip got = {.lock = &got};
	struct cursor in;

	assert_int_equal(state_save(&out, &v2, &sample), 0);
	assert_int_equal(state_save(&out, &v2, &sample), 0);
	in = cursor_init(out.data, out.len);
	assert_int_equal(state_load(&in, &v2, &got, NULL), 0);
	assert_int_equal(state_load(&in, &v2, &got, NULL), 0);
	assert_int_equal(cursor_left(&in), 0);
	assert_same_v1(&got, &sample);
	assert_int_equal(got.added, 77);
	assert_ptr_equal(got.lock, &got);
}

static void wire_format_is_as_documented(void **state)
{
	static const uint8_t want[V1_LEN] =
		"\4\0chip\1\0\x18\0\0\0"
		"\1\3\2\4\0\0\0\5\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\1";
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &v1, &sample), 0);
	assert_int_equal(out.len, V1_LEN);
	assert_memory_equal(out.data, want, V1_LEN);
}

static void older_record_leaves_newer_fields_alone(void **state)
{
	AUTO_BUF struct buf out = {0};
	struct chip got = {.added = 5};
	struct cursor in;

	assert_int_equal(state_save(&out, &v1, &sample), 0);
	in = cursor_init(out.data, out.len);
	assert_int_equal(state_load(&in, &v2, &got, NULL), 0);
	assert_same_v1(&got, &sample);
	assert_int_equal(got.added, 5);
}

/* Loads `len` bytes of data; on failure object and cursor must be untouched. */
static int load_hostile(const uint8_t *data, size_t len)
{
	struct chip got, before;
	struct cursor in = cursor_init(data, len);
	struct err err = ERR_INIT;
	int rc;

	memset(&got, 0, sizeof(got));
	got.a = 99;
	before = got;
	rc = state_load(&in, &v1, &got, &err);
	if (rc < 0) {
		assert_memory_equal(&got, &before, sizeof(got));
		assert_int_equal(in.pos, 0);
		assert_int_equal(err_count(&err), 1);
		assert_int_equal(err.code, rc);
	}
	return rc;
}

static void newer_version_is_refused(void **state)
{
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &v2, &sample), 0);
	assert_int_equal(load_hostile(out.data, out.len), -EPROTO);
	out.data[6] = 0;
	assert_int_equal(load_hostile(out.data, out.len), -EPROTO);
}

static void other_name_is_refused(void **state)
{
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &v1, &sample), 0);
	out.data[2] = 'C';
	assert_int_equal(load_hostile(out.data, out.len), -EPROTO);
	out.data[2] = 'c';
	out.data[0] = 3;
	assert_true(load_hostile(out.data, out.len) < 0);
	out.data[0] = 0xff;
	out.data[1] = 0xff;
	assert_int_equal(load_hostile(out.data, out.len), -EBADMSG);
}

static void every_truncation_is_refused(void **state)
{
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &v1, &sample), 0);
	for (size_t len = 0; len < out.len; len++) {
		AUTO_FREE uint8_t *exact = malloc(len ? len : 1); /* for the sanitizer's fence */

		assert_non_null(exact);
		memcpy(exact, out.data, len);
		assert_int_equal(load_hostile(exact, len), -EBADMSG);
	}
	assert_int_equal(load_hostile(out.data, out.len), 0);
}

static void wrong_body_length_is_refused(void **state)
{
	static const uint8_t lengths[] = {0, 23, 25, 255};
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &v1, &sample), 0);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		out.data[8] = lengths[i];
		assert_int_equal(load_hostile(out.data, out.len), -EBADMSG);
	}
	memset(out.data + 8, 0xff, 4);
	assert_int_equal(load_hostile(out.data, out.len), -EBADMSG);
}

static void bool_that_is_neither_is_refused(void **state)
{
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &v1, &sample), 0);
	out.data[out.len - 1] = 2;
	assert_int_equal(load_hostile(out.data, out.len), -EBADMSG);
}

static void every_single_flipped_byte_is_survived(void **state)
{
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &v1, &sample), 0);
	for (size_t i = 0; i < out.len; i++) {
		out.data[i] ^= 0xff;
		if (i < BODY)
			assert_true(load_hostile(out.data, out.len) < 0);
		else
			load_hostile(out.data, out.len);
		out.data[i] ^= 0xff;
	}
}

static void layout_beyond_its_struct_is_refused(void **state)
{
	static const struct state_field far[] = {
		{.name = "far",
		 .type = STATE_U64,
		 .offset = sizeof(struct chip) - 4,
		 .count = 1,
		 .since = 1},
	};
	static const struct state_layout layout = {"chip", 1, far, 1, sizeof(struct chip)};
	AUTO_BUF struct buf out = {0};

	assert_int_equal(state_save(&out, &layout, &sample), -EINVAL);
	assert_int_equal(out.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_saved_is_loaded),
		cmocka_unit_test(wire_format_is_as_documented),
		cmocka_unit_test(older_record_leaves_newer_fields_alone),
		cmocka_unit_test(newer_version_is_refused),
		cmocka_unit_test(other_name_is_refused),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(wrong_body_length_is_refused),
		cmocka_unit_test(bool_that_is_neither_is_refused),
		cmocka_unit_test(every_single_flipped_byte_is_survived),
		cmocka_unit_test(layout_beyond_its_struct_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
