/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The REST API on its socket: connections, routes, answers, the event stream.
 *
 * Main thread only. Nothing in here ever waits: a request that changes the VM is submitted to it
 * and answered when the VM says so, while all other connections go on.
 */
#ifndef SHIM_API_H
#define SHIM_API_H

#include "base/err.h"

struct api;
struct event_log;
struct loop;
struct vm;

/* The level of the Cloud Hypervisor API that is spoken; clients choose their dialect by it. */
#define API_COMPAT_VERSION "53.0.0"
/* What vmm.ping says of the build. */
#define API_BUILD_VERSION "v53.0-coracle-" CORACLE_VERSION

struct api_hooks {
	/* vmm.shutdown was asked for and its answer is on the way: end the VM and the process.
	 * Called once. From inside a request: do not call api_free() in it. */
	void (*shutdown)(void *arg);
};

/*
 * Serves the API on `listener_fd`, a listening AF_UNIX stream socket. It is borrowed, made
 * non-blocking, never unlinked nor shut down, and must stay open until api_close_listener() or
 * api_free(). `vm`, `log` and `hooks` must outlive the api. Returns 0 or negative errno with err.
 */
int api_new(struct loop *loop, struct vm *vm, struct event_log *log, int listener_fd,
	    const struct api_hooks *hooks, void *arg, struct api **ret_api, struct err *err);

/* Accepts no more connections; those that exist go on. The caller may close the fd afterwards. */
void api_close_listener(struct api *api);

/*
 * The end in order: accepts nothing more, reads no further request, sends what is due on every
 * connection (answers of requests that still run, the remaining events on event streams), closes
 * each that is done, and then calls done(arg), once, on the loop, at the latest after `timeout_ms`.
 * done() may call api_free().
 */
void api_drain(struct api *api, uint64_t timeout_ms, void (*done)(void *arg), void *arg);

/* Closes every connection at once. Requests that the VM still works on finish without an answer.
 * NULL is fine. */
void api_free(struct api *api);

#endif
