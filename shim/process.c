/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Everything here happens on the main thread. The end has one way, whoever asks for it (finish()):
 * the first reason decides the exit code, and then
 *
 *   VM_DELETE     cancels a boot, tears the machine down; the API still answers and sends events
 *   vmm:shutdown  the last event
 *   api_drain()   no more requests are read; answers and events that are due get out
 *   VM_DELETE     a request that came in during the first may have made a VM again
 *   loop_stop()
 *
 * A second SIGTERM or SIGINT leaves at once, with the terminal as it was found.
 */
#include "shim/process.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/loop.h"
#include "shim/api.h"
#include "shim/cmdline.h"
#include "shim/event_log.h"
#include "shim/event_monitor.h"
#include "shim/listen.h"
#include "shim/notify.h"
#include "shim/sandbox.h"
#include "vmm/machine/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* How long clients get to take what is due to them. Orchestrators kill after three seconds. */
#define DRAIN_MS 500

struct process {
	struct cmdline *cmdline; /* borrowed */
	struct loop *loop;
	struct event_log *log;
	struct event_monitor *monitor; /* NULL: none */
	struct listen_socket listener;
	struct vm *vm;
	struct api *api; /* NULL: none */
	int signal_fd;
	struct loop_fd *signals;
	struct termios terminal; /* of stdin at the start */
	bool has_terminal;
	bool panicked;	/* the guest that runs has reported a panic */
	bool signalled; /* a signal has asked for the end */
	bool ending;
	enum exit_code code;
	struct vm_request create, boot, end;
};

/* --- the end -------------------------------------------------------------------------------- */

static void submit(struct process *p, struct vm_request *req, enum vm_verb verb,
		   void (*done)(struct vm_request *req, int result, const struct err *err))
{
	*req = (struct vm_request){.verb = verb, .done = done, .arg = p};
	vm_submit(p->vm, req);
}

static void log_failure(const char *what, const struct err *err)
{
	char text[ERR_TEXT_MAX];

	log_error("%s: %s", what, err ? err_format(err, text, sizeof(text)) : "no reason given");
}

static void on_deleted_again(struct vm_request *req, int result, const struct err *err)
{
	struct process *p = req->arg;

	if (result < 0)
		log_failure("The VM could not be deleted", err);
	loop_stop(p->loop);
}

static void on_drained(void *arg)
{
	struct process *p = arg;

	submit(p, &p->end, VM_DELETE, on_deleted_again);
}

static void on_deleted(struct vm_request *req, int result, const struct err *err)
{
	struct process *p = req->arg;

	if (result < 0)
		log_failure("The VM could not be deleted", err);
	event_log_add(p->log, "vmm", "shutdown", NULL);
	if (p->api)
		api_drain(p->api, DRAIN_MS, on_drained, p);
	else
		on_drained(p);
}

/* Ends the process with `code`, unless it is ending already. */
static void finish(struct process *p, enum exit_code code)
{
	if (p->ending)
		return;
	p->ending = true;
	p->code = code;
	notify_stopping();
	submit(p, &p->end, VM_DELETE, on_deleted);
}

static void leave_at_once(struct process *p)
{
	log_warn("second signal: leaving without waiting for the VM");
	if (p->has_terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &p->terminal);
	listen_close(&p->listener);
	_exit(EXIT_CODE_ERROR);
}

/* --- signals -------------------------------------------------------------------------------- */

static void on_signals(struct loop_fd *h, unsigned events, void *arg)
{
	struct process *p = arg;
	struct signalfd_siginfo info;

	while (read(p->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGWINCH) {
			vm_console_resized(p->vm);
			continue;
		}
		if (p->signalled)
			leave_at_once(p);
		p->signalled = true;
		log_info("signal %u from process %u: ending", info.ssi_signo, info.ssi_pid);
		finish(p, EXIT_CODE_ORDERLY);
	}
}

static int watch_signals(struct process *p, struct err *err)
{
	struct sigaction hup;
	sigset_t set;
	int rc;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGWINCH);
	/* A blocked signal is never ignored: leave it alone under nohup(1). */
	if (sigaction(SIGHUP, NULL, &hup) == 0 && hup.sa_handler != SIG_IGN)
		sigaddset(&set, SIGHUP);
	rc = -pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (rc < 0)
		return err_set_errno(err, rc, "signals cannot be blocked");
	p->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (p->signal_fd < 0)
		return err_set_errno(err, -errno, "signals cannot be watched");
	rc = loop_fd_new(p->loop, p->signal_fd, LOOP_READ, on_signals, p, &p->signals);
	return rc < 0 ? err_set_errno(err, rc, "signals cannot be watched") : 0;
}

/* --- what the VM and the API tell ----------------------------------------------------------- */

static void on_event(void *arg, const char *source, const char *event, struct json *properties)
{
	struct process *p = arg;

	/* A guest that starts anew has not panicked. */
	if (strcmp(source, "vm") == 0 &&
	    (strcmp(event, "booting") == 0 || strcmp(event, "rebooting") == 0))
		p->panicked = false;
	event_log_add(p->log, source, event, properties);
}

static void on_guest_off(void *arg)
{
	struct process *p = arg;

	if (!p->cmdline->no_shutdown)
		finish(p, p->panicked ? EXIT_CODE_GUEST_PANIC : EXIT_CODE_GUEST_OFF);
}

static void on_guest_panic(void *arg)
{
	struct process *p = arg;

	p->panicked = true;
	log_warn_limited("the guest reported a panic");
	if (p->cmdline->on_panic == PANIC_EXIT)
		finish(p, EXIT_CODE_GUEST_PANIC);
}

static void on_failed(void *arg, const struct err *err)
{
	struct process *p = arg;

	log_failure("The VM failed", err);
	if (!p->cmdline->no_shutdown)
		finish(p, EXIT_CODE_ERROR);
}

