/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options are of two families. Those of the process are in the table below; all others come from
 * the table of VmConfig (vm_options), which knows their keys. A use of an option is first collected
 * and applied when the whole line was read: objects before elements of lists, so that the order in
 * which `--memory` and `--memory-zone` were written does not matter.
 */
#include "shim/cmdline.h"

#include "base/cursor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* One `--option value` of the VM; an array in the order of the command line. */
struct use {
	const struct vm_option *option;
	const char *text; /* NULL: none given */
};

struct parser {
	int argc;
	char *const *argv;
	int next; /* index of the argument to read */
	struct cmdline *out;
	struct use *uses; /* owned; room for every argument there is */
	size_t num_uses;
};

struct process_option {
	const char *name;
	char letter;	    /* 0: none */
	const char *values; /* NULL: takes none */
	int (*set)(struct cmdline *out, const char *text, struct err *err);
	const char *help;
};

/* --- options of the process ----------------------------------------------------------------- */

static int set_endpoint(struct endpoint_option *endpoint, const char *text, struct err *err)
{
	config_object_fini(&endpoint_option_table, endpoint);
	return config_parse_option(&endpoint_option_table, text, endpoint, err);
}

static int set_api_socket(struct cmdline *out, const char *text, struct err *err)
{
	return set_endpoint(&out->api_socket, text, err);
}

static int set_event_monitor(struct cmdline *out, const char *text, struct err *err)
{
	return set_endpoint(&out->event_monitor, text, err);
}

static int set_log_file(struct cmdline *out, const char *text, struct err *err)
{
	out->log_file = text;
	return 0;
}

static int set_log_format(struct cmdline *out, const char *text, struct err *err)
{
	if (strcmp(text, "text") == 0)
		out->log_format = LOG_FORMAT_TEXT;
	else if (strcmp(text, "json") == 0)
		out->log_format = LOG_FORMAT_JSON;
	else if (strchr(text, '{'))
		return err_set(err, -EINVAL,
			       "templates are not supported: text and json are the two formats");
	else
		return err_set(err, -EINVAL, "%s is neither text nor json", text);
	return 0;
}

static int set_seccomp(struct cmdline *out, const char *text, struct err *err)
{
	if (sandbox_mode_parse(text, &out->seccomp) < 0)
		return err_set(err, -EINVAL, "%s is none of true, false, log, errno", text);
	return 0;
}

static int set_on_panic(struct cmdline *out, const char *text, struct err *err)
{
	if (strcmp(text, "report") == 0)
		out->on_panic = PANIC_REPORT;
	else if (strcmp(text, "exit") == 0)
		out->on_panic = PANIC_EXIT;
	else
		return err_set(err, -EINVAL, "%s is neither report nor exit", text);
	return 0;
}

static int set_no_shutdown(struct cmdline *out, const char *text, struct err *err)
{
	out->no_shutdown = true;
	return 0;
}

static int more_verbose(struct cmdline *out, const char *text, struct err *err)
{
	if (out->log_level < LOG_TRACE)
		out->log_level++;
	return 0;
}

static int set_version(struct cmdline *out, const char *text, struct err *err)
{
	out->action = CMDLINE_VERSION;
	return 0;
}

static int set_help(struct cmdline *out, const char *text, struct err *err)
{
	out->action = CMDLINE_HELP;
	return 0;
}

static const struct process_option process_options[] = {
	{"api-socket", 0, "PATH|path=PATH|fd=N|fd=activation[:NAME]", set_api_socket,
	 "where the REST API is served"},
	{"event-monitor", 0, "path=PATH|fd=N", set_event_monitor, "where events are written"},
	{"log-file", 0, "FILE", set_log_file, "log to a file instead of stderr"},
	{"log-format", 0, "text|json", set_log_format, "shape of the log's lines [text]"},
	{"seccomp", 0, "true|log|errno|false", set_seccomp,
	 "what happens on a system call that is on no list [true]"},
	{"no-shutdown", 0, NULL, set_no_shutdown, "stay when the guest powers itself off"},
	{"on-panic", 0, "report|exit", set_on_panic,
	 "what to do when the guest reports a panic [report]"},
	{"verbose", 'v', NULL, more_verbose, "log more: info; -vv debug, -vvv trace"},
	{"version", 'V', NULL, set_version, "print the version"},
	{"help", 'h', NULL, set_help, "print this; --help OPTION: the keys of an option"},
};

static const struct process_option *find_process_option(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(process_options); i++) {
		if (strcmp(process_options[i].name, name) == 0)
			return &process_options[i];
	}
	return NULL;
}

static const struct process_option *find_letter(char letter)
{
	for (size_t i = 0; i < ARRAY_SIZE(process_options); i++) {
		if (process_options[i].letter && process_options[i].letter == letter)
			return &process_options[i];
	}
	return NULL;
}

