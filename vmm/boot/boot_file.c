/* SPDX-License-Identifier: Apache-2.0 */
/* Files to be loaded. They are read, never mapped: one that is cut while we look is an error, not a
 * SIGBUS. */
#include "base/fd.h"
#include "vmm/boot/boot_image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* Between two looks at `cancel`. */
#define SLICE_BYTES MIB

int boot_file_open(const char *what, const char *path, struct boot_file *ret_file, struct err *err)
{
	AUTO_FD int fd = -1;
	struct stat st;

	/* O_NONBLOCK: opening a FIFO without a writer would wait for one. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_set_errno(err, -errno, "%s \"%s\" cannot be opened", what, path);
	if (fstat(fd, &st) < 0)
		return err_set_errno(err, -errno, "%s \"%s\" cannot be examined", what, path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
			       "%s \"%s\" is not a regular file", what, path);
	if (st.st_size <= 0)
		return err_set(err, -EINVAL, "%s \"%s\" is empty", what, path);
	*ret_file = (struct boot_file){
		.fd = TAKE_FD(fd),
		.size_bytes = (uint64_t)st.st_size,
		.what = what,
		.path = path,
	};
	return 0;
}

void boot_file_close(struct boot_file *file)
{
	fd_close(&file->fd);
}

static int read_error(const struct boot_file *file, int rc, struct err *err)
{
	if (rc == -ENODATA)
		return err_set(err, rc, "%s \"%s\" ends too early: it is cut short", file->what,
			       file->path);
	return err_set_errno(err, rc, "%s \"%s\" cannot be read", file->what, file->path);
}

int boot_file_read(const struct boot_file *file, uint64_t offset, void *dst, size_t len,
		   struct err *err)
{
	int rc;

	if (!range_within(offset, len, 0, file->size_bytes))
		return read_error(file, -ENODATA, err);
	rc = fd_pread_all(file->fd, dst, len, (off_t)offset);
	return rc < 0 ? read_error(file, rc, err) : 0;
}

/* The next piece of [to, to + len): its host address, or an error. */
static int next_slice(const struct boot_target *target, gpa_t to, uint64_t len, void **ret_host,
		      struct err *err)
{
	if (target->cancel && atomic_load(target->cancel))
		return err_set(err, -ECANCELED, "Loading was cancelled");
	if (guest_memory_map(target->memory, to, len, GUEST_WRITE, ret_host) < 0)
		return err_set(err, -EFAULT, "Guest address 0x%" PRIx64 " is not RAM", to.v);
	return 0;
}

int boot_file_load(const struct boot_file *file, uint64_t offset, uint64_t len,
		   const struct boot_target *target, gpa_t to, struct err *err)
{
	if (!range_within(offset, len, 0, file->size_bytes))
		return read_error(file, -ENODATA, err);
	while (len) {
		uint64_t n = MIN(len, (uint64_t)SLICE_BYTES);
		void *host = NULL;
		int rc;

		rc = next_slice(target, to, n, &host, err);
		if (rc < 0)
			return rc;
		rc = fd_pread_all(file->fd, host, n, (off_t)offset);
		if (rc < 0)
			return read_error(file, rc, err);
		guest_memory_written(target->memory, host, n);
		offset += n;
		to.v += n;
		len -= n;
	}
	return 0;
}

int boot_zero(const struct boot_target *target, gpa_t to, uint64_t len, struct err *err)
{
	while (len) {
		uint64_t n = MIN(len, (uint64_t)SLICE_BYTES);
		void *host = NULL;
		int rc;

		rc = next_slice(target, to, n, &host, err);
		if (rc < 0)
			return rc;
		memset(host, 0, n);
		guest_memory_written(target->memory, host, n);
		to.v += n;
		len -= n;
	}
	return 0;
}
