/* SPDX-License-Identifier: Apache-2.0 */
/* The process around the VM: what it is made of, how it starts and how it ends. */
#ifndef SHIM_PROCESS_H
#define SHIM_PROCESS_H

#include "base/err.h"
#include "shim/exit_code.h"

struct cmdline;
struct process;

/*
 * Opens everything that `cmdline` names (borrowed; its configuration is taken over by
 * process_run()): the event monitor, which may wait for the reader of a FIFO, then the API socket;
 * blocks the signals that are handled; makes the event log, the VM and the API. Main thread, before
 * others exist. Returns 0 or negative errno with err, nothing to free then.
 */
int process_new(struct cmdline *cmdline, struct process **ret_process, struct err *err);

/*
 * Enters the sandbox, tells the service manager, boots what the command line says, and serves until
 * the end: vmm.shutdown, a signal, the guest's end, a failure. The VM is gone when it returns. A
 * second SIGTERM or SIGINT during the end does not return: it leaves at once.
 */
enum exit_code process_run(struct process *process);

/* Closes all; removes an API socket that we made. After process_run(). NULL is fine. */
void process_free(struct process *process);

#endif
