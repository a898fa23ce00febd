/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/log.h"
#include "storage/block_private.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR		 512
#define MAX_DIRECT_ALIGN 4096

/* --- opening ------------------------------------------------------------------------------- */

/* The lock is the open file's, which others may hold open: a ring on its way out, a child. */
static void unlock_image(const struct block *b)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};

	if (b->fd >= 0)
		fcntl(b->fd, F_OFD_SETLK, &lock);
}

static int open_image(const struct block_params *params, int extra_flags, struct err *err)
{
	/* O_NONBLOCK: a FIFO must not hold us up before we see that it is one. */
	int flags = (params->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK |
		    extra_flags;
	AUTO_FD int fd = open(params->path, flags);
	int r;

	if (fd < 0)
		return err_set_errno(err, -errno, "cannot open %s%s", params->path,
				     params->readonly ? "" : " for writing");
	/* An io_uring request on a non-blocking file fails with EAGAIN, again and again, where the
	 * file system cannot do it without blocking. */
	r = fd_set_nonblock(fd, false);
	if (r < 0)
		return err_set_errno(err, r, "cannot open %s", params->path);
	return TAKE_FD(fd);
}

static int read_size(struct block *b, struct err *err)
{
	struct stat st;
	uint64_t size;

	if (fstat(b->fd, &st) < 0)
		return err_set_errno(err, -errno, "cannot stat %s", b->path);
	if (S_ISBLK(st.st_mode)) {
		b->is_device = true;
		if (ioctl(b->fd, BLKGETSIZE64, &size) < 0)
			return err_set_errno(err, -errno, "cannot read the size of %s", b->path);
	} else if (S_ISREG(st.st_mode)) {
		size = (uint64_t)st.st_size;
	} else {
		return err_set(err, -EINVAL, "%s is neither a file nor a block device", b->path);
	}
	if (size < SECTOR)
		return err_set(err, -EINVAL, "%s is empty", b->path);
	if (size % SECTOR)
		log_warn("%s: the last %llu bytes are no whole sector and stay out of reach",
			 b->path, (unsigned long long)(size % SECTOR));
	b->info.size_bytes = size - size % SECTOR;
	return 0;
}

/* Other formats have a signature; taking such a file for raw would hand its headers to the guest.
 */
static const struct {
	const char *name;
	const char magic[9];
	size_t len;
	bool at_end; /* in the last 512 bytes rather than the first */
} foreign_formats[] = {
	{"qcow2", "QFI\xfb", 4, false}, {"QED", "QED", 4, false},
	{"VHDX", "vhdxfile", 8, false}, {"VMDK", "KDMV", 4, false},
	{"VMDK", "COWD", 4, false},	{"VMDK", "# Disk D", 8, false},
	{"VHD", "conectix", 8, false},	{"VHD", "conectix", 8, true},
};

static int refuse_foreign(const struct block *b, struct err *err)
{
	int fd = b->buffered_fd >= 0 ? b->buffered_fd : b->fd;
	uint8_t head[8], tail[8];
	int r = fd_pread_all(fd, head, sizeof(head), 0);

	if (r >= 0)
		r = fd_pread_all(fd, tail, sizeof(tail), (off_t)(b->info.size_bytes - SECTOR));
	if (r < 0)
		return err_set_errno(err, r, "cannot read %s", b->path);
	for (size_t i = 0; i < ARRAY_SIZE(foreign_formats); i++) {
		const uint8_t *bytes = foreign_formats[i].at_end ? tail : head;

		if (!memcmp(bytes, foreign_formats[i].magic, foreign_formats[i].len))
			return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
					    "%s looks like a %s image; say image_type Raw if it is "
					    "to be taken as it is",
					    b->path, foreign_formats[i].name);
	}
	return 0;
}

/* Reads with ever coarser alignment, of the buffer too, until O_DIRECT is content. */
static uint32_t probe_direct(const struct block *b)
{
	AUTO_FREE void *buf = NULL;

	if (posix_memalign(&buf, MAX_DIRECT_ALIGN, 2 * MAX_DIRECT_ALIGN) != 0)
		return MAX_DIRECT_ALIGN;
	for (uint32_t align = SECTOR; align < MAX_DIRECT_ALIGN; align *= 2) {
		off_t offset = b->info.size_bytes >= 2 * (uint64_t)align ? align : 0;

		if (pread(b->fd, (uint8_t *)buf + align, align, offset) > 0)
			return align;
	}
	return MAX_DIRECT_ALIGN;
}

