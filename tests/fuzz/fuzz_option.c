/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines "name value" are options of the command line. Those that are accepted give a configuration
 * that JSON can carry.
 */
#include "base/json.h"
#include "tests/fuzz/given_fd.h"
#include "vmm/config/config_option.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void apply_endpoint(const char *value)
{
	struct endpoint_option option;

	if (config_parse_option(&endpoint_option_table, value, &option, NULL) >= 0)
		config_object_fini(&endpoint_option_table, &option);
}

static void apply(struct vm_config *config, char *line)
{
	char *value = strchr(line, ' ');
	const struct vm_option *option;
	struct err err = ERR_INIT;

	if (value)
		*value++ = '\0';
	option = vm_option_find(line);
	if (!option) {
		apply_endpoint(value);
		return;
	}
	if (option->place == VM_OPTION_FLAG)
		value = NULL;
	else if (!value)
		value = line + strlen(line);
	offer_fd();
	if (vm_option_apply(config, option, value, &err) < 0 && !err_count(&err))
		abort();
}

static void check_round_trip(const struct vm_config *config)
{
	AUTO_JSON struct json *json = vm_config_to_json(config), *again_json = NULL;
	AUTO_FREE char *text = json ? json_dump(json, false) : NULL, *again_text = NULL;
	AUTO_VM_CONFIG struct vm_config *again = NULL;
	struct err err = ERR_INIT;

	if (!text)
		abort();
	if (vm_config_parse(json, &again, &err) < 0)
		abort();
	again_json = vm_config_to_json(again);
	again_text = again_json ? json_dump(again_json, false) : NULL;
	if (!again_text || (!strstr(text, "fd") && strcmp(text, again_text)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_VM_CONFIG struct vm_config *config = vm_config_new();
	AUTO_FREE char *text = strndup((const char *)data, size);
	char *rest = text, *line;

	if (!config || !text)
		return 0;
	while ((line = strsep(&rest, "\n")))
		apply(config, line);
	check_round_trip(config);
	vm_config_validate(config, NULL);
	return 0;
}
