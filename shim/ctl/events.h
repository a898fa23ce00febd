/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SHIM_CTL_EVENTS_H
#define SHIM_CTL_EVENTS_H

#include "base/err.h"

struct events_options {
	bool follow;	/* go on until the server ends; otherwise up to the newest event */
	bool has_since; /* begin behind event number `since`; otherwise with the oldest there is, or
			   when following with what comes */
	uint64_t since;
	bool json; /* one line of JSON an event, else for people */
};

/* Prints events of the process whose API socket is at `path`. Returns 0 or negative errno with
 * err. */
int events_print(const char *path, const struct events_options *options, struct err *err);

#endif
