/* SPDX-License-Identifier: Apache-2.0 */
/* A blocking client of the REST API on its socket. One thread, one connection a client. */
#ifndef SHIM_CTL_CLIENT_H
#define SHIM_CTL_CLIENT_H

#include "base/cursor.h"
#include "base/err.h"

struct client {
	int fd;
};

#define CLIENT_INIT      \
	{                \
		.fd = -1 \
	}

/* Connects to the socket at `path`. Returns 0, client_close() is then due; or negative errno with
 * err. */
int client_connect(struct client *c, const char *path, struct err *err);
void client_close(struct client *c);
#define AUTO_CLIENT CLEANUP(client_close)

struct client_request {
	const char *method; /* "GET", "PUT" */
	const char *verb;   /* "vm.boot": what follows /api/v1/ */
	const char *body;   /* borrowed; NULL = none */
	size_t body_len;
	const int *fds; /* borrowed; sent with the request */
	size_t num_fds;
	const char *last_event_id; /* NULL = no such header */
};

struct client_response {
	int status;
	struct buf body; /* owned, not terminated; buf_fini() */
};

/* Sends a request and waits for its answer, whatever its status. Returns 0 or negative errno with
 * err. */
int client_call(struct client *c, const struct client_request *request,
		struct client_response *ret_response, struct err *err);

/*
 * Sends a request whose answer does not end, and gives its body to data() in pieces, until the
 * server closes (returns 0) or data() returns something else than 0 (returns that). data() with
 * len 0: nothing came for `idle_ms` (-1: never called so). An answer that is not 200 is put into
 * ret_response, and 0 returned.
 */
int client_stream(struct client *c, const struct client_request *request, int idle_ms,
		  int (*data)(void *arg, const char *bytes, size_t len), void *arg,
		  struct client_response *ret_response, struct err *err);

#endif
