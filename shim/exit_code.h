/* SPDX-License-Identifier: Apache-2.0 */
/* How the process ended, for whoever started it. Part of the interface: see coracle(1). */
#ifndef SHIM_EXIT_CODE_H
#define SHIM_EXIT_CODE_H

enum exit_code {
	EXIT_CODE_ORDERLY = 0,	   /* vmm.shutdown, SIGTERM or SIGINT */
	EXIT_CODE_ERROR = 1,	   /* command line, start-up, or an internal failure */
	EXIT_CODE_GUEST_OFF = 3,   /* the guest powered itself off */
	EXIT_CODE_GUEST_PANIC = 4, /* the guest reported a panic */
};

#endif
