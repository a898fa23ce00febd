/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config_table.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>

/* Enums are read and written as 32-bit numbers. */
enum probe { PROBE };
static_assert(sizeof(enum probe) == sizeof(uint32_t), "enums are 32 bits wide");

static const void *at(const void *obj, size_t offset)
{
	return (const char *)obj + offset;
}

static void *at_mut(void *obj, size_t offset)
{
	return (char *)obj + offset;
}

static void *load_ptr(const void *obj, size_t offset)
{
	void *p;

	memcpy(&p, at(obj, offset), sizeof(p));
	return p;
}

static void store_ptr(void *obj, size_t offset, void *p)
{
	memcpy(at_mut(obj, offset), &p, sizeof(p));
}

static bool has_value(const struct config_field *field, const void *obj)
{
	return !field->has_offset || *(const bool *)at(obj, field->has_offset);
}

static size_t number_size(enum config_kind kind)
{
	switch (kind) {
	case CONFIG_BOOL: return sizeof(bool);
	case CONFIG_U8: return 1;
	case CONFIG_U16: return 2;
	case CONFIG_U64: return 8;
	default: return 4; /* U32, FD, ENUM */
	}
}

static uint64_t number_load(enum config_kind kind, const void *p)
{
	switch (kind) {
	case CONFIG_BOOL: return *(const bool *)p;
	case CONFIG_U8: return *(const uint8_t *)p;
	case CONFIG_U16: return *(const uint16_t *)p;
	case CONFIG_U64: return *(const uint64_t *)p;
	case CONFIG_FD: return (uint64_t)(int64_t) * (const int *)p;
	default: {
		uint32_t v; /* an enum's type may be any of 32 bits */

		memcpy(&v, p, sizeof(v));
		return v;
	}
	}
}

static void number_store(enum config_kind kind, void *p, uint64_t value)
{
	switch (kind) {
	case CONFIG_BOOL: *(bool *)p = value != 0; break;
	case CONFIG_U8: *(uint8_t *)p = (uint8_t)value; break;
	case CONFIG_U16: *(uint16_t *)p = (uint16_t)value; break;
	case CONFIG_U64: *(uint64_t *)p = value; break;
	case CONFIG_FD: *(int *)p = (int)(int64_t)value; break;
	default: {
		uint32_t v = (uint32_t)value;

		memcpy(p, &v, sizeof(v));
	}
	}
}

uint64_t config_field_get(const struct config_field *field, const void *obj)
{
	return number_load(field->kind, at(obj, field->offset));
}

void config_field_set(const struct config_field *field, void *obj, uint64_t value)
{
	number_store(field->kind, at_mut(obj, field->offset), value);
	if (field->has_offset)
		*(bool *)at_mut(obj, field->has_offset) = true;
}

uint64_t config_field_max(const struct config_field *field)
{
	enum config_kind kind = field->kind == CONFIG_NUMBER_LIST ? field->element : field->kind;

	if (field->max)
		return field->max;
	switch (kind) {
	case CONFIG_U8: return UINT8_MAX;
	case CONFIG_U16: return UINT16_MAX;
	case CONFIG_U32: return UINT32_MAX;
	case CONFIG_FD: return INT32_MAX;
	default: return UINT64_MAX;
	}
}

const char *config_field_key(const struct config_field *field)
{
	if (field->flags & CF_NO_KEY || field->key_prefix)
		return NULL;
	return field->key ? field->key : field->name;
}

/* --- lists ------------------------------------------------------------------------------------ */

size_t config_list_count(const struct config_field *field, const void *obj)
{
	return *(const size_t *)at(obj, field->count_offset);
}

void *config_list_data(const struct config_field *field, const void *obj)
{
	return load_ptr(obj, field->offset);
}

size_t config_element_size(const struct config_field *field)
{
	switch (field->kind) {
	case CONFIG_NUMBER_LIST: return number_size(field->element);
	case CONFIG_OBJECT_LIST: return field->table->size;
	default: return sizeof(char *);
	}
}

size_t config_list_max(const struct config_field *field)
{
	return field->kind == CONFIG_OBJECT_LIST && field->max ? field->max : CONFIG_LIST_MAX;
}

void *config_objects_at(const struct config_field *field, void *obj, size_t *ret_count)
{
	void *p;

	*ret_count = 0;
	switch (field->kind) {
	case CONFIG_OBJECT: *ret_count = 1; return at_mut(obj, field->offset);
	case CONFIG_OBJECT_PTR:
		p = load_ptr(obj, field->offset);
		*ret_count = p ? 1 : 0;
		return p;
	case CONFIG_OBJECT_LIST:
		*ret_count = config_list_count(field, obj);
		return load_ptr(obj, field->offset);
	default: return NULL;
	}
}

