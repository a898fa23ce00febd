/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/client.h"

#include "base/fd.h"

#include <errno.h>
#include <llhttp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_FDS	    253 /* what the kernel takes in one message */
#define MAX_ANSWER  (64u * 1024 * 1024)
#define READ_BYTES  (64u * 1024)
#define STATUS_GOOD 200

int client_connect(struct client *c, const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	AUTO_FD int fd = -1;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, -ENAMETOOLONG, "%s is too long for a socket", path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_set_errno(err, -errno, "%s cannot be connected to", path);
	c->fd = TAKE_FD(fd);
	return 0;
}

void client_close(struct client *c)
{
	fd_close(&c->fd);
}

/* --- sending -------------------------------------------------------------------------------- */

/* The first bytes take the descriptors along. Returns how many bytes were sent. */
static ssize_t send_with_fds(int sock, const struct buf *b, const int *fds, size_t num_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = b->data, .iov_len = b->len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;

	if (num_fds) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(num_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(num_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, num_fds * sizeof(int));
	}
	return sendmsg(sock, &msg, MSG_NOSIGNAL);
}

static int send_request(struct client *c, const struct client_request *r, struct err *err)
{
	AUTO_BUF struct buf b = {0};
	ssize_t n;
	int rc;

	if (r->num_fds > MAX_FDS)
		return err_set(err, -E2BIG, "more than %d descriptors", MAX_FDS);
	buf_printf(&b, "%s /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n", r->method,
		   r->verb);
	if (r->last_event_id)
		buf_printf(&b, "Last-Event-ID: %s\r\n", r->last_event_id);
	if (r->body)
		buf_printf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n",
			   r->body_len);
	buf_printf(&b, "\r\n");
	if (r->body)
		buf_put(&b, r->body, r->body_len);
	if (!buf_ok(&b))
		return err_set(err, -ENOMEM, "out of memory");
	n = send_with_fds(c->fd, &b, r->fds, r->num_fds);
	rc = n < 0 ? -errno : fd_write_all(c->fd, b.data + n, b.len - (size_t)n);
	return rc < 0 ? err_set_errno(err, rc, "the request cannot be sent") : 0;
}

/* --- receiving ------------------------------------------------------------------------------ */

struct receiver {
	llhttp_t parser;
	llhttp_settings_t settings;
	struct client_response *response;
	int (*data)(void *arg, const char *bytes, size_t len); /* NULL: collect everything */
	void *arg;
	int stopped; /* what data() said */
	bool complete;
};

static int on_body(llhttp_t *parser, const char *at, size_t len)
{
	struct receiver *r = parser->data;

	if (r->data && llhttp_get_status_code(parser) == STATUS_GOOD) {
		r->stopped = r->data(r->arg, at, len);
		return r->stopped ? HPE_USER : 0;
	}
	if (len > MAX_ANSWER - r->response->body.len)
		return HPE_USER;
	buf_put(&r->response->body, at, len);
	return 0;
}

static int on_headers(llhttp_t *parser)
{
	struct receiver *r = parser->data;

	r->response->status = llhttp_get_status_code(parser);
	return 0;
}

static int on_complete(llhttp_t *parser)
{
	struct receiver *r = parser->data;

	/* An interim answer (100) is followed by the real one. */
	r->complete = r->response->status >= STATUS_GOOD;
	return r->complete ? HPE_PAUSED : 0;
}

static void receiver_init(struct receiver *r, struct client_response *response)
{
	*response = (struct client_response){0};
	r->response = response;
	llhttp_settings_init(&r->settings);
	r->settings.on_headers_complete = on_headers;
	r->settings.on_body = on_body;
	r->settings.on_message_complete = on_complete;
	llhttp_init(&r->parser, HTTP_RESPONSE, &r->settings);
	r->parser.data = r;
}

/* Waits for bytes. Returns 1 when there are some (or the end), 0 when `idle_ms` went by. */
static int wait_readable(int fd, int idle_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int rc;

	do {
		rc = poll(&poll_fd, 1, idle_ms);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

static int feed(struct receiver *r, const char *bytes, size_t len, struct err *err)
{
	enum llhttp_errno code =
		len ? llhttp_execute(&r->parser, bytes, len) : llhttp_finish(&r->parser);

	if (r->stopped || r->complete || code == HPE_OK)
		return 0;
	return err_set(err, -EBADMSG, "the answer is not HTTP: %s",
		       llhttp_get_error_reason(&r->parser));
}

static int receive(struct client *c, struct receiver *r, int idle_ms, struct err *err)
{
	AUTO_FREE char *bytes = malloc(READ_BYTES);

	if (!bytes)
		return err_set(err, -ENOMEM, "out of memory");
	while (!r->complete && !r->stopped) {
		int rc = wait_readable(c->fd, r->response->status ? idle_ms : -1);
		ssize_t n;

		if (rc == 0) {
			r->stopped = r->data(r->arg, NULL, 0);
			continue;
		}
		n = recv(c->fd, bytes, READ_BYTES, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set_errno(err, -errno, "the answer cannot be read");
		rc = feed(r, bytes, (size_t)n, err);
		if (rc < 0)
			return rc;
		if (n == 0 && !r->response->status)
			return err_set(err, -ECONNRESET, "the connection ended without an answer");
		if (n == 0)
			break;
	}
	return buf_ok(&r->response->body) ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int client_call(struct client *c, const struct client_request *request,
		struct client_response *ret_response, struct err *err)
{
	struct receiver r = {0};
	int rc;

	receiver_init(&r, ret_response);
	rc = send_request(c, request, err);
	if (rc == 0)
		rc = receive(c, &r, -1, err);
	if (rc == 0 && !r.complete)
		rc = err_set(err, -ECONNRESET, "the connection ended within the answer");
	if (rc < 0)
		buf_fini(&ret_response->body);
	return rc;
}

int client_stream(struct client *c, const struct client_request *request, int idle_ms,
		  int (*data)(void *arg, const char *bytes, size_t len), void *arg,
		  struct client_response *ret_response, struct err *err)
{
	struct receiver r = {.data = data, .arg = arg};
	int rc;

	receiver_init(&r, ret_response);
	rc = send_request(c, request, err);
	if (rc == 0)
		rc = receive(c, &r, idle_ms, err);
	if (rc < 0)
		buf_fini(&ret_response->body);
	return rc < 0 ? rc : r.stopped;
}
