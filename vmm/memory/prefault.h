/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VMM_MEMORY_PREFAULT_H
#define VMM_MEMORY_PREFAULT_H

#include "vmm/memory/guest_memory.h"

/*
 * Gives every page of `mem` (each page_size bytes) its host page, by several threads, and returns
 * when all is done. Contents are not changed. `cancel` (may be NULL) is polled every few dozen MiB.
 * Worker thread. Returns 0, -ECANCELED, -ENOMEM, or what madvise(2) said, with err.
 */
int prefault_memory(struct guest_memory *mem, uint64_t page_size, const atomic_bool *cancel,
		    struct err *err);

#endif
