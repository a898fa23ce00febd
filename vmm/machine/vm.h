/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lifecycle: the one VM that this process may have, what it is doing, and which request is
 * legal when.
 *
 * Theory of operation
 *
 * A struct vm lives on the main thread for the whole process. It starts empty; vm.create gives it a
 * configuration, vm.boot a machine. Requests are submitted and answered by a callback on the main
 * thread. Those that change something are taken one at a time in the order of arrival, as Cloud
 * Hypervisor does; the long ones (boot, shutdown, reboot) run as jobs on a worker thread meanwhile
 * the main thread goes on answering. vm_info(), vm_counters() and everything else that only reads
 * answers at once, always.
 *
 * A request that ends the VM (VM_SHUTDOWN, VM_DELETE) and arrives while a boot is running, or
 * waiting for its turn, cancels that boot: the boot's own request is answered with -ECANCELED, then
 * the newcomer takes its turn. It has then got what it asked for, so VM_SHUTDOWN succeeds although
 * the VM is not running any more.
 *
 * What the guest does by itself (power-off, reset, triple fault, panic) is posted here by the vCPU
 * threads and takes its turn in the same queue: a reset reboots in place, a power-off tears the
 * machine down (as VM_SHUTDOWN) and is then told to the owner through vm_hooks.guest_off.
 */
#ifndef VMM_MACHINE_VM_H
#define VMM_MACHINE_VM_H

#include "base/err.h"
#include "base/list.h"

struct json;
struct loop;
struct vm;
struct vm_config;

/* The states of vm.info; "none" is no configuration at all. Names are those of the API. */
enum vm_state { VM_NONE, VM_CREATED, VM_RUNNING, VM_PAUSED, VM_STATES_ };

const char *vm_state_name(enum vm_state state); /* "Created", ... */

/* Told to the owner, all on the main thread. The VM may be used from inside a hook, but not freed.
 */
struct vm_hooks {
	/* Something worth an event. `properties`: an object or NULL; taken over. */
	void (*event)(void *arg, const char *source, const char *event, struct json *properties);
	/* The guest powered itself off and its machine is gone (state: Created). */
	void (*guest_off)(void *arg);
	/* The guest reported a panic; it may still run. */
	void (*guest_panic)(void *arg);
	/* The VMM failed the guest (a vCPU that KVM refuses to run, a reboot that cannot be built).
	 * Machine is gone. */
	void (*failed)(void *arg, const struct err *err);
	/* The machine is about to be started for the first time: everything privileged is done. */
	void (*devices_ready)(void *arg);
};

enum vm_verb {
	VM_CREATE,
	VM_DELETE,
	VM_BOOT,
	VM_SHUTDOWN,
	VM_REBOOT,
	VM_PAUSE,
	VM_RESUME,
	VM_POWER_BUTTON,
	VM_NMI,
	VM_ADD_NET,  /* before boot only: appends to the configuration */
	VM_ADD_DISK, /* before boot only */
	VM_VERBS_,
};

/*
 * A request. The submitter owns it and keeps it alive until done() was called, which happens
 * exactly once, on the main thread, possibly from inside vm_submit(); done() may free it.
 */
struct vm_request {
	enum vm_verb verb;
	struct vm_config
		*config; /* VM_CREATE: taken over (NULL afterwards), also on failure. Else NULL */
	void *object;	 /* VM_ADD_*: a heap struct net_config/disk_config, taken over as above */
	void (*done)(struct vm_request *req, int result, const struct err *err);
	void *arg;	  /* submitter's */
	struct list node; /* the VM's */
	bool ends_boot;	  /* the VM's: a boot was cancelled for this one */
};

/* A VM without configuration. `loop`, `hooks` and `arg` outlive it. Returns 0 or -ENOMEM. */
int vm_new(struct loop *loop, const struct vm_hooks *hooks, void *arg, struct vm **ret_vm);

/* Only when vm_state() is VM_NONE or VM_CREATED and nothing is queued (after VM_DELETE was
 * answered). NULL is fine. */
void vm_free(struct vm *vm);

/* Queues a request. `result` in done(): 0 or negative errno with err filled: -EEXIST, -ENOENT
 * (ERR_NOT_FOUND), -EINVAL (an illegal transition), -ECANCELED, or what the host said. Pausing the
 * paused and resuming the running succeed. */
void vm_submit(struct vm *vm, struct vm_request *req);

enum vm_state vm_state(const struct vm *vm);

/* The job that is running, for logs and the API: "boot", "shutdown", "reboot"; NULL when none. */
const char *vm_job(const struct vm *vm);

/* Answers of vm.info and vm.counters as a new object (owned by the caller). Return 0 or negative
 * errno with err. */
int vm_info(struct vm *vm, struct json **ret_info, struct err *err);
int vm_counters(struct vm *vm, struct json **ret_counters, struct err *err);

/* The terminal's size changed (SIGWINCH): tells consoles in Tty mode. */
void vm_console_resized(struct vm *vm);

#endif
