/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/boot_image_file.h"

#include "base/fd.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

struct image_file image_file_make(const void *bytes, size_t len)
{
	struct image_file file = {.fd = memfd_create("image", MFD_CLOEXEC)};

	if (file.fd < 0 || fd_write_all(file.fd, bytes, len) < 0)
		image_file_close(&file);
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
	return file;
}

void image_file_close(struct image_file *file)
{
	fd_close(&file->fd);
}