static int lock_image(const struct block *b, const struct block_params *params, struct err *err)
{
	struct flock lock = {
		.l_type = params->readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
		.l_len = params->lock_whole ? 0 : (off_t)b->info.size_bytes,
	};

	if (fcntl(b->fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(err, -EAGAIN, "%s is in use by another process or disk", b->path);
	return err_set_errno(err, -errno, "cannot lock %s", b->path);
}

/* What is not sparse has its blocks before the guest writes them. */
static int allocate(const struct block *b, const struct block_params *params, struct err *err)
{
	if (params->sparse || params->readonly || b->is_device)
		return 0;
	if (fallocate(b->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)b->info.size_bytes) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return err_set_errno(err, -errno, "cannot allocate the blocks of %s", b->path);
	log_warn("%s: its file system cannot allocate blocks in advance", b->path);
	return 0;
}

static void find_block_sizes(struct block *b)
{
	unsigned physical = 0;
	int logical = 0;

	b->info.logical_block_size = SECTOR;
	b->info.physical_block_size = SECTOR;
	if (b->is_device) {
		if (ioctl(b->fd, BLKSSZGET, &logical) == 0 && is_power_of_two((uint64_t)logical))
			b->info.logical_block_size = (uint32_t)logical;
		if (ioctl(b->fd, BLKPBSZGET, &physical) == 0 && is_power_of_two(physical))
			b->info.physical_block_size = physical;
	}
	if (b->direct_align > b->info.logical_block_size)
		b->info.logical_block_size = b->direct_align;
	if (b->info.physical_block_size < b->info.logical_block_size)
		b->info.physical_block_size = b->info.logical_block_size;
}

static int prepare(struct block *b, const struct block_params *params, struct err *err)
{
	int r;

	b->path = strdup(params->path);
	if (!b->path)
		return err_set(err, -ENOMEM, "out of memory");
	b->fd = r = open_image(params, params->direct ? O_DIRECT : 0, err);
	if (r < 0)
		return r;
	r = read_size(b, err);
	if (r < 0)
		return r;
	if (params->direct) {
		b->buffered_fd = r = open_image(params, 0, err);
		if (r < 0)
			return r;
		b->direct_align = probe_direct(b);
	}
	if (params->untyped) {
		r = refuse_foreign(b, err);
		if (r < 0)
			return r;
	}
	find_block_sizes(b);
	b->info.readonly = params->readonly;
	b->info.can_discard = !params->readonly && params->sparse;
	b->info.can_write_zeroes = !params->readonly;
	r = lock_image(b, params, err);
	return r < 0 ? r : allocate(b, params, err);
}

int block_open(const struct block_params *params, struct block **ret_block, struct err *err)
{
	struct block *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	b->fd = b->buffered_fd = -1;
	b->direct_align = 1;
	b->sparse = params->sparse;
	b->no_io_uring = params->no_io_uring;
	r = prepare(b, params, err);
	if (r < 0) {
		block_close(b);
		return r;
	}
	*ret_block = b;
	return 0;
}

void block_close(struct block *b)
{
	if (!b)
		return;
	unlock_image(b);
	fd_close(&b->buffered_fd);
	fd_close(&b->fd);
	free(b->path);
	free(b);
}

const struct block_info *block_info(const struct block *b)
{
	return &b->info;
}

int block_refresh(struct block *b, struct err *err)
{
	return read_size(b, err);
}

/* --- queues -------------------------------------------------------------------------------- */

int block_queue_new(struct block *b, struct loop *loop, unsigned depth,
		    struct block_queue **ret_queue, struct err *err)
{
	int r = -ENOSYS;

	if (!b->no_io_uring) {
		r = block_queue_new_uring(b, loop, depth, ret_queue);
		if (r < 0)
			log_warn("%s: io_uring is refused (%s); requests are made one by one",
				 b->path, strerror(-r));
	}
	if (r < 0)
		r = block_queue_new_sync(b, loop, depth, ret_queue);
	return r < 0 ? err_set_errno(err, r, "cannot make a queue for %s", b->path) : 0;
}

void block_queue_free(struct block_queue *queue)
{
	if (!queue)
		return;
	queue->engine->fini(queue);
	free(queue);
}

static bool aligned(const struct block_request *req, uint64_t mask)
{
	if ((req->offset | req->len) & mask)
		return false;
	for (unsigned i = 0; i < req->iovcnt; i++) {
		if (((uintptr_t)req->iov[i].iov_base | req->iov[i].iov_len) & mask)
			return false;
	}
	return true;
}

void block_submit(struct block_queue *queue, struct block_request *req)
{
	const struct block *b = queue->block;

	req->queue = queue;
	req->next = NULL;
	req->progress = 0;
	req->result = 0;
	req->retries = 0;
	req->zero_fill = false;
	req->buffered = b->buffered_fd >= 0 && (req->op == BLOCK_READ || req->op == BLOCK_WRITE) &&
			!aligned(req, b->direct_align - 1);
	queue->in_flight++;
	queue->engine->submit(queue, req);
}

void block_kick(struct block_queue *queue)
{
	queue->engine->kick(queue);
}

void block_queue_on_batch(struct block_queue *queue, void (*fn)(void *arg), void *arg)
{
	queue->batch_done = fn;
	queue->batch_arg = arg;
}

unsigned block_in_flight(const struct block_queue *queue)
{
	return queue->in_flight;
}

const char *block_queue_engine(const struct block_queue *queue)
{
	return queue->engine->name;
}
