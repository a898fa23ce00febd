/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on images. System calls can be made to fail or to fall short, for the synchronous
 * engine.
 */
#include "storage/block_private.h"
#include "tests/unit/block_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

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

static int set_up(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	return block_set_up(state);
}

static int set_up_tmpfs(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	return block_set_up_tmpfs(state);
}

/* --- transfers ------------------------------------------------------------------------------ */

static void data_is_read_and_written_in_pieces(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t a[512], b[1024], c[2560];

	block_for_each_engine(f, params)
	{
		struct iovec in[] = {{a, sizeof(a)}, {b, sizeof(b)}, {c, sizeof(c)}};
		struct iovec out[] = {{c, 512}, {a, sizeof(a)}};

		assert_int_equal(block_run_iov(f, BLOCK_READ, 8192, in, 3), 0);
		block_assert_pattern(a, 8192, sizeof(a));
		block_assert_pattern(b, 8704, sizeof(b));
		block_assert_pattern(c, 9728, sizeof(c));
		memset(a, 0xaa, sizeof(a));
		memset(c, 0xcc, sizeof(c));
		assert_int_equal(block_run_iov(f, BLOCK_WRITE, IMAGE_BYTES - 1024, out, 2), 0);
		assert_int_equal(block_run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
		block_read_image(f, b, 1024, IMAGE_BYTES - 1024);
		assert_memory_equal(b, c, 512);
		assert_memory_equal(b + 512, a, 512);
	}
}

static void more_requests_than_the_queue_is_deep_all_come_back(void **state)
{
	enum { MANY = 200, DEPTH = 4 };
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	AUTO_FREE struct block_test_op *ops = calloc(MANY, sizeof(*ops));
	AUTO_FREE struct iovec *iov = calloc(MANY, sizeof(*iov));
	AUTO_FREE uint8_t *data = malloc(MANY * 4096);

	assert_true(ops && iov && data);
	for (int sync = 0; sync < 2; sync++) {
		block_create_image(f, IMAGE_BYTES);
		params.no_io_uring = sync;
		block_open_queue(f, &params, DEPTH);
		memset(ops, 0, MANY * sizeof(*ops));
		for (unsigned i = 0; i < MANY; i++) {
			iov[i] = (struct iovec){data + i * 4096, 4096};
			ops[i].req = (struct block_request){.op = BLOCK_READ,
							    .offset = (MANY - i) * 4096,
							    .len = 4096,
							    .iov = &iov[i],
							    .iovcnt = 1};
			block_offer(f, &ops[i]);
		}
		assert_int_equal(block_in_flight(f->queue), MANY);
		block_finish(f);
		for (unsigned i = 0; i < MANY; i++) {
			assert_int_equal(ops[i].calls, 1);
			assert_int_equal(ops[i].result, 0);
			block_assert_pattern(data + i * 4096, (MANY - i) * 4096, 4096);
		}
		block_close_image(f);
	}
}

static void short_transfers_are_gone_on_with(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t data[3000], back[4608];
	struct iovec iov[] = {{data, 1000}, {data + 1000, 1}, {data + 1001, 1999}};

	block_create_image(f, IMAGE_BYTES);
	params.no_io_uring = true;
	block_open_queue(f, &params, 1);
	kernel.most = 700;
	assert_int_equal(block_run_iov(f, BLOCK_READ, 512, iov, 3), 0);
	block_assert_pattern(data, 512, sizeof(data));
	assert_true(kernel.calls >= 5);
	memset(back, 0x5a, sizeof(back));
	kernel.calls = 0;
	assert_int_equal(block_run(f, BLOCK_WRITE, 1024, back, sizeof(back)), 0);
	assert_true(kernel.calls >= 7);
	memset(back, 0, sizeof(back));
	block_read_image(f, back, sizeof(back), 1024);
	for (size_t i = 0; i < sizeof(back); i++)
		assert_int_equal(back[i], 0x5a);
}

static void transfer_that_was_interrupted_is_made_again(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t buf[512];

	block_create_image(f, IMAGE_BYTES);
	params.no_io_uring = true;
	block_open_queue(f, &params, 1);
	kernel.error = EINTR;
	kernel.failures = 3;
	assert_int_equal(block_run(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
	block_assert_pattern(buf, 512, sizeof(buf));
	kernel.error = EAGAIN;
	kernel.failures = UINT_MAX;
	assert_int_equal(block_run(f, BLOCK_READ, 512, buf, sizeof(buf)), -EAGAIN);
	kernel.error = ENOSPC;
	assert_int_equal(block_run(f, BLOCK_WRITE, 512, buf, sizeof(buf)), -ENOSPC);
	kernel.failures = 0;
	assert_int_equal(block_run(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
}

/* The kernel moves what comes before the bad address, then says so: a short transfer for real. */
static void buffer_that_cannot_be_reached_fails_the_request(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t *pages =
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(pages != MAP_FAILED);
	assert_int_equal(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	block_for_each_engine(f, params)
	{
		assert_int_equal(block_run(f, BLOCK_READ, 4096, pages, 8192), -EFAULT);
		block_assert_pattern(pages, 4096, 4096);
		assert_int_equal(block_run(f, BLOCK_READ, 4096, pages, 4096), 0);
	}
	munmap(pages, 8192);
}

static void image_that_shrank_gives_an_error(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t buf[4096];

	block_for_each_engine(f, params)
	{
		assert_int_equal(truncate(f->path, 66048), 0);
		assert_int_equal(block_run(f, BLOCK_READ, 131072, buf, sizeof(buf)), -EIO);
		assert_int_equal(block_run(f, BLOCK_READ, 65536, buf, sizeof(buf)), -EIO);
		assert_int_equal(block_run(f, BLOCK_READ, 61952, buf, sizeof(buf)), 0);
		block_assert_pattern(buf, 61952, sizeof(buf));
	}
}

/* --- O_DIRECT ------------------------------------------------------------------------------- */

static void check_direct(struct block_fixture *f)
{
	AUTO_FREE void *buf = NULL;
	uint8_t *data, back[8192];

	assert_int_equal(posix_memalign(&buf, 4096, 3 * 4096), 0);
	data = buf;
	/* aligned; address, length and place that are not */
	assert_int_equal(block_run(f, BLOCK_READ, 8192, data, 8192), 0);
	block_assert_pattern(data, 8192, 8192);
	assert_int_equal(block_run(f, BLOCK_READ, 8192, data + 3, 8192), 0);
	block_assert_pattern(data + 3, 8192, 8192);
	assert_int_equal(block_run(f, BLOCK_READ, 1536, data, 4608), 0);
	block_assert_pattern(data, 1536, 4608);
	/* What went one way is seen on the other. */
	memset(data, 0x11, 8192);
	assert_int_equal(block_run(f, BLOCK_WRITE, 4096, data, 8192), 0);
	memset(data, 0x22, 513);
	assert_int_equal(block_run(f, BLOCK_WRITE, 4608, data + 1, 512), 0);
	assert_int_equal(block_run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
	memset(data, 0, 8192);
	assert_int_equal(block_run(f, BLOCK_READ, 4096, data, 8192), 0);
	memset(back, 0x11, sizeof(back));
	memset(back + 512, 0x22, 512);
	assert_memory_equal(data, back, sizeof(back));
	block_read_image(f, back, sizeof(back), 4096);
	assert_memory_equal(data, back, sizeof(back));
	assert_int_equal(block_run_range(f, BLOCK_WRITE_ZEROES, 4096, 8192, false), 0);
	assert_int_equal(block_run(f, BLOCK_READ, 4096, data, 8192), 0);
	for (size_t i = 0; i < 8192; i++)
		assert_int_equal(data[i], 0);
}

static void unaligned_requests_work_on_a_direct_image(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	if (!block_supports_direct(f))
		skip();
	params.direct = true;
	block_for_each_engine(f, params)
	{
		assert_true(f->block->direct_align >= 512);
		assert_true(block_info(f->block)->logical_block_size >= f->block->direct_align);
		check_direct(f);
	}
}

static void direct_requests_that_the_file_refuses_go_through_the_cache(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	if (!block_supports_direct(f))
		skip();
	params.direct = true;
	block_for_each_engine(f, params)
	{
		f->block->direct_align = 1;
		check_direct(f);
	}
}

/* --- discard and write-zeroes --------------------------------------------------------------- */

static void write_zeroes_and_discard_leave_zeroes_in_their_range_only(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	const uint64_t start = 512 * 3, end = 300 * KIB;

	block_for_each_engine(f, params)
	{
		for (int unmap = 0; unmap < 2; unmap++) {
			assert_int_equal(
				block_run_range(f, BLOCK_WRITE_ZEROES, start, end - start, unmap),
				0);
			block_assert_zeroes(f, start, end);
		}
		assert_int_equal(block_run_range(f, BLOCK_DISCARD, MIB, 2 * MIB, false), 0);
	}
}

static void discard_gives_blocks_back(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	block_for_each_engine(f, params)
	{
		assert_int_equal(block_run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
		assert_int_equal(block_run_range(f, BLOCK_DISCARD, MIB, 2 * MIB, false), 0);
		block_assert_zeroes(f, MIB, 3 * MIB);
		assert_true(block_allocated_bytes(f) <= IMAGE_BYTES - 2 * MIB + 64 * KIB);
		assert_int_equal(block_run_range(f, BLOCK_WRITE_ZEROES, 0, MIB, true), 0);
		assert_true(block_allocated_bytes(f) <= IMAGE_BYTES - 3 * MIB + 64 * KIB);
	}
}

static void zeroes_do_not_punch_holes_in_what_is_not_sparse(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	params.sparse = false;
	block_for_each_engine(f, params)
	{
		assert_int_equal(block_run_range(f, BLOCK_WRITE_ZEROES, MIB, 2 * MIB, true), 0);
		block_assert_zeroes(f, MIB, 3 * MIB);
		assert_true(block_allocated_bytes(f) >= IMAGE_BYTES);
	}
}

static void zeroes_are_written_out_where_there_is_no_call_for_them(void **state)
{
	static const int errors[] = {EOPNOTSUPP, EINVAL, ENOSYS};
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	params.no_io_uring = true;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		block_create_image(f, IMAGE_BYTES);
		block_open_queue(f, &params, 4);
		kernel.fallocate_error = errors[i];
		assert_int_equal(block_run_range(f, BLOCK_WRITE_ZEROES, 512, 150 * KIB, i == 0), 0);
		block_assert_zeroes(f, 512, 512 + 150 * KIB);
		assert_int_equal(block_run_range(f, BLOCK_DISCARD, 0, MIB, false), 0);
		block_assert_zeroes(f, 512, 512 + 150 * KIB);
		block_close_image(f);
	}
	block_create_image(f, IMAGE_BYTES);
	block_open_queue(f, &params, 4);
	kernel.fallocate_error = EIO;
	assert_int_equal(block_run_range(f, BLOCK_WRITE_ZEROES, 512, KIB, false), -EIO);
	assert_int_equal(block_run_range(f, BLOCK_DISCARD, 512, KIB, false), -EIO);
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
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	block_create_image(f, IMAGE_BYTES);
	block_open_queue(f, &params, 1);
	assert_string_equal(block_queue_engine(f->queue), has_io_uring() ? "io_uring" : "sync");
	block_close_image(f);
	params.no_io_uring = true;
	block_open_queue(f, &params, 1);
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
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	struct io_uring_params p = {.flags = IORING_SETUP_R_DISABLED};
	struct io_uring other, ring;
	int fd, stolen = STDERR_FILENO;

	if (!has_io_uring())
		skip();
	block_create_image(f, IMAGE_BYTES);
	block_open_queue(f, &params, 4);
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
	block_assert_pattern(scratch, 512, sizeof(scratch));
	assert_true(syscall(SYS_io_uring_register, fd, IORING_REGISTER_FILES_UPDATE, &stolen, 1) <
		    0);
	assert_int_equal(errno, EACCES);
	assert_true(syscall(SYS_io_uring_register, fd, IORING_REGISTER_PROBE, NULL, 0) < 0);
	assert_int_equal(errno, EACCES);

	munmap(ring.sq.sqes, 4 * sizeof(struct io_uring_sqe));
	munmap(ring.sq.ring_ptr, ring.sq.ring_sz);
	io_uring_queue_exit(&other);
}

static void image_is_refused_when_its_blocks_are_not_to_be_had(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	char text[512];

	block_create_image(f, IMAGE_BYTES);
	params.sparse = false;
	kernel.fallocate_error = ENOSPC;
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -ENOSPC);
	kernel.fallocate_error = EOPNOTSUPP;
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), 0);
}

#define TEST(name)	 cmocka_unit_test_setup_teardown(name, set_up, block_tear_down)
#define TEST_TMPFS(name) cmocka_unit_test_setup_teardown(name, set_up_tmpfs, block_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(image_is_refused_when_its_blocks_are_not_to_be_had),
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
