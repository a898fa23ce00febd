/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The ranges are an array of pointers sorted by base; they do not overlap, so their ends are sorted
 * too and a binary search finds the one candidate. Only adding may allocate.
 *
 * A dispatcher counts itself into range->refs while it holds the read lock and out again when the
 * handler has returned. bus_remove() unlinks under the write lock, after which the count can only
 * fall, and waits for zero. The last act of a dispatcher on the range is the decrement: the remover
 * may free it right then. The wake-up therefore goes through the bus: the remover announces itself
 * in `waiters` before it looks at the count, the dispatcher looks at `waiters` after it decremented
 * (both sequentially consistent), so one of the two sees the other.
 */
#include "vmm/bus/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct bus {
	const char *name;
	pthread_rwlock_t lock; /* guards ranges, count, cap, and each range's base and linked */
	struct bus_range **ranges;
	size_t count;
	size_t cap;

	atomic_uint waiters;
	pthread_mutex_t wait_lock;
	pthread_cond_t drained;
};

int bus_new(const char *name, struct bus **ret_bus)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	pthread_rwlockattr_t attr;

	if (!bus)
		return -ENOMEM;
	bus->name = name;
	/* Many vCPUs that poll a register must not starve the one that moves a BAR. Handlers run
	 * outside the lock, so nobody takes it twice. */
	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&bus->lock, &attr);
	pthread_rwlockattr_destroy(&attr);
	pthread_mutex_init(&bus->wait_lock, NULL);
	pthread_cond_init(&bus->drained, NULL);
	*ret_bus = bus;
	return 0;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	assert(bus->count == 0);
	pthread_cond_destroy(&bus->drained);
	pthread_mutex_destroy(&bus->wait_lock);
	pthread_rwlock_destroy(&bus->lock);
	free(bus->ranges);
	free(bus);
}

/* Index of the first range whose base is above addr; the only one that can hold addr is the one
 * before it. */
