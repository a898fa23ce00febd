/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine/vm.h"

#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "vmm/config/config_table.h"
#include "vmm/config/vm_config.h"
#include "vmm/machine/backends.h"
#include "vmm/machine/vm_private.h"

#include <errno.h>

static const char *const state_names[VM_STATES_] = {
	[VM_NONE] = "None",
	[VM_CREATED] = "Created",
	[VM_RUNNING] = "Running",
	[VM_PAUSED] = "Paused",
};

const char *vm_state_name(enum vm_state state)
{
	return state < VM_STATES_ ? state_names[state] : "?";
}

/* What a request means in a state. */
enum verdict {
	DO_IT,
	DONE_ALREADY, /* succeeds without doing anything */
	NO_VM,	      /* 404: there is no configuration */
	NO_MACHINE,   /* 404: nothing is booted that could be rebooted */
	NOT_RUNNING,  /* 500: the VM is not booted */
	TRANSITION,   /* 500: illegal from here */
	EXISTS,	      /* 500: there is a VM already */
	AS_RESUME,    /* vm.boot of a paused VM */
};

/* The lifecycle: which request is legal when. */
static const uint8_t legal[VM_VERBS_][VM_STATES_] = {
	/* clang-format off */
	/*                    none         Created      Running       Paused */
	[VM_CREATE]       = { DO_IT,       EXISTS,      EXISTS,       EXISTS },
	[VM_DELETE]       = { DONE_ALREADY, DO_IT,      DO_IT,        DO_IT },
	[VM_BOOT]         = { NO_VM,       DO_IT,       TRANSITION,   AS_RESUME },
	[VM_SHUTDOWN]     = { NOT_RUNNING, NOT_RUNNING, DO_IT,        DO_IT },
	[VM_REBOOT]       = { NO_MACHINE,  NO_MACHINE,  DO_IT,        DO_IT },
	[VM_PAUSE]        = { NOT_RUNNING, NOT_RUNNING, DO_IT,        DONE_ALREADY },
	[VM_RESUME]       = { NOT_RUNNING, NOT_RUNNING, DONE_ALREADY, DO_IT },
	[VM_POWER_BUTTON] = { NOT_RUNNING, NOT_RUNNING, DO_IT,        DO_IT },
	[VM_NMI]          = { NOT_RUNNING, NOT_RUNNING, DO_IT,        DO_IT },
	[VM_ADD_NET]      = { NO_VM,       DO_IT,       TRANSITION,   TRANSITION },
	[VM_ADD_DISK]     = { NO_VM,       DO_IT,       TRANSITION,   TRANSITION },
	/* clang-format on */
};

static const char *const failure[VM_VERBS_] = {
	[VM_CREATE] = "The VM could not be created",
	[VM_DELETE] = "The VM could not be deleted",
	[VM_BOOT] = "The VM could not boot",
	[VM_SHUTDOWN] = "The VM could not shutdown",
	[VM_REBOOT] = "The VM could not reboot",
	[VM_PAUSE] = "The VM could not be paused",
	[VM_RESUME] = "The VM could not resume",
	[VM_POWER_BUTTON] = "Power button could not be notified",
	[VM_NMI] = "The NMI could not be triggered",
	[VM_ADD_NET] = "The network device could not be added to the VM",
	[VM_ADD_DISK] = "The disk could not be added to the VM",
};

/* --- the queue -------------------------------------------------------------------------------- */

static void release_payload(struct vm_request *req)
{
	vm_config_free(TAKE(req->config));
	if (req->object) {
		config_object_fini(req->verb == VM_ADD_NET ? &net_config_table : &disk_config_table,
				   req->object);
		free(TAKE(req->object));
	}
}

void vm_finish(struct vm *vm, int result, struct err *err)
{
	struct vm_request *req = vm->current;

	vm->current = NULL;
	if (result < 0)
		err_wrap(err, result, "%s", failure[req->verb]);
	release_payload(req);
	req->done(req, result, err);
	vm_next(vm);
}

static int refuse(struct vm *vm, enum verdict verdict, struct err *err)
{
	switch (verdict) {
	case NO_VM: return err_set_kind(err, ERR_NOT_FOUND, -ENOENT, "VM is not created");
	case NO_MACHINE:
		return err_set_kind(err, ERR_NOT_FOUND, -ENOENT,
				    vm->state == VM_NONE ? "VM is not created"
							 : "VM is not booted");
	case NOT_RUNNING: return err_set(err, -EINVAL, "VM is not running");
	case EXISTS: return err_set(err, -EEXIST, "VM is already created");
	default:
		return err_set(err, -EINVAL, "InvalidStateTransition(%s, %s)",
			       vm_state_name(vm->state), vm_state_name(vm->state));
	}
}

