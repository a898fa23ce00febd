/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/notify.h"

#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Of a path, or of a name in the abstract namespace, which is written with a leading @. Returns the
 * length of the address or negative errno. */
static int make_address(const char *text, struct sockaddr_un *ret_addr)
{
	size_t len = strlen(text);

	if (*text != '/' && *text != '@')
		return -EAFNOSUPPORT;
	if (len < 2)
		return -EINVAL;
	if (len > sizeof(ret_addr->sun_path))
		return -ENAMETOOLONG;
	*ret_addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(ret_addr->sun_path, text, len);
	if (*text == '@')
		ret_addr->sun_path[0] = '\0';
	/* A terminator would be part of an abstract name; a path needs none. */
	return (int)(offsetof(struct sockaddr_un, sun_path) + len);
}

static int send_state(const char *socket_name, const char *state)
{
	AUTO_FD int fd = -1;
	struct sockaddr_un addr;
	int len = make_address(socket_name, &addr);

	if (len < 0)
		return len;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
		   (socklen_t)len) < 0)
		return -errno;
	return 0;
}

static void notify(const char *state)
{
	const char *socket_name = getenv("NOTIFY_SOCKET");
	int rc = socket_name ? send_state(socket_name, state) : 0;

	if (rc < 0)
		log_warn("the service manager could not be told %s: %s", state, strerror(-rc));
}

void notify_ready(void)
{
	notify("READY=1");
}

void notify_stopping(void)
{
	notify("STOPPING=1");
}
