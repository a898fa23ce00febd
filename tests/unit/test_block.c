/* SPDX-License-Identifier: Apache-2.0 */
/* Images are real files beside the test's binary, and on tmpfs where a file system with fewer calls
 * is wanted. The system calls below can be made to fail or to fall short, for the synchronous
 * engine. */
#include "storage/block.h"

#include "base/fd.h"
#include "base/loop.h"
#include "storage/block_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <limits.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#define IMAGE_BYTES (4 * MIB)

/* --- system calls that misbehave ------------------------------------------------------------ */

static struct {
	size_t most;	   /* bytes that a transfer moves at most; 0 = any */
	unsigned failures; /* of the next calls, with ... */
	int error;
	int fallocate_error;
	unsigned calls;
} kernel;

static bool fails(void)
{
	kernel.calls++;
	if (!kernel.failures)
		return false;
	kernel.failures--;
	errno = kernel.error;
	return true;
}

static ssize_t transfer(long nr, int fd, const struct iovec *iov, int n, off_t offset)
{
	struct iovec part = iov[0];

	if (fails())
		return -1;
	if (!kernel.most)
		return syscall(nr, fd, iov, n, offset, 0);
	part.iov_len = MIN(part.iov_len, kernel.most);
	return syscall(nr, fd, &part, 1, offset, 0);
}

ssize_t preadv(int fd, const struct iovec *iov, int n, off_t offset)
{
	return transfer(SYS_preadv, fd, iov, n, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t offset)
{
	return transfer(SYS_pwritev, fd, iov, n, offset);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (kernel.fallocate_error) {
		errno = kernel.fallocate_error;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

/* --- fixture -------------------------------------------------------------------------------- */

struct fixture {
	char dir[PATH_MAX];
	char path[PATH_MAX + 16];
	struct loop *loop;
	struct block *block;
	struct block_queue *queue;
	unsigned done;
};

struct op {
	struct block_request req;
	struct fixture *f;
	int result;
	unsigned calls;
};

static void *make_dir(struct fixture *f, const char *parent)
{
	snprintf(f->dir, sizeof(f->dir), "%.3900s/test_block.XXXXXX", parent);
	if (!mkdtemp(f->dir))
		return NULL;
	snprintf(f->path, sizeof(f->path), "%s/image", f->dir);
	return f;
}

static int set_up_in(void **state, const char *parent)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	memset(&kernel, 0, sizeof(kernel));
	assert_non_null(make_dir(f, parent));
	assert_int_equal(loop_new(&f->loop), 0);
	*state = f;
	return 0;
}

static int set_up(void **state)
{
	char exe[PATH_MAX] = "";
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	*strrchr(exe, '/') = '\0';
	return set_up_in(state, exe);
}

static int set_up_tmpfs(void **state)
{
	return set_up_in(state, "/dev/shm");
}

static void close_image(struct fixture *f)
{
	block_queue_free(TAKE(f->queue));
	block_close(TAKE(f->block));
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close_image(f);
	loop_free(f->loop);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

static uint8_t byte_at(uint64_t offset)
{
	return (uint8_t)(offset / 512 * 7 + offset % 512 + 1);
}

/* A file whose every byte tells where it is. */
static void create_image(struct fixture *f, uint64_t size)
{
	AUTO_FREE uint8_t *data = malloc(size + 1);
	AUTO_FD int fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_non_null(data);
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < size; i++)
		data[i] = byte_at(i);
	assert_int_equal(fd_write_all(fd, data, size), 0);
}

static void write_image(struct fixture *f, const void *data, size_t len, off_t offset)
{
	AUTO_FD int fd = open(f->path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), len);
}

static void read_image(struct fixture *f, void *data, size_t len, uint64_t offset)
{
	AUTO_FD int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_pread_all(fd, data, len, (off_t)offset), 0);
}

