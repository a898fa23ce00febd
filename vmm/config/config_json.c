/* SPDX-License-Identifier: Apache-2.0 */
/* Objects from JSON and to JSON, driven by their tables. */
#include "vmm/config/config_table.h"

#include <errno.h>
#include <string.h>

static int parse_members(const struct config_table *table, const struct json *json, void *obj,
			 const struct config_path *path, struct err *err);

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory while reading the configuration");
}

static int wrong_kind(const struct config_path *path, const char *expected, const struct json *json,
		      struct err *err)
{
	char where[CONFIG_PATH_MAX];

	return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: expected %s, found %s",
			    config_path_format(path, where), expected,
			    json_kind_name(json_kind(json)));
}

static int parse_number(const struct config_field *field, const struct json *json,
			uint64_t *ret_value, const struct config_path *path, struct err *err)
{
	uint64_t max = MIN(config_field_max(field), (uint64_t)INT64_MAX);
	char where[CONFIG_PATH_MAX];
	int64_t value;

	if (json_kind(json) != JSON_INT)
		return wrong_kind(path, "an integer", json, err);
	value = json_int(json);
	if (value < 0 || (uint64_t)value < field->min || (uint64_t)value > max)
		return err_set_kind(err, ERR_BAD_REQUEST, -ERANGE,
				    "%s: %lld is not within %llu to %llu",
				    config_path_format(path, where), (long long)value,
				    (unsigned long long)field->min, (unsigned long long)max);
	*ret_value = (uint64_t)value;
	return 0;
}

/* A descriptor's number says nothing to us: the descriptor itself comes by another way. */
static int parse_fd(const struct json *json, uint64_t *ret_value, const struct config_path *path,
		    struct err *err)
{
	if (json_kind(json) != JSON_INT)
		return wrong_kind(path, "an integer", json, err);
	*ret_value = (uint64_t)(int64_t)-1;
	return 0;
}

static int parse_enum(const struct config_field *field, const struct json *json, void *obj,
		      const struct config_path *path, struct err *err)
{
	char where[CONFIG_PATH_MAX], quoted[CONFIG_QUOTE_MAX], names[256];
	const char *word = json_string(json);

	if (!word)
		return wrong_kind(path, "a string", json, err);
	for (const struct config_enum_value *v = field->values; v->name; v++) {
		if (strcmp(v->name, word) == 0) {
			config_field_set(field, obj, v->value);
			return 0;
		}
	}
	return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: \"%s\" is not one of %s",
			    config_path_format(path, where), config_quote(word, quoted),
			    config_enum_list(field->values, false, names, sizeof(names)));
}

static int parse_string(const struct config_field *field, const struct json *json, char **ret_s,
			const struct config_path *path, struct err *err)
{
	const char *text = json_string(json);
	char where[CONFIG_PATH_MAX];
	char *s;
	int r;

	if (!text)
		return wrong_kind(path, "a string", json, err);
	r = config_check_string(field, text, config_path_format(path, where), err);
	if (r < 0)
		return r;
	s = strdup(text);
	if (!s)
		return no_memory(err);
	free(*ret_s);
	*ret_s = s;
	return 0;
}

/* Into an object that is all zero. */
static int parse_object(const struct config_table *table, const struct json *json, void *obj,
			const struct config_path *path, struct err *err)
{
	int r;

	if (json_kind(json) != JSON_OBJECT)
		return wrong_kind(path, "an object", json, err);
	r = config_object_init(table, obj);
	if (r < 0)
		return no_memory(err);
	r = parse_members(table, json, obj, path, err);
	if (r == 0 && table->finish)
		r = table->finish(obj, err);
	if (r < 0)
		config_object_fini(table, obj);
	return r;
}

static int parse_element(const struct config_field *field, const struct json *json, void *obj,
			 void *element, const struct config_path *path, struct err *err)
{
	uint64_t value;
	int r;

	switch (field->kind) {
	case CONFIG_OBJECT_LIST: return parse_object(field->table, json, element, path, err);
	case CONFIG_STRING_LIST: return parse_string(field, json, element, path, err);
	default:
		r = field->element == CONFIG_FD ? parse_fd(json, &value, path, err)
						: parse_number(field, json, &value, path, err);
		if (r == 0)
			config_list_set_number(field, obj, path->index, value);
		return r;
	}
}

