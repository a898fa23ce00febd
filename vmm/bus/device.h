/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every device is, and what it stands on.
 *
 * Life: allocated by its own *_new() from its configuration (worker thread, may open files);
 * realize() puts it on its buses; then the guest runs and the device's handlers run on vCPU and I/O
 * threads; quiesce() brings it to rest (no thread touches guest memory, nothing in flight) and
 * resume() sets it going again; reset() is what power-on does; unrealize() takes it off its buses
 * and joins its threads; free() ends it. save()/load() happen at rest. All of these run on the main
 * thread or on the one worker that builds or tears down the machine, never two at once.
 */
#ifndef VMM_BUS_DEVICE_H
#define VMM_BUS_DEVICE_H

#include "base/cursor.h"
#include "base/err.h"
#include "base/list.h"
#include "base/loop.h"

#include <stdatomic.h>

struct bus;
struct guest_memory;
struct ioapic;
struct irq_router;
struct json;
struct kvm_vm;

/* What the guest asks of the whole machine through a device. */
enum guest_request {
	GUEST_RESET,	      /* reset register, i8042, CMOS */
	GUEST_POWER_OFF,      /* ACPI S5 */
	GUEST_TRIPLE_FAULT,   /* KVM_EXIT_SHUTDOWN */
	GUEST_PANIC,	      /* pvpanic: panicked */
	GUEST_CRASH_LOADED,   /* pvpanic: a crash kernel took over */
	GUEST_PANIC_SHUTDOWN, /* pvpanic: shutdown event */
};

/* The machine as devices see it. Owned by the machine; outlives every device. Constant once devices
 * exist. */
struct device_host {
	struct loop *main_loop;
	struct kvm_vm *kvm;
	struct guest_memory *memory;
	struct bus *pio;
	struct bus *mmio;
	struct irq_router *irq;
	struct ioapic *ioapic;
	/* Tells the machine; any thread, never blocks. */
	void (*guest_request)(void *arg, enum guest_request request);
	/* An event for the outside, such as virtio-device/activated {id}. Any thread, never blocks;
	 * names are string literals, id is copied. */
	void (*device_event)(void *arg, const char *source, const char *event, const char *id);
	void *arg;
};

/*
 * Counts those who are not yet at rest and posts `done` when the last one is. Holders release from
 * any thread. The creator holds one itself while it goes round, so done cannot come early.
 */
struct quiesce {
	atomic_uint holders;
	struct loop *loop;
	struct loop_task done;
};

/* Takes the creator's own hold, which it gives back with quiesce_release(). */
void quiesce_init(struct quiesce *q, struct loop *loop, void (*done)(struct loop_task *task),
		  void *arg);
void quiesce_hold(struct quiesce *q);
void quiesce_release(struct quiesce *q);

struct device;

struct device_ops {
	const char *kind; /* "virtio-blk", "uart_16550", ... */
	int (*realize)(struct device *dev, struct err *err);
	void (*unrealize)(struct device *dev); /* also after a failed or missing realize */
	void (*reset)(struct device *dev);     /* at rest */
	/* Comes to rest; holds `q` before it returns if that takes longer, and releases it when
	 * there. NULL: always at rest. */
	void (*quiesce)(struct device *dev, struct quiesce *q);
	void (*resume)(struct device *dev); /* NULL: nothing to do */
	int (*save)(struct device *dev, struct buf *out);
	int (*load)(struct device *dev, struct cursor *in, struct err *err);
	/* The guest let go of it (hot-unplug): 0 when it may be unrealized. NULL: cannot be
	 * unplugged. */
	int (*unplug)(struct device *dev, struct err *err);
	void (*free)(struct device *dev);
	/* Counters for vm.counters as a new object, or NULL when it has none. Main thread, any
	 * time. */
	struct json *(*counters)(struct device *dev);
};

#define DEVICE_ID_MAX 64

/* Embedded first in every device. */
struct device {
	const struct device_ops *ops;
	const struct device_host *host;
	char id[DEVICE_ID_MAX];	    /* unique in the machine */
	char parent[DEVICE_ID_MAX]; /* node above in the device tree, "" = none */
	struct list node;	    /* the machine's, in order of creation */
	bool realized;
};

/* Fills the base. Returns 0 or -ENAMETOOLONG. */
int device_init(struct device *dev, const struct device_ops *ops, const struct device_host *host,
		const char *id, struct err *err);

#endif