static uint64_t allocated_bytes(struct fixture *f)
{
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static struct block_params params_of(struct fixture *f)
{
	return (struct block_params){.path = f->path, .sparse = true};
}

static int try_open(struct fixture *f, const struct block_params *params, char *text, size_t len)
{
	struct err err = ERR_INIT;
	int r = block_open(params, &f->block, &err);

	if (r < 0) {
		assert_int_equal(err.code, r);
		assert_true(err_count(&err) > 0);
	}
	err_format(&err, text, len);
	return r;
}

static void open_queue(struct fixture *f, const struct block_params *params, unsigned depth)
{
	struct err err = ERR_INIT;
	char text[256];

	if (try_open(f, params, text, sizeof(text)) < 0)
		fail_msg("%s", text);
	if (block_queue_new(f->block, f->loop, depth, &f->queue, &err) < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
}

/* Opens with each engine in turn. */
#define for_each_engine(f, params)                                                              \
	for (unsigned engine_ = 0;                                                              \
	     engine_ < 2 && ((params).no_io_uring = engine_ == 1, create_image(f, IMAGE_BYTES), \
			    open_queue(f, &(params), 16), true);                                \
	     engine_++, close_image(f))

static void on_done(struct block_request *req, int result)
{
	struct op *op = container_of(req, struct op, req);

	op->result = result;
	op->calls++;
	op->f->done++;
	if (!block_in_flight(op->f->queue))
		loop_stop(op->f->loop);
}

static void submit(struct fixture *f, struct op *op)
{
	op->f = f;
	op->result = 12345;
	op->req.done = on_done;
	block_submit(f->queue, &op->req);
	assert_int_equal(op->calls, 0);
}

static void finish_all(struct fixture *f)
{
	block_kick(f->queue);
	loop_run(f->loop);
	assert_int_equal(block_in_flight(f->queue), 0);
}

static int run(struct fixture *f, struct op *op)
{
	submit(f, op);
	assert_int_equal(block_in_flight(f->queue), 1);
	finish_all(f);
	assert_int_equal(op->calls, 1);
	return op->result;
}

static int run_iov(struct fixture *f, enum block_op what, uint64_t offset, struct iovec *iov,
		   unsigned n)
{
	struct op op = {.req = {.op = what, .offset = offset, .iov = iov, .iovcnt = n}};

	for (unsigned i = 0; i < n; i++)
		op.req.len += iov[i].iov_len;
	return run(f, &op);
}

static int run_buf(struct fixture *f, enum block_op what, uint64_t offset, void *buf, size_t len)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	return run_iov(f, what, offset, &iov, 1);
}

static int run_range(struct fixture *f, enum block_op what, uint64_t offset, uint64_t len,
		     bool unmap)
{
	struct op op = {.req = {.op = what, .offset = offset, .len = len, .unmap = unmap}};

	return run(f, &op);
}

static void assert_pattern(const uint8_t *data, uint64_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != byte_at(offset + i))
			fail_msg("byte %zu behind %llu differs", i, (unsigned long long)offset);
	}
}

/* The image holds its pattern, but for zeroes in [start, end). */
static void assert_zeroes_only(struct fixture *f, uint64_t start, uint64_t end)
{
	AUTO_FREE uint8_t *data = malloc(IMAGE_BYTES);

	assert_non_null(data);
	read_image(f, data, IMAGE_BYTES, 0);
	assert_pattern(data, 0, start);
	assert_pattern(data + end, end, IMAGE_BYTES - end);
	for (uint64_t i = start; i < end; i++)
		assert_int_equal(data[i], 0);
}

/* --- opening -------------------------------------------------------------------------------- */

static void image_tells_its_properties(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	const struct block_info *info;

	create_image(f, IMAGE_BYTES + 100);
	open_queue(f, &params, 1);
	info = block_info(f->block);
	assert_int_equal(info->size_bytes, IMAGE_BYTES);
	assert_int_equal(info->logical_block_size, 512);
	assert_false(info->readonly);
	assert_true(info->can_discard);
	assert_true(info->can_write_zeroes);
}

