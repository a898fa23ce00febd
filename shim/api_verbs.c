/* SPDX-License-Identifier: Apache-2.0 */
/* The endpoints. */
#include "base/json.h"
#include "base/log.h"
#include "shim/api_route.h"
#include "shim/sse.h"
#include "vmm/config/config_table.h"
#include "vmm/config/vm_config.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- requests to the VM ----------------------------------------------------------------------- */

/* A request that the VM works on, and the connection that waits for it. */
struct call {
	struct vm_request vm_request;
	struct conn *conn;
};

static void on_done(struct vm_request *req, int result, const struct err *err)
{
	struct call *call = container_of(req, struct call, vm_request);

	if (result < 0)
		api_reply_error(call->conn, NULL, result, err); /* the VM says what failed */
	else
		conn_reply(call->conn, 204, NULL);
	free(call);
}

/* Hands the request with its prepared config or object to the VM. Returns 0; or -ENOMEM, then both
 * are still the caller's and nothing was answered. */
static int submit(struct api *api, struct conn *conn, const struct api_route *route,
		  struct vm_config *config, void *object)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call)
		return -ENOMEM;
	call->vm_request = (struct vm_request){
		.verb = route->verb, .config = config, .object = object, .done = on_done};
	list_init(&call->vm_request.node);
	call->conn = conn;
	vm_submit(api->vm, &call->vm_request);
	return 0;
}

static void handle_verb(struct api *api, struct conn *conn, const struct api_route *route,
			const struct http_request *request, struct conn_fds *fds)
{
	if (submit(api, conn, route, NULL, NULL) < 0)
		api_reply_error(conn, route->failure, -ENOMEM, NULL);
}

/* --- file descriptors of network devices ------------------------------------------------------ */

static unsigned queue_pairs(const struct net_config *net)
{
	return net->num_queues / 2;
}

/* Gives the device its taps, fds[0..n), one per queue pair, in place of the client's numbers for
 * them, which mean nothing here. */
static int take_taps(struct net_config *net, struct conn_fds *fds, size_t first, struct err *err)
{
	size_t n = queue_pairs(net);
	int *taps = calloc(n ? n : 1, sizeof(*taps));

	if (!taps)
		return err_set_errno(err, -ENOMEM, "Cannot keep file descriptors");
	for (size_t i = 0; i < n; i++) {
		taps[i] = fds->fds[first + i];
		fds->fds[first + i] = -1;
	}
	free(net->fds);
	net->fds = taps;
	net->num_fds = n;
	return 0;
}

static bool names_fds(const struct net_config *nets, size_t num)
{
	for (size_t i = 0; i < num; i++) {
		if (nets[i].num_fds)
			return true;
	}
	return false;
}

/* Whether the device is to get its taps from the request. Clients that do not write `fds` into the
 * JSON mean every device that has no other way to the host. */
static bool wants_taps(const struct net_config *net, bool named)
{
	return named ? net->num_fds != 0 : !net->tap && !net->vhost_user;
}

/* A tap is a character device. Anything else would be noticed at boot only, and might hold up
 * whoever closes it: a socket that lingers, a file system that does not answer. */
static int check_taps(const struct conn_fds *fds, struct err *err)
{
	struct stat st;

	for (size_t i = 0; i < fds->count; i++) {
		if (fstat(fds->fds[i], &st) < 0)
			return err_set_errno(err, -errno,
					     "File descriptor %zu of the request cannot be "
					     "examined",
					     i);
		if (!S_ISCHR(st.st_mode))
			return err_set_kind(err, ERR_BAD_REQUEST, -ENOTTY,
					    "File descriptor %zu of the request is no tap: not a "
					    "character device",
					    i);
	}
	return 0;
}

/* Distributes the descriptors that came with the request over the devices, in order. Without any,
 * no device may have asked for some. */
static int attach_taps(struct net_config *nets, size_t num, struct conn_fds *fds, struct err *err)
{
	bool named = names_fds(nets, num);
	size_t needed = 0, first = 0;
	int rc;

	if (fds->lost)
		return err_set(err, -EMFILE,
			       "File descriptors were lost: too many in one request or in "
			       "all that are unfinished, or too many open files");
	if (!fds->count && !named)
		return 0;
	for (size_t i = 0; i < num; i++) {
		if (!wants_taps(&nets[i], named))
			continue;
		if (nets[i].num_queues % 2)
			return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
					    "num_queues is %u, but queues come in pairs",
					    nets[i].num_queues);
		needed += queue_pairs(&nets[i]);
	}
	if (needed != fds->count)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%zu file descriptors came with the request, %zu are needed "
				    "(one per queue pair)",
				    fds->count, needed);
	rc = check_taps(fds, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < num; i++) {
		if (!wants_taps(&nets[i], named))
			continue;
		rc = take_taps(&nets[i], fds, first, err);
		if (rc < 0)
			return rc;
		first += queue_pairs(&nets[i]);
	}
	return 0;
}

