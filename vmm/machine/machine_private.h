/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of struct machine, shared by machine.c (life), machine_devices.c (what is plugged in)
 * and machine_tree.c (what can be asked). */
#ifndef VMM_MACHINE_MACHINE_PRIVATE_H
#define VMM_MACHINE_MACHINE_PRIVATE_H

#include "vmm/machine/machine.h"

#include <pthread.h>

struct pci_device;

/* A device in the machine, in order of creation. */
struct machine_node {
	struct list node;
	struct device *dev;
	struct pci_device *function; /* borrowed from dev; NULL when it is none */
};

#define MACHINE_INBOX_MAX 64

/* An event of a device on its way to the main thread. */
struct machine_event {
	const char *source;
	const char *event;
	char id[DEVICE_ID_MAX];
};

struct machine {
	const struct vm_config *config; /* borrowed */
	struct backends *backends;	/* borrowed */
	struct machine_hooks hooks;
	void *arg;
	struct device_host host; /* what devices see; its members are owned here */
	struct cpus *cpus;
	struct pci_segment *segment;
	struct list nodes;   /* struct machine_node */
	uint32_t used_slots; /* of the PCI segment, one bit each */
	struct device *ged;
	unsigned phys_bits;
	uint64_t platform_base; /* LAYOUT_PLATFORM_SIZE bytes of registers */

	/* Main thread. */
	struct quiesce pause;
	void (*paused)(void *arg);
	void *paused_arg;

	/* Told by any thread, read by the main thread. */
	atomic_uint requests;	    /* one bit a guest_request */
	pthread_mutex_t inbox_lock; /* guards the next four */
	struct machine_event inbox[MACHINE_INBOX_MAX];
	unsigned inbox_len;
	unsigned inbox_dropped;
	struct err failure; /* of a vCPU; the first one counts */
	struct loop_task inbox_task;
};

/* The event controller's place among the platform's registers. */
#define PLATFORM_GED_OFFSET 0

/* Creates and realizes every device of the configuration, in the catalogue's order. Worker thread.
 */
int machine_add_devices(struct machine *m, struct err *err);

/* Unrealizes and frees all devices, last first. Worker thread. */
void machine_remove_devices(struct machine *m);

#endif
