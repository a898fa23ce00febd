/* SPDX-License-Identifier: Apache-2.0 */
/* coraclectl: the command-line client of a running coracle. */
#include "base/cursor.h"
#include "base/fd.h"
#include "base/json.h"
#include "shim/ctl/client.h"
#include "shim/ctl/events.h"
#include "shim/ctl/show.h"
#include "vmm/config/config_option.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_BODY (4u * 1024 * 1024)

struct options {
	const char *socket;
	bool json;
	struct events_options events;
	const char *operands[2]; /* verb and its argument */
	size_t num_operands;
};

struct verb {
	const char *name;
	const char *endpoint; /* NULL: has a run() of its own */
	const char *method;
	const char *argument; /* as the usage shows it; NULL = none; in [] = optional */
	const char *help;
	/* Makes the request from the argument. NULL: no body. */
	int (*make)(const char *argument, struct client_request *request, struct buf *body,
		    struct err *err);
	void (*show)(const struct json *answer); /* on a terminal */
	int (*run)(const struct options *o, struct err *err);
};

/* --- bodies --------------------------------------------------------------------------------- */

static int read_all(int fd, struct buf *out, struct err *err)
{
	char bytes[16 * 1024];
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set_errno(err, -errno, "cannot be read");
		if ((size_t)n > MAX_BODY - out->len)
			return err_set(err, -EFBIG, "is larger than 4 MiB");
		buf_put(out, bytes, (size_t)n);
	}
	return buf_ok(out) ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int make_create(const char *argument, struct client_request *request, struct buf *body,
		       struct err *err)
{
	const char *name = argument ? argument : "-";
	AUTO_FD int fd = -1;
	int rc;

	if (strcmp(name, "-") == 0) {
		rc = read_all(STDIN_FILENO, body, err);
	} else {
		fd = open(name, O_RDONLY | O_CLOEXEC);
		rc = fd < 0 ? err_set_errno(err, -errno, "cannot be opened")
			    : read_all(fd, body, err);
	}
	if (rc < 0)
		return err_wrap(err, rc, "%s", name);
	request->body = (const char *)body->data;
	request->body_len = body->len;
	return 0;
}

/* The JSON of an object that was given in the command line's key syntax. */
static int put_object(const struct config_table *table, const void *obj, struct buf *body,
		      struct err *err)
{
	AUTO_JSON struct json *json = config_object_to_json(table, obj);
	AUTO_FREE char *text = json ? json_dump(json, false) : NULL;

	if (text)
		buf_put(body, text, strlen(text));
	return text && buf_ok(body) ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int make_add_disk(const char *argument, struct client_request *request, struct buf *body,
			 struct err *err)
{
	struct disk_config disk;
	int rc = config_parse_option(&disk_config_table, argument, &disk, err);

	if (rc < 0)
		return rc;
	rc = put_object(&disk_config_table, &disk, body, err);
	config_object_fini(&disk_config_table, &disk);
	request->body = (const char *)body->data;
	request->body_len = body->len;
	return rc;
}

/* Descriptors that `fd=` names go along with the request; they stay open until we exit. */
static int make_add_net(const char *argument, struct client_request *request, struct buf *body,
			struct err *err)
{
	struct net_config net;
	int rc = config_parse_option(&net_config_table, argument, &net, err);

