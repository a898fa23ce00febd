/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file descriptors that come with a request (SCM_RIGHTS).
 *
 * A client chooses what they are, how many, and when they come, and all count against this
 * process's limit on open files. So what unfinished requests hold together has a bound, and what no
 * request takes is closed so that it cannot hold up this thread: a socket may have been told to
 * linger (SO_LINGER) until a peer that never reads has read everything.
 *
 * Main thread only.
 */
#ifndef SHIM_CONN_FDS_H
#define SHIM_CONN_FDS_H

#include "base/util.h"

struct msghdr;

enum { CONN_MAX_FDS = 253 }; /* as many as one message can carry */

/* What all requests together hold and may hold. */
struct conn_fd_budget {
	size_t held;
	size_t max;
};

/* The descriptors of a request. Take one by leaving -1 in its place; the others are closed. */
struct conn_fds {
	int fds[CONN_MAX_FDS];
	size_t count;
	size_t fresh; /* index of the first that came with the last read; the connection's */
	bool lost;    /* more were sent than could be received */
};

/* Adds those that came with a read, whatever is in the message. */
void conn_fds_receive(struct conn_fds *fds, struct msghdr *msg, struct conn_fd_budget *budget);

/* After a request: closes what was not taken, but for what may belong to the next one, of which
 * some bytes (`more_input`) have come already. */
void conn_fds_finish(struct conn_fds *fds, bool more_input, struct conn_fd_budget *budget);

#endif
