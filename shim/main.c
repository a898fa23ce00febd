/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/log.h"
#include "shim/api.h"
#include "shim/cmdline.h"
#include "shim/process.h"
#include "shim/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Enough for the eventfds of many queues and for hundreds of API clients. */
#define WANTED_FDS 65536

/*
 * The first line of --version. libvirt finds out whether it can use a binary by matching
 * "cloud-hypervisor v<major>.<minor>" at its very start, and decides by these numbers which dialect
 * to speak; so they name the API level that is spoken, and the program's own version follows.
 */
static const char version_text[] =
	"cloud-hypervisor v" API_COMPAT_VERSION " (coracle " CORACLE_VERSION ")\n";

/* An error of the start, where an operator or an orchestrator reads it: one line per level. */
static int complain(const struct err *err)
{
	for (size_t i = 0; i < err_count(err); i++)
		fprintf(stderr, "%s%s\n", i ? "  " : "coracle: ", err_message(err, i));
	return EXIT_CODE_ERROR;
}

/* Descriptors 0 to 2 are open, so that nothing else ever takes their numbers. */
static int open_standard_streams(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

static void raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= WANTED_FDS)
		return;
	limit.rlim_cur = MIN((rlim_t)WANTED_FDS, limit.rlim_max);
	setrlimit(RLIMIT_NOFILE, &limit);
}

static int print(const char *text)
{
	return fputs(text, stdout) == EOF || fflush(stdout) == EOF ? EXIT_CODE_ERROR
								   : EXIT_CODE_ORDERLY;
}

static int print_help(const char *topic)
{
	AUTO_FREE char *text = cmdline_help(topic);

	if (text)
		return print(text);
	fprintf(stderr, "coracle: there is no option %s\n", topic ? topic : "");
	return EXIT_CODE_ERROR;
}

static int set_up_log(const struct cmdline *cmdline, struct err *err)
{
	int fd;

	log_set_level(cmdline->log_level);
	log_set_format(cmdline->log_format);
	if (!cmdline->log_file)
		return 0;
	fd = open(cmdline->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set_errno(err, -errno, "--log-file %s cannot be opened",
				     cmdline->log_file);
	log_set_fd(fd); /* stays open until the very end */
	return 0;
}

/* The sanitizers' own calls, such as those that look for leaks at the end, are in no list: a build
 * with them tells what it would have died of. */
static enum sandbox_mode sandbox_mode(const struct cmdline *cmdline)
{
#ifdef SANITIZED
	if (cmdline->seccomp == SANDBOX_TRAP)
		return SANDBOX_LOG;
#endif
	return cmdline->seccomp;
}

/*
 * Large blocks are mappings of their own: what is not used of a table costs nothing, and what is
 * freed goes back. Left alone, glibc stops doing so for sizes of which it has seen one freed.
 */
static void set_up_malloc(void)
{
	mallopt(M_MMAP_THRESHOLD, 64 * KIB);
}

static int run(struct cmdline *cmdline)
{
	struct process *process = NULL;
	struct err err = ERR_INIT;
	int rc = set_up_log(cmdline, &err);

	if (rc == 0)
		rc = sandbox_limit_capabilities(&err);
	if (rc == 0)
		rc = sandbox_init(sandbox_mode(cmdline), &err);
	if (rc == 0)
		rc = process_new(cmdline, &process, &err);
	if (rc < 0)
		return complain(&err);
	rc = (int)process_run(process);
	process_free(process);
	sandbox_fini();
	return rc;
}

int main(int argc, char *argv[])
{
	struct err err = ERR_INIT;
	struct cmdline cmdline;
	int code;

	set_up_malloc();
	log_start();
	code = open_standard_streams();
	if (code < 0) {
		err_set_errno(&err, code, "/dev/null cannot be opened");
		return complain(&err);
	}
	if (cmdline_parse(argc, argv, &cmdline, &err) < 0)
		return complain(&err);
	if (cmdline.action == CMDLINE_VERSION) {
		code = print(version_text);
	} else if (cmdline.action == CMDLINE_HELP) {
		code = print_help(cmdline.help_topic);
	} else {
		umask(077);
		signal(SIGPIPE, SIG_IGN);
		/* Writing past a limit on file sizes is an error of that write, not our end. */
		signal(SIGXFSZ, SIG_IGN);
		raise_fd_limit();
		/* Here the time zone's file may still be opened; a vCPU that converts times for the
		 * guest's clock may not. */
		tzset();
		code = run(&cmdline);
	}
	cmdline_fini(&cmdline);
	return code;
}
