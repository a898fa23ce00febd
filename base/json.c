/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"

#include "base/utf8.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

/*
 * A few of jansson's names are ours as well. They are renamed while its header is read; its
 * json_is_*() macros, which would mix the two up, and its json_string(), json_real() and
 * json_copy() are not used. The linker knows ours by other names (JSON_SYMBOL()).
 */
#define json_string jansson_string
#define json_copy   jansson_copy
#define json_real   jansson_real
#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY  JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_REAL   JANSSON_REAL
#define JSON_NULL   JANSSON_NULL
#include <jansson.h>
#undef json_string
#undef json_copy
#undef json_real
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_REAL
#undef JSON_NULL

#define MAX_DEPTH 64
/* A value takes some 100 bytes of memory and one byte of text, an array or object three times as
 * much. These are far beyond what a configuration can mean. */
#define MAX_VALUES     131072
#define MAX_CONTAINERS 16384

static_assert(sizeof(json_int_t) == sizeof(int64_t), "jansson's integers are int64_t");

static json_t *lower(const struct json *v)
{
	return (json_t *)(uintptr_t)v;
}

static struct json *raise_(json_t *v)
{
	return (struct json *)v;
}

/* --- parsing -------------------------------------------------------------------------------- */

static int refuse_at(unsigned line, size_t column, const char *what, struct err *err)
{
	return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "Invalid JSON at line %u column %zu: %s",
			    line, column, what);
}

/* What has been seen of a text. */
struct scan {
	unsigned line;
	size_t line_start;
	unsigned depth, values, containers;
	bool in_string;
};

/* Counts what the byte outside of strings begins or ends. Returns what is wrong, or NULL. */
static const char *count_byte(struct scan *s, char c)
{
	switch (c) {
	case '[':
	case '{':
		if (++s->depth > MAX_DEPTH)
			return "nested deeper than 64 levels";
		if (++s->containers > MAX_CONTAINERS)
			return "more than 16384 arrays and objects";
		break;
	case ']':
	case '}': s->depth -= s->depth ? 1 : 0; return NULL;
	case ',': break;
	default: return NULL;
	}
	/* Each value but the outermost stands behind one of these. */
	return ++s->values > MAX_VALUES ? "more than 131072 values" : NULL;
}
static_assert(MAX_DEPTH == 64 && MAX_VALUES == 131072 && MAX_CONTAINERS == 16384, "so it is told");

/*
 * What jansson lets through: it recurses up to 2,048 levels deep, takes whatever memory the values
 * need, and overlooks a NUL byte behind a number. This walk needs no stack; it sees the same
 * brackets as the parser up to the first syntax error, where the parser stops.
 */
static int check_bytes(const char *buf, size_t len, struct err *err)
{
	struct scan s = {.line = 1};

	for (size_t i = 0; i < len; i++) {
		const char *wrong = NULL;
		char c = buf[i];

		if (c == '\0') {
			wrong = "NUL byte";
		} else if (c == '\n') {
			s.line++;
			s.line_start = i + 1;
		} else if (s.in_string && c == '\\' && i + 1 < len && buf[i + 1]) {
			i++;
		} else if (c == '"') {
			s.in_string = !s.in_string;
		} else if (!s.in_string) {
			wrong = count_byte(&s, c);
		}
		if (wrong)
			return refuse_at(s.line, i - s.line_start + 1, wrong, err);
	}
	return 0;
}

/*
 * Where jansson has no memory to keep another byte of a string, it goes on without that byte when
 * it parses, and without the whole string when it writes a member's name; at other places it blames
 * the text. So whether it was refused memory is noticed where it asks for it.
 */
static _Thread_local bool out_of_memory;

static void *allocate(size_t size)
{
	void *block = malloc(size);

	out_of_memory |= !block;
	return block;
}

static void set_allocator(void)
{
	json_set_alloc_funcs(allocate, free);
}

static void begin_to_notice(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, set_allocator);
	out_of_memory = false;
}

static json_t *load(const char *buf, size_t len, json_error_t *at)
{
	json_t *v;

	begin_to_notice();
	v = json_loadb(buf, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, at);
	if (out_of_memory) {
		json_decref(v);
		v = NULL;
	}
	return v;
}

struct json *json_parse(const char *buf, size_t len, struct err *err)
{
	json_error_t at;
	json_t *v;

	if (check_bytes(buf, len, err) < 0)
		return NULL;
	v = load(len ? buf : "", len, &at);
	if (v)
		return raise_(v);
	if (out_of_memory)
		err_set_errno(err, -ENOMEM, "Cannot parse %zu bytes of JSON", len);
	else
		err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "Invalid JSON at line %d column %d: %s",
			     MAX(at.line, 1), MAX(at.column, 0), at.text);
	return NULL;
}

/* --- life ----------------------------------------------------------------------------------- */

