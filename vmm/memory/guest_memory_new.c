/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mapping guest RAM.
 *
 * Anonymous memory is the default. Shared memory and huge pages stand on one memfd, sealed against
 * resizing, so that no process that is given it can make our accesses fault. Huge pages are always
 * reserved: without a reservation a pool that runs dry would kill the machine in the middle of its
 * work, and with one the mapping fails here.
 */
#include "base/fd.h"
#include "base/log.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/prefault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define THP_SIZE (2 * MIB)

/* More than any guest's physical address space: the rest may compute without overflow. */
#define SIZE_MAX_BYTES (1ULL << 51)

/* The host's default huge page size from /proc/meminfo, 0 when it has none. */
static uint64_t default_hugepage_size(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t kib = 0;

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Hugepagesize: %" SCNu64 " kB", &kib) == 1)
			break;
	fclose(f);
	return kib * KIB;
}

static int check_hugepage_size(uint64_t asked, uint64_t *ret_size, struct err *err)
{
	uint64_t size = asked ? asked : default_hugepage_size();
	char path[80];

	if (!size)
		return err_set(err, -EINVAL, "The host has no huge pages");
	if (!is_power_of_two(size))
		return err_set(err, -EINVAL, "Huge page size %" PRIu64 " is not a power of two",
			       size);
	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB",
		 size / KIB);
	if (size < LAYOUT_PAGE_SIZE || access(path, F_OK) < 0)
		return err_set(err, -EINVAL, "The host has no huge pages of %" PRIu64 " KiB",
			       size / KIB);
	*ret_size = size;
	return 0;
}

static int make_memfd(uint64_t size, uint64_t hugepage_size, int *ret_fd, struct err *err)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	AUTO_FD int fd = -1;

	if (hugepage_size)
		flags |= MFD_HUGETLB | ((unsigned)__builtin_ctzll(hugepage_size) << MFD_HUGE_SHIFT);
	fd = memfd_create("guest_ram", flags);
	if (fd < 0)
		return err_set_errno(err, -errno, "Cannot make a memory file for guest RAM");
	if (ftruncate(fd, (off_t)size) < 0)
		return err_set_errno(err, -errno, "Cannot size guest RAM's memory file");
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return err_set_errno(err, -errno, "Cannot seal guest RAM's memory file");
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Reserves address space at a multiple of `align`, so that the host can back the guest's huge pages
 * with its own. NULL when there is none. */