static void readonly_image_offers_no_writes(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	uint8_t buf[512] = {0};

	params.readonly = true;
	for_each_engine(f, params)
	{
		assert_true(block_info(f->block)->readonly);
		assert_false(block_info(f->block)->can_discard);
		assert_false(block_info(f->block)->can_write_zeroes);
		assert_int_equal(run_buf(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
		assert_pattern(buf, 512, sizeof(buf));
		assert_int_equal(run_buf(f, BLOCK_WRITE, 0, buf, sizeof(buf)), -EBADF);
		assert_int_equal(run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
	}
}

static void what_is_no_image_is_refused(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char text[512];
	int fd, dir = open(f->dir, O_PATH | O_CLOEXEC);

	assert_int_equal(try_open(f, &params, text, sizeof(text)), -ENOENT);
	create_image(f, 0);
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, "is empty"));
	create_image(f, 511);
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -EINVAL);
	unlink(f->path);

	assert_int_equal(mkfifo(f->path, 0600), 0);
	for (int readonly = 0; readonly < 2; readonly++) {
		params.readonly = readonly;
		assert_int_equal(try_open(f, &params, text, sizeof(text)), -EINVAL);
		assert_non_null(strstr(text, "neither a file nor a block device"));
	}
	unlink(f->path);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/image", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	params.path = addr.sun_path;
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -ENXIO);
	unlink(f->path);
	close(fd);
	close(dir);

	params.path = f->dir;
	params.readonly = true;
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -EINVAL);
	params.readonly = false;
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -EISDIR);
	params.path = "/dev/zero";
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -EINVAL);
	assert_null(f->block);
}

static void image_in_use_is_refused(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	struct block *first = NULL;
	char text[512];

	create_image(f, IMAGE_BYTES);
	for (int whole = 0; whole < 4; whole++) {
		params.readonly = false;
		params.lock_whole = whole & 1;
		assert_int_equal(block_open(&params, &first, NULL), 0);
		params.lock_whole = whole & 2;
		assert_int_equal(try_open(f, &params, text, sizeof(text)), -EAGAIN);
		assert_non_null(strstr(text, "is in use"));
		params.readonly = true;
		assert_int_equal(try_open(f, &params, text, sizeof(text)), -EAGAIN);
		block_close(first);
		assert_int_equal(try_open(f, &params, text, sizeof(text)), 0);
		block_close(TAKE(f->block));
	}
}

static void readers_share_an_image_and_keep_writers_out(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	struct block *first = NULL;
	char text[512];

	create_image(f, IMAGE_BYTES);
	params.readonly = true;
	assert_int_equal(block_open(&params, &first, NULL), 0);
	assert_int_equal(try_open(f, &params, text, sizeof(text)), 0);
	block_close(TAKE(f->block));
	params.readonly = false;
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -EAGAIN);
	block_close(first);
}

static void direct_image_keeps_its_lock_while_open(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	struct block *first = NULL;
	char text[512];

	create_image(f, IMAGE_BYTES);
	params.direct = true;
	if (block_open(&params, &first, NULL) < 0)
		skip();
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -EAGAIN);
	block_close(first);
}

static void other_formats_are_refused_unless_raw_was_asked_for(void **state)
{
	static const struct {
		const char *name;
		const char *magic;
		off_t offset;
	} formats[] = {
		{"qcow2", "QFI\xfb", 0}, {"VHDX", "vhdxfile", 0},
		{"VMDK", "KDMV", 0},	 {"VMDK", "# Disk DescriptorFile", 0},
		{"VHD", "conectix", 0},	 {"VHD", "conectix", IMAGE_BYTES - 512},
	};
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		create_image(f, IMAGE_BYTES);
		write_image(f, formats[i].magic, strlen(formats[i].magic), formats[i].offset);
		params.untyped = true;
		assert_int_equal(try_open(f, &params, text, sizeof(text)), -EINVAL);
		assert_non_null(strstr(text, formats[i].name));
		params.untyped = false;
		assert_int_equal(try_open(f, &params, text, sizeof(text)), 0);
		block_close(TAKE(f->block));
	}
	create_image(f, IMAGE_BYTES);
	params.untyped = true;
	assert_int_equal(try_open(f, &params, text, sizeof(text)), 0);
}

