/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/cmdline.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MAX_ARGS 32

/* Parses `coracle` with the given arguments, NULL behind the last. */
static int parse(struct cmdline *c, struct err *err, ...)
{
	char *argv[MAX_ARGS] = {(char[]){"coracle"}};
	va_list args;
	int argc = 1;
	char *arg;

	va_start(args, err);
	while ((arg = va_arg(args, char *))) {
		assert_true(argc < MAX_ARGS - 1);
		argv[argc++] = arg;
	}
	va_end(args);
	*err = (struct err)ERR_INIT;
	return cmdline_parse(argc, argv, c, err);
}

#define PARSE(c, err, ...) parse(c, err, ##__VA_ARGS__, (char *)NULL)

static void assert_mentions(const struct err *err, const char *what)
{
	char text[ERR_TEXT_MAX];

	assert_non_null(strstr(err_format(err, text, sizeof(text)), what));
}

static void defaults_are_the_documented_ones(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err), 0);
	assert_int_equal(c.action, CMDLINE_RUN);
	assert_null(c.api_socket.path);
	assert_null(c.api_socket.fd);
	assert_null(c.event_monitor.path);
	assert_null(c.config);
	assert_int_equal(c.log_level, LOG_WARN);
	assert_int_equal(c.log_format, LOG_FORMAT_TEXT);
	assert_int_equal(c.seccomp, SANDBOX_TRAP);
	assert_int_equal(c.on_panic, PANIC_REPORT);
	assert_false(c.no_shutdown);
	cmdline_fini(&c);
}

static void api_socket_takes_path_bare_path_and_fd(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err, "--api-socket", "/run/a.sock"), 0);
	assert_string_equal(c.api_socket.path, "/run/a.sock");
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "--api-socket=path=/run/b.sock"), 0);
	assert_string_equal(c.api_socket.path, "/run/b.sock");
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "--api-socket", "fd=7"), 0);
	assert_string_equal(c.api_socket.fd, "7");
	assert_null(c.api_socket.path);
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "--api-socket", "fd=activation:api"), 0);
	assert_string_equal(c.api_socket.fd, "activation:api");
	cmdline_fini(&c);
}

static void verbosity_adds_up_and_stops_at_trace(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err, "-v"), 0);
	assert_int_equal(c.log_level, LOG_INFO);
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "-v", "-v"), 0);
	assert_int_equal(c.log_level, LOG_DEBUG);
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "-vvvvvvv"), 0);
	assert_int_equal(c.log_level, LOG_TRACE);
	cmdline_fini(&c);
}

static void process_options_are_read(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err, "--seccomp", "log", "--log-format=json", "--log-file",
			       "/l", "--no-shutdown", "--on-panic", "exit", "--event-monitor",
			       "path=/e"),
			 0);
	assert_int_equal(c.seccomp, SANDBOX_LOG);
	assert_int_equal(c.log_format, LOG_FORMAT_JSON);
	assert_string_equal(c.log_file, "/l");
	assert_true(c.no_shutdown);
	assert_int_equal(c.on_panic, PANIC_EXIT);
	assert_string_equal(c.event_monitor.path, "/e");
	cmdline_fini(&c);
}

static void expect_error(int rc, const struct err *err, const char *words)
{
	assert_true(rc < 0);
	assert_mentions(err, words);
}

static void wrong_arguments_are_named(void **state)
{
	struct cmdline c;
	struct err err;

	expect_error(PARSE(&c, &err, "--bogus"), &err, "--bogus");
	expect_error(PARSE(&c, &err, "--bogus=1"), &err, "--bogus");
	expect_error(PARSE(&c, &err, "-x"), &err, "-x");
	expect_error(PARSE(&c, &err, "-vx"), &err, "-x");
	expect_error(PARSE(&c, &err, "word"), &err, "word");
	expect_error(PARSE(&c, &err, ""), &err, "not an option");
	expect_error(PARSE(&c, &err, "-"), &err, "not an option");
	expect_error(PARSE(&c, &err, "--"), &err, "not an option");
	expect_error(PARSE(&c, &err, "--="), &err, "unknown option");
	expect_error(PARSE(&c, &err, "--seccomp", "maybe"), &err, "maybe");
	expect_error(PARSE(&c, &err, "--seccomp"), &err, "--seccomp");
	expect_error(PARSE(&c, &err, "--api-socket", "--cpus"), &err, "--api-socket");
	expect_error(PARSE(&c, &err, "--no-shutdown=yes"), &err, "takes no value");
	expect_error(PARSE(&c, &err, "--pvpanic=on"), &err, "takes no value");
	expect_error(PARSE(&c, &err, "--log-format", "{msg}"), &err, "templates");
	expect_error(PARSE(&c, &err, "--on-panic", "reboot"), &err, "reboot");
	expect_error(PARSE(&c, &err, "--restore", "source_url=file:///x"), &err, "--restore");
}

