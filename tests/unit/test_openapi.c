/* SPDX-License-Identifier: Apache-2.0 */
/* The published API document says the same as the tables that read configurations. */
#include "vmm/config/config_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define DOCUMENT "packaging/openapi/coracle.yaml"
#define MAX_SIZE (1024 * 1024)

static char *document;

static int load(void **state)
{
	FILE *f = fopen(DOCUMENT, "r");
	size_t n;

	if (!f)
		return -1;
	document = malloc(MAX_SIZE);
	assert_non_null(document);
	n = fread(document, 1, MAX_SIZE - 1, f);
	document[n] = '\0';
	fclose(f);
	return 0;
}

static int unload(void **state)
{
	free(document);
	return 0;
}

/* The lines below `key:` at `indent` within [from, to), as far as they are indented more. */
static bool find_block(const char *from, const char *to, int indent, const char *key,
		       const char **ret_from, const char **ret_to)
{
	char line[96];
	const char *at;

	snprintf(line, sizeof(line), "\n%*s%s:\n", indent, "", key);
	at = strstr(from, line);
	if (!at || at >= to)
		return false;
	*ret_from = at + strlen(line) - 1;
	for (at = *ret_from; at < to; at = strchr(at + 1, '\n')) {
		if (!at || !at[1])
			break;
		if (at[1] != '\n' && (int)strspn(at + 1, " ") <= indent)
			break;
	}
	*ret_to = at && at < to ? at + 1 : to;
	return true;
}

static bool contains(const char *from, const char *to, const char *text)
{
	const char *at = strstr(from, text);

	return at && at < to;
}

static void check_field(const char *schema, const char *from, const char *to, struct json *field)
{
	const char *name = json_string(json_member(field, "name"));
	struct json *values = json_member(field, "enum");
	const char *begin, *end;

	if (!name)
		return;
	if (!find_block(from, to, 8, name, &begin, &end))
		fail_msg("%s.%s is not in the document", schema, name);
	if (contains(begin, end, "x-unsupported: true") != !!json_member(field, "unsupported"))
		fail_msg("%s.%s: document and table disagree on x-unsupported", schema, name);
	for (size_t i = 0; i < json_size(values) && contains(begin, end, "enum: ["); i++) {
		if (!contains(begin, end, json_string(json_at(values, i))))
			fail_msg("%s.%s lacks %s", schema, name, json_string(json_at(values, i)));
	}
}

static void check_table(struct json *table)
{
	const char *schema = json_string(json_member(table, "name"));
	struct json *fields = json_member(table, "fields");
	const char *from, *to;

	if (!find_block(document, document + strlen(document), 4, schema, &from, &to))
		fail_msg("schema %s is not in the document", schema);
	for (size_t i = 0; i < json_size(fields); i++) {
		struct json *field = json_at(fields, i);
		struct json *nested = json_member(field, "schema");

		check_field(schema, from, to, field);
		if (nested)
			check_table(nested);
	}
}

static void document_describes_every_member_of_a_configuration(void **state)
{
	AUTO_JSON struct json *tables = config_table_describe(&vm_config_table);

	assert_non_null(tables);
	check_table(tables);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(document_describes_every_member_of_a_configuration),
	};

	return cmocka_run_group_tests(tests, load, unload);
}