/* --- reading arguments ---------------------------------------------------------------------- */

/* The next argument if it is a value: nothing that starts with a dash is. NULL at the end. */
static const char *take_value(struct parser *p)
{
	if (p->next >= p->argc || p->argv[p->next][0] == '-')
		return NULL;
	return p->argv[p->next++];
}

static int refuse_value(const char *name, struct err *err)
{
	return err_set(err, -EINVAL, "--%s takes no value", name);
}

static int want_value(const char *name, struct err *err)
{
	return err_set(err, -EINVAL, "--%s needs a value (one that starts with a dash: --%s=VALUE)",
		       name, name);
}

/* `attached`: the text behind `=`, or NULL. */
static int parse_process_option(struct parser *p, const struct process_option *option,
				const char *attached, struct err *err)
{
	const char *text = attached;
	int rc;

	if (!option->values && attached)
		return refuse_value(option->name, err);
	if (option->values && !text)
		text = take_value(p);
	if (option->values && !text)
		return want_value(option->name, err);
	rc = option->set(p->out, text, err);
	if (rc < 0)
		return err_wrap(err, rc, "--%s", option->name);
	if (option->set == set_help && p->next < p->argc) {
		p->out->help_topic = p->argv[p->next];
		p->next = p->argc;
	}
	return 0;
}

static void add_use(struct parser *p, const struct vm_option *option, const char *text)
{
	p->uses[p->num_uses++] = (struct use){.option = option, .text = text};
}

static int parse_vm_option(struct parser *p, const struct vm_option *option, const char *attached,
			   struct err *err)
{
	const char *text = attached;

	if (option->place == VM_OPTION_FLAG) {
		if (attached)
			return refuse_value(option->name, err);
		add_use(p, option, NULL);
		return 0;
	}
	if (!text)
		text = take_value(p);
	if (!text && !option->optional_value)
		return want_value(option->name, err);
	add_use(p, option, text);
	if (option->place != VM_OPTION_LIST || attached)
		return 0;
	while ((text = take_value(p)))
		add_use(p, option, text);
	return 0;
}

static int parse_long(struct parser *p, const char *arg, struct err *err)
{
	const char *equals = strchr(arg, '=');
	AUTO_FREE char *name = equals ? strndup(arg, (size_t)(equals - arg)) : strdup(arg);
	const char *attached = equals ? equals + 1 : NULL;
	const struct process_option *process;
	const struct vm_option *option;

	if (!name)
		return err_set(err, -ENOMEM, "out of memory");
	process = find_process_option(name);
	if (process)
		return parse_process_option(p, process, attached, err);
	option = vm_option_find(name);
	if (option)
		return parse_vm_option(p, option, attached, err);
	return err_set(err, -EINVAL, "unknown option --%s (--help lists what there is)", name);
}

