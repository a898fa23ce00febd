/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the parts of vmm/boot. */
#ifndef VMM_BOOT_BOOT_IMAGE_H
#define VMM_BOOT_BOOT_IMAGE_H

#include "vmm/boot/boot.h"

/* A file that is being loaded: regular, open, of known size. */
struct boot_file {
	int fd;
	uint64_t size_bytes;
	const char *what; /* for messages: "Kernel", "Initramfs" */
	const char *path; /* borrowed */
};

/* Opens `path`, which must be a regular file that is not empty. Never blocks on a FIFO or device.
 * Returns 0 or negative errno. boot_file_close() takes it back; a failed one needs none. */
int boot_file_open(const char *what, const char *path, struct boot_file *ret_file, struct err *err);
void boot_file_close(struct boot_file *file);
#define AUTO_BOOT_FILE CLEANUP(boot_file_close)

/* Reads exactly [offset, offset + len), to be used for headers. -ENODATA when the file is shorter.
 */
int boot_file_read(const struct boot_file *file, uint64_t offset, void *dst, size_t len,
		   struct err *err);

/* What loading works on. */
struct boot_target {
	struct guest_memory *memory;
	const atomic_bool *cancel; /* or NULL */
};

/* Reads [offset, offset + len) of the file straight into guest memory, a MiB at a time. The caller
 * has checked that the destination is RAM. -ENODATA, -ECANCELED, -EFAULT, errno of pread(2). */
int boot_file_load(const struct boot_file *file, uint64_t offset, uint64_t len,
		   const struct boot_target *target, gpa_t to, struct err *err);

/* Zeroes guest memory; as above. */
int boot_zero(const struct boot_target *target, gpa_t to, uint64_t len, struct err *err);

#define BOOT_SETUP_HEADER     0x1f1 /* where it begins, in a bzImage and in the zero page */
#define BOOT_SETUP_HEADER_MAX (0x290 - BOOT_SETUP_HEADER)

/* A kernel that has been loaded. */
struct boot_image {
	enum boot_protocol protocol;
	uint64_t entry;
	uint64_t end;		  /* first byte above it in low RAM */
	uint64_t initramfs_limit; /* first byte that the initramfs may not use */
	uint64_t cmdline_max;	  /* bytes without the terminator */
	/* bzImage only */
	uint64_t load_address;
	uint8_t setup_header[BOOT_SETUP_HEADER_MAX];
	size_t setup_header_len;
};

/* Where the initramfs and command line went; size 0 and address 0: there is none. */
struct boot_extras {
	uint64_t initramfs;
	uint64_t initramfs_bytes;
	uint64_t cmdline;
};

/* Load a kernel whose first bytes look like the format in question. */
int boot_elf_load(const struct boot_file *file, const struct boot_target *target,
		  struct boot_image *ret_image, struct err *err);
int boot_bzimage_load(const struct boot_file *file, const struct boot_target *target,
		      struct boot_image *ret_image, struct err *err);

/* Write what the protocol hands to the kernel: hvm_start_info, or zero page. */
int boot_pvh_write(const struct boot_params *params, const struct boot_extras *extras,
		   struct guest_memory *memory, struct err *err);
int boot_zero_page_write(const struct boot_params *params, const struct boot_image *image,
			 const struct boot_extras *extras, struct guest_memory *memory,
			 struct err *err);

/* Writes the GDT, and for long mode the identity map of the first 4 GiB. */
int boot_tables_write(struct guest_memory *memory, bool long_mode, struct err *err);

/* Whether a kernel may be loaded to [start, start + len): RAM of one region, clear of what we put
 * below 1 MiB. */
bool boot_range_is_free(const struct guest_memory *memory, uint64_t start, uint64_t len);

#endif
