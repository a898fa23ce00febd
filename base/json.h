/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON values (jansson inside). Integers are 64-bit signed, as every client's language can hold
 * them. Output is pure ASCII: other characters leave as \uXXXX (clients decode the answer in
 * pieces). Values are reference counted; functions that put a value into another one take over the
 * caller's reference, also when they fail. Not locked: a value belongs to one thread at a time.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/err.h"

struct json;

/* jansson has functions of these names too: to the linker ours are called differently. */
#define JSON_SYMBOL(name) __asm__("coracle_" #name)

enum json_kind { JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/*
 * Parses exactly one value out of buf (not terminated, may hold anything). Refused with a message
 * that says line and column: bad UTF-8, trailing bytes, duplicate keys, nesting over 64, more than
 * 131,072 values or 16,384 arrays and objects, integers beyond int64. Returns a new value or NULL
 * with err set (ERR_BAD_REQUEST; -ENOMEM is ERR_INTERNAL).
 */
struct json *json_parse(const char *buf, size_t len, struct err *err);

struct json *json_get_ref(struct json *v); /* another reference to v; NULL stays NULL */
void json_put(struct json *v);		   /* drops a reference; NULL is fine */

static inline void json_put_ptr_(struct json **v)
{
	json_put(*v);
}
#define AUTO_JSON CLEANUP(json_put_ptr_)

enum json_kind json_kind(const struct json *v);	 /* NULL counts as JSON_NULL */
const char *json_kind_name(enum json_kind kind); /* "a string", "an array", ... for messages */

/* New values; NULL when out of memory. json_new_string() also when s is not UTF-8. json_new_uint()
 * clips at INT64_MAX. */
struct json *json_new_object(void);
struct json *json_new_array(void);
struct json *json_new_string(const char *s);
struct json *json_new_int(int64_t v);
struct json *json_new_uint(uint64_t v);
struct json *json_new_bool(bool v);
struct json *json_new_null(void);

/* Values' content; 0, false or NULL when v is of another kind. */
int64_t json_int(const struct json *v);
double json_real(const struct json *v) JSON_SYMBOL(json_real);
bool json_bool(const struct json *v);
/* Valid while v lives; may hold no NUL inside. */
const char *json_string(const struct json *v) JSON_SYMBOL(json_string);
size_t json_size(const struct json *v);				 /* members of an object or array */
struct json *json_at(const struct json *v, size_t i);		 /* borrowed; NULL past the end */
struct json *json_member(const struct json *v, const char *key); /* borrowed; NULL when absent */

/* Put a value (taken over; NULL is -ENOMEM). Return 0 or negative errno. */
int json_set(struct json *object, const char *key, struct json *value);
int json_append(struct json *array, struct json *value);

/* Removes a member. Absent is fine. */
void json_remove(struct json *object, const char *key);

/* Walk an object in order of insertion: for (it = json_first(o); it; it = json_next(o, it)). */
struct json_iter;
struct json_iter *json_first(struct json *object);
struct json_iter *json_next(struct json *object, struct json_iter *it);
const char *json_iter_key(struct json_iter *it);
struct json *json_iter_value(struct json_iter *it); /* borrowed */

/* A deep copy; NULL when out of memory. */
struct json *json_copy(const struct json *v) JSON_SYMBOL(json_copy);

/* Text of v, malloced, NUL-terminated, in order of insertion; pretty = indented by two spaces. NULL
 * when out of memory. */
char *json_dump(const struct json *v, bool pretty);

#endif
