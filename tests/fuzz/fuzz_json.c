/* SPDX-License-Identifier: Apache-2.0 */
/* What parses as JSON is written and read again as the same value. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t len)
{
	/* Answers are pure ASCII. */
	for (size_t i = 0; i < len; i++) {
		if ((uint8_t)text[i] >= 0x80)
			abort();
	}
}

static void check_again(const char *text, const char *compact)
{
	AUTO_JSON struct json *again = json_parse(text, strlen(text), NULL);
	AUTO_FREE char *compact_again = again ? json_dump(again, false) : NULL;

	check_text(text, strlen(text));
	if (!compact_again || strcmp(compact, compact_again))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = ERR_INIT;
	AUTO_JSON struct json *value = json_parse((const char *)data, size, &err);
	AUTO_JSON struct json *copy = value ? json_copy(value) : NULL;
	AUTO_FREE char *compact = NULL, *pretty = NULL;

	if (!value) {
		if (!err_count(&err))
			abort();
		return 0;
	}
	compact = json_dump(copy, false);
	pretty = json_dump(value, true);
	if (!compact || !pretty)
		abort();
	check_again(compact, compact);
	check_again(pretty, compact);
	return 0;
}
