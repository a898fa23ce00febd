/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Port and MMIO dispatch.
 *
 * Theory of operation
 *
 * A bus is a sorted set of ranges that do not overlap. vCPU threads look a range up under a read
 * lock, take a reference and call its handler without the lock, so a handler may itself move or add
 * ranges (a BAR that the guest moves). bus_remove() waits until no handler of that range is inside
 * on another thread; bus_move() does not wait.
 *
 * An access reaches a handler only if it lies wholly inside one range; otherwise a read gives all
 * ones and a write is dropped.
 */
#ifndef VMM_BUS_BUS_H
#define VMM_BUS_BUS_H

#include "base/err.h"

/* Handlers run on vCPU threads, several at once: the device locks. offset + len <= the range's
 * size, len is 1, 2, 4 or 8. */
struct bus_ops {
	void (*read)(void *arg, uint64_t offset, void *data, unsigned len); /* fills len bytes */
	void (*write)(void *arg, uint64_t offset, const void *data, unsigned len);
};

/* One range; embedded by the device. Set name, ops, arg, base and size_bytes, zero the rest, then
 * bus_add(). */
struct bus_range {
	const char *name; /* for messages */
	const struct bus_ops *ops;
	void *arg;
	uint64_t base;
	uint64_t size_bytes; /* > 0; base + size must not wrap */
	/* the bus's own */
	unsigned refs;
	bool linked;
};

struct bus;

int bus_new(const char *name, struct bus **ret_bus);
void bus_free(struct bus *bus); /* all ranges are out by then */

/* Adds a range (borrowed until bus_remove()). Returns 0, -EEXIST (overlap; err names both),
 * -ENOMEM. Any thread. */
int bus_add(struct bus *bus, struct bus_range *range, struct err *err);

/* Moves a range that is in. On failure it stays where it was. Returns 0, -EEXIST, -EINVAL (wraps).
 * Any thread. */
int bus_move(struct bus *bus, struct bus_range *range, uint64_t new_base);

/* Takes a range out and waits until its handler is done on other threads. Not from inside that
 * handler. A range that is not in: nothing. */
void bus_remove(struct bus *bus, struct bus_range *range);

/* As bus_remove(), without the wait: for ranges whose device stays (a BAR that is switched off by
 * its own handler). */
void bus_remove_nowait(struct bus *bus, struct bus_range *range);

/* Dispatch of a guest's access; len 1..8. vCPU threads. Returns whether somebody was there. */
bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len);
bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len);

#endif
