/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest RAM, and the only way to it.
 *
 * Theory of operation
 *
 * RAM is one or two regions: [0, 3 GiB) and [4 GiB, ...), each one host mapping. The set of regions
 * does not change while the guest runs, so access needs no lock. No guest-physical address becomes
 * a pointer without a length and an access mode: guest_memory_map() gives a slice that lies wholly
 * inside one region, or fails. The guest may write the same bytes at any time: what is read must be
 * copied once, checked, and only the copy used. KVM does not see our writes, so whoever wrote tells
 * guest_memory_written(), which marks the dirty log when that is on.
 */
#ifndef VMM_MEMORY_GUEST_MEMORY_H
#define VMM_MEMORY_GUEST_MEMORY_H

#include "base/err.h"
#include "vmm/memory/layout.h"

#include <stdatomic.h>

/* A guest-physical address. */
typedef struct {
	uint64_t v;
} gpa_t;

static inline gpa_t gpa(uint64_t v)
{
	return (gpa_t){v};
}

struct guest_memory_params {
	uint64_t size_bytes; /* multiple of the page size, at least 1 MiB */
	bool shared;	     /* memfd, MAP_SHARED: other processes may map it */
	bool hugepages;	     /* hugetlbfs; hugepage_size_bytes 0 = the host's default */
	uint64_t hugepage_size_bytes;
	bool prefault;	/* populate before the guest starts, by several threads */
	bool reserve;	/* account for swap (no MAP_NORESERVE) */
	bool thp;	/* advise transparent huge pages (anonymous memory) */
	bool mergeable; /* advise KSM */
};

/* One contiguous piece of RAM. Read only outside guest_memory.c. */
struct guest_region {
	gpa_t start;
	uint64_t size_bytes;
	uint8_t *host;
	int fd; /* the memfd behind it (shared or hugepages), -1 when anonymous; owned by the memory
		 */
	uint64_t fd_offset;
};

#define GUEST_MEMORY_MAX_REGIONS 2

struct guest_memory {
	struct guest_region regions[GUEST_MEMORY_MAX_REGIONS];
	size_t num_regions;
	uint64_t size_bytes;
	_Atomic(uint64_t *) dirty_log; /* one bit a page over all regions in order; NULL while
					  tracking is off */
	int memfd;		       /* -1 when anonymous */
};

/*
 * Maps RAM. `cancel`: polled while prefaulting, may be NULL; when it becomes true the call ends
 * with -ECANCELED. Worker thread; may take long. Returns 0, -ENOMEM, -EINVAL (sizes, huge page size
 * the host does not have), -ECANCELED. Owned by the caller.
 */
int guest_memory_new(const struct guest_memory_params *params, const atomic_bool *cancel,
		     struct guest_memory **ret_mem, struct err *err);

/* Unmaps. Nobody may hold a slice, KVM must have no slot on it. NULL is fine. May take long for
 * large memory. */
void guest_memory_free(struct guest_memory *mem);

enum guest_access {
	GUEST_READ,  /* we read what the guest wrote */
	GUEST_WRITE, /* we write */
};

/*
 * The host address of [addr, addr + len), which must be RAM of one region and len > 0. *ret_host
 * stays valid as long as the memory. Returns 0 or -EFAULT. Any thread. After writing, call
 * guest_memory_written().
 */
int guest_memory_map(const struct guest_memory *mem, gpa_t addr, uint64_t len,
		     enum guest_access access, void **ret_host);

/* We wrote [host, host + len), which came from guest_memory_map(). Any thread. */
void guest_memory_written(struct guest_memory *mem, const void *host, uint64_t len);

/* Copies out of / into guest RAM; the range may span no hole. Returns 0 or -EFAULT (nothing was
 * copied). Any thread. */
int guest_memory_read(const struct guest_memory *mem, gpa_t addr, void *dst, uint64_t len);
int guest_memory_write(struct guest_memory *mem, gpa_t addr, const void *src, uint64_t len);

/* Whether [addr, addr + len) is RAM of one region. */
bool guest_memory_contains(const struct guest_memory *mem, gpa_t addr, uint64_t len);

/*
 * The log of our own writes (KVM keeps the guest's). Start: from now on guest_memory_written() is
 * noted; -ENOMEM, -EALREADY. Take: ORs region `index`'s bits, one a page, into bitmap ((size / page
 * size + 63) / 64 words) and clears them in the log. Stop: nobody may be writing. Main thread or
 * worker; take may run while others write.
 */
int guest_memory_dirty_start(struct guest_memory *mem);
void guest_memory_dirty_take(struct guest_memory *mem, size_t index, uint64_t *bitmap);
void guest_memory_dirty_stop(struct guest_memory *mem);

/* First address above RAM, at least 4 GiB. */
uint64_t guest_memory_end(const struct guest_memory *mem);

#endif
