/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * RAM is cut into slices; each thread takes the next one until none is left, somebody failed or the
 * job is cancelled. The caller is one of the threads, so it also works where none can be started.
 */
#include "vmm/memory/prefault.h"

#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define SLICE_BYTES (32 * MIB)
#define MAX_THREADS 16

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

struct prefault {
	struct guest_memory *mem;
	uint64_t page_size;
	uint64_t slice;
	const atomic_bool *cancel;
	atomic_uint_fast64_t next; /* offset of the next slice, counted over all regions */
	atomic_int result;
};

/* For kernels without MADV_POPULATE_WRITE: a write that changes nothing, even beside other
 * writers. */
static void touch(uint8_t *host, uint64_t len, uint64_t page_size)
{
	for (uint64_t i = 0; i < len; i += page_size)
		__atomic_fetch_or(&host[i], 0, __ATOMIC_RELAXED);
}

static int populate(uint8_t *host, uint64_t len, uint64_t page_size)
{
	int rc;

	do {
		rc = madvise(host, len, MADV_POPULATE_WRITE) < 0 ? -errno : 0;
	} while (rc == -EINTR || rc == -EAGAIN);
	if (rc == -EINVAL) {
		touch(host, len, page_size);
		rc = 0;
	}
	return rc;
}

/* The part of [offset, offset + slice) of region i; offset counts over all regions. A slice may
 * span two regions. */
static int populate_slice(const struct prefault *p, uint64_t offset)
{
	uint64_t base = 0;

	for (size_t i = 0; i < p->mem->num_regions; i++) {
		const struct guest_region *r = &p->mem->regions[i];
		uint64_t start = MAX(offset, base);
		uint64_t end = MIN(offset + p->slice, base + r->size_bytes);
		int rc;

		if (start < end) {
			rc = populate(r->host + (start - base), end - start, p->page_size);
			if (rc < 0)
				return rc;
		}
		base += r->size_bytes;
	}
	return 0;
}

static void *work(void *arg)
{
	struct prefault *p = arg;

	while (atomic_load(&p->result) == 0) {
		uint64_t offset = atomic_fetch_add(&p->next, p->slice);
		int rc = 0;

		if (offset >= p->mem->size_bytes)
			break;
		if (p->cancel && atomic_load(p->cancel))
			rc = -ECANCELED;
		else
			rc = populate_slice(p, offset);
		if (rc < 0)
			atomic_store(&p->result, rc);
	}
	return NULL;
}

static unsigned num_helpers(uint64_t slices)
{
	unsigned cpus = 1;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		cpus = (unsigned)CPU_COUNT(&set);
	cpus = MIN(cpus, (unsigned)MAX_THREADS);
	return (unsigned)MIN((uint64_t)cpus, slices) - 1;
}

int prefault_memory(struct guest_memory *mem, uint64_t page_size, const atomic_bool *cancel,
		    struct err *err)
{
	struct prefault p = {
		.mem = mem,
		.page_size = page_size,
		.slice = MAX((uint64_t)SLICE_BYTES, page_size),
		.cancel = cancel,
	};
	unsigned helpers = num_helpers((mem->size_bytes + p.slice - 1) / p.slice);
	struct thread threads[MAX_THREADS] = {0};
	int rc;

	for (unsigned i = 0; i < helpers; i++) {
		char name[24];

		snprintf(name, sizeof(name), "prefault%u", i);
		rc = thread_start(&threads[i], name, THREAD_WORKER, work, &p);
		if (rc < 0) {
			log_debug("Prefaulting with %u threads: %s", i + 1, strerror(-rc));
			break;
		}
	}
	work(&p);
	for (unsigned i = 0; i < helpers; i++)
		thread_join(&threads[i]);
	rc = atomic_load(&p.result);
	if (rc == -ECANCELED)
		return err_set(err, rc, "Prefaulting guest RAM was cancelled");
	if (rc < 0)
		return err_set_errno(err, rc, "Cannot prefault guest RAM");
	return 0;
}