static uint8_t *reserve_aligned(uint64_t size, uint64_t align)
{
	uint64_t span = size + align;
	uint8_t *base, *start;
	uint64_t head;

	base = mmap(NULL, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	head = align_up((uintptr_t)base, align) - (uintptr_t)base;
	start = base + head;
	if (head)
		munmap(base, head);
	if (span - head - size)
		munmap(start + size, span - head - size);
	return start;
}

static int map_region(struct guest_memory *mem, const struct guest_memory_params *params,
		      uint64_t hugepage_size, gpa_t start, uint64_t size, struct err *err)
{
	struct guest_region *r = &mem->regions[mem->num_regions];
	uint64_t align = MAX(hugepage_size, (uint64_t)THP_SIZE);
	int flags = MAP_FIXED | (mem->memfd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	uint8_t *host;

	if (!params->reserve && !hugepage_size)
		flags |= MAP_NORESERVE;
	host = reserve_aligned(size, align);
	if (!host)
		return err_set_errno(err, -ENOMEM, "No room to map %" PRIu64 " MiB of guest RAM",
				     size / MIB);
	r->start = start;
	r->size_bytes = size;
	r->host = host;
	r->fd = mem->memfd;
	r->fd_offset = mem->memfd >= 0 ? mem->size_bytes : 0;
	/* From here on it is the free function's. */
	mem->num_regions++;
	mem->size_bytes += size;
	if (mmap(host, size, PROT_READ | PROT_WRITE, flags, r->fd, (off_t)r->fd_offset) ==
	    MAP_FAILED)
		return err_set_errno(err, -errno, "Cannot map %" PRIu64 " MiB of guest RAM%s",
				     size / MIB, hugepage_size ? " in huge pages" : "");
	return 0;
}

/* Hints; the machine works without. */
static void advise(const struct guest_memory *mem, const struct guest_memory_params *params)
{
	for (size_t i = 0; i < mem->num_regions; i++) {
		const struct guest_region *r = &mem->regions[i];

		/* A core file of ours is about us; the guest's memory is secret, and large. */
		if (madvise(r->host, r->size_bytes, MADV_DONTDUMP) < 0)
			log_debug("MADV_DONTDUMP: %s", strerror(errno));
		if (params->thp && mem->memfd < 0 &&
		    madvise(r->host, r->size_bytes, MADV_HUGEPAGE) < 0)
			log_debug("MADV_HUGEPAGE: %s", strerror(errno));
		if (params->mergeable && madvise(r->host, r->size_bytes, MADV_MERGEABLE) < 0)
			log_warn("Guest RAM is not merged: MADV_MERGEABLE: %s", strerror(errno));
	}
}

static int check_params(const struct guest_memory_params *params, uint64_t *ret_hugepage_size,
			struct err *err)
{
	uint64_t granule = LAYOUT_PAGE_SIZE;
	int rc;

	*ret_hugepage_size = 0;
	if (params->hugepages) {
		rc = check_hugepage_size(params->hugepage_size_bytes, ret_hugepage_size, err);
		if (rc < 0)
			return rc;
		granule = *ret_hugepage_size;
	}
	if (params->size_bytes < MIB || params->size_bytes > SIZE_MAX_BYTES)
		return err_set(err, -EINVAL,
			       "Memory size %" PRIu64 " is not between 1 MiB and 2 PiB",
			       params->size_bytes);
	if (params->size_bytes % granule)
		return err_set(err, -EINVAL,
			       "Memory size %" PRIu64 " is no multiple of the page size %" PRIu64,
			       params->size_bytes, granule);
	if (granule > GIB)
		return err_set(err, -EINVAL, "Huge pages of more than 1 GiB do not fit the hole");
	return 0;
}

int guest_memory_new(const struct guest_memory_params *params, const atomic_bool *cancel,
		     struct guest_memory **ret_mem, struct err *err)
{
	uint64_t low = MIN(params->size_bytes, (uint64_t)LAYOUT_MMIO32_START);
	uint64_t hugepage_size = 0;
	struct guest_memory *mem;
	int rc;

	rc = check_params(params, &hugepage_size, err);
	if (rc < 0)
		return rc;
	mem = calloc(1, sizeof(*mem));
	if (!mem)
		return err_set(err, -ENOMEM, "Out of memory");
	mem->memfd = -1;
	if (params->shared || hugepage_size)
		rc = make_memfd(params->size_bytes, hugepage_size, &mem->memfd, err);
	if (rc == 0)
		rc = map_region(mem, params, hugepage_size, gpa(0), low, err);
	if (rc == 0 && params->size_bytes > low)
		rc = map_region(mem, params, hugepage_size, gpa(LAYOUT_RAM64_START),
				params->size_bytes - low, err);
	if (rc == 0)
		advise(mem, params);
	if (rc == 0 && params->prefault)
		rc = prefault_memory(mem, MAX(hugepage_size, (uint64_t)LAYOUT_PAGE_SIZE), cancel,
				     err);
	if (rc < 0) {
		guest_memory_free(mem);
		return rc;
	}
	*ret_mem = mem;
	return 0;
}

void guest_memory_free(struct guest_memory *mem)
{
	if (!mem)
		return;
	for (size_t i = 0; i < mem->num_regions; i++)
		munmap(mem->regions[i].host, mem->regions[i].size_bytes);
	guest_memory_dirty_stop(mem);
	fd_close(&mem->memfd);
	free(mem);
}
