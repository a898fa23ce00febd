/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of coracle: options of the process, and those that are a part of VmConfig. */
#ifndef SHIM_CMDLINE_H
#define SHIM_CMDLINE_H

#include "base/log.h"
#include "shim/sandbox.h"
#include "vmm/config/config_option.h"

enum cmdline_action {
	CMDLINE_RUN,
	CMDLINE_HELP,	 /* print cmdline_help() */
	CMDLINE_VERSION, /* print the version */
};

enum panic_action {
	PANIC_REPORT, /* an event; the guest does as it likes */
	PANIC_EXIT,   /* end the VM and the process */
};

struct cmdline {
	enum cmdline_action action;
	const char *help_topic; /* borrowed from argv; option that help is asked for, or NULL */
	struct endpoint_option api_socket;    /* path and fd both NULL: not given */
	struct endpoint_option event_monitor; /* likewise */
	const char *log_file;		      /* borrowed from argv; NULL = stderr */
	enum log_format log_format;
	enum log_level log_level;
	enum sandbox_mode seccomp;
	bool no_shutdown;
	enum panic_action on_panic;
	struct vm_config *config; /* owned; NULL unless the command line has something to boot */
};

/*
 * Reads argv (strings are borrowed). Nothing outside is looked at, but descriptors that options
 * name must be open. Returns 0, *ret_cmdline is then to be released by cmdline_fini(); or negative
 * errno with err set naming the option, nothing to release.
 */
int cmdline_parse(int argc, char *const argv[], struct cmdline *ret_cmdline, struct err *err);

void cmdline_fini(struct cmdline *cmdline);

/* Text of --help, malloced; with a topic (the name of an option, dashes or not) what that option
 * takes. NULL when out of memory, or when there is no such option. */
char *cmdline_help(const char *topic);

#endif