	if (rc < 0)
		return rc;
	rc = put_object(&net_config_table, &net, body, err);
	request->body = (const char *)body->data;
	request->body_len = body->len;
	request->num_fds = net.num_fds;
	request->fds = TAKE(net.fds);
	net.num_fds = 0;
	config_object_fini(&net_config_table, &net);
	return rc;
}

/* --- verbs ---------------------------------------------------------------------------------- */

static int run_events(const struct options *o, struct err *err)
{
	return events_print(o->socket, &o->events, err);
}

#define ACTION(name_, endpoint_, help_)                                                    \
	{                                                                                  \
		.name = (name_), .endpoint = (endpoint_), .method = "PUT", .help = (help_) \
	}
#define QUERY(name_, endpoint_, show_, help_)                                               \
	{                                                                                   \
		.name = (name_), .endpoint = (endpoint_), .method = "GET", .show = (show_), \
		.help = (help_)                                                             \
	}

static const struct verb verbs[] = {
	QUERY("ping", "vmm.ping", show_ping, "who is there"),
	QUERY("info", "vm.info", show_info, "the VM's state and configuration"),
	QUERY("counters", "vm.counters", show_counters, "what the devices have moved"),
	{.name = "events",
	 .help = "what happened; --follow: and what happens; --since N: behind event N",
	 .run = run_events},
	{.name = "create",
	 .endpoint = "vm.create",
	 .method = "PUT",
	 .argument = "[FILE|-]",
	 .help = "configure a VM by a VmConfig in JSON",
	 .make = make_create},
	ACTION("boot", "vm.boot", "boot it"),
	ACTION("pause", "vm.pause", "stop its vCPUs"),
	ACTION("resume", "vm.resume", "let its vCPUs go on"),
	ACTION("reboot", "vm.reboot", "reset it"),
	ACTION("power-button", "vm.power-button", "press its power button"),
	ACTION("nmi", "vm.nmi", "send it a non-maskable interrupt"),
	ACTION("shutdown", "vm.shutdown", "switch it off"),
	ACTION("delete", "vm.delete", "switch it off and forget its configuration"),
	ACTION("shutdown-vmm", "vmm.shutdown", "end the process"),
	{.name = "add-disk",
	 .endpoint = "vm.add-disk",
	 .method = "PUT",
	 .argument = "KEYS",
	 .help = "add a disk (keys as in coracle --disk)",
	 .make = make_add_disk,
	 .show = show_device},
	{.name = "add-net",
	 .endpoint = "vm.add-net",
	 .method = "PUT",
	 .argument = "KEYS",
	 .help = "add a network device (keys as in coracle --net)",
	 .make = make_add_net,
	 .show = show_device},
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	}
	return NULL;
}

/* --- answers -------------------------------------------------------------------------------- */

/* The chain of messages that the API answers failures with, as an err. */
static int refuse(const struct verb *verb, const struct client_response *response, struct err *err)
{
	const char *body = (const char *)response->body.data;
	AUTO_JSON struct json *json = json_parse(body ? body : "", response->body.len, NULL);
	const char *single = json_string(json_member(json, "error"));

	err_set(err, -EREMOTEIO, "status %d", response->status);
	if (json_kind(json) == JSON_ARRAY && json_size(json)) {
		for (size_t i = json_size(json); i-- > 0;) {
			const char *text = json_string(json_at(json, i));

			if (i + 1 == json_size(json))
				err_set(err, -EREMOTEIO, "%s", text ? text : "?");
			else
				err_wrap(err, -EREMOTEIO, "%s", text ? text : "?");
		}
	} else if (single) {
		err_set(err, -EREMOTEIO, "%s", single);
	}
	return err_wrap(err, -EREMOTEIO, "%s failed (status %d)", verb->name, response->status);
}

static void print_answer(const struct verb *verb, const struct options *o,
			 const struct client_response *response)
{
	AUTO_JSON struct json *json = NULL;

	if (!response->body.len)
		return;
	if (!o->json && verb->show)
		json = json_parse((const char *)response->body.data, response->body.len, NULL);
	if (json) {
		verb->show(json);
		return;
	}
	fwrite(response->body.data, 1, response->body.len, stdout);
	putchar('\n');
}

static int call(const struct verb *verb, const struct options *o, struct err *err)
{
	struct client_request request = {.method = verb->method, .verb = verb->endpoint};
	AUTO_CLIENT struct client c = CLIENT_INIT;
	AUTO_BUF struct buf body = {0};
	struct client_response response = {0};
	int rc = 0;

	if (verb->make)
		rc = verb->make(o->num_operands > 1 ? o->operands[1] : NULL, &request, &body, err);
	if (rc == 0)
		rc = client_connect(&c, o->socket, err);
	if (rc == 0)
		rc = client_call(&c, &request, &response, err);
	if (rc == 0 && response.status != 200 && response.status != 204)
		rc = refuse(verb, &response, err);
	else if (rc == 0)
		print_answer(verb, o, &response);
	buf_fini(&response.body);
	return rc;
}

/* --- command line --------------------------------------------------------------------------- */

