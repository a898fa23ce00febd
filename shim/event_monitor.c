/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/event_monitor.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "shim/event_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct event_monitor {
	struct event_subscriber sub;
	struct event_log *log;
	int fd;
	struct loop_fd *handle; /* NULL for what cannot be polled: a regular file */
	uint64_t next;		/* number of the event to write next */
	uint64_t lost;		/* events that left the ring unwritten, or that nobody read */
	char rest[EVENT_TEXT_MAX];
	size_t rest_pos, rest_len; /* what is left of an event that was written in part */
};

int event_monitor_open(const char *path, struct err *err)
{
	int fd;

	do
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return err_set_errno(err, -errno, "Cannot open event monitor %s", path);
	return fd;
}

/* Returns 1 when all of it was written, 0 when the other end is full, -EPIPE when nobody reads, or
 * another negative errno. *ret_written counts in each case. */
static int write_some(int fd, const char *text, size_t len, size_t *ret_written)
{
	*ret_written = 0;
	while (*ret_written < len) {
		ssize_t n = write(fd, text + *ret_written, len - *ret_written);

		if (n > 0)
			*ret_written += (size_t)n;
		else if (n == 0 || errno == EAGAIN)
			return 0;
		else if (errno != EINTR)
			return -errno;
	}
	return 1;
}

/* Returns like write_some(). */
static int write_rest(struct event_monitor *m)
{
	size_t written;
	int rc = write_some(m->fd, m->rest + m->rest_pos, m->rest_len - m->rest_pos, &written);

	m->rest_pos += written;
	/* Whoever comes to read after the reader has gone shall start with a whole event. */
	if (rc == 1 || rc == -EPIPE)
		m->rest_pos = m->rest_len = 0;
	return rc;
}

static int write_event(struct event_monitor *m, const struct event *event)
{
	size_t written;
	int rc = write_some(m->fd, event->pretty, event->pretty_len, &written);

	if (rc != 1 && rc != -EPIPE && written) {
		m->rest_pos = 0;
		m->rest_len = event->pretty_len - written;
		memcpy(m->rest, event->pretty + written, m->rest_len);
	}
	/* An event that did not get in at all is tried again when there is room; where writing
	 * fails there is nothing to wait for. */
	if (rc == 0 && !written)
		return 0;
	m->next = event->seq + 1;
	if (rc < 0 && !m->rest_len)
		m->lost++;
	return rc;
}

static void report_lost(struct event_monitor *m)
{
	if (m->lost)
		log_warn_limited("The event monitor's reader missed %llu events",
				 (unsigned long long)m->lost);
	m->lost = 0;
}

/* Writes what is due as far as it goes. Returns like write_some(). */
static int pump(struct event_monitor *m)
{
	const struct event *event;
	int rc = 1;

	if (m->rest_len)
		rc = write_rest(m);
	while (rc != 0 && (event = event_log_at(m->log, m->next))) {
		m->lost += event->seq - m->next;
		m->next = event->seq;
		/* A remainder that cannot be written (disk full) must stay in front. */
		if (m->rest_len) {
			m->next++;
			m->lost++;
			continue;
		}
		rc = write_event(m, event);
		if (rc == 1)
			report_lost(m);
	}
	return rc;
}

static void on_notify(struct event_subscriber *sub)
{
	struct event_monitor *m = container_of(sub, struct event_monitor, sub);

	/* While there is no room, writability is what starts it again. Without a reader it must not
	 * be waited for: poll(2) would report the hang-up for ever. */
	if (pump(m) == 0 && m->handle)
		loop_fd_set(m->handle, LOOP_WRITE);
}

static void on_writable(struct loop_fd *handle, unsigned events, void *arg)
{
	if (pump(arg) != 0)
		loop_fd_set(handle, 0);
}

int event_monitor_new(struct loop *loop, struct event_log *log, int fd,
		      struct event_monitor **ret_monitor, struct err *err)
{
	AUTO_FD int owned = fd;
	AUTO_FREE struct event_monitor *m = calloc(1, sizeof(*m));
	int rc;

	if (!m)
		return err_set_errno(err, -ENOMEM, "Cannot start the event monitor");
	rc = fd_set_nonblock(fd, true);
	if (rc >= 0)
		rc = fd_set_cloexec(fd);
	if (rc >= 0)
		rc = loop_fd_new(loop, fd, 0, on_writable, m, &m->handle);
	if (rc < 0 && rc != -EPERM)
		return err_set_errno(err, rc, "Cannot use fd %d as event monitor", fd);
	m->fd = TAKE_FD(owned);
	m->log = log;
	m->next = 1;
	m->sub.notify = on_notify;
	event_log_subscribe(log, &m->sub);
	on_notify(&m->sub);
	*ret_monitor = TAKE(m);
	return 0;
}

void event_monitor_free(struct event_monitor *m)
{
	if (!m)
		return;
	event_log_unsubscribe(&m->sub);
	pump(m);
	report_lost(m);
	loop_fd_free(m->handle);
	fd_close(&m->fd);
	free(m);
}
