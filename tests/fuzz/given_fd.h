/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor that options and arguments of an input can name. */
#ifndef TESTS_FUZZ_GIVEN_FD_H
#define TESTS_FUZZ_GIVEN_FD_H

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define GIVEN_FD 100

/* Opens it where it is not open (any more). */
static inline void offer_fd(void)
{
	int fd;

	if (fcntl(GIVEN_FD, F_GETFD) >= 0)
		return;
	fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (fd < 0 || dup2(fd, GIVEN_FD) < 0)
		abort();
	close(fd);
}

#endif
