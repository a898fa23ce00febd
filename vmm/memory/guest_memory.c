/* SPDX-License-Identifier: Apache-2.0 */
/* Guest RAM: access and the log of our own writes. Mapping it is guest_memory_new.c's. */
#include "vmm/memory/guest_memory.h"

#include <errno.h>
#include <string.h>

static const struct guest_region *find(const struct guest_memory *mem, gpa_t addr, uint64_t len)
{
	for (size_t i = 0; i < mem->num_regions; i++) {
		const struct guest_region *r = &mem->regions[i];

		if (range_within(addr.v, len, r->start.v, r->size_bytes))
			return r;
	}
	return NULL;
}

bool guest_memory_contains(const struct guest_memory *mem, gpa_t addr, uint64_t len)
{
	return len && find(mem, addr, len);
}

uint64_t guest_memory_end(const struct guest_memory *mem)
{
	const struct guest_region *last = &mem->regions[mem->num_regions - 1];

	return MAX(last->start.v + last->size_bytes, (uint64_t)LAYOUT_RAM64_START);
}

int guest_memory_map(const struct guest_memory *mem, gpa_t addr, uint64_t len,
		     enum guest_access access, void **ret_host)
{
	const struct guest_region *r = len ? find(mem, addr, len) : NULL;

	(void)access; /* all of RAM is readable and writable */
	if (!r)
		return -EFAULT;
	*ret_host = r->host + (addr.v - r->start.v);
	return 0;
}

int guest_memory_read(const struct guest_memory *mem, gpa_t addr, void *dst, uint64_t len)
{
	void *host = NULL;

	if (!len)
		return 0;
	if (guest_memory_map(mem, addr, len, GUEST_READ, &host) < 0)
		return -EFAULT;
	memcpy(dst, host, len);
	return 0;
}

int guest_memory_write(struct guest_memory *mem, gpa_t addr, const void *src, uint64_t len)
{
	void *host = NULL;

	if (!len)
		return 0;
	if (guest_memory_map(mem, addr, len, GUEST_WRITE, &host) < 0)
		return -EFAULT;
	memcpy(host, src, len);
	guest_memory_written(mem, host, len);
	return 0;
}

/* --- the dirty log: one bit a page, region after region, each beginning in a word of its own -- */

static size_t region_words(const struct guest_region *r)
{
	return (size_t)((r->size_bytes / LAYOUT_PAGE_SIZE + 63) / 64);
}

/* Index of the word where region i's bits begin; for i = num_regions the number of words. */
static size_t first_word(const struct guest_memory *mem, size_t i)
{
	size_t words = 0;

	while (i-- > 0)
		words += region_words(&mem->regions[i]);
	return words;
}

void guest_memory_written(struct guest_memory *mem, const void *host, uint64_t len)
{
	uint64_t *log = atomic_load_explicit(&mem->dirty_log, memory_order_acquire);

	if (!log || !len)
		return;
	for (size_t i = 0; i < mem->num_regions; i++) {
		const struct guest_region *r = &mem->regions[i];
		uint64_t offset = (uintptr_t)host - (uintptr_t)r->host;
		uint64_t *bits = log + first_word(mem, i);

		if (!range_within((uintptr_t)host, len, (uintptr_t)r->host, r->size_bytes))
			continue;
		/* After the write itself: who takes the bit then copies what was written. */
		for (uint64_t page = offset / LAYOUT_PAGE_SIZE;
		     page <= (offset + len - 1) / LAYOUT_PAGE_SIZE; page++)
			__atomic_fetch_or(&bits[page / 64], 1ULL << (page % 64), __ATOMIC_RELEASE);
		return;
	}
}

int guest_memory_dirty_start(struct guest_memory *mem)
{
	uint64_t *log;

	if (atomic_load(&mem->dirty_log))
		return -EALREADY;
	log = calloc(first_word(mem, mem->num_regions), sizeof(*log));
	if (!log)
		return -ENOMEM;
	atomic_store_explicit(&mem->dirty_log, log, memory_order_release);
	return 0;
}

void guest_memory_dirty_take(struct guest_memory *mem, size_t index, uint64_t *bitmap)
{
	uint64_t *log = atomic_load_explicit(&mem->dirty_log, memory_order_acquire);

	if (!log || index >= mem->num_regions)
		return;
	log += first_word(mem, index);
	for (size_t i = 0; i < region_words(&mem->regions[index]); i++)
		if (__atomic_load_n(&log[i], __ATOMIC_RELAXED))
			bitmap[i] |= __atomic_exchange_n(&log[i], 0, __ATOMIC_ACQ_REL);
}

void guest_memory_dirty_stop(struct guest_memory *mem)
{
	free(atomic_exchange(&mem->dirty_log, NULL));
}