static int parse_list(const struct config_field *field, const struct json *json, void *obj,
		      const struct config_path *path, struct err *err)
{
	char where[CONFIG_PATH_MAX];
	size_t count = json_size(json);

	if (json_kind(json) != JSON_ARRAY)
		return wrong_kind(path, "an array", json, err);
	if (count > config_list_max(field))
		return err_set_kind(err, ERR_BAD_REQUEST, -E2BIG, "%s: has more than %zu elements",
				    config_path_format(path, where), config_list_max(field));
	for (size_t i = 0; i < count; i++) {
		struct config_path here = {.up = path, .index = i};
		void *element = config_list_grow(field, obj);
		int r;

		if (!element)
			return no_memory(err);
		if (field->kind == CONFIG_NUMBER_LIST && field->element == CONFIG_FD)
			*(int *)element = -1;
		r = parse_element(field, json_at(json, i), obj, element, &here, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_value(const struct config_field *field, const struct json *json, void *obj,
		       const struct config_path *path, struct err *err)
{
	void *place = (char *)obj + field->offset;
	AUTO_FREE void *sub = NULL;
	uint64_t value;
	int r;

	switch (field->kind) {
	case CONFIG_BOOL:
		if (json_kind(json) != JSON_BOOL)
			return wrong_kind(path, "a boolean", json, err);
		config_field_set(field, obj, json_bool(json));
		return 0;
	case CONFIG_U8:
	case CONFIG_U16:
	case CONFIG_U32:
	case CONFIG_U64:
	case CONFIG_FD:
		r = field->kind == CONFIG_FD ? parse_fd(json, &value, path, err)
					     : parse_number(field, json, &value, path, err);
		if (r == 0)
			config_field_set(field, obj, value);
		return r;
	case CONFIG_ENUM: return parse_enum(field, json, obj, path, err);
	case CONFIG_STRING: return parse_string(field, json, place, path, err);
	case CONFIG_OBJECT:
		config_object_fini(field->table, place);
		return parse_object(field->table, json, place, path, err);
	case CONFIG_OBJECT_PTR:
		sub = calloc(1, field->table->size);
		if (!sub)
			return no_memory(err);
		r = parse_object(field->table, json, sub, path, err);
		if (r == 0)
			*(void **)place = TAKE(sub);
		return r;
	case CONFIG_IGNORED: return 0;
	default: return parse_list(field, json, obj, path, err);
	}
}

static bool is_member(const struct config_table *table, const char *name)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		const struct config_field *f = &table->fields[i];

		if ((f->name && !strcmp(f->name, name)) || (f->alias && !strcmp(f->alias, name)))
			return true;
	}
	return false;
}

static int check_unknown(const struct config_table *table, const struct json *json,
			 const struct config_path *path, struct err *err)
{
	/* Walking changes nothing; only the walk's interface lacks the const. */
	struct json *object = (struct json *)(uintptr_t)json;
	char where[CONFIG_PATH_MAX], quoted[CONFIG_QUOTE_MAX];

	for (struct json_iter *it = json_first(object); it; it = json_next(object, it)) {
		if (!is_member(table, json_iter_key(it)))
			return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
					    "%s: unknown member \"%s\"",
					    config_path_format(path, where),
					    config_quote(json_iter_key(it), quoted));
	}
	return 0;
}

/* The member's value under either of its names, which the path is to end with; NULL when absent or
 * null. */
static int find_member(const struct config_field *field, const struct json *json,
		       const struct json **ret_value, struct config_path *path, struct err *err)
{
	const struct json *value = json_member(json, field->name);
	const struct json *other = field->alias ? json_member(json, field->alias) : NULL;
	char where[CONFIG_PATH_MAX];

	if (json_kind(value) != JSON_NULL && json_kind(other) != JSON_NULL)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: is also given by its other name, %s",
				    config_path_format(path, where), field->alias);
	if (json_kind(other) != JSON_NULL) {
		value = other;
		path->name = field->alias;
	}
	*ret_value = json_kind(value) == JSON_NULL ? NULL : value;
	return 0;
}

