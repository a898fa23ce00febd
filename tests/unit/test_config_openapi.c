/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables against the OpenAPI documents that clients are generated from, Cloud Hypervisor's and
 * ours: every property there has a row here with the same default, and nothing is required here
 * that is optional there. What ours requires is required here, too. A document is read by its
 * indentation. Without the other VMM's (CORACLE_OPENAPI, or the reference beside the tree) its test
 * is skipped.
 */
#include "tests/unit/config_text.h"

#include <ctype.h>

#define OWN "packaging/openapi/coracle.yaml"

static char *document;
static bool document_is_ours;

static const char *reference(void)
{
	const char *path = getenv("CORACLE_OPENAPI");

	return path ? path : "../shared/reference/cloud-hypervisor-openapi.yaml";
}

static char *read_document(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text;
	size_t n;

	if (!f)
		return NULL;
	text = calloc(1, MIB);
	assert_non_null(text);
	n = fread(text, 1, MIB - 1, f);
	fclose(f);
	assert_in_range(n, 1, MIB - 2);
	return text;
}

/* The line behind this one; NULL at the end. */
static const char *next_line(const char *line)
{
	const char *end = strchr(line, '\n');

	return end && end[1] ? end + 1 : NULL;
}

static size_t indent(const char *line)
{
	return strspn(line, " ");
}

/* The line `key:` with that indentation, before the text leaves the block; NULL when absent. */
static const char *find_line(const char *block, size_t depth, const char *key)
{
	size_t n = strlen(key);

	for (const char *l = block; l && (indent(l) >= depth || l[indent(l)] == '\n');
	     l = next_line(l)) {
		if (indent(l) == depth && strncmp(l + depth, key, n) == 0 && l[depth + n] == ':')
			return l;
	}
	return NULL;
}

static const char *find_schema(const char *name)
{
	const char *schemas = strstr(document, "\n  schemas:\n");

	assert_non_null(schemas);
	return find_line(next_line(schemas + 1), 4, name);
}

static const struct config_field *find_row(const struct config_table *table, const char *name)
{
	for (size_t i = 0; i < table->num_fields; i++) {
		const struct config_field *f = &table->fields[i];

		if ((f->name && !strcmp(f->name, name)) || (f->alias && !strcmp(f->alias, name)))
			return f;
	}
	return NULL;
}

static bool is_required(const char *schema, const char *name)
{
	const char *l = find_line(next_line(schema), 6, "required");

	for (l = l ? next_line(l) : NULL; l && indent(l) == 8; l = next_line(l)) {
		if (strncmp(l + 8, "- ", 2) == 0 && strncmp(l + 10, name, strlen(name)) == 0 &&
		    isspace((unsigned char)l[10 + strlen(name)]))
			return true;
	}
	return false;
}

/* Whether the document's default, where it has one, is the row's. */
static void check_default(const struct config_table *table, const struct config_field *row,
			  const char *property)
{
	const char *l = find_line(next_line(property), 10, "default");
	const char *value = l ? strchr(l, ':') + 2 : NULL;

	if (!value)
		return;
	if (row->kind == CONFIG_BOOL)
		assert_int_equal(strncmp(value, "true", 4) == 0, row->def);
	else if (row->kind >= CONFIG_U8 && row->kind <= CONFIG_U64)
		assert_int_equal(strtoull(value, NULL, 10), row->def);
	else if (row->kind == CONFIG_ENUM)
		for (const struct config_enum_value *v = row->values; v->name; v++) {
			if (v->value == row->def && !strstr(value, v->name))
				fail_msg("%s.%s: default %s", table->name, row->name, v->name);
		}
}

/* That VMM's code demands a topology's parts, its document does not. */
static void check_required(const struct config_table *table, const struct config_field *row,
			   const char *schema)
{
	bool here = row->flags & CF_REQUIRED, there = is_required(schema, row->name);

	if (here && !there && (document_is_ours || strcmp(table->name, "CpuTopology") != 0))
		fail_msg("%s.%s is required here only", table->name, row->name);
	if (there && !here && document_is_ours)
		fail_msg("%s.%s is required in the document only", table->name, row->name);
}

static void check_table(const struct config_table *table)
{
	const char *schema = find_schema(table->name);
	const char *l = schema ? find_line(next_line(schema), 6, "properties") : NULL;

	for (l = l ? next_line(l) : NULL; l && indent(l) >= 8; l = next_line(l)) {
		const struct config_field *row;
		char name[64];

		if (indent(l) != 8)
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(l + 8, ":"), l + 8);
		row = find_row(table, name);
		if (!row)
			fail_msg("%s has no row %s", table->name, name);
		else
			check_default(table, row, l);
	}
	for (size_t i = 0; i < table->num_fields; i++) {
		const struct config_field *f = &table->fields[i];

		if (schema && f->name)
			check_required(table, f, schema);
		if (f->table)
			check_table(f->table);
	}
}

static void each_property_has_its_row(void **state)
{
	document = read_document(reference());
	if (!document)
		skip();
	check_table(&vm_config_table);
	free(document);
}

static void each_property_of_our_document_has_its_row(void **state)
{
	document = read_document(OWN);
	assert_non_null(document);
	document_is_ours = true;
	check_table(&vm_config_table);
	document_is_ours = false;
	free(document);
}

static void schemas_are_found(void **state)
{
	document = read_document(OWN);
	assert_non_null(document);
	assert_non_null(find_schema("DiskConfig"));
	assert_null(find_schema("NoSuchConfig"));
	assert_true(is_required(find_schema("CpusConfig"), "max_vcpus"));
	assert_false(is_required(find_schema("CpusConfig"), "topology"));
	free(document);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(schemas_are_found),
		cmocka_unit_test(each_property_has_its_row),
		cmocka_unit_test(each_property_of_our_document_has_its_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