static void print_usage(FILE *out)
{
	fputs("Usage: coraclectl --api-socket PATH [--json] VERB [ARGUMENT]\n\nVerbs\n", out);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		char name[48];

		snprintf(name, sizeof(name), "%s %s", verbs[i].name,
			 verbs[i].argument ? verbs[i].argument : "");
		fprintf(out, "  %-22s%s\n", name, verbs[i].help);
	}
	fputs("\nAnswers are tables on a terminal, and JSON elsewhere or with --json.\n"
	      "Exit status: 0, or 1 with the reason on stderr. Manual: coraclectl(1)\n",
	      out);
}

/* The value of an option: `--name=value` or the next argument. NULL when it is another option. */
static const char *option_value(char *argv[], int *i, const char *name)
{
	const char *arg = argv[*i];
	size_t len = strlen(name);

	if (strncmp(arg, name, len) != 0)
		return NULL;
	if (arg[len] == '=')
		return arg + len + 1;
	if (arg[len] || !argv[*i + 1])
		return NULL;
	(*i)++;
	return argv[*i];
}

static int parse_since(struct options *o, const char *text, struct err *err)
{
	char *end;

	errno = 0;
	o->events.since = strtoull(text, &end, 10);
	if (errno || *end || *text < '0' || *text > '9')
		return err_set(err, -EINVAL, "--since %s is not the number of an event", text);
	o->events.has_since = true;
	return 0;
}

static int parse_argument(struct options *o, char *argv[], int *i, struct err *err)
{
	const char *arg = argv[*i];
	const char *value;

	if ((value = option_value(argv, i, "--api-socket"))) {
		o->socket = strncmp(value, "path=", 5) == 0 ? value + 5 : value;
	} else if ((value = option_value(argv, i, "--since"))) {
		return parse_since(o, value, err);
	} else if (strcmp(arg, "--json") == 0) {
		o->json = true;
	} else if (strcmp(arg, "--follow") == 0 || strcmp(arg, "-f") == 0) {
		o->events.follow = true;
	} else if (arg[0] == '-' && arg[1]) {
		return err_set(err, -EINVAL, "unknown or incomplete option %s", arg);
	} else if (o->num_operands < ARRAY_SIZE(o->operands)) {
		o->operands[o->num_operands++] = arg;
	} else {
		return err_set(err, -EINVAL, "%s is one argument too many", arg);
	}
	return 0;
}

static int parse(struct options *o, char *argv[], const struct verb **ret_verb, struct err *err)
{
	const struct verb *verb;

	for (int i = 1; argv[i]; i++) {
		int rc = parse_argument(o, argv, &i, err);

		if (rc < 0)
			return rc;
	}
	if (!o->num_operands)
		return err_set(err, -EINVAL, "no verb (coraclectl --help lists them)");
	verb = find_verb(o->operands[0]);
	if (!verb)
		return err_set(err, -EINVAL, "unknown verb %s (coraclectl --help lists them)",
			       o->operands[0]);
	if (!verb->argument && o->num_operands > 1)
		return err_set(err, -EINVAL, "%s takes no argument", verb->name);
	if (verb->argument && verb->argument[0] != '[' && o->num_operands < 2)
		return err_set(err, -EINVAL, "%s needs %s", verb->name, verb->argument);
	if (!verb->run && (o->events.follow || o->events.has_since))
		return err_set(err, -EINVAL, "--follow and --since belong to events");
	if (!o->socket)
		return err_set(err, -EINVAL, "--api-socket PATH is missing");
	*ret_verb = verb;
	return 0;
}

/* As for the API: outermost first. */
static int complain(const struct err *err)
{
	for (size_t i = 0; i < err_count(err); i++)
		fprintf(stderr, "%s%s\n", i ? "  " : "coraclectl: ", err_message(err, i));
	return 1;
}

int main(int argc, char *argv[])
{
	struct options o = {.json = !isatty(STDOUT_FILENO)};
	const struct verb *verb = NULL;
	struct err err = ERR_INIT;
	int rc;

	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_usage(stdout);
		return 0;
	}
	if (argc == 2 && (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)) {
		puts("coraclectl " CORACLE_VERSION);
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	rc = parse(&o, argv, &verb, &err);
	o.events.json = o.json;
	if (rc == 0)
		rc = verb->run ? verb->run(&o, &err) : call(verb, &o, &err);
	if (rc < 0)
		return complain(&err);
	return fflush(stdout) == EOF ? 1 : 0;
}
