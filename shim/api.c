/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/api.h"

#include "base/json.h"
#include "base/log.h"
#include "shim/api_route.h"
#include "shim/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PREFIX "/api/v1/"

/* Some clients read an answer by one recv(2) of 1,023 bytes. */
#define ERROR_BODY_MAX 800

/* --- answers ---------------------------------------------------------------------------------- */

void api_reply_json(struct conn *conn, struct json *value)
{
	AUTO_FREE char *text = value ? json_dump(value, false) : NULL;

	json_put(value);
	conn_reply(conn, text ? 200 : 500, text ? text : "[\"Out of memory\"]");
}

static int status_of(const struct err *err)
{
	switch (err ? err->kind : ERR_INTERNAL) {
	case ERR_BAD_REQUEST: return 400;
	case ERR_NOT_FOUND: return 404;
	case ERR_CONFLICT: return 409;
	case ERR_BUSY: return 429;
	case ERR_INTERNAL: break;
	}
	return 500;
}

/* The first `max` bytes of text as a JSON string; what is not printable ASCII becomes `?` if the
 * text as it is (or cut) is no UTF-8. */
static struct json *text_value(const char *text, size_t max)
{
	char copy[ERR_TEXT_MAX];
	struct json *value;

	snprintf(copy, sizeof(copy), "%.*s", (int)MIN(max, sizeof(copy) - 1), text);
	value = json_new_string(copy);
	if (value)
		return value;
	for (char *c = copy; *c; c++) {
		if ((unsigned char)*c >= 0x7f)
			*c = '?';
	}
	return json_new_string(copy);
}

/* The messages as JSON text, each cut at `max` bytes; NULL when out of memory. */
static char *error_text(const char *failure, const char *reason, const struct err *err, size_t max)
{
	AUTO_JSON struct json *array = json_new_array();

	if (!array || (failure && json_append(array, text_value(failure, max)) < 0))
		return NULL;
	if (reason && json_append(array, text_value(reason, max)) < 0)
		return NULL;
	for (size_t i = 0; err && i < err_count(err); i++) {
		if (json_append(array, text_value(err_message(err, i), max)) < 0)
			return NULL;
	}
	return json_dump(array, false);
}

void api_reply_error(struct conn *conn, const char *failure, int result, const struct err *err)
{
	bool told = err && err_count(err);
	const char *reason = told || !result ? NULL : strerror(-result);
	char *text = NULL;

	for (size_t max = ERR_TEXT_MAX; max >= 16; max /= 2) {
		free(text);
		text = error_text(failure, reason, err, max);
		if (!text || strlen(text) <= ERROR_BODY_MAX)
			break;
	}
	conn_reply(conn, status_of(err), text ? text : "[\"Out of memory\"]");
	free(text);
}

static void reply_refusal(struct conn *conn, enum err_kind kind, const char *failure,
			  const char *what, const char *name)
{
	struct err err = ERR_INIT;

	err_set_kind(&err, kind, -EINVAL, "%s%s", name, what);
	api_reply_error(conn, failure, -EINVAL, &err);
}

/* --- routing ---------------------------------------------------------------------------------- */

/* The path of a target in origin form ("/p") or absolute form ("http://host/p"). */
static const char *path_of(const char *target)
{
	const char *path;

	if (strncmp(target, "http://", 7))
		return target;
	path = strchr(target + 7, '/');
	return path ? path : "/";
}

/* The first route of that name, whatever its method; NULL when there is none. */
static const struct api_route *find_name(const char *path)
{
	if (strncmp(path, PREFIX, strlen(PREFIX)))
		return NULL;
	for (size_t i = 0; i < api_num_routes; i++) {
		if (!strcmp(api_routes[i].name, path + strlen(PREFIX)))
			return &api_routes[i];
	}
	return NULL;
}

static void on_request(void *arg, struct conn *conn, const struct http_request *request,
		       struct conn_fds *fds)
{
	struct api *api = arg;
	const char *path = path_of(request->target);
	const struct api_route *route = find_name(path);
	char quoted[128];

	snprintf(quoted, sizeof(quoted), "%.100s", path);
	log_debug("API: %s %s, %zu bytes, %zu fds", request->method_name, quoted, request->body_len,
		  fds->count);
	if (!route)
		reply_refusal(conn, ERR_NOT_FOUND, "There is no such endpoint", "", quoted);
	else if (!route->handle)
		reply_refusal(conn, ERR_NOT_FOUND, "There is no such endpoint",
			      " is not part of this version", route->name);
	else if (route->method != request->method)
		reply_refusal(conn, ERR_BAD_REQUEST, "The method does not fit the endpoint",
			      route->method == HTTP_METHOD_GET ? " is for GET" : " is for PUT",
			      route->name);
	else if (route->body == API_BODY_REQUIRED && !request->body_len)
		reply_refusal(conn, ERR_BAD_REQUEST, route->failure, " needs a body", route->name);
	else if (route->body == API_BODY_FORBIDDEN && request->body_len)
		reply_refusal(conn, ERR_BAD_REQUEST, route->failure, " takes no body", route->name);
	else
		route->handle(api, conn, route, request, fds);
}

/* --- life ------------------------------------------------------------------------------------- */

int api_new(struct loop *loop, struct vm *vm, struct event_log *log, int listener_fd,
	    const struct api_hooks *hooks, void *arg, struct api **ret_api, struct err *err)
{
	AUTO_FREE struct api *api = calloc(1, sizeof(*api));
	int rc;

	if (!api)
		return err_set_errno(err, -ENOMEM, "Cannot serve the API");
	api->loop = loop;
	api->vm = vm;
	api->log = log;
	api->hooks = hooks;
	api->hooks_arg = arg;
	rc = server_new(loop, listener_fd, on_request, api, &api->server, err);
	if (rc < 0)
		return rc;
	*ret_api = TAKE(api);
	return 0;
}

void api_close_listener(struct api *api)
{
	server_close_listener(api->server);
}

void api_drain(struct api *api, uint64_t timeout_ms, void (*done)(void *arg), void *arg)
{
	server_drain(api->server, timeout_ms, done, arg);
}

void api_free(struct api *api)
{
	if (!api)
		return;
	server_free(api->server);
	free(api);
}
