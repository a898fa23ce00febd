/* SPDX-License-Identifier: Apache-2.0 */
/* Files for tests of the boot loader: bytes in memory, reachable by a path. */
#ifndef TESTS_UNIT_BOOT_IMAGE_FILE_H
#define TESTS_UNIT_BOOT_IMAGE_FILE_H

#include "base/util.h"

struct image_file {
	int fd;
	char path[64];
};

/* A file with these bytes. image_file_close() takes it back. */
struct image_file image_file_make(const void *bytes, size_t len);
void image_file_close(struct image_file *file);
#define AUTO_IMAGE_FILE CLEANUP(image_file_close)

#endif