struct json *json_get_ref(struct json *v)
{
	return raise_(json_incref(lower(v)));
}

void json_put(struct json *v)
{
	json_decref(lower(v));
}

struct json *json_new_object(void)
{
	return raise_(json_object());
}

struct json *json_new_array(void)
{
	return raise_(json_array());
}

struct json *json_new_string(const char *s)
{
	return s ? raise_(json_stringn(s, strlen(s))) : NULL;
}

struct json *json_new_int(int64_t v)
{
	return raise_(json_integer(v));
}

struct json *json_new_uint(uint64_t v)
{
	return json_new_int((int64_t)MIN(v, (uint64_t)INT64_MAX));
}

struct json *json_new_bool(bool v)
{
	return raise_(v ? json_true() : json_false());
}

struct json *json_new_null(void)
{
	return raise_(json_null());
}

struct json *json_copy(const struct json *v)
{
	return raise_(json_deep_copy(lower(v)));
}

/* --- reading -------------------------------------------------------------------------------- */

enum json_kind json_kind(const struct json *v)
{
	if (!v)
		return JSON_NULL;
	switch (json_typeof(lower(v))) {
	case JSON_TRUE:
	case JSON_FALSE: return JSON_BOOL;
	case JSON_INTEGER: return JSON_INT;
	case JANSSON_REAL: return JSON_REAL;
	case JANSSON_STRING: return JSON_STRING;
	case JANSSON_ARRAY: return JSON_ARRAY;
	case JANSSON_OBJECT: return JSON_OBJECT;
	case JANSSON_NULL: break;
	}
	return JSON_NULL;
}

const char *json_kind_name(enum json_kind kind)
{
	switch (kind) {
	case JSON_NULL: return "null";
	case JSON_BOOL: return "a boolean";
	case JSON_INT: return "an integer";
	case JSON_REAL: return "a fraction";
	case JSON_STRING: return "a string";
	case JSON_ARRAY: return "an array";
	case JSON_OBJECT: return "an object";
	}
	return "unknown";
}

int64_t json_int(const struct json *v)
{
	return json_kind(v) == JSON_INT ? json_integer_value(lower(v)) : 0;
}

double json_real(const struct json *v)
{
	return json_kind(v) == JSON_REAL ? json_real_value(lower(v)) : 0;
}

bool json_bool(const struct json *v)
{
	return v && json_typeof(lower(v)) == JSON_TRUE;
}

const char *json_string(const struct json *v)
{
	return json_kind(v) == JSON_STRING ? json_string_value(lower(v)) : NULL;
}

size_t json_size(const struct json *v)
{
	switch (json_kind(v)) {
	case JSON_ARRAY: return json_array_size(lower(v));
	case JSON_OBJECT: return json_object_size(lower(v));
	default: return 0;
	}
}

struct json *json_at(const struct json *v, size_t i)
{
	return json_kind(v) == JSON_ARRAY ? raise_(json_array_get(lower(v), i)) : NULL;
}

struct json *json_member(const struct json *v, const char *key)
{
	return json_kind(v) == JSON_OBJECT ? raise_(json_object_get(lower(v), key)) : NULL;
}

struct json_iter *json_first(struct json *object)
{
	return json_object_iter(lower(object));
}

struct json_iter *json_next(struct json *object, struct json_iter *it)
{
	return json_object_iter_next(lower(object), it);
}

const char *json_iter_key(struct json_iter *it)
{
	return json_object_iter_key(it);
}

struct json *json_iter_value(struct json_iter *it)
{
	return raise_(json_object_iter_value(it));
}

/* --- building ------------------------------------------------------------------------------- */

int json_set(struct json *object, const char *key, struct json *value)
{
	if (!value)
		return -ENOMEM;
	if (json_kind(object) != JSON_OBJECT || value == object || !utf8_valid(key, strlen(key))) {
		json_put(value);
		return -EINVAL;
	}
	return json_object_set_new(lower(object), key, lower(value)) < 0 ? -ENOMEM : 0;
}

int json_append(struct json *array, struct json *value)
{
	if (!value)
		return -ENOMEM;
	if (json_kind(array) != JSON_ARRAY || value == array) {
		json_put(value);
		return -EINVAL;
	}
	return json_array_append_new(lower(array), lower(value)) < 0 ? -ENOMEM : 0;
}

void json_remove(struct json *object, const char *key)
{
	json_object_del(lower(object), key);
}

char *json_dump(const struct json *v, bool pretty)
{
	size_t flags =
		JSON_ENSURE_ASCII | JSON_ENCODE_ANY | (pretty ? JSON_INDENT(2) : JSON_COMPACT);

	char *text;

	begin_to_notice();
	text = v ? json_dumps(lower(v), flags) : NULL;
	if (out_of_memory) {
		free(text);
		text = NULL;
	}
	return text;
}
