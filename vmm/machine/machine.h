/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One machine from power-on to power-off: memory, processors, buses, devices, tables, kernel.
 *
 * Theory of operation
 *
 * machine_build() and machine_free() run on a worker thread, since either may take long; the object
 * is then handed to the main thread, which alone starts, pauses and resumes it. A reboot is a new
 * machine. The guest's own requests and device events come from vCPU and I/O threads; they are
 * collected in fixed space here (a guest may repeat them as often as it likes) and told on the main
 * thread.
 *
 * Pausing is asynchronous: first all vCPUs are kicked out of the guest, then every device comes to
 * rest, then `done` is called. Resume goes the other way.
 */
#ifndef VMM_MACHINE_MACHINE_H
#define VMM_MACHINE_MACHINE_H

#include "base/err.h"
#include "vmm/bus/device.h"

struct backends;
struct json;
struct machine;
struct vm_config;

/* All on the main thread, never after machine_free() began. */
struct machine_hooks {
	void (*guest_request)(void *arg, enum guest_request request);
	void (*event)(void *arg, const char *source, const char *event, struct json *properties);
	/* A vCPU cannot go on; the machine stands still until it is freed. */
	void (*failed)(void *arg, const struct err *err);
};

/*
 * Builds the machine up to the point where its vCPUs may be let go. `config` (ids assigned,
 * validated) and `backends` must outlive it; `cancel` is polled. Worker thread. Returns 0;
 * -ECANCELED; or negative errno with nothing left behind.
 */
int machine_build(const struct vm_config *config, struct backends *backends, struct loop *loop,
		  const struct machine_hooks *hooks, void *arg, const atomic_bool *cancel,
		  struct machine **ret_machine, struct err *err);

/* Ends it. Paused or never started. Worker thread (the main thread has let go of it). NULL is fine.
 */
void machine_free(struct machine *machine);

/* Connects the consoles and lets the vCPUs go. Main thread, once. */
void machine_start(struct machine *machine);

/* Brings it to rest and then calls done(arg) on the main thread, once. Started and not paused. */
void machine_pause(struct machine *machine, void (*done)(void *arg), void *arg);

/* Sets a paused machine going again. Main thread. */
void machine_resume(struct machine *machine);

/* Disconnects what the main thread still feeds (consoles); call before machine_free(), at rest.
 * Main thread. */
void machine_detach(struct machine *machine);

/* Presses the ACPI power button / injects an NMI into every vCPU. Main thread. 0 or negative errno.
 */
int machine_power_button(struct machine *machine, struct err *err);
int machine_nmi(struct machine *machine, struct err *err);

/* device_tree of vm.info, and vm.counters; new objects, NULL when out of memory. Main thread. */
struct json *machine_device_tree(struct machine *machine);
struct json *machine_counters(struct machine *machine);

#endif
