/* SPDX-License-Identifier: Apache-2.0 */
/* What parses as a VmConfig is shown as one that means the same, valid or not. */
#include "base/json.h"
#include "vmm/config/vm_config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *text_of(const struct vm_config *config)
{
	AUTO_JSON struct json *json = vm_config_to_json(config);
	char *text = json ? json_dump(json, false) : NULL;

	if (!text)
		abort();
	return text;
}

static void check_round_trip(const struct vm_config *config)
{
	AUTO_FREE char *first = text_of(config), *second = NULL;
	AUTO_JSON struct json *json = json_parse(first, strlen(first), NULL);
	AUTO_VM_CONFIG struct vm_config *again = NULL;

	if (!json || vm_config_parse(json, &again, NULL) < 0)
		abort();
	second = text_of(again);
	if (strcmp(first, second))
		abort();
}

/* What the machine does with it after parsing. */
static void use(struct vm_config *config)
{
	AUTO_VM_CONFIG struct vm_config *copy = NULL;
	AUTO_FREE char *original = text_of(config), *copied = NULL;
	struct err err = ERR_INIT;
	unsigned counter = 0;

	if (vm_config_copy(config, &copy, NULL) < 0)
		abort();
	copied = text_of(copy);
	if (strcmp(original, copied))
		abort();
	if (vm_config_validate(copy, &err) < 0) {
		if (!err_count(&err))
			abort();
		return;
	}
	vm_config_check_supported(copy, NULL);
	/* Names are given to what has none, so what was valid stays so. */
	if (vm_config_assign_ids(copy, &counter, NULL) < 0 || vm_config_validate(copy, NULL) < 0)
		abort();
	check_round_trip(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_JSON struct json *json = json_parse((const char *)data, size, NULL);
	AUTO_VM_CONFIG struct vm_config *config = NULL;
	struct err err = ERR_INIT;

	if (!json)
		return 0;
	if (vm_config_parse(json, &config, &err) < 0) {
		if (!err_count(&err))
			abort();
		return 0;
	}
	check_round_trip(config);
	use(config);
	return 0;
}