static void begin(struct vm *vm, struct vm_request *req)
{
	struct err err = ERR_INIT;
	enum verdict verdict = legal[req->verb][vm->state];

	if (req == &vm->guest_reset.request || req == &vm->guest_off.request) {
		/* The machine that asked may be gone by now. */
		struct vm_guest_action *action = container_of(req, struct vm_guest_action, request);

		action->queued = false;
		if (action->generation != vm->generation || !vm->machine) {
			vm->failure = (struct err)ERR_INIT;
			return;
		}
	}
	if (verdict == NOT_RUNNING && req->ends_boot)
		verdict = DONE_ALREADY;
	vm->current = req;
	switch (verdict) {
	case DONE_ALREADY: vm_finish(vm, 0, &err); return;
	case AS_RESUME: vm_do_resume(vm); return;
	case DO_IT: break;
	default: vm_finish(vm, refuse(vm, verdict, &err), &err); return;
	}
	switch (req->verb) {
	case VM_CREATE: vm_do_create(vm, req); break;
	case VM_DELETE:
	case VM_SHUTDOWN: vm_do_shutdown(vm); break;
	case VM_BOOT: vm_do_boot(vm); break;
	case VM_REBOOT: vm_do_reboot(vm); break;
	case VM_PAUSE: vm_do_pause(vm); break;
	case VM_RESUME: vm_do_resume(vm); break;
	case VM_POWER_BUTTON: vm_finish(vm, machine_power_button(vm->machine, &err), &err); break;
	case VM_NMI: vm_finish(vm, machine_nmi(vm->machine, &err), &err); break;
	case VM_ADD_NET: vm_do_add(vm, req, &net_config_table); break;
	case VM_ADD_DISK: vm_do_add(vm, req, &disk_config_table); break;
	case VM_VERBS_: break;
	}
}

/* Takes requests until one is left waiting for something. A done() that submits, or a request that
 * is answered at once, comes back here: only the outermost call loops. */
void vm_next(struct vm *vm)
{
	if (vm->in_next)
		return;
	vm->in_next = true;
	while (!vm->current && !list_empty(&vm->queue))
		begin(vm, container_of(list_pop(&vm->queue), struct vm_request, node));
	vm->in_next = false;
}

static bool is_end(const struct vm_request *req)
{
	return req->verb == VM_SHUTDOWN || req->verb == VM_DELETE;
}

static void cancel_boot_for(struct vm *vm, struct vm_request *req)
{
	atomic_store(&vm->job.cancel, true);
	req->ends_boot = true;
}

void vm_prepare_cancel(struct vm *vm)
{
	struct list *node;

	atomic_store(&vm->job.cancel, false);
	list_for_each (node, &vm->queue) {
		struct vm_request *req = container_of(node, struct vm_request, node);

		/* The guest's own power-off is meant for the machine before. */
		if (is_end(req) && req != &vm->guest_off.request)
			cancel_boot_for(vm, req);
	}
}

void vm_submit(struct vm *vm, struct vm_request *req)
{
	req->ends_boot = false;
	if (is_end(req) && vm->current &&
	    (vm->current->verb == VM_BOOT || vm->current->verb == VM_REBOOT))
		cancel_boot_for(vm, req);
	list_add_tail(&vm->queue, &req->node);
	vm_next(vm);
}

/* --- what needs no job ------------------------------------------------------------------------ */

void vm_event(struct vm *vm, const char *event)
{
	vm->hooks.event(vm->arg, "vm", event, NULL);
}

void vm_do_create(struct vm *vm, struct vm_request *req)
{
	struct err err = ERR_INIT;
	struct backends *backends = NULL;
	int r = backends_new(vm->loop, &backends);

	if (r < 0)
		err_set_errno(&err, r, "cannot prepare the VM");
	else
		r = backends_open_consoles(backends, req->config, &err);
	if (r < 0) {
		backends_free(backends);
		vm_finish(vm, r, &err);
		return;
	}
	vm->config = TAKE(req->config);
	vm->backends = backends;
	vm->id_counter = 0;
	vm->state = VM_CREATED;
	vm_finish(vm, 0, &err);
}

