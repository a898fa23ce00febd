/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/config/config_option.h"

#include "vmm/config/config_value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int no_memory(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory while reading an option");
}

static bool is_key(const struct config_field *field, const char *key)
{
	const char *own = config_field_key(field);

	return (own && strcmp(own, key) == 0) ||
	       (field->key_alias && strcmp(field->key_alias, key) == 0);
}

/* What is left of the key within the sub-table, or NULL when it cannot be there. */
static const char *sub_key(const struct config_field *field, const char *key)
{
	size_t n = field->key_prefix ? strlen(field->key_prefix) : 0;

	return field->key_prefix && strncmp(key, field->key_prefix, n) == 0 ? key + n : NULL;
}

/* The field of this table through which the key is reached. */
static const struct config_field *find_key(const struct config_table *table, const char *key)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		const struct config_field *field = &table->fields[i];
		const char *rest = sub_key(field, key);

		if (is_key(field, key) || (rest && find_key(field->table, rest)))
			return field;
	}
	return NULL;
}

/* An embedded or optional object, which comes into being when it has to. */
static void *sub_object(const struct config_field *field, void *obj)
{
	void *place = (char *)obj + field->offset;
	AUTO_FREE void *sub = NULL;

	if (field->kind == CONFIG_OBJECT)
		return place;
	if (!*(void **)place) {
		sub = calloc(1, field->table->size ? field->table->size : 1);
		if (!sub || config_object_init(field->table, sub) < 0)
			return NULL;
		*(void **)place = TAKE(sub);
	}
	return *(void **)place;
}

static size_t list_keys(const struct config_table *table, const char *prefix, char *buf, size_t len,
			size_t used)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		const struct config_field *field = &table->fields[i];
		const char *key = config_field_key(field);
		char deeper[32];
		int n;

		if (field->key_prefix) {
			snprintf(deeper, sizeof(deeper), "%s%s", prefix, field->key_prefix);
			used = list_keys(field->table, deeper, buf, len, used);
		} else if (key) {
			n = snprintf(buf + used, len - used, "%s%s%s", used ? ", " : "", prefix,
				     key);
			if (n < 0 || (size_t)n >= len - used)
				break;
			used += (size_t)n;
		}
	}
	return used;
}

static int unknown_key(const struct config_table *table, const char *key, struct err *err)
{
	char quoted[CONFIG_QUOTE_MAX], known[700] = "", words[64] = "";
	size_t used = 0;

	if (table->bare && table->bare->kind == CONFIG_ENUM) {
		config_enum_list(table->bare->values, true, words, sizeof(words));
		used = (size_t)snprintf(known, sizeof(known), "%s", words);
	}
	list_keys(table, "", known, sizeof(known), used);
	return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "unknown key \"%s\"; known are: %s",
			    config_quote(key, quoted), known);
}

/* Returns 0, or negative errno with err set; the key exists. */
static int set_key(const struct config_table *table, void *obj, const char *key, const char *value,
		   const char *where, struct err *err)
{
	const struct config_field *field = find_key(table, key);
	void *sub;
	int r;

	if (!is_key(field, key)) {
		sub = sub_object(field, obj);
		return sub ? set_key(field->table, sub, sub_key(field, key), value, where, err)
			   : no_memory(err);
	}
	r = config_value_set(field, obj, value, where, err);
	if (r == 0 && field->flags & CF_IMPLIES)
		config_field_set(table->bare, obj, field->implied);
	return r;
}

static int set_bare(const struct config_table *table, void *obj, const char *word, struct err *err)
{
	const struct config_field *bare = table->bare;

	if (bare && bare->kind == CONFIG_ENUM) {
		for (const struct config_enum_value *v = bare->values; v->name; v++) {
			if (v->key && strcasecmp(v->key, word) == 0) {
				config_field_set(bare, obj, v->value);
				return 0;
			}
		}
	}
	if (find_key(table, word))
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: needs a value, %s=...",
				    word, word);
	return unknown_key(table, word, err);
}

/* One `key=value` or word. */
static int set_piece(const struct config_table *table, void *obj, char *piece, uint64_t *seen,
		     struct err *err)
{
	char *equals = strchr(piece, '=');
	const struct config_field *field;
	uint64_t bit;
	int r;

	if (!equals)
		return set_bare(table, obj, piece, err);
	*equals = '\0';
	field = find_key(table, piece);
	if (!field)
		return unknown_key(table, piece, err);
	r = set_key(table, obj, piece, equals + 1, piece, err);
	bit = (uint64_t)1 << (field - table->fields);
	*seen = equals[1] ? *seen | bit : *seen & ~bit;
	return r;
}

static int check_required(const struct config_table *table, uint64_t seen, struct err *err)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		const struct config_field *field = &table->fields[i];

		if (field->flags & CF_REQUIRED_OPTION && !(seen >> i & 1))
			return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s= is missing",
					    config_field_key(field));
	}
	return 0;
}

/* Whether the text is a bare string as a whole: it starts with no known key. */
static bool is_bare_string(const struct config_table *table, const char *text)
{
	size_t n = strcspn(text, "=");
	char key[32];

	if (!table->bare || table->bare->kind != CONFIG_STRING || !*text)
		return false;
	if (!text[n] || n >= sizeof(key))
		return true;
	memcpy(key, text, n);
	key[n] = '\0';
	return !find_key(table, key);
}

static int parse_into(const struct config_table *table, const char *text, void *obj,
		      struct err *err)
{
	const char *pos = text && *text ? text : NULL;
	uint64_t seen = 0;
	int r = 0;

	if (pos && is_bare_string(table, text))
		return config_value_set(table->bare, obj, text, "path", err);
	while (r == 0 && pos) {
		AUTO_FREE char *piece = NULL;

		r = config_cut(&pos, ',', &piece, err);
		if (r == 0)
			r = set_piece(table, obj, piece, &seen, err);
	}
	if (r == 0)
		r = check_required(table, seen, err);
	if (r == 0 && table->finish_option)
		r = table->finish_option(obj, seen, err);
	if (r == 0 && table->finish)
		r = table->finish(obj, err);
	return r;
}

int config_parse_option(const struct config_table *table, const char *text, void *obj,
			struct err *err)
{
	int r = config_object_init(table, obj);

	if (r < 0)
		return no_memory(err);
	r = parse_into(table, text, obj, err);
	if (r < 0)
		config_object_fini(table, obj);
	return r;
}

/* --- the process's own ------------------------------------------------------------------------ */

static const struct config_field endpoint_rows[] = {
	{.name = "path",
	 .kind = CONFIG_STRING,
	 .offset = offsetof(struct endpoint_option, path),
	 .help = "path of the socket or file"},
	{.name = "fd",
	 .kind = CONFIG_STRING,
	 .offset = offsetof(struct endpoint_option, fd),
	 .max = 255,
	 .help = "an inherited descriptor"},
};

const struct config_table endpoint_option_table = {
	.name = "endpoint",
	.size = sizeof(struct endpoint_option),
	.fields = endpoint_rows,
	.num_fields = ARRAY_SIZE(endpoint_rows),
	.bare = &endpoint_rows[0],
};
