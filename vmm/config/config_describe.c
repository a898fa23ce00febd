/* SPDX-License-Identifier: Apache-2.0 */
/* Tables as JSON, and as help for the command line. */
#include "vmm/config/config_option.h"

#include <stdio.h>
#include <string.h>

static const char *kind_name(enum config_kind kind)
{
	switch (kind) {
	case CONFIG_BOOL: return "boolean";
	case CONFIG_ENUM:
	case CONFIG_STRING: return "string";
	case CONFIG_OBJECT:
	case CONFIG_OBJECT_PTR: return "object";
	case CONFIG_NUMBER_LIST:
	case CONFIG_STRING_LIST:
	case CONFIG_OBJECT_LIST: return "array";
	case CONFIG_IGNORED: return "ignored";
	default: return "integer";
	}
}

static bool is_number(const struct config_field *field)
{
	return field->kind >= CONFIG_U8 && field->kind <= CONFIG_U64;
}

static const char *enum_default(const struct config_field *field)
{
	for (const struct config_enum_value *v = field->values; v->name; v++) {
		if (v->value == field->def)
			return v->name;
	}
	return "";
}

/* The value that silence gives, or NULL when silence means absence. */
static struct json *describe_default(const struct config_field *field)
{
	if (field->has_offset || field->flags & CF_REQUIRED)
		return NULL;
	switch (field->kind) {
	case CONFIG_BOOL: return json_new_bool(field->def);
	case CONFIG_ENUM: return json_new_string(enum_default(field));
	case CONFIG_STRING: return field->def_string ? json_new_string(field->def_string) : NULL;
	default: return is_number(field) ? json_new_uint(field->def) : NULL;
	}
}

static struct json *describe_enum(const struct config_field *field)
{
	AUTO_JSON struct json *names = json_new_array();

	for (const struct config_enum_value *v = field->values; names && v->name; v++) {
		if (json_append(names, json_new_string(v->name)) < 0)
			return NULL;
	}
	return TAKE(names);
}

static int set_text(struct json *json, const char *key, const char *text)
{
	return text ? json_set(json, key, json_new_string(text)) : 0;
}

static int describe_shape(const struct config_field *field, struct json *json)
{
	struct json *def = describe_default(field);
	int r = def ? json_set(json, "default", def) : 0;

	if (r == 0 && field->kind == CONFIG_ENUM)
		r = json_set(json, "enum", describe_enum(field));
	if (r == 0 && is_number(field)) {
		r = json_set(json, "minimum", json_new_uint(field->min));
		if (r == 0)
			r = json_set(json, "maximum", json_new_uint(config_field_max(field)));
	}
	if (r == 0 && field->kind == CONFIG_NUMBER_LIST)
		r = set_text(json, "items", "integer");
	if (r == 0 && field->kind == CONFIG_STRING_LIST)
		r = set_text(json, "items", "string");
	if (r == 0 && field->kind == CONFIG_OBJECT_LIST)
		r = set_text(json, "items", "object");
	if (r == 0 && field->table)
		r = json_set(json, "schema", config_table_describe(field->table));
	return r;
}

static struct json *describe_field(const struct config_field *field)
{
	AUTO_JSON struct json *json = json_new_object();

	if (!json || set_text(json, "name", field->name) < 0 ||
	    set_text(json, "alias", field->alias) < 0 ||
	    set_text(json, "key", config_field_key(field)) < 0 ||
	    set_text(json, "key_prefix", field->key_prefix) < 0 ||
	    set_text(json, "kind", kind_name(field->kind)) < 0 ||
	    json_set(json, "required", json_new_bool(field->flags & CF_REQUIRED)) < 0 ||
	    describe_shape(field, json) < 0 || set_text(json, "unsupported", field->unbuilt) < 0 ||
	    set_text(json, "help", field->help) < 0)
		return NULL;
	return TAKE(json);
}

struct json *config_table_describe(const struct config_table *table)
{
	AUTO_JSON struct json *json = json_new_object();
	AUTO_JSON struct json *fields = json_new_array();

	for (size_t i = 0; fields && i < table->num_fields; i++) {
		if (json_append(fields, describe_field(&table->fields[i])) < 0)
			return NULL;
	}
	if (!json || !fields || set_text(json, "name", table->name) < 0 ||
	    json_set(json, "strict", json_new_bool(table->strict)) < 0 ||
	    json_set(json, "fields", TAKE(fields)) < 0)
		return NULL;
	return TAKE(json);
}

/* --- help ------------------------------------------------------------------------------------- */

static const char *value_word(const struct config_field *field)
{
	if (field->flags & CF_SIZE)
		return "<size>";
	switch (field->kind) {
	case CONFIG_BOOL: return "on|off";
	case CONFIG_FD: return "<fd>";
	case CONFIG_NUMBER_LIST: return "[<n>,..]";
	case CONFIG_STRING_LIST: return "[<text>,..]";
	case CONFIG_OBJECT_LIST:
		return field->flags & CF_ITEMS ? "[<item>:..]" : "[<n>@[<n>,..],..]";
	case CONFIG_OBJECT_PTR: return "a:b:c:d";
	case CONFIG_OBJECT: return "<words>";
	case CONFIG_STRING:
	case CONFIG_IGNORED: return "<text>";
	default: return field->flags & CF_HEX ? "0x<n>" : "<n>";
	}
}

static void help_default(FILE *out, const struct config_field *field)
{
	const struct config_enum_value *v = field->values;

	if (field->has_offset || field->flags & CF_REQUIRED_OPTION)
		return;
	if (field->kind == CONFIG_BOOL)
		fprintf(out, " [%s]", field->def ? "on" : "off");
	else if (is_number(field) && field->flags & CF_SIZE && field->def >= MIB)
		fprintf(out, " [%lluM]", (unsigned long long)(field->def >> 20));
	else if (is_number(field) && field->def)
		fprintf(out, " [%llu]", (unsigned long long)field->def);
	else if (field->kind == CONFIG_STRING && field->def_string)
		fprintf(out, " [%s]", field->def_string);
	else if (field->kind == CONFIG_ENUM)
		for (; v->name; v++) {
			if (v->value == field->def && v->key)
				fprintf(out, " [%s]", v->key);
		}
}

static void help_rows(FILE *out, const struct config_table *table, const char *prefix)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		const struct config_field *field = &table->fields[i];
		const char *key = config_field_key(field);
		char deeper[32], words[128], left[160];

		if (field->key_prefix) {
			snprintf(deeper, sizeof(deeper), "%s%s", prefix, field->key_prefix);
			help_rows(out, field->table, deeper);
			continue;
		}
		if (!key && field != table->bare)
			continue;
		if (field->kind == CONFIG_ENUM) {
			config_enum_list(field->values, true, words, sizeof(words));
			for (char *p; (p = strstr(words, ", ")) != NULL;) {
				*p = '|';
				memmove(p + 1, p + 2, strlen(p + 2) + 1);
			}
		} else {
			snprintf(words, sizeof(words), "%s", value_word(field));
		}
		snprintf(left, sizeof(left), "%s%s%s%s", key ? prefix : "", key ? key : "",
			 key ? "=" : "", words);
		fprintf(out, "  %-34s %s", left, field->help ? field->help : "");
		help_default(out, field);
		fputc('\n', out);
	}
}

char *config_option_help(const struct config_table *table)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	bool failed;

	if (!out)
		return NULL;
	help_rows(out, table, "");
	failed = ferror(out);
	if (fclose(out) != 0 || failed) {
		free(text);
		return NULL;
	}
	return text;
}