static void several_values_after_one_flag_and_repeats_all_count(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err, "--kernel", "/k", "--disk", "path=/a", "path=/b", "--net",
			       "tap=t0", "--disk=path=/c", "-v"),
			 0);
	assert_non_null(c.config);
	assert_string_equal(c.config->payload->kernel, "/k");
	assert_int_equal(c.config->num_disks, 3);
	assert_string_equal(c.config->disks[0].path, "/a");
	assert_string_equal(c.config->disks[1].path, "/b");
	assert_string_equal(c.config->disks[2].path, "/c");
	assert_int_equal(c.config->num_net, 1);
	assert_int_equal(c.log_level, LOG_INFO);
	cmdline_fini(&c);
}

static void single_options_take_one_value_only(void **state)
{
	struct cmdline c;
	struct err err;

	expect_error(PARSE(&c, &err, "--kernel", "/k", "/l"), &err, "/l");
}

static void value_that_starts_with_a_dash_needs_an_equals_sign(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err, "--kernel", "/k", "--cmdline=--init=/x a=b"), 0);
	assert_string_equal(c.config->payload->cmdline, "--init=/x a=b");
	cmdline_fini(&c);
}

static void zones_count_wherever_memory_was_written(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err, "--memory-zone", "id=z0,size=1G", "--memory",
			       "size=0,shared=on", "--kernel", "/k"),
			 0);
	assert_int_equal(c.config->memory.num_zones, 1);
	assert_int_equal(c.config->memory.zones[0].size, GIB);
	assert_int_equal(c.config->memory.size, 0);
	assert_true(c.config->memory.shared);
	cmdline_fini(&c);
}

static void machine_without_anything_to_boot_is_refused(void **state)
{
	struct cmdline c;
	struct err err;

	expect_error(PARSE(&c, &err, "--api-socket", "/a", "--cpus", "boot=2"), &err, "--kernel");
}

static void bad_keys_are_refused_with_the_options_name(void **state)
{
	struct cmdline c;
	struct err err;

	expect_error(PARSE(&c, &err, "--kernel", "/k", "--disk", "pth=/a"), &err, "--disk");
	expect_error(PARSE(&c, &err, "--kernel", "/k", "--cpus", "boot=many"), &err, "--cpus");
	expect_error(PARSE(&c, &err, "--kernel", "/k", "--disk", "path=\"/a"), &err, "--disk");
}

static void help_and_version_end_the_parsing(void **state)
{
	struct cmdline c;
	struct err err;

	assert_int_equal(PARSE(&c, &err, "--version"), 0);
	assert_int_equal(c.action, CMDLINE_VERSION);
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "-V"), 0);
	assert_int_equal(c.action, CMDLINE_VERSION);
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "-h"), 0);
	assert_int_equal(c.action, CMDLINE_HELP);
	assert_null(c.help_topic);
	cmdline_fini(&c);
	assert_int_equal(PARSE(&c, &err, "--help", "disk"), 0);
	assert_int_equal(c.action, CMDLINE_HELP);
	assert_string_equal(c.help_topic, "disk");
	cmdline_fini(&c);
}

static void help_knows_every_option(void **state)
{
	AUTO_FREE char *all = cmdline_help(NULL);

	assert_non_null(all);
	for (const struct vm_option *o = vm_options; o->name; o++) {
		AUTO_FREE char *one = cmdline_help(o->name);

		assert_non_null(strstr(all, o->name));
		assert_non_null(one);
	}
	assert_non_null(strstr(all, "--api-socket"));
	assert_null(cmdline_help("bogus"));
}

static void help_lists_an_options_keys(void **state)
{
	AUTO_FREE char *text = cmdline_help("--disk");

	assert_non_null(text);
	assert_non_null(strstr(text, "readonly="));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_the_documented_ones),
		cmocka_unit_test(api_socket_takes_path_bare_path_and_fd),
		cmocka_unit_test(verbosity_adds_up_and_stops_at_trace),
		cmocka_unit_test(process_options_are_read),
		cmocka_unit_test(wrong_arguments_are_named),
		cmocka_unit_test(several_values_after_one_flag_and_repeats_all_count),
		cmocka_unit_test(single_options_take_one_value_only),
		cmocka_unit_test(value_that_starts_with_a_dash_needs_an_equals_sign),
		cmocka_unit_test(zones_count_wherever_memory_was_written),
		cmocka_unit_test(machine_without_anything_to_boot_is_refused),
		cmocka_unit_test(bad_keys_are_refused_with_the_options_name),
		cmocka_unit_test(help_and_version_end_the_parsing),
		cmocka_unit_test(help_knows_every_option),
		cmocka_unit_test(help_lists_an_options_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
