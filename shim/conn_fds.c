/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/conn_fds.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* What is no socket does not mind. */
static void drop(int *fd)
{
	const struct linger off = {0};

	if (*fd >= 0 && setsockopt(*fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off)) < 0 &&
	    errno != ENOTSOCK && errno != EBADF)
		log_debug("A client's socket may linger: %s", strerror(errno));
	fd_close(fd);
}

static void add(struct conn_fds *fds, const struct cmsghdr *cmsg, struct conn_fd_budget *budget)
{
	size_t n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd), sizeof(fd));
		if (fds->count < CONN_MAX_FDS && budget->held < budget->max) {
			fds->fds[fds->count++] = fd;
			budget->held++;
		} else {
			drop(&fd);
			fds->lost = true;
		}
	}
}

void conn_fds_receive(struct conn_fds *fds, struct msghdr *msg, struct conn_fd_budget *budget)
{
	fds->fresh = fds->count;
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		if (cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS)
			add(fds, cmsg, budget);
	}
	/* Cut: this process is at its limit of open files. */
	if (msg->msg_flags & MSG_CTRUNC)
		fds->lost = true;
}

void conn_fds_finish(struct conn_fds *fds, bool more_input, struct conn_fd_budget *budget)
{
	size_t end = more_input ? fds->fresh : fds->count;
	size_t kept = 0;

	for (size_t i = 0; i < end; i++)
		drop(&fds->fds[i]);
	for (size_t i = 0; i < fds->count; i++) {
		if (fds->fds[i] >= 0)
			fds->fds[kept++] = fds->fds[i];
	}
	budget->held -= fds->count - kept;
	fds->count = kept;
	fds->fresh = 0;
	fds->lost = fds->lost && more_input;
}
