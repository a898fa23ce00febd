/* SPDX-License-Identifier: Apache-2.0 */
/* JSON for tests of the configuration, written with ' in place of ". */
#ifndef TESTS_UNIT_CONFIG_TEXT_H
#define TESTS_UNIT_CONFIG_TEXT_H

#include "vmm/config/config_table.h"
#include "vmm/config/vm_config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static inline struct json *json_from(const char *text)
{
	AUTO_FREE char *s = strdup(text);
	struct err err = ERR_INIT;
	struct json *json;

	assert_non_null(s);
	for (char *p = s; *p; p++)
		*p = *p == '\'' ? '"' : *p;
	json = json_parse(s, strlen(s), &err);
	if (!json)
		fail_msg("%s: %s", text, err_message(&err, 0));
	return json;
}

static inline int parse_text(const char *text, struct vm_config **ret_config, struct err *err)
{
	AUTO_JSON struct json *json = json_from(text);

	return vm_config_parse(json, ret_config, err);
}

static inline struct vm_config *config_from(const char *text)
{
	struct vm_config *config = NULL;
	struct err err = ERR_INIT;

	if (parse_text(text, &config, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err, 0));
	return config;
}

/* The JSON text of a configuration, malloced. */
static inline char *text_of(const struct vm_config *config)
{
	AUTO_JSON struct json *json = vm_config_to_json(config);
	char *text;

	assert_non_null(json);
	text = json_dump(json, false);
	assert_non_null(text);
	return text;
}

static inline void assert_message_has(const struct err *err, const char *part)
{
	char text[ERR_TEXT_MAX];

	err_format(err, text, sizeof(text));
	if (!strstr(text, part))
		fail_msg("\"%s\" is not in \"%s\"", part, text);
}

#endif
