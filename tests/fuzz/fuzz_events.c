/* SPDX-License-Identifier: Apache-2.0 */
/* A client that sends anything to a connection whose every GET is answered by the event stream, up
 * to what Last-Event-ID asks for. */
#include "base/loop.h"
#include "shim/conn.h"
#include "shim/event_log.h"
#include "shim/sse.h"
#include "tests/fuzz/turns.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct event_log *event_log;

static void on_request(void *arg, struct conn *conn, const struct http_request *request,
		       struct conn_fds *fds)
{
	struct err err = ERR_INIT;

	if (request->method != HTTP_METHOD_GET) {
		conn_reply(conn, 204, NULL);
		return;
	}
	if (sse_start(loop, event_log, conn, request, &err) >= 0)
		return;
	if (!request->has_last_event_id || !err_count(&err))
		abort();
	conn_reply(conn, 400, "[]");
}

static void on_closed(void *arg)
{
	(*(unsigned *)arg)++;
}

static void set_up(void)
{
	if (loop_new(&loop) < 0 || event_log_new(&event_log) < 0)
		abort();
	/* More than the ring holds: the first ones are gone. */
	for (unsigned i = 0; i < EVENT_LOG_MAX_EVENTS + 10; i++)
		event_log_add(event_log, "vm", "paused", NULL);
}

static void drain(int fd)
{
	char buf[65536];

	while (recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		run_turns(loop);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct conn_ops ops = {.request = on_request, .closed = on_closed};
	struct conn_pool pool;
	unsigned closed = 0;
	int ends[2];

	if (!loop)
		set_up();
	conn_pool_init(&pool, SIZE_MAX, CONN_MAX_FDS);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0 ||
	    conn_new(loop, ends[0], &ops, &closed, &pool) < 0)
		abort();
	if (send(ends[1], data, MIN(size, (size_t)65536), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		run_turns(loop);
	drain(ends[1]);
	event_log_add(event_log, "vm", "resumed", NULL);
	run_turns(loop);
	drain(ends[1]);
	conn_close_all(&pool);
	run_turns(loop);
	close(ends[1]);
	if (closed != 1)
		abort();
	return 0;
}