void *config_list_grow(const struct config_field *field, void *obj)
{
	size_t count = config_list_count(field, obj);
	size_t size = config_element_size(field);
	char *data;

	if (count >= config_list_max(field))
		return NULL;
	/* Exactly one more, not the next power of two: the list may have been allocated elsewhere.
	 */
	data = reallocarray(load_ptr(obj, field->offset), count + 1, size);
	if (!data)
		return NULL;
	store_ptr(obj, field->offset, data);
	memset(data + count * size, 0, size);
	*(size_t *)at_mut(obj, field->count_offset) = count + 1;
	return data + count * size;
}

uint64_t config_list_number(const struct config_field *field, const void *obj, size_t i)
{
	const char *data = load_ptr(obj, field->offset);

	return number_load(field->element, data + i * number_size(field->element));
}

void config_list_set_number(const struct config_field *field, void *obj, size_t i, uint64_t value)
{
	char *data = load_ptr(obj, field->offset);

	number_store(field->element, data + i * number_size(field->element), value);
}

static void list_fini(const struct config_field *field, void *obj)
{
	size_t count = config_list_count(field, obj), size = config_element_size(field);
	char *data = load_ptr(obj, field->offset);

	for (size_t i = 0; i < count; i++) {
		if (field->kind == CONFIG_OBJECT_LIST)
			config_object_fini(field->table, data + i * size);
		else if (field->kind == CONFIG_STRING_LIST)
			free(((char **)(void *)data)[i]);
		else if (field->element == CONFIG_FD)
			fd_close((int *)(void *)data + i);
	}
	free(data);
	store_ptr(obj, field->offset, NULL);
	*(size_t *)at_mut(obj, field->count_offset) = 0;
}

/* --- objects ---------------------------------------------------------------------------------- */

static void field_fini(const struct config_field *field, void *obj)
{
	void *p;

	switch (field->kind) {
	case CONFIG_STRING:
		free(load_ptr(obj, field->offset));
		store_ptr(obj, field->offset, NULL);
		break;
	case CONFIG_OBJECT: config_object_fini(field->table, at_mut(obj, field->offset)); break;
	case CONFIG_OBJECT_PTR:
		p = load_ptr(obj, field->offset);
		if (p)
			config_object_fini(field->table, p);
		free(p);
		store_ptr(obj, field->offset, NULL);
		break;
	case CONFIG_NUMBER_LIST:
	case CONFIG_STRING_LIST:
	case CONFIG_OBJECT_LIST: list_fini(field, obj); break;
	case CONFIG_FD:
		/* All zero means that nothing is owned, and that includes descriptor 0. */
		if (has_value(field, obj))
			fd_close(at_mut(obj, field->offset));
		break;
	default: break;
	}
}

void config_object_fini(const struct config_table *table, void *obj)
{
	for (size_t i = 0; i < table->num_fields; i++)
		field_fini(&table->fields[i], obj);
	memset(obj, 0, table->size);
}

/* Defaults into a member that owns nothing. */
static int field_init(const struct config_field *field, void *obj)
{
	char *s;

	if (field->has_offset)
		*(bool *)at_mut(obj, field->has_offset) = false;
	switch (field->kind) {
	case CONFIG_OBJECT: return config_object_init(field->table, at_mut(obj, field->offset));
	case CONFIG_STRING:
		s = field->def_string ? strdup(field->def_string) : NULL;
		if (field->def_string && !s)
			return -ENOMEM;
		store_ptr(obj, field->offset, s);
		return 0;
	case CONFIG_FD: number_store(CONFIG_FD, at_mut(obj, field->offset), UINT64_MAX); return 0;
	case CONFIG_BOOL:
	case CONFIG_U8:
	case CONFIG_U16:
	case CONFIG_U32:
	case CONFIG_U64:
	case CONFIG_ENUM:
		number_store(field->kind, at_mut(obj, field->offset), field->def);
		return 0;
	default: return 0;
	}
}

int config_object_init(const struct config_table *table, void *obj)
{
	memset(obj, 0, table->size);
	for (size_t i = 0; i < table->num_fields; i++) {
		int r = field_init(&table->fields[i], obj);

		if (r < 0) {
			config_object_fini(table, obj);
			return r;
		}
	}
	return 0;
}