static int parse_letters(struct parser *p, const char *letters, struct err *err)
{
	for (; *letters; letters++) {
		const struct process_option *option = find_letter(*letters);
		int rc;

		if (!option)
			return err_set(err, -EINVAL,
				       "unknown option -%c (--help lists what there is)", *letters);
		rc = parse_process_option(p, option, NULL, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int parse_arguments(struct parser *p, struct err *err)
{
	while (p->next < p->argc && p->out->action == CMDLINE_RUN) {
		const char *arg = p->argv[p->next++];
		int rc;

		if (arg[0] == '-' && arg[1] == '-' && arg[2])
			rc = parse_long(p, arg + 2, err);
		else if (arg[0] == '-' && arg[1] && arg[1] != '-')
			rc = parse_letters(p, arg + 1, err);
		else
			rc = err_set(err, -EINVAL, "%s is not an option", arg);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- the machine ---------------------------------------------------------------------------- */

static int apply_uses(struct parser *p, struct vm_config *config, bool lists, struct err *err)
{
	for (size_t i = 0; i < p->num_uses; i++) {
		const struct use *use = &p->uses[i];
		int rc;

		if ((use->option->place == VM_OPTION_LIST) != lists)
			continue;
		rc = vm_option_apply(config, use->option, use->text, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int build_config(struct parser *p, struct err *err)
{
	AUTO_VM_CONFIG struct vm_config *config = NULL;
	int rc;

	if (!p->num_uses)
		return 0;
	config = vm_config_new();
	if (!config)
		return err_set(err, -ENOMEM, "out of memory");
	rc = apply_uses(p, config, false, err);
	if (rc == 0)
		rc = apply_uses(p, config, true, err);
	if (rc < 0)
		return rc;
	if (!config->payload)
		return err_set(err, -EINVAL,
			       "--%s describes a VM, but there is nothing to boot: --kernel or "
			       "--firmware is missing",
			       p->uses[0].option->name);
	p->out->config = TAKE(config);
	return 0;
}

int cmdline_parse(int argc, char *const argv[], struct cmdline *ret_cmdline, struct err *err)
{
	AUTO_FREE struct use *uses = calloc((size_t)argc + 1, sizeof(*uses));
	struct parser p = {.argc = argc, .argv = argv, .next = 1, .out = ret_cmdline, .uses = uses};
	int rc;

	*ret_cmdline = (struct cmdline){.log_level = LOG_WARN, .seccomp = SANDBOX_TRAP};
	if (!uses)
		return err_set(err, -ENOMEM, "out of memory");
	rc = parse_arguments(&p, err);
	if (rc == 0 && ret_cmdline->action == CMDLINE_RUN)
		rc = build_config(&p, err);
	if (rc < 0)
		cmdline_fini(ret_cmdline);
	return rc;
}

void cmdline_fini(struct cmdline *cmdline)
{
	config_object_fini(&endpoint_option_table, &cmdline->api_socket);
	config_object_fini(&endpoint_option_table, &cmdline->event_monitor);
	vm_config_free(cmdline->config);
	cmdline->config = NULL;
}

/* --- help ----------------------------------------------------------------------------------- */

#define COLUMN 26

static void put_line(struct buf *b, const char *name, const char *value, const char *help)
{
	size_t len = strlen(name) + (value ? strlen(value) + 1 : 0);

	buf_printf(b, "  %s%s%s", name, value ? " " : "", value ? value : "");
	if (len + 4 > COLUMN)
		buf_printf(b, "\n%*s", COLUMN, "");
	else
		buf_printf(b, "%*s", (int)(COLUMN - 2 - len), "");
	buf_printf(b, "%s\n", help);
}

static void put_process_options(struct buf *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(process_options); i++) {
		const struct process_option *o = &process_options[i];
		AUTO_BUF struct buf name = {0};

		if (o->letter)
			buf_printf(&name, "-%c, ", o->letter);
		buf_printf(&name, "--%s", o->name);
		buf_u8(&name, 0);
		if (!buf_ok(&name))
			b->failed = true;
		else
			put_line(b, (const char *)name.data, o->values, o->help);
	}
}

static const char *value_word(const struct vm_option *option)
{
	switch (option->place) {
	case VM_OPTION_FLAG: return NULL;
	case VM_OPTION_STRING: return "VALUE";
	case VM_OPTION_LIST: return "KEYS...";
	default: return option->optional_value ? "[KEYS]" : "KEYS";
	}
}

static void put_vm_options(struct buf *b, bool payload)
{
	for (const struct vm_option *o = vm_options; o->name; o++) {
		char name[48];

		if ((o->in && strcmp(o->in, "payload") == 0) != payload)
			continue;
		snprintf(name, sizeof(name), "--%s", o->name);
		put_line(b, name, value_word(o), o->help);
	}
}

static void put_overview(struct buf *b)
{
	buf_printf(b,
		   "coracle " CORACLE_VERSION ": one process that carries one virtual machine\n\n"
		   "Usage: coracle --api-socket PATH [OPTION...]\n"
		   "       coracle --kernel FILE [--api-socket PATH] [OPTION...]\n\n"
		   "The process\n");
	put_process_options(b);
	buf_printf(b, "\nWhat to boot\n");
	put_vm_options(b, true);
	buf_printf(b, "\nThe machine (KEYS: key=value,..; `coracle --help disk` lists those of "
		      "--disk;\n"
		      "KEYS...: may be repeated, or take several values)\n");
	put_vm_options(b, false);
	buf_printf(b, "\nExit status: 0 ended by the API or a signal, 1 error, 3 the guest powered "
		      "off,\n4 the guest panicked. Manual: coracle(1)\n");
}

/* Returns false when there is no such option. */
static bool put_topic(struct buf *b, const char *topic)
{
	const struct process_option *process = find_process_option(topic);
	const struct vm_option *option = vm_option_find(topic);
	char name[48];

	snprintf(name, sizeof(name), "--%s", topic);
	if (process)
		put_line(b, name, process->values, process->help);
	else if (option)
		put_line(b, name, value_word(option), option->help);
	else
		return false;
	if (option && option->table) {
		AUTO_FREE char *keys = config_option_help(option->table);

		if (keys)
			buf_printf(b, "\nKEYS\n%s", keys);
		else
			b->failed = true;
	}
	return true;
}

char *cmdline_help(const char *topic)
{
	AUTO_BUF struct buf b = {0};

	if (!topic)
		put_overview(&b);
	else if (!put_topic(&b, topic + strspn(topic, "-")))
		return NULL;
	buf_u8(&b, 0);
	return buf_ok(&b) ? (char *)TAKE(b.data) : NULL;
}