/* --- endpoints with a body -------------------------------------------------------------------- */

static int parse_create(const struct http_request *request, struct conn_fds *fds,
			struct vm_config **ret_config, struct err *err)
{
	AUTO_VM_CONFIG struct vm_config *config = NULL;
	AUTO_JSON struct json *json = json_parse(request->body, request->body_len, err);
	int rc;

	if (!json)
		return err->code;
	rc = vm_config_parse(json, &config, err);
	if (rc < 0)
		return rc;
	/* The descriptors may be meant for nobody, as with any other endpoint. */
	if (config->num_net) {
		rc = attach_taps(config->net, config->num_net, fds, err);
		if (rc < 0)
			return rc;
	}
	*ret_config = TAKE(config);
	return 0;
}

static void handle_create(struct api *api, struct conn *conn, const struct api_route *route,
			  const struct http_request *request, struct conn_fds *fds)
{
	AUTO_VM_CONFIG struct vm_config *config = NULL;
	struct err err = ERR_INIT;
	int rc = parse_create(request, fds, &config, &err);

	if (rc >= 0)
		rc = submit(api, conn, route, config, NULL);
	if (rc >= 0)
		config = NULL;
	else
		api_reply_error(conn, route->failure, rc, &err);
}

/* Reads the body into a new object of the table's kind. Returns 0 or negative errno with err. */
static int parse_object(const struct config_table *table, const struct http_request *request,
			void **ret_object, struct err *err)
{
	AUTO_JSON struct json *json = json_parse(request->body, request->body_len, err);
	AUTO_FREE void *object = calloc(1, table->size);
	int rc;

	if (!json)
		return err->code;
	if (!object)
		return err_set_errno(err, -ENOMEM, "Cannot keep the configuration");
	rc = vm_config_parse_object(table, json, object, err);
	if (rc >= 0)
		*ret_object = TAKE(object);
	return rc;
}

static void add_object(struct api *api, struct conn *conn, const struct api_route *route,
		       const struct http_request *request, struct conn_fds *fds,
		       const struct config_table *table)
{
	struct err err = ERR_INIT;
	void *object = NULL;
	int rc = parse_object(table, request, &object, &err);

	if (rc >= 0 && route->verb == VM_ADD_NET)
		rc = attach_taps(object, 1, fds, &err);
	if (rc >= 0)
		rc = submit(api, conn, route, NULL, object);
	if (rc >= 0)
		return;
	if (object)
		config_object_fini(table, object);
	free(object);
	api_reply_error(conn, route->failure, rc, &err);
}

static void handle_add_net(struct api *api, struct conn *conn, const struct api_route *route,
			   const struct http_request *request, struct conn_fds *fds)
{
	add_object(api, conn, route, request, fds, &net_config_table);
}

static void handle_add_disk(struct api *api, struct conn *conn, const struct api_route *route,
			    const struct http_request *request, struct conn_fds *fds)
{
	add_object(api, conn, route, request, fds, &disk_config_table);
}

/* --- endpoints that answer at once ------------------------------------------------------------ */

static struct json *features(void)
{
	static const char *const names[] = {"kvm", "io_uring", "vmm.events"};
	AUTO_JSON struct json *array = json_new_array();

	for (size_t i = 0; array && i < ARRAY_SIZE(names); i++) {
		if (json_append(array, json_new_string(names[i])) < 0)
			return NULL;
	}
	return TAKE(array);
}

static void handle_ping(struct api *api, struct conn *conn, const struct api_route *route,
			const struct http_request *request, struct conn_fds *fds)
{
	AUTO_JSON struct json *pong = json_new_object();

	if (pong && json_set(pong, "build_version", json_new_string(API_BUILD_VERSION)) >= 0 &&
	    json_set(pong, "version", json_new_string(API_COMPAT_VERSION)) >= 0 &&
	    json_set(pong, "pid", json_new_int(getpid())) >= 0 &&
	    json_set(pong, "features", features()) >= 0)
		api_reply_json(conn, TAKE(pong));
	else
		api_reply_json(conn, NULL);
}

static void handle_shutdown(struct api *api, struct conn *conn, const struct api_route *route,
			    const struct http_request *request, struct conn_fds *fds)
{
	/* The answer first: the client must get it before the process is gone. */
	conn_reply(conn, 204, NULL);
	if (api->shutdown_told)
		return;
	api->shutdown_told = true;
	api->hooks->shutdown(api->hooks_arg);
}