static void on_devices_ready(void *arg)
{
	int rc = sandbox_drop_capabilities();

	if (rc < 0)
		log_error("capabilities could not be dropped: %s", strerror(-rc));
}

static const struct vm_hooks vm_hooks = {
	.event = on_event,
	.guest_off = on_guest_off,
	.guest_panic = on_guest_panic,
	.failed = on_failed,
	.devices_ready = on_devices_ready,
};

static void on_api_shutdown(void *arg)
{
	finish(arg, EXIT_CODE_ORDERLY);
}

static const struct api_hooks api_hooks = {.shutdown = on_api_shutdown};

/* --- the start ------------------------------------------------------------------------------ */

/* The descriptor of `--event-monitor fd=N`. It is ours from now on; standard streams stay open. */
static int adopt_monitor_fd(const char *text, struct err *err)
{
	char *end;
	long fd;
	int rc;

	errno = 0;
	fd = strtol(text, &end, 10);
	if (errno || end == text || *end || fd < 0 || fd > INT_MAX)
		return err_set(err, -EINVAL, "fd=%s is not a number", text);
	if (fd <= STDERR_FILENO)
		rc = fd_dup((int)fd);
	else
		rc = fd_set_cloexec((int)fd);
	if (rc < 0)
		return err_set_errno(err, rc, "fd %ld cannot be used", fd);
	return fd <= STDERR_FILENO ? rc : (int)fd;
}

static int open_monitor(struct process *p, struct err *err)
{
	const struct endpoint_option *where = &p->cmdline->event_monitor;
	int fd;

	if (!where->path && !where->fd)
		return 0;
	fd = where->fd ? adopt_monitor_fd(where->fd, err) : event_monitor_open(where->path, err);
	if (fd >= 0) {
		int rc = event_monitor_new(p->loop, p->log, fd, &p->monitor, err);

		if (rc >= 0)
			return 0;
		fd = rc;
	}
	return err_wrap(err, fd, "--event-monitor");
}

static int open_listener(struct process *p, struct err *err)
{
	const struct endpoint_option *where = &p->cmdline->api_socket;

	if (where->fd)
		return listen_open_fd(&p->listener, where->fd, err);
	if (where->path)
		return listen_open_path(&p->listener, where->path, err);
	if (listen_is_activated())
		return listen_open_fd(&p->listener, "activation", err);
	if (!p->cmdline->config)
		return err_set(err, -EINVAL,
			       "nothing to do: give --api-socket to be told what to boot, or say "
			       "what to boot (--kernel)");
	return 0;
}

static void save_terminal(struct process *p)
{
	p->has_terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &p->terminal) == 0;
}

static int assemble(struct process *p, struct err *err)
{
	int rc = loop_new(&p->loop);

	if (rc == 0)
		rc = event_log_new(&p->log);
	if (rc < 0)
		return err_set_errno(err, rc, "no event loop");
	event_log_add(p->log, "vmm", "starting", NULL);
	save_terminal(p);
	/* The monitor comes first: whoever waits at the FIFO wants every event. Signals still do
	 * what they do by default, so waiting for a reader can be interrupted. */
	rc = open_monitor(p, err);
	if (rc == 0)
		rc = watch_signals(p, err);
	if (rc == 0)
		rc = open_listener(p, err);
	if (rc < 0)
		return rc;
	rc = vm_new(p->loop, &vm_hooks, p, &p->vm);
	if (rc < 0)
		return err_set_errno(err, rc, "no VM object");
	if (p->listener.fd < 0)
		return 0;
	return api_new(p->loop, p->vm, p->log, p->listener.fd, &api_hooks, p, &p->api, err);
}

int process_new(struct cmdline *cmdline, struct process **ret_process, struct err *err)
{
	struct process *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->cmdline = cmdline;
	p->listener = (struct listen_socket)LISTEN_SOCKET_INIT;
	p->signal_fd = -1;
	rc = assemble(p, err);
	if (rc < 0) {
		process_free(p);
		return rc;
	}
	*ret_process = p;
	return 0;
}

static void on_booted(struct vm_request *req, int result, const struct err *err)
{
	struct process *p = req->arg;

	if (result < 0) {
		/* Cancelled by whoever ends the process: no failure. */
		if (!p->ending)
			log_failure("The VM could not be booted", err);
		finish(p, EXIT_CODE_ERROR);
	} else if (!p->api) {
		notify_ready();
	}
}

static void on_created(struct vm_request *req, int result, const struct err *err)
{
	struct process *p = req->arg;

	if (result < 0) {
		log_failure("The VM could not be created", err);
		finish(p, EXIT_CODE_ERROR);
	} else if (!p->ending) {
		submit(p, &p->boot, VM_BOOT, on_booted);
	}
}

enum exit_code process_run(struct process *p)
{
	int rc = sandbox_enter(THREAD_MAIN);

	if (rc < 0) {
		log_error("the sandbox cannot be entered: %s", strerror(-rc));
		return EXIT_CODE_ERROR;
	}
	if (p->api)
		notify_ready();
	if (p->cmdline->config) {
		p->create = (struct vm_request){.verb = VM_CREATE,
						.config = TAKE(p->cmdline->config),
						.done = on_created,
						.arg = p};
		vm_submit(p->vm, &p->create);
	}
	loop_run(p->loop);
	return p->code;
}

void process_free(struct process *p)
{
	if (!p)
		return;
	api_free(p->api);
	vm_free(p->vm);
	event_monitor_free(p->monitor);
	event_log_free(p->log);
	loop_fd_free(p->signals);
	fd_close(&p->signal_fd);
	listen_close(&p->listener);
	loop_free(p->loop);
	free(p);
}
