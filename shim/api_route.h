/* SPDX-License-Identifier: Apache-2.0 */
/* What the API's own files share: the table of endpoints and the ways to answer. Main thread only.
 */
#ifndef SHIM_API_ROUTE_H
#define SHIM_API_ROUTE_H

#include "base/http.h"
#include "shim/api.h"
#include "shim/conn.h"
#include "vmm/machine/vm.h"

struct json;
struct server;

struct api {
	struct loop *loop;
	struct vm *vm;
	struct event_log *log;
	struct server *server;
	const struct api_hooks *hooks;
	void *hooks_arg;
	bool shutdown_told;
};

enum api_body { API_BODY_IGNORED, API_BODY_FORBIDDEN, API_BODY_REQUIRED };

struct api_route {
	enum http_method method;
	const char *name; /* behind /api/v1/ */
	enum api_body body;
	const char *failure; /* outermost sentence of an error */
	/* Owes the connection one answer. NULL: known to the API, not part of this build. */
	void (*handle)(struct api *api, struct conn *conn, const struct api_route *route,
		       const struct http_request *request, struct conn_fds *fds);
	enum vm_verb verb; /* for those that are nothing but a request to the VM */
};

extern const struct api_route api_routes[];
extern const size_t api_num_routes;

/* Answers 200 with the JSON value (taken over); 500 when `value` is NULL (out of memory). */
void api_reply_json(struct conn *conn, struct json *value);

/* Answers with the status of err's kind and the array of `failure` (NULL: nothing) and err's
 * messages. `result`: negative errno, told when err (may be NULL) is empty. */
void api_reply_error(struct conn *conn, const char *failure, int result, const struct err *err);

#endif
