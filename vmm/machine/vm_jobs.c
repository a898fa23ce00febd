/* SPDX-License-Identifier: Apache-2.0 */
#include "base/json.h"
#include "base/log.h"
#include "vmm/config/vm_config.h"
#include "vmm/machine/backends.h"
#include "vmm/machine/vm_private.h"

#include <errno.h>

/* --- the job ---------------------------------------------------------------------------------- */

static void machine_event(void *arg, const char *source, const char *event, struct json *properties)
{
	struct vm *vm = arg;

	vm->hooks.event(vm->arg, source, event, properties);
}

static const struct machine_hooks machine_hooks = {
	.guest_request = vm_guest_request,
	.event = machine_event,
	.failed = vm_machine_failed,
};

static int build(struct vm *vm)
{
	struct vm_job *job = &vm->job;
	int r = backends_open(vm->backends, vm->config, &job->err);

	if (r >= 0)
		r = machine_build(vm->config, vm->backends, vm->loop, &machine_hooks, vm,
				  &job->cancel, &job->machine, &job->err);
	if (r >= 0 && atomic_load(&job->cancel)) {
		machine_free(TAKE(job->machine));
		r = err_set(&job->err, -ECANCELED, "cancelled by a request to shut down");
	}
	return r;
}

static void *job_main(void *arg)
{
	struct vm *vm = arg;
	struct vm_job *job = &vm->job;

	machine_free(TAKE(job->old));
	if (job->build)
		job->result = build(vm);
	if (job->close_images || job->result < 0)
		backends_close_images(vm->backends);
	loop_post(vm->loop, &job->done);
	return NULL;
}

/* Lets the worker tear down vm->machine, if any, and build a new one if asked; `done` gets vm's job
 * on the main thread. */
static void job_start(struct vm *vm, const char *name, bool build_new,
		      void (*done)(struct loop_task *task))
{
	struct vm_job *job = &vm->job;
	int r;

	vm_keep_report(vm);
	job->name = name;
	job->done.fn = done;
	job->old = TAKE(vm->machine);
	job->build = build_new;
	job->close_images = !build_new;
	job->result = 0;
	job->err = (struct err)ERR_INIT;
	if (job->old)
		machine_detach(job->old);
	r = thread_start(&job->thread, name, THREAD_WORKER, job_main, vm);
	if (r >= 0)
		return;
	/* Tearing down must not fail: without a thread to spare it is done here, late as it may be.
	 */
	log_warn("cannot start a worker thread (%d); %s holds up the API", r, name);
	if (job->build) {
		job->build = false;
		job->result = err_set_errno(&job->err, r, "cannot start a worker thread");
	}
	job_main(vm);
}

/* The job is over; returns its result. */
static int job_end(struct vm *vm, struct err *err)
{
	struct vm_job *job = &vm->job;

	thread_join(&job->thread);
	vm_drop_report(vm);
	job->name = NULL;
	*err = job->err;
	return job->result;
}

/* --- boot and reboot -------------------------------------------------------------------------- */

static void power_on(struct vm *vm)
{
	vm->machine = TAKE(vm->job.machine);
	vm->generation++;
	vm->state = VM_RUNNING;
	vm->hooks.devices_ready(vm->arg);
	machine_start(vm->machine);
}

static void boot_done(struct loop_task *task)
{
	struct vm *vm = task->arg;
	struct err err;
	int r = job_end(vm, &err);

	if (r >= 0) {
		power_on(vm);
		vm_event(vm, "booted");
	}
	vm_finish(vm, r, &err);
}

void vm_do_boot(struct vm *vm)
{
	struct err err = ERR_INIT;
	int r = vm_config_validate(vm->config, &err);

	if (r >= 0)
		r = vm_config_check_supported(vm->config, &err);
	if (r >= 0)
		r = vm_config_assign_ids(vm->config, &vm->id_counter, &err);
	if (r < 0) {
		vm_finish(vm, r, &err);
		return;
	}
	vm_event(vm, "booting");
	vm_prepare_cancel(vm);
	job_start(vm, "boot", true, boot_done);
}

static void reboot_done(struct loop_task *task)
{
	struct vm *vm = task->arg;
	struct err err;
	int r = job_end(vm, &err);

	if (r >= 0) {
		power_on(vm);
		vm_event(vm, "rebooted");
	} else {
		vm->state = VM_CREATED;
		vm_event(vm, "shutdown");
	}
	vm_finish(vm, r, &err);
}

static void reboot_at_rest(void *arg)
{
	job_start(arg, "reboot", true, reboot_done);
}

void vm_do_reboot(struct vm *vm)
{
	vm_event(vm, "rebooting");
	vm_prepare_cancel(vm);
	if (vm->state == VM_RUNNING)
		machine_pause(vm->machine, reboot_at_rest, vm);
	else
		reboot_at_rest(vm);
}

/* --- shutdown and delete ---------------------------------------------------------------------- */

static void shutdown_finish(struct vm *vm, int r, struct err *err)
{
	if (vm->current->verb == VM_DELETE) {
		vm_forget(vm);
		vm_event(vm, "deleted");
	}
	vm_finish(vm, r, err);
}

static void shutdown_done(struct loop_task *task)
{
	struct vm *vm = task->arg;
	struct err err;
	int r = job_end(vm, &err);

	vm->state = VM_CREATED;
	vm_event(vm, "shutdown");
	shutdown_finish(vm, r, &err);
}

static void shutdown_at_rest(void *arg)
{
	job_start(arg, "shutdown", false, shutdown_done);
}

void vm_do_shutdown(struct vm *vm)
{
	struct err err = ERR_INIT;

	if (vm->state == VM_RUNNING)
		machine_pause(vm->machine, shutdown_at_rest, vm);
	else if (vm->state == VM_PAUSED)
		shutdown_at_rest(vm);
	else
		shutdown_finish(vm, 0, &err);
}

/* --- pause and resume ------------------------------------------------------------------------- */

static void paused(void *arg)
{
	struct vm *vm = arg;
	struct err err = ERR_INIT;

	vm->state = VM_PAUSED;
	vm_event(vm, "paused");
	vm_finish(vm, 0, &err);
}

void vm_do_pause(struct vm *vm)
{
	vm_event(vm, "pausing");
	machine_pause(vm->machine, paused, vm);
}

void vm_do_resume(struct vm *vm)
{
	struct err err = ERR_INIT;

	vm_event(vm, "resuming");
	machine_resume(vm->machine);
	vm->state = VM_RUNNING;
	vm_event(vm, "resumed");
	vm_finish(vm, 0, &err);
}
