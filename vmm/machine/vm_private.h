/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct vm, shared by vm.c (queue and lifecycle), vm_jobs.c (what takes long) and
 * vm_report.c (what can be asked). Main thread but for the job. */
#ifndef VMM_MACHINE_VM_PRIVATE_H
#define VMM_MACHINE_VM_PRIVATE_H

#include "base/loop.h"
#include "base/thread.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/vm.h"

#include <stdatomic.h>

struct config_table;

/*
 * The long part of a request, on a worker thread. While it runs the worker owns what is below
 * `started`, and the backends; the main thread only sets `cancel`, and takes the result when `done`
 * arrives.
 */
struct vm_job {
	const char *name; /* NULL: no job runs */
	struct thread thread;
	atomic_bool cancel;
	struct loop_task done;
	struct machine *old; /* to be torn down first; NULL = none */
	bool build;	     /* then build a new one */
	bool close_images;
	struct machine *machine; /* what was built */
	int result;
	struct err err;
};

/* Something the guest asked for, in the queue like a request; dropped when its machine is gone. */
struct vm_guest_action {
	struct vm_request request;
	bool queued;
	unsigned generation;
};

struct vm {
	struct loop *loop;
	struct vm_hooks hooks;
	void *arg;
	enum vm_state state;
	struct vm_config *config;   /* NULL in VM_NONE */
	struct backends *backends;  /* NULL in VM_NONE */
	struct machine *machine;    /* NULL unless booted, and while a job has it */
	unsigned generation;	    /* counts machines */
	unsigned id_counter;	    /* of automatic device ids */
	struct list queue;	    /* struct vm_request */
	struct vm_request *current; /* begun and not finished */
	bool in_next;
	struct vm_job job;
	struct vm_guest_action guest_reset;
	struct vm_guest_action guest_off;
	/* While a job has the machine of a VM that goes on being one: what it last told. NULL:
	 * nothing. */
	struct json *last_counters;
	struct json *last_tree;
	struct err failure; /* why the machine cannot go on; guest_off then reports it */
};

/* Answers vm->current and takes the next request. */
void vm_finish(struct vm *vm, int result, struct err *err);
void vm_next(struct vm *vm);
void vm_event(struct vm *vm, const char *event);
/* Before a job takes the machine, and after: keeps what vm.info and vm.counters tell of it. */
void vm_keep_report(struct vm *vm);
void vm_drop_report(struct vm *vm);
/* Before a boot or reboot: clears its cancel flag, or sets it if an end is waiting already. */
void vm_prepare_cancel(struct vm *vm);
/* Back to VM_NONE; no machine. */
void vm_forget(struct vm *vm);

/* Each carries out vm->current and sees to it that vm_finish() is called. */
void vm_do_create(struct vm *vm, struct vm_request *req);
void vm_do_add(struct vm *vm, struct vm_request *req, const struct config_table *table);
void vm_do_boot(struct vm *vm);
void vm_do_shutdown(struct vm *vm); /* and delete */
void vm_do_reboot(struct vm *vm);
void vm_do_pause(struct vm *vm);
void vm_do_resume(struct vm *vm);

/* Hooks of the machine. */
void vm_guest_request(void *arg, enum guest_request request);
void vm_machine_failed(void *arg, const struct err *err);

#endif
