/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel images of any bytes load or are refused; what loads is entered inside of RAM. */
#include "base/fd.h"
#include "vmm/boot/boot.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MEMORY_BYTES (32 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_memory *memory;
	static struct e820_map e820;
	struct boot_params params = {.e820 = &e820, .initramfs = "/proc/self/exe"};
	struct boot_entry entry = {0};
	struct err err = ERR_INIT;
	AUTO_FD int fd = -1;
	char path[64];
	int rc;

	if (!memory) {
		struct guest_memory_params p = {.size_bytes = MEMORY_BYTES};

		if (guest_memory_new(&p, NULL, &memory, NULL) < 0)
			abort();
		e820_map_init(&e820, memory);
	}
	fd = memfd_create("kernel", MFD_CLOEXEC);
	if (fd < 0 || fd_write_all(fd, data, size) < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	params.kernel = path;
	/* With an initramfs that may not fit, then without. */
	for (int i = 0; i < 2; i++, params.initramfs = NULL) {
		rc = boot_load(&params, memory, NULL, &entry, &err);
		if (rc < 0 ? !err_count(&err) : !guest_memory_contains(memory, gpa(entry.ip), 1))
			abort();
		err = (struct err)ERR_INIT;
	}
	return 0;
}