static size_t upper_bound(const struct bus *bus, uint64_t addr)
{
	size_t lo = 0, hi = bus->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (bus->ranges[mid]->base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

/* A range other than `self` that shares a byte with [base, base + size), NULL if none does. */
static struct bus_range *find_overlap(const struct bus *bus, const struct bus_range *self,
				      uint64_t base, uint64_t size)
{
	size_t i = upper_bound(bus, base + (size - 1));

	while (i-- > 0) {
		struct bus_range *r = bus->ranges[i];

		if (r == self)
			continue;
		return ranges_overlap(r->base, r->size_bytes, base, size) ? r : NULL;
	}
	return NULL;
}

static void link_range(struct bus *bus, struct bus_range *range)
{
	size_t i = upper_bound(bus, range->base);

	memmove(&bus->ranges[i + 1], &bus->ranges[i], (bus->count - i) * sizeof(*bus->ranges));
	bus->ranges[i] = range;
	bus->count++;
	range->linked = true;
}

static void unlink_range(struct bus *bus, struct bus_range *range)
{
	size_t i = upper_bound(bus, range->base) - 1;

	bus->count--;
	memmove(&bus->ranges[i], &bus->ranges[i + 1], (bus->count - i) * sizeof(*bus->ranges));
	range->linked = false;
}

static int grow(struct bus *bus)
{
	size_t cap = bus->cap ? bus->cap * 2 : 32;
	struct bus_range **ranges;

	if (bus->count < bus->cap)
		return 0;
	ranges = reallocarray(bus->ranges, cap, sizeof(*ranges));
	if (!ranges)
		return -ENOMEM;
	bus->ranges = ranges;
	bus->cap = cap;
	return 0;
}

static int add_locked(struct bus *bus, struct bus_range *range, struct err *err)
{
	struct bus_range *other;
	int rc;

	if (range->linked)
		return err_set(err, -EEXIST, "%s is on the %s bus already", range->name, bus->name);
	other = find_overlap(bus, NULL, range->base, range->size_bytes);
	if (other)
		return err_set(err, -EEXIST, "%s at 0x%llx lies over %s at 0x%llx on the %s bus",
			       range->name, (unsigned long long)range->base, other->name,
			       (unsigned long long)other->base, bus->name);
	rc = grow(bus);
	if (rc < 0)
		return err_set_errno(err, rc, "No room for %s on the %s bus", range->name,
				     bus->name);
	link_range(bus, range);
	return 0;
}

int bus_add(struct bus *bus, struct bus_range *range, struct err *err)
{
	int rc;

	if (!range->size_bytes || range->base + (range->size_bytes - 1) < range->base)
		return err_set(err, -EINVAL, "%s has no valid place on the %s bus", range->name,
			       bus->name);
	pthread_rwlock_wrlock(&bus->lock);
	rc = add_locked(bus, range, err);
	pthread_rwlock_unlock(&bus->lock);
	return rc;
}

int bus_move(struct bus *bus, struct bus_range *range, uint64_t new_base)
{
	int rc = 0;

	if (new_base + (range->size_bytes - 1) < new_base)
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	if (!range->linked) {
		rc = -EINVAL;
	} else if (find_overlap(bus, range, new_base, range->size_bytes)) {
		rc = -EEXIST;
	} else {
		unlink_range(bus, range);
		range->base = new_base;
		link_range(bus, range);
	}
	pthread_rwlock_unlock(&bus->lock);
	return rc;
}

void bus_remove_nowait(struct bus *bus, struct bus_range *range)
{
	pthread_rwlock_wrlock(&bus->lock);
	if (range->linked)
		unlink_range(bus, range);
	pthread_rwlock_unlock(&bus->lock);
}

void bus_remove(struct bus *bus, struct bus_range *range)
{
	bus_remove_nowait(bus, range);

	/* Also for a range that was out already: bus_remove_nowait() did not wait. */
	atomic_fetch_add(&bus->waiters, 1);
	pthread_mutex_lock(&bus->wait_lock);
	while (__atomic_load_n(&range->refs, __ATOMIC_SEQ_CST))
		pthread_cond_wait(&bus->drained, &bus->wait_lock);
	pthread_mutex_unlock(&bus->wait_lock);
	atomic_fetch_sub(&bus->waiters, 1);
}

/* The range that holds all of [addr, addr + len), with a reference, and the offset of addr in it;
 * the offset is taken here because the range may move as soon as the lock is gone. */
static struct bus_range *get_range(struct bus *bus, uint64_t addr, unsigned len,
				   uint64_t *ret_offset)
{
	struct bus_range *found = NULL;
	size_t i;

	pthread_rwlock_rdlock(&bus->lock);
	i = upper_bound(bus, addr);
	if (i > 0) {
		struct bus_range *r = bus->ranges[i - 1];

		if (range_within(addr, len, r->base, r->size_bytes)) {
			__atomic_add_fetch(&r->refs, 1, __ATOMIC_SEQ_CST);
			*ret_offset = addr - r->base;
			found = r;
		}
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

static void put_range(struct bus *bus, struct bus_range *range)
{
	if (__atomic_sub_fetch(&range->refs, 1, __ATOMIC_SEQ_CST) == 0 &&
	    atomic_load(&bus->waiters)) {
		pthread_mutex_lock(&bus->wait_lock);
		pthread_cond_broadcast(&bus->drained);
		pthread_mutex_unlock(&bus->wait_lock);
	}
}

static bool valid_len(unsigned len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

bool bus_read(struct bus *bus, uint64_t addr, void *data, unsigned len)
{
	struct bus_range *range = NULL;
	uint64_t offset = 0;

	memset(data, 0xff, len);
	if (valid_len(len))
		range = get_range(bus, addr, len, &offset);
	if (!range)
		return false;
	range->ops->read(range->arg, offset, data, len);
	put_range(bus, range);
	return true;
}

bool bus_write(struct bus *bus, uint64_t addr, const void *data, unsigned len)
{
	struct bus_range *range = NULL;
	uint64_t offset = 0;

	if (valid_len(len))
		range = get_range(bus, addr, len, &offset);
	if (!range)
		return false;
	range->ops->write(range->arg, offset, data, len);
	put_range(bus, range);
	return true;
}
