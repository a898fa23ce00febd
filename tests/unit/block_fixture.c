/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/block_fixture.h"

#include "base/fd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void *make_dir(struct block_fixture *f, const char *parent)
{
	snprintf(f->dir, sizeof(f->dir), "%.3900s/test_block.XXXXXX", parent);
	if (!mkdtemp(f->dir))
		return NULL;
	snprintf(f->path, sizeof(f->path), "%s/image", f->dir);
	return f;
}

static int set_up_in(void **state, const char *parent)
{
	struct block_fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_non_null(make_dir(f, parent));
	assert_int_equal(loop_new(&f->loop), 0);
	*state = f;
	return 0;
}

int block_set_up(void **state)
{
	char exe[PATH_MAX] = "";
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	*strrchr(exe, '/') = '\0';
	return set_up_in(state, exe);
}

int block_set_up_tmpfs(void **state)
{
	return set_up_in(state, "/dev/shm");
}

void block_close_image(struct block_fixture *f)
{
	block_queue_free(TAKE(f->queue));
	block_close(TAKE(f->block));
}

int block_tear_down(void **state)
{
	struct block_fixture *f = *state;

	block_close_image(f);
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

void block_create_image(struct block_fixture *f, uint64_t size)
{
	AUTO_FREE uint8_t *data = malloc(size + 1);
	AUTO_FD int fd = open(f->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_non_null(data);
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < size; i++)
		data[i] = byte_at(i);
	assert_int_equal(fd_write_all(fd, data, size), 0);
}

void block_write_image(struct block_fixture *f, const void *data, size_t len, off_t offset)
{
	AUTO_FD int fd = open(f->path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, data, len, offset), len);
}

void block_read_image(struct block_fixture *f, void *data, size_t len, uint64_t offset)
{
	AUTO_FD int fd = open(f->path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_pread_all(fd, data, len, (off_t)offset), 0);
}

uint64_t block_allocated_bytes(struct block_fixture *f)
{
	struct stat st;

	assert_int_equal(stat(f->path, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

struct block_params block_params_of(struct block_fixture *f)
{
	return (struct block_params){.path = f->path, .sparse = true};
}

int block_try_open(struct block_fixture *f, const struct block_params *params, char *text,
		   size_t len)
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

void block_open_queue(struct block_fixture *f, const struct block_params *params, unsigned depth)
{
	struct err err = ERR_INIT;
	char text[256];

	if (block_try_open(f, params, text, sizeof(text)) < 0)
		fail_msg("%s", text);
	if (block_queue_new(f->block, f->loop, depth, &f->queue, &err) < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
}

static void on_done(struct block_request *req, int result)
{
	struct block_test_op *op = container_of(req, struct block_test_op, req);

	op->result = result;
	op->calls++;
	op->f->done++;
	if (!block_in_flight(op->f->queue))
		loop_stop(op->f->loop);
}

void block_offer(struct block_fixture *f, struct block_test_op *op)
{
	op->f = f;
	op->result = 12345;
	op->req.done = on_done;
	block_submit(f->queue, &op->req);
	assert_int_equal(op->calls, 0);
}

void block_finish(struct block_fixture *f)
{
	block_kick(f->queue);
	loop_run(f->loop);
	assert_int_equal(block_in_flight(f->queue), 0);
}

static int run(struct block_fixture *f, struct block_test_op *op)
{
	block_offer(f, op);
	assert_int_equal(block_in_flight(f->queue), 1);
	block_finish(f);
	assert_int_equal(op->calls, 1);
	return op->result;
}

int block_run_iov(struct block_fixture *f, enum block_op what, uint64_t offset, struct iovec *iov,
		  unsigned n)
{
	struct block_test_op op = {.req = {.op = what, .offset = offset, .iov = iov, .iovcnt = n}};

	for (unsigned i = 0; i < n; i++)
		op.req.len += iov[i].iov_len;
	return run(f, &op);
}

int block_run(struct block_fixture *f, enum block_op what, uint64_t offset, void *buf, size_t len)
{
	struct iovec iov = {.iov_base = buf, .iov_len = len};

	return block_run_iov(f, what, offset, &iov, 1);
}

int block_run_range(struct block_fixture *f, enum block_op what, uint64_t offset, uint64_t len,
		    bool unmap)
{
	struct block_test_op op = {
		.req = {.op = what, .offset = offset, .len = len, .unmap = unmap}};

	return run(f, &op);
}

void block_assert_pattern(const uint8_t *data, uint64_t offset, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] != byte_at(offset + i))
			fail_msg("byte %zu behind %llu differs", i, (unsigned long long)offset);
	}
}

void block_assert_zeroes(struct block_fixture *f, uint64_t start, uint64_t end)
{
	AUTO_FREE uint8_t *data = malloc(IMAGE_BYTES);

	assert_non_null(data);
	block_read_image(f, data, IMAGE_BYTES, 0);
	block_assert_pattern(data, 0, start);
	block_assert_pattern(data + end, end, IMAGE_BYTES - end);
	for (uint64_t i = start; i < end; i++)
		assert_int_equal(data[i], 0);
}

bool block_supports_direct(struct block_fixture *f)
{
	AUTO_FD int fd = -1;

	block_create_image(f, IMAGE_BYTES);
	fd = open(f->path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	return fd >= 0;
}