/* On a file system that cannot work without blocking io_uring would answer EAGAIN for ever. */
static void image_is_not_left_non_blocking(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	create_image(f, IMAGE_BYTES);
	open_queue(f, &params, 1);
	assert_int_equal(fcntl(f->block->fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(f->block->fd, F_GETFD), FD_CLOEXEC);
}

static void image_that_is_not_sparse_has_its_blocks(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	create_image(f, 0);
	assert_int_equal(truncate(f->path, IMAGE_BYTES), 0);
	open_queue(f, &params, 1);
	assert_true(allocated_bytes(f) < IMAGE_BYTES);
	close_image(f);
	params.sparse = false;
	open_queue(f, &params, 1);
	assert_true(allocated_bytes(f) >= IMAGE_BYTES);
	assert_int_equal(block_info(f->block)->size_bytes, IMAGE_BYTES);
	assert_false(block_info(f->block)->can_discard);
}

static void image_is_refused_when_its_blocks_are_not_to_be_had(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	char text[512];

	create_image(f, IMAGE_BYTES);
	params.sparse = false;
	kernel.fallocate_error = ENOSPC;
	assert_int_equal(try_open(f, &params, text, sizeof(text)), -ENOSPC);
	kernel.fallocate_error = EOPNOTSUPP;
	assert_int_equal(try_open(f, &params, text, sizeof(text)), 0);
}

static void refresh_sees_a_new_size_and_keeps_the_old_one_on_failure(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	create_image(f, IMAGE_BYTES);
	open_queue(f, &params, 1);
	assert_int_equal(truncate(f->path, IMAGE_BYTES * 2), 0);
	assert_int_equal(block_refresh(f->block, NULL), 0);
	assert_int_equal(block_info(f->block)->size_bytes, IMAGE_BYTES * 2);
	assert_int_equal(truncate(f->path, 0), 0);
	assert_int_equal(block_refresh(f->block, NULL), -EINVAL);
	assert_int_equal(block_info(f->block)->size_bytes, IMAGE_BYTES * 2);
}

/* --- transfers ------------------------------------------------------------------------------ */

static void data_is_read_and_written_in_pieces(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	uint8_t a[512], b[1024], c[2560];

	for_each_engine(f, params)
	{
		struct iovec in[] = {{a, sizeof(a)}, {b, sizeof(b)}, {c, sizeof(c)}};
		struct iovec out[] = {{c, 512}, {a, sizeof(a)}};

		assert_int_equal(run_iov(f, BLOCK_READ, 8192, in, 3), 0);
		assert_pattern(a, 8192, sizeof(a));
		assert_pattern(b, 8704, sizeof(b));
		assert_pattern(c, 9728, sizeof(c));
		memset(a, 0xaa, sizeof(a));
		memset(c, 0xcc, sizeof(c));
		assert_int_equal(run_iov(f, BLOCK_WRITE, IMAGE_BYTES - 1024, out, 2), 0);
		assert_int_equal(run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
		read_image(f, b, 1024, IMAGE_BYTES - 1024);
		assert_memory_equal(b, c, 512);
		assert_memory_equal(b + 512, a, 512);
	}
}

static void more_requests_than_the_queue_is_deep_all_come_back(void **state)
{
	enum { MANY = 200, DEPTH = 4 };
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	AUTO_FREE struct op *ops = calloc(MANY, sizeof(*ops));
	AUTO_FREE struct iovec *iov = calloc(MANY, sizeof(*iov));
	AUTO_FREE uint8_t *data = malloc(MANY * 4096);

	assert_true(ops && iov && data);
	for (int sync = 0; sync < 2; sync++) {
		create_image(f, IMAGE_BYTES);
		params.no_io_uring = sync;
		open_queue(f, &params, DEPTH);
		memset(ops, 0, MANY * sizeof(*ops));
		for (unsigned i = 0; i < MANY; i++) {
			iov[i] = (struct iovec){data + i * 4096, 4096};
			ops[i].req = (struct block_request){.op = BLOCK_READ,
							    .offset = (MANY - i) * 4096,
							    .len = 4096,
							    .iov = &iov[i],
							    .iovcnt = 1};
			submit(f, &ops[i]);
		}
		assert_int_equal(block_in_flight(f->queue), MANY);
		finish_all(f);
		for (unsigned i = 0; i < MANY; i++) {
			assert_int_equal(ops[i].calls, 1);
			assert_int_equal(ops[i].result, 0);
			assert_pattern(data + i * 4096, (MANY - i) * 4096, 4096);
		}
		close_image(f);
	}
}

static void short_transfers_are_gone_on_with(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	uint8_t data[3000], back[4608];
	struct iovec iov[] = {{data, 1000}, {data + 1000, 1}, {data + 1001, 1999}};

	create_image(f, IMAGE_BYTES);
	params.no_io_uring = true;
	open_queue(f, &params, 1);
	kernel.most = 700;
	assert_int_equal(run_iov(f, BLOCK_READ, 512, iov, 3), 0);
	assert_pattern(data, 512, sizeof(data));
	assert_true(kernel.calls >= 5);
	memset(back, 0x5a, sizeof(back));
	kernel.calls = 0;
	assert_int_equal(run_buf(f, BLOCK_WRITE, 1024, back, sizeof(back)), 0);
	assert_true(kernel.calls >= 7);
	memset(back, 0, sizeof(back));
	read_image(f, back, sizeof(back), 1024);
	for (size_t i = 0; i < sizeof(back); i++)
		assert_int_equal(back[i], 0x5a);
}

static void transfer_that_was_interrupted_is_made_again(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	uint8_t buf[512];

	create_image(f, IMAGE_BYTES);
	params.no_io_uring = true;
	open_queue(f, &params, 1);
	kernel.error = EINTR;
	kernel.failures = 3;
	assert_int_equal(run_buf(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
	assert_pattern(buf, 512, sizeof(buf));
	kernel.error = EAGAIN;
	kernel.failures = UINT_MAX;
	assert_int_equal(run_buf(f, BLOCK_READ, 512, buf, sizeof(buf)), -EAGAIN);
	kernel.error = ENOSPC;
	assert_int_equal(run_buf(f, BLOCK_WRITE, 512, buf, sizeof(buf)), -ENOSPC);
	kernel.failures = 0;
	assert_int_equal(run_buf(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
}

/* The kernel moves what comes before the bad address, then says so: a short transfer for real. */
static void buffer_that_cannot_be_reached_fails_the_request(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	uint8_t *pages =
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	assert_int_equal(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	for_each_engine(f, params)
	{
		assert_int_equal(run_buf(f, BLOCK_READ, 4096, pages, 8192), -EFAULT);
		assert_pattern(pages, 4096, 4096);
		assert_int_equal(run_buf(f, BLOCK_READ, 4096, pages, 4096), 0);
	}
	munmap(pages, 8192);
}

static void image_that_shrank_gives_an_error(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	uint8_t buf[4096];

	for_each_engine(f, params)
	{
		assert_int_equal(truncate(f->path, 66048), 0);
		assert_int_equal(run_buf(f, BLOCK_READ, 131072, buf, sizeof(buf)), -EIO);
		assert_int_equal(run_buf(f, BLOCK_READ, 65536, buf, sizeof(buf)), -EIO);
		assert_int_equal(run_buf(f, BLOCK_READ, 61952, buf, sizeof(buf)), 0);
		assert_pattern(buf, 61952, sizeof(buf));
	}
}

/* --- O_DIRECT ------------------------------------------------------------------------------- */

static void check_direct(struct fixture *f)
{
	AUTO_FREE void *buf = NULL;
	uint8_t *data, back[8192];

	assert_int_equal(posix_memalign(&buf, 4096, 3 * 4096), 0);
	data = buf;
	/* aligned; address, length and place that are not */
	assert_int_equal(run_buf(f, BLOCK_READ, 8192, data, 8192), 0);
	assert_pattern(data, 8192, 8192);
	assert_int_equal(run_buf(f, BLOCK_READ, 8192, data + 3, 8192), 0);
	assert_pattern(data + 3, 8192, 8192);
	assert_int_equal(run_buf(f, BLOCK_READ, 1536, data, 4608), 0);
	assert_pattern(data, 1536, 4608);
	/* What went one way is seen on the other. */
	memset(data, 0x11, 8192);
	assert_int_equal(run_buf(f, BLOCK_WRITE, 4096, data, 8192), 0);
	memset(data, 0x22, 513);
	assert_int_equal(run_buf(f, BLOCK_WRITE, 4608, data + 1, 512), 0);
	assert_int_equal(run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
	memset(data, 0, 8192);
	assert_int_equal(run_buf(f, BLOCK_READ, 4096, data, 8192), 0);
	memset(back, 0x11, sizeof(back));
	memset(back + 512, 0x22, 512);
	assert_memory_equal(data, back, sizeof(back));
	read_image(f, back, sizeof(back), 4096);
	assert_memory_equal(data, back, sizeof(back));
	assert_int_equal(run_range(f, BLOCK_WRITE_ZEROES, 4096, 8192, false), 0);
	assert_int_equal(run_buf(f, BLOCK_READ, 4096, data, 8192), 0);
	for (size_t i = 0; i < 8192; i++)
		assert_int_equal(data[i], 0);
}

static bool supports_direct(struct fixture *f)
{
	AUTO_FD int fd = -1;

	create_image(f, IMAGE_BYTES);
	fd = open(f->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	return fd >= 0;
}

static void unaligned_requests_work_on_a_direct_image(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	if (!supports_direct(f))
		skip();
	params.direct = true;
	for_each_engine(f, params)
	{
		assert_true(f->block->direct_align >= 512);
		assert_true(block_info(f->block)->logical_block_size >= f->block->direct_align);
		check_direct(f);
	}
}

static void direct_requests_that_the_file_refuses_go_through_the_cache(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	if (!supports_direct(f))
		skip();
	params.direct = true;
	for_each_engine(f, params)
	{
		f->block->direct_align = 1;
		check_direct(f);
	}
}

/* --- discard and write-zeroes --------------------------------------------------------------- */

static void write_zeroes_and_discard_leave_zeroes_in_their_range_only(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	const uint64_t start = 512 * 3, end = 300 * KIB;

	for_each_engine(f, params)
	{
		for (int unmap = 0; unmap < 2; unmap++) {
			assert_int_equal(
				run_range(f, BLOCK_WRITE_ZEROES, start, end - start, unmap), 0);
			assert_zeroes_only(f, start, end);
		}
		assert_int_equal(run_range(f, BLOCK_DISCARD, MIB, 2 * MIB, false), 0);
	}
}

static void discard_gives_blocks_back(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	for_each_engine(f, params)
	{
		assert_int_equal(run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
		assert_int_equal(run_range(f, BLOCK_DISCARD, MIB, 2 * MIB, false), 0);
		assert_zeroes_only(f, MIB, 3 * MIB);
		assert_true(allocated_bytes(f) <= IMAGE_BYTES - 2 * MIB + 64 * KIB);
		assert_int_equal(run_range(f, BLOCK_WRITE_ZEROES, 0, MIB, true), 0);
		assert_true(allocated_bytes(f) <= IMAGE_BYTES - 3 * MIB + 64 * KIB);
	}
}

static void zeroes_do_not_punch_holes_in_what_is_not_sparse(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	params.sparse = false;
	for_each_engine(f, params)
	{
		assert_int_equal(run_range(f, BLOCK_WRITE_ZEROES, MIB, 2 * MIB, true), 0);
		assert_zeroes_only(f, MIB, 3 * MIB);
		assert_true(allocated_bytes(f) >= IMAGE_BYTES);
	}
}

static void zeroes_are_written_out_where_there_is_no_call_for_them(void **state)
{
	static const int errors[] = {EOPNOTSUPP, EINVAL, ENOSYS};
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	params.no_io_uring = true;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		create_image(f, IMAGE_BYTES);
		open_queue(f, &params, 4);
		kernel.fallocate_error = errors[i];
		assert_int_equal(run_range(f, BLOCK_WRITE_ZEROES, 512, 150 * KIB, i == 0), 0);
		assert_zeroes_only(f, 512, 512 + 150 * KIB);
		assert_int_equal(run_range(f, BLOCK_DISCARD, 0, MIB, false), 0);
		assert_zeroes_only(f, 512, 512 + 150 * KIB);
		close_image(f);
	}
	create_image(f, IMAGE_BYTES);
	open_queue(f, &params, 4);
	kernel.fallocate_error = EIO;
	assert_int_equal(run_range(f, BLOCK_WRITE_ZEROES, 512, KIB, false), -EIO);
	assert_int_equal(run_range(f, BLOCK_DISCARD, 512, KIB, false), -EIO);
}

/* --- the ring ------------------------------------------------------------------------------- */

static bool has_io_uring(void)
{
	struct io_uring ring;

	if (io_uring_queue_init(1, &ring, 0) < 0)
		return false;
	io_uring_queue_exit(&ring);
	return true;
}

static void io_uring_is_used_where_the_host_has_it(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);

	create_image(f, IMAGE_BYTES);
	open_queue(f, &params, 1);
	assert_string_equal(block_queue_engine(f->queue), has_io_uring() ? "io_uring" : "sync");
	close_image(f);
	params.no_io_uring = true;
	open_queue(f, &params, 1);
	assert_string_equal(block_queue_engine(f->queue), "sync");
}

static int find_ring(void)
{
	char link[64], target[64];

	for (int fd = 3; fd < 64; fd++) {
		ssize_t n;

		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		if (!strcmp(target, "anon_inode:[io_uring]"))
			return fd;
	}
	return -1;
}

static int answer_of(struct io_uring *ring, void (*prep)(struct io_uring_sqe *sqe))
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int res;

	assert_non_null(sqe);
	prep(sqe);
	assert_int_equal(io_uring_submit_and_wait(ring, 1), 1);
	assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
	res = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return res;
}

static uint8_t scratch[512];
static struct iovec scratch_iov = {scratch, sizeof(scratch)};

static void prep_nop(struct io_uring_sqe *sqe)
{
	io_uring_prep_nop(sqe);
}

static void prep_openat(struct io_uring_sqe *sqe)
{
	io_uring_prep_openat(sqe, AT_FDCWD, "/etc/passwd", O_RDONLY, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
}

static void prep_plain_fd(struct io_uring_sqe *sqe)
{
	io_uring_prep_readv(sqe, 0, &scratch_iov, 1, 0);
}

static void prep_linked(struct io_uring_sqe *sqe)
{
	io_uring_prep_readv(sqe, 0, &scratch_iov, 1, 0);
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_DRAIN;
}

static void prep_other_file(struct io_uring_sqe *sqe)
{
	io_uring_prep_readv(sqe, 1, &scratch_iov, 1, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
}

static void prep_image(struct io_uring_sqe *sqe)
{
	io_uring_prep_readv(sqe, 0, &scratch_iov, 1, 512);
	sqe->flags |= IOSQE_FIXED_FILE;
}

/* Reaches into the queue's ring from beside. */
static void ring_does_nothing_but_image_io(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	struct io_uring_params p = {.flags = IORING_SETUP_R_DISABLED};
	struct io_uring other, ring;
	int fd, stolen = STDERR_FILENO;

	if (!has_io_uring())
		skip();
	create_image(f, IMAGE_BYTES);
	open_queue(f, &params, 4);
	fd = find_ring();
	assert_true(fd >= 0);
	/* The layout of a ring of the same size, for a second mapping of the queue's. */
	assert_int_equal(io_uring_queue_init_params(4, &other, &p), 0);
	memset(&ring, 0, sizeof(ring));
	assert_int_equal(io_uring_queue_mmap(fd, &p, &ring), 0);
	ring.flags = 0;

	assert_int_equal(answer_of(&ring, prep_nop), -EACCES);
	assert_int_equal(answer_of(&ring, prep_openat), -EACCES);
	assert_int_equal(answer_of(&ring, prep_plain_fd), -EACCES);
	assert_int_equal(answer_of(&ring, prep_linked), -EACCES);
	assert_int_equal(answer_of(&ring, prep_other_file), -EBADF);
	assert_int_equal(answer_of(&ring, prep_image), sizeof(scratch));
	assert_pattern(scratch, 512, sizeof(scratch));
	assert_true(syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES_UPDATE, &stolen, 1) <
		    0);
	assert_int_equal(errno, EACCES);
	assert_true(syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, NULL, 0) < 0);
	assert_int_equal(errno, EACCES);

	munmap(ring.sq.sqes, 4 * sizeof(struct io_uring_sqe));
	munmap(ring.sq.ring_ptr, ring.sq.ring_sz);
	io_uring_queue_exit(&other);
}

/* --- life ----------------------------------------------------------------------------------- */

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void opening_and_closing_leaves_no_descriptor(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	uint8_t buf[512];
	unsigned before;

	create_image(f, IMAGE_BYTES);
	params.direct = supports_direct(f);
	before = open_fds();
	for (unsigned i = 0; i < 1000; i++) {
		params.no_io_uring = i % 2;
		open_queue(f, &params, 8);
		if (i % 8 < 4)
			assert_int_equal(run_buf(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
		close_image(f);
	}
	assert_int_equal(open_fds(), before);
}

/* A lease for writing is only to be had on a file that nobody else has open. */
static void image_is_not_busy_after_its_close(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	AUTO_FD int fd = -1;

	create_image(f, IMAGE_BYTES);
	fd = open(f->path, O_RDONLY | O_CLOEXEC);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		skip();
	assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
	for (unsigned i = 0; i < 20; i++) {
		fd_close(&fd);
		open_queue(f, &params, 8);
		assert_int_equal(run_buf(f, BLOCK_READ, 512, scratch, sizeof(scratch)), 0);
		close_image(f);
		fd = open(f->path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
	}
}

static void failed_opens_leave_no_descriptor(void **state)
{
	struct fixture *f = *state;
	struct block_params params = params_of(f);
	struct block *first = NULL;
	unsigned before;
	char text[512];

	create_image(f, IMAGE_BYTES);
	assert_int_equal(block_open(&params, &first, NULL), 0);
	before = open_fds();
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(try_open(f, &params, text, sizeof(text)), -EAGAIN);
	params.path = "/dev/zero";
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(try_open(f, &params, text, sizeof(text)), -EINVAL);
	assert_int_equal(open_fds(), before);
	block_close(first);
}

static void nothing_can_be_closed(void **state)
{
	block_close(NULL);
	block_queue_free(NULL);
}

#define TEST(name)	 cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_TMPFS(name) cmocka_unit_test_setup_teardown(name, set_up_tmpfs, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(image_tells_its_properties),
		TEST(readonly_image_offers_no_writes),
		TEST(what_is_no_image_is_refused),
		TEST(image_in_use_is_refused),
		TEST(readers_share_an_image_and_keep_writers_out),
		TEST(direct_image_keeps_its_lock_while_open),
		TEST(other_formats_are_refused_unless_raw_was_asked_for),
		TEST(image_is_not_left_non_blocking),
		TEST(image_that_is_not_sparse_has_its_blocks),
		TEST(image_is_refused_when_its_blocks_are_not_to_be_had),
		TEST(refresh_sees_a_new_size_and_keeps_the_old_one_on_failure),
		TEST(data_is_read_and_written_in_pieces),
		TEST(more_requests_than_the_queue_is_deep_all_come_back),
		TEST(short_transfers_are_gone_on_with),
		TEST(transfer_that_was_interrupted_is_made_again),
		TEST(buffer_that_cannot_be_reached_fails_the_request),
		TEST(image_that_shrank_gives_an_error),
		TEST(unaligned_requests_work_on_a_direct_image),
		TEST(direct_requests_that_the_file_refuses_go_through_the_cache),
		TEST(write_zeroes_and_discard_leave_zeroes_in_their_range_only),
		TEST_TMPFS(write_zeroes_and_discard_leave_zeroes_in_their_range_only),
		TEST_TMPFS(data_is_read_and_written_in_pieces),
		TEST_TMPFS(unaligned_requests_work_on_a_direct_image),
		TEST_TMPFS(discard_gives_blocks_back),
		TEST(discard_gives_blocks_back),
		TEST(zeroes_do_not_punch_holes_in_what_is_not_sparse),
		TEST_TMPFS(zeroes_do_not_punch_holes_in_what_is_not_sparse),
		TEST(zeroes_are_written_out_where_there_is_no_call_for_them),
		TEST(io_uring_is_used_where_the_host_has_it),
		TEST(ring_does_nothing_but_image_io),
		TEST(opening_and_closing_leaves_no_descriptor),
		TEST(image_is_not_busy_after_its_close),
		TEST(failed_opens_leave_no_descriptor),
		cmocka_unit_test(nothing_can_be_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
