/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sockets that the service manager has opened for this process. sd_listen_fds(3) documents the
 * protocol: LISTEN_PID says whom they are for, LISTEN_FDS how many there are, from descriptor 3 on,
 * and LISTEN_FDNAMES, where it is set, what each is called. Main thread, before others exist.
 */
#ifndef SHIM_ACTIVATION_H
#define SHIM_ACTIVATION_H

#include "base/err.h"

/* How many sockets were passed to this process. 0: none. -EINVAL: the variables make no sense. */
int activation_count(void);

/*
 * The descriptor of the socket called `name`, or, with NULL, of the only one. It becomes the
 * caller's; all that were passed become close-on-exec, and the variables are removed, so this works
 * once. Returns -ENOENT (there is no such socket) or -EINVAL (it is not clear which one), with err.
 */
int activation_take(const char *name, struct err *err);

#endif
