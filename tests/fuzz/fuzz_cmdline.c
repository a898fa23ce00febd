/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole command line: each line of the input is an argument. What is accepted is said by it as it
 * was; what is refused says why; the help that was asked for is there or the option is not.
 */
#include "base/json.h"
#include "shim/cmdline.h"
#include "tests/fuzz/given_fd.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARGS_MAX 64
static bool is_argument(const char *text, int argc, char *const argv[])
{
	for (int i = 0; i < argc; i++)
		if (text == argv[i])
			return true;
	return false;
}

static void check_help(const struct cmdline *cmdline)
{
	AUTO_FREE char *text = cmdline_help(cmdline->help_topic);

	if (!text && !cmdline->help_topic)
		abort();
}

/* What the machine would do with it before it looks at anything outside. */
static void check_machine(struct vm_config *config)
{
	AUTO_VM_CONFIG struct vm_config *copy = NULL;
	AUTO_JSON struct json *json = NULL;
	struct err err = ERR_INIT;

	if (!config->payload)
		abort();
	if (vm_config_copy(config, &copy, NULL) < 0)
		abort();
	if (vm_config_validate(copy, &err) < 0 && !err_count(&err))
		abort();
	json = vm_config_to_json(copy);
	if (!json)
		abort();
}

static void check(const struct cmdline *cmdline, int argc, char *const argv[])
{
	if (cmdline->help_topic && !is_argument(cmdline->help_topic, argc, argv))
		abort();
	if (cmdline->action == CMDLINE_HELP)
		check_help(cmdline);
	if (cmdline->action != CMDLINE_RUN && cmdline->config)
		abort();
	if (cmdline->config)
		check_machine(cmdline->config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char name[] = "coracle";
	AUTO_FREE char *text = strndup((const char *)data, size);
	char *argv[ARGS_MAX + 1] = {name}, *rest = text, *line;
	struct cmdline cmdline;
	struct err err = ERR_INIT;
	int argc = 1;

	if (!text)
		return 0;
	while (argc < ARGS_MAX && (line = strsep(&rest, "\n")))
		argv[argc++] = line;
	offer_fd();
	if (cmdline_parse(argc, argv, &cmdline, &err) < 0) {
		if (!err_count(&err))
			abort();
		return 0;
	}
	check(&cmdline, argc, argv);
	cmdline_fini(&cmdline);
	return 0;
}