static void handle_info(struct api *api, struct conn *conn, const struct api_route *route,
			const struct http_request *request, struct conn_fds *fds)
{
	struct err err = ERR_INIT;
	struct json *info = NULL;
	int rc = vm_info(api->vm, &info, &err);

	if (rc < 0)
		api_reply_error(conn, route->failure, rc, &err);
	else
		api_reply_json(conn, info);
}

static void handle_counters(struct api *api, struct conn *conn, const struct api_route *route,
			    const struct http_request *request, struct conn_fds *fds)
{
	struct err err = ERR_INIT;
	struct json *counters = NULL;
	int rc = vm_counters(api->vm, &counters, &err);

	if (rc < 0)
		api_reply_error(conn, route->failure, rc, &err);
	else
		api_reply_json(conn, counters);
}

static void handle_events(struct api *api, struct conn *conn, const struct api_route *route,
			  const struct http_request *request, struct conn_fds *fds)
{
	struct err err = ERR_INIT;
	int rc = sse_start(api->loop, api->log, conn, request, &err);

	if (rc < 0)
		api_reply_error(conn, route->failure, rc, &err);
}

/* --- the table -------------------------------------------------------------------------------- */

#define GET(name_, failure_, handle_)                                                 \
	{                                                                             \
		.method = HTTP_METHOD_GET, .name = (name_), .body = API_BODY_IGNORED, \
		.failure = (failure_), .handle = (handle_)                            \
	}
#define PUT(name_, body_, failure_, handle_, verb_)                          \
	{                                                                    \
		.method = HTTP_METHOD_PUT, .name = (name_), .body = (body_), \
		.failure = (failure_), .handle = (handle_), .verb = (verb_)  \
	}
/* Endpoints of the API document whose devices or operations are not built. */
#define UNBUILT(name_)                                     \
	{                                                  \
		.method = HTTP_METHOD_PUT, .name = (name_) \
	}

const struct api_route api_routes[] = {
	GET("vmm.ping", "The VMM could not answer", handle_ping),
	GET("vmm.events", "The event stream could not be opened", handle_events),
	PUT("vmm.shutdown", API_BODY_IGNORED, "The VMM could not be shut down", handle_shutdown, 0),
	GET("vm.info", "The VM info is not available", handle_info),
	GET("vm.counters", "The VM counters are not available", handle_counters),
	PUT("vm.create", API_BODY_REQUIRED, "The VM could not be created", handle_create,
	    VM_CREATE),
	PUT("vm.delete", API_BODY_FORBIDDEN, "The VM could not be deleted", handle_verb, VM_DELETE),
	PUT("vm.boot", API_BODY_FORBIDDEN, "The VM could not boot", handle_verb, VM_BOOT),
	PUT("vm.shutdown", API_BODY_FORBIDDEN, "The VM could not be shut down", handle_verb,
	    VM_SHUTDOWN),
	PUT("vm.reboot", API_BODY_FORBIDDEN, "The VM could not reboot", handle_verb, VM_REBOOT),
	PUT("vm.pause", API_BODY_FORBIDDEN, "The VM could not be paused", handle_verb, VM_PAUSE),
	PUT("vm.resume", API_BODY_FORBIDDEN, "The VM could not resume", handle_verb, VM_RESUME),
	PUT("vm.power-button", API_BODY_FORBIDDEN, "The power button could not be pressed",
	    handle_verb, VM_POWER_BUTTON),
	PUT("vm.nmi", API_BODY_FORBIDDEN, "The NMI could not be injected", handle_verb, VM_NMI),
	PUT("vm.add-net", API_BODY_REQUIRED, "The network device could not be added to the VM",
	    handle_add_net, VM_ADD_NET),
	PUT("vm.add-disk", API_BODY_REQUIRED, "The disk could not be added to the VM",
	    handle_add_disk, VM_ADD_DISK),
	UNBUILT("vm.resize"),
	UNBUILT("vm.resize-disk"),
	UNBUILT("vm.resize-zone"),
	UNBUILT("vm.add-device"),
	UNBUILT("vm.add-user-device"),
	UNBUILT("vm.add-fs"),
	UNBUILT("vm.add-generic-vhost-user"),
	UNBUILT("vm.add-pmem"),
	UNBUILT("vm.add-vdpa"),
	UNBUILT("vm.add-vsock"),
	UNBUILT("vm.remove-device"),
	UNBUILT("vm.snapshot"),
	UNBUILT("vm.restore"),
	UNBUILT("vm.send-migration"),
	UNBUILT("vm.receive-migration"),
	UNBUILT("vm.coredump"),
};

const size_t api_num_routes = ARRAY_SIZE(api_routes);