static int parse_members(const struct config_table *table, const struct json *json, void *obj,
			 const struct config_path *path, struct err *err)
{
	char where[CONFIG_PATH_MAX];
	int r = table->strict ? check_unknown(table, json, path, err) : 0;

	for (size_t i = 0; r == 0 && i < table->num_fields; i++) {
		const struct config_field *field = &table->fields[i];
		struct config_path here = {.up = path, .name = field->name};
		const struct json *value = NULL;

		if (!field->name)
			continue;
		r = find_member(field, json, &value, &here, err);
		if (r == 0 && value)
			r = parse_value(field, value, obj, &here, err);
		else if (r == 0 && field->flags & CF_REQUIRED)
			r = err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: is missing",
					 config_path_format(&here, where));
	}
	return r;
}

int vm_config_parse_object(const struct config_table *table, const struct json *json, void *obj,
			   struct err *err)
{
	memset(obj, 0, table->size);
	if (json_kind(json) != JSON_OBJECT)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: expected an object, found %s", table->name,
				    json_kind_name(json_kind(json)));
	return parse_object(table, json, obj, NULL, err);
}

/* --- writing ---------------------------------------------------------------------------------- */

static struct json *enum_to_json(const struct config_field *field, const void *obj)
{
	uint64_t value = config_field_get(field, obj);

	for (const struct config_enum_value *v = field->values; v->name; v++) {
		if (v->value == value)
			return json_new_string(v->name);
	}
	return json_new_null();
}

static struct json *list_to_json(const struct config_field *field, const void *obj)
{
	AUTO_JSON struct json *array = json_new_array();
	const char *data = config_list_data(field, obj);

	for (size_t i = 0; array && i < config_list_count(field, obj); i++) {
		const void *element = data + i * config_element_size(field);
		struct json *v;

		if (field->kind == CONFIG_OBJECT_LIST)
			v = config_object_to_json(field->table, element);
		else if (field->kind == CONFIG_STRING_LIST)
			v = json_new_string(*(char *const *)element);
		else
			v = json_new_int((int64_t)config_list_number(field, obj, i));
		if (json_append(array, v) < 0)
			return NULL;
	}
	return TAKE(array);
}

static struct json *field_to_json(const struct config_field *field, const void *obj)
{
	const void *place = (const char *)obj + field->offset;

	switch (field->kind) {
	case CONFIG_BOOL: return json_new_bool(config_field_get(field, obj));
	case CONFIG_FD: return json_new_int((int64_t)config_field_get(field, obj));
	case CONFIG_ENUM: return enum_to_json(field, obj);
	case CONFIG_STRING: return json_new_string(*(char *const *)place);
	case CONFIG_OBJECT: return config_object_to_json(field->table, place);
	case CONFIG_OBJECT_PTR: return config_object_to_json(field->table, *(void *const *)place);
	case CONFIG_NUMBER_LIST:
	case CONFIG_STRING_LIST:
	case CONFIG_OBJECT_LIST: return list_to_json(field, obj);
	default: return json_new_uint(config_field_get(field, obj));
	}
}

static bool is_written(const struct config_field *field, const void *obj)
{
	const void *place = (const char *)obj + field->offset;

	if (!field->name || field->kind == CONFIG_IGNORED)
		return false;
	if (field->has_offset)
		return *((const bool *)obj + field->has_offset);
	switch (field->kind) {
	case CONFIG_BOOL: return !(field->flags & CF_OMIT_FALSE) || *(const bool *)place;
	case CONFIG_STRING:
	case CONFIG_OBJECT_PTR: return *(void *const *)place != NULL;
	case CONFIG_NUMBER_LIST:
	case CONFIG_STRING_LIST:
	case CONFIG_OBJECT_LIST:
		return field->flags & CF_REQUIRED || config_list_count(field, obj) != 0;
	default: return true;
	}
}

struct json *config_object_to_json(const struct config_table *table, const void *obj)
{
	AUTO_JSON struct json *json = json_new_object();

	for (size_t i = 0; json && i < table->num_fields; i++) {
		const struct config_field *field = &table->fields[i];

		if (is_written(field, obj) &&
		    json_set(json, field->name, field_to_json(field, obj)) < 0)
			return NULL;
	}
	return TAKE(json);
}