void vm_do_add(struct vm *vm, struct vm_request *req, const struct config_table *table)
{
	struct err err = ERR_INIT;
	struct vm_config *trial = NULL;
	int r = vm_config_copy(vm->config, &trial, &err);

	/* The rules are checked on a copy: a device that breaks one leaves no trace. */
	if (r >= 0)
		r = vm_config_add(trial, table, req->object, &err);
	if (r >= 0)
		r = vm_config_validate(trial, &err);
	if (r >= 0) {
		vm_config_free(vm->config);
		vm->config = TAKE(trial);
	}
	vm_config_free(trial);
	vm_finish(vm, r, &err);
}

void vm_forget(struct vm *vm)
{
	backends_free(TAKE(vm->backends));
	vm_config_free(TAKE(vm->config));
	vm->state = VM_NONE;
}

/* --- the guest's own wishes ------------------------------------------------------------------- */

static void reset_done(struct vm_request *req, int result, const struct err *err)
{
	struct vm *vm = req->arg;

	/* A reboot that was cancelled has somebody else's answer coming. */
	if (result < 0 && result != -ECANCELED)
		vm->hooks.failed(vm->arg, err);
}

static void off_done(struct vm_request *req, int result, const struct err *err)
{
	struct vm *vm = req->arg;

	if (err_count(&vm->failure)) {
		struct err why = vm->failure;

		vm->failure = (struct err)ERR_INIT;
		vm->hooks.failed(vm->arg, &why);
	} else if (result < 0) {
		vm->hooks.failed(vm->arg, err);
	} else {
		vm->hooks.guest_off(vm->arg);
	}
}

static void guest_action(struct vm *vm, struct vm_guest_action *action)
{
	if (action->queued)
		return;
	action->queued = true;
	action->generation = vm->generation;
	list_add_tail(&vm->queue, &action->request.node);
	vm_next(vm);
}

static void panicked(struct vm *vm, const char *what)
{
	struct json *properties = json_new_object();

	log_warn_limited("the guest reported: %s", what);
	if (properties && json_set(properties, "event", json_new_string(what)) < 0) {
		json_put(properties);
		properties = NULL;
	}
	vm->hooks.event(vm->arg, "guest", "panic", properties);
	vm->hooks.guest_panic(vm->arg);
}

void vm_machine_failed(void *arg, const struct err *err)
{
	struct vm *vm = arg;

	if (!err_count(&vm->failure))
		vm->failure = *err;
	guest_action(vm, &vm->guest_off);
}

void vm_guest_request(void *arg, enum guest_request request)
{
	struct vm *vm = arg;

	switch (request) {
	case GUEST_RESET:
		log_info_limited("the guest asked for a reset");
		guest_action(vm, &vm->guest_reset);
		break;
	case GUEST_TRIPLE_FAULT:
		log_warn_limited("the guest ended in a triple fault; it is reset");
		vm->hooks.event(vm->arg, "guest", "triple-fault", NULL);
		guest_action(vm, &vm->guest_reset);
		break;
	case GUEST_POWER_OFF:
	case GUEST_PANIC_SHUTDOWN:
		/* Clients look for these very words to tell a power-off from a crash. */
		log_info("ACPI Shutdown signalled");
		guest_action(vm, &vm->guest_off);
		break;
	case GUEST_PANIC:
	case GUEST_CRASH_LOADED:
		panicked(vm, request == GUEST_PANIC ? "panic" : "crash-loaded");
		break;
	}
}

/* --- life ------------------------------------------------------------------------------------- */

int vm_new(struct loop *loop, const struct vm_hooks *hooks, void *arg, struct vm **ret_vm)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return -ENOMEM;
	vm->loop = loop;
	vm->hooks = *hooks;
	vm->arg = arg;
	list_init(&vm->queue);
	vm->guest_reset.request =
		(struct vm_request){.verb = VM_REBOOT, .done = reset_done, .arg = vm};
	vm->guest_off.request =
		(struct vm_request){.verb = VM_SHUTDOWN, .done = off_done, .arg = vm};
	vm->job.done.arg = vm;
	*ret_vm = vm;
	return 0;
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	vm_forget(vm);
	free(vm);
}

enum vm_state vm_state(const struct vm *vm)
{
	return vm->state;
}

const char *vm_job(const struct vm *vm)
{
	return vm->job.name;
}

void vm_console_resized(struct vm *vm)
{
	if (vm->backends)
		backends_console_resized(vm->backends);
}