int config_field_reset(const struct config_field *field, void *obj)
{
	field_fini(field, obj);
	return field_init(field, obj);
}

static int fd_copy(int from, int *ret_to)
{
	int fd = from >= 0 ? fd_dup(from) : -1;

	*ret_to = fd >= 0 ? fd : -1;
	return from >= 0 && fd < 0 ? fd : 0;
}

static int element_copy(const struct config_field *field, void *dst, const void *src)
{
	const char *text;
	char *s;

	switch (field->kind) {
	case CONFIG_OBJECT_LIST: return config_object_copy(field->table, dst, src);
	case CONFIG_STRING_LIST:
		text = load_ptr(src, 0);
		s = strdup(text);
		if (!s)
			return -ENOMEM;
		store_ptr(dst, 0, s);
		return 0;
	default:
		if (field->element == CONFIG_FD)
			return fd_copy(*(const int *)src, dst);
		memcpy(dst, src, config_element_size(field));
		return 0;
	}
}

static int list_copy(const struct config_field *field, void *dst, const void *src)
{
	size_t count = config_list_count(field, src), size = config_element_size(field);
	const char *data = load_ptr(src, field->offset);

	for (size_t i = 0; i < count; i++) {
		void *to = config_list_grow(field, dst);
		int r = to ? 0 : -ENOMEM;

		if (r == 0) {
			if (field->kind == CONFIG_NUMBER_LIST && field->element == CONFIG_FD)
				*(int *)to = -1;
			r = element_copy(field, to, data + i * size);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int field_copy(const struct config_field *field, void *dst, const void *src)
{
	const void *from;
	void *p;
	int fd, r;

	switch (field->kind) {
	case CONFIG_OBJECT:
		return config_object_copy(field->table, at_mut(dst, field->offset),
					  at(src, field->offset));
	case CONFIG_OBJECT_PTR:
		from = load_ptr(src, field->offset);
		if (!from)
			return 0;
		p = calloc(1, field->table->size);
		if (!p)
			return -ENOMEM;
		store_ptr(dst, field->offset, p);
		return config_object_copy(field->table, p, from);
	case CONFIG_STRING:
		from = load_ptr(src, field->offset);
		p = from ? strdup(from) : NULL;
		store_ptr(dst, field->offset, p);
		return from && !p ? -ENOMEM : 0;
	case CONFIG_NUMBER_LIST:
	case CONFIG_STRING_LIST:
	case CONFIG_OBJECT_LIST: return list_copy(field, dst, src);
	case CONFIG_IGNORED: return 0;
	case CONFIG_FD:
		r = fd_copy(has_value(field, src) ? *(const int *)at(src, field->offset) : -1, &fd);
		number_store(CONFIG_FD, at_mut(dst, field->offset), (uint64_t)(int64_t)fd);
		if (r < 0)
			return r;
		break;
	default:
		number_store(field->kind, at_mut(dst, field->offset), config_field_get(field, src));
	}
	if (field->has_offset)
		*(bool *)at_mut(dst, field->has_offset) = has_value(field, src);
	return 0;
}

int config_object_copy(const struct config_table *table, void *dst, const void *src)
{
	memset(dst, 0, table->size);
	for (size_t i = 0; i < table->num_fields; i++) {
		int r = field_copy(&table->fields[i], dst, src);

		if (r < 0) {
			config_object_fini(table, dst);
			return r;
		}
	}
	return 0;
}

bool config_field_is_default(const struct config_field *field, const void *obj)
{
	const char *s;
	const void *sub;

	if (field->has_offset)
		return !has_value(field, obj);
	switch (field->kind) {
	case CONFIG_STRING:
		s = load_ptr(obj, field->offset);
		if (!s || !field->def_string)
			return s == field->def_string;
		return strcmp(s, field->def_string) == 0;
	case CONFIG_OBJECT:
		sub = at(obj, field->offset);
		for (size_t i = 0; i < field->table->num_fields; i++) {
			if (!config_field_is_default(&field->table->fields[i], sub))
				return false;
		}
		return true;
	case CONFIG_OBJECT_PTR: return !load_ptr(obj, field->offset);
	case CONFIG_NUMBER_LIST:
	case CONFIG_STRING_LIST:
	case CONFIG_OBJECT_LIST: return config_list_count(field, obj) == 0;
	case CONFIG_IGNORED: return true;
	default: return config_field_get(field, obj) == field->def;
	}
}
