/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing images. */
#include "base/fd.h"
#include "storage/block_private.h"
#include "tests/unit/block_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* --- opening -------------------------------------------------------------------------------- */

static void image_tells_its_properties(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	const struct block_info *info;

	block_create_image(f, IMAGE_BYTES + 100);
	block_open_queue(f, &params, 1);
	info = block_info(f->block);
	assert_int_equal(info->size_bytes, IMAGE_BYTES);
	assert_int_equal(info->logical_block_size, 512);
	assert_false(info->readonly);
	assert_true(info->can_discard);
	assert_true(info->can_write_zeroes);
}

static void readonly_image_offers_no_writes(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t buf[512] = {0};

	params.readonly = true;
	block_for_each_engine(f, params)
	{
		assert_true(block_info(f->block)->readonly);
		assert_false(block_info(f->block)->can_discard);
		assert_false(block_info(f->block)->can_write_zeroes);
		assert_int_equal(block_run(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
		block_assert_pattern(buf, 512, sizeof(buf));
		assert_int_equal(block_run(f, BLOCK_WRITE, 0, buf, sizeof(buf)), -EBADF);
		assert_int_equal(block_run_range(f, BLOCK_FLUSH, 0, 0, false), 0);
	}
}

static void what_is_no_image_is_refused(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char text[512];
	int fd, dir = open(f->dir, O_PATH | O_CLOEXEC);

	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -ENOENT);
	block_create_image(f, 0);
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EINVAL);
	assert_non_null(strstr(text, "is empty"));
	block_create_image(f, 511);
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EINVAL);
	unlink(f->path);

	assert_int_equal(mkfifo(f->path, 0600), 0);
	for (int readonly = 0; readonly < 2; readonly++) {
		params.readonly = readonly;
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EINVAL);
		assert_non_null(strstr(text, "neither a file nor a block device"));
	}
	unlink(f->path);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/image", dir);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	params.path = addr.sun_path;
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -ENXIO);
	unlink(f->path);
	close(fd);
	close(dir);

	params.path = f->dir;
	params.readonly = true;
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EINVAL);
	params.readonly = false;
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EISDIR);
	params.path = "/dev/zero";
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EINVAL);
	assert_null(f->block);
}

static void image_in_use_is_refused(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	struct block *first = NULL;
	char text[512];

	block_create_image(f, IMAGE_BYTES);
	for (int whole = 0; whole < 4; whole++) {
		params.readonly = false;
		params.lock_whole = whole & 1;
		assert_int_equal(block_open(&params, &first, NULL), 0);
		params.lock_whole = whole & 2;
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EAGAIN);
		assert_non_null(strstr(text, "is in use"));
		params.readonly = true;
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EAGAIN);
		block_close(first);
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), 0);
		block_close(TAKE(f->block));
	}
}

static void readers_share_an_image_and_keep_writers_out(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	struct block *first = NULL;
	char text[512];

	block_create_image(f, IMAGE_BYTES);
	params.readonly = true;
	assert_int_equal(block_open(&params, &first, NULL), 0);
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), 0);
	block_close(TAKE(f->block));
	params.readonly = false;
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EAGAIN);
	block_close(first);
}

static void direct_image_keeps_its_lock_while_open(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	struct block *first = NULL;
	char text[512];

	block_create_image(f, IMAGE_BYTES);
	params.direct = true;
	if (block_open(&params, &first, NULL) < 0)
		skip();
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EAGAIN);
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
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	char text[512];

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		block_create_image(f, IMAGE_BYTES);
		block_write_image(f, formats[i].magic, strlen(formats[i].magic), formats[i].offset);
		params.untyped = true;
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EINVAL);
		assert_non_null(strstr(text, formats[i].name));
		params.untyped = false;
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), 0);
		block_close(TAKE(f->block));
	}
	block_create_image(f, IMAGE_BYTES);
	params.untyped = true;
	assert_int_equal(block_try_open(f, &params, text, sizeof(text)), 0);
}

/* On a file system that cannot work without blocking io_uring would answer EAGAIN for ever. */
static void image_is_not_left_non_blocking(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	block_create_image(f, IMAGE_BYTES);
	block_open_queue(f, &params, 1);
	assert_int_equal(fcntl(f->block->fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fcntl(f->block->fd, F_GETFD), FD_CLOEXEC);
}

static void image_that_is_not_sparse_has_its_blocks(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	block_create_image(f, 0);
	assert_int_equal(truncate(f->path, IMAGE_BYTES), 0);
	block_open_queue(f, &params, 1);
	assert_true(block_allocated_bytes(f) < IMAGE_BYTES);
	block_close_image(f);
	params.sparse = false;
	block_open_queue(f, &params, 1);
	assert_true(block_allocated_bytes(f) >= IMAGE_BYTES);
	assert_int_equal(block_info(f->block)->size_bytes, IMAGE_BYTES);
	assert_false(block_info(f->block)->can_discard);
}

static void refresh_sees_a_new_size_and_keeps_the_old_one_on_failure(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);

	block_create_image(f, IMAGE_BYTES);
	block_open_queue(f, &params, 1);
	assert_int_equal(truncate(f->path, IMAGE_BYTES * 2), 0);
	assert_int_equal(block_refresh(f->block, NULL), 0);
	assert_int_equal(block_info(f->block)->size_bytes, IMAGE_BYTES * 2);
	assert_int_equal(truncate(f->path, 0), 0);
	assert_int_equal(block_refresh(f->block, NULL), -EINVAL);
	assert_int_equal(block_info(f->block)->size_bytes, IMAGE_BYTES * 2);
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
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t buf[512];
	unsigned before;

	block_create_image(f, IMAGE_BYTES);
	params.direct = block_supports_direct(f);
	before = open_fds();
	for (unsigned i = 0; i < 1000; i++) {
		params.no_io_uring = i % 2;
		block_open_queue(f, &params, 8);
		if (i % 8 < 4)
			assert_int_equal(block_run(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
		block_close_image(f);
	}
	assert_int_equal(open_fds(), before);
}

/* A lease for writing is only to be had on a file that nobody else has open. */
static void image_is_not_busy_after_its_close(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	uint8_t buf[512];
	AUTO_FD int fd = -1;

	block_create_image(f, IMAGE_BYTES);
	fd = open(f->path, O_RDONLY | O_CLOEXEC);
	if (fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
		skip();
	assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
	for (unsigned i = 0; i < 20; i++) {
		fd_close(&fd);
		block_open_queue(f, &params, 8);
		assert_int_equal(block_run(f, BLOCK_READ, 512, buf, sizeof(buf)), 0);
		block_close_image(f);
		fd = open(f->path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(fcntl(fd, F_SETLEASE, F_WRLCK), 0);
	}
}

static void failed_opens_leave_no_descriptor(void **state)
{
	struct block_fixture *f = *state;
	struct block_params params = block_params_of(f);
	struct block *first = NULL;
	unsigned before;
	char text[512];

	block_create_image(f, IMAGE_BYTES);
	assert_int_equal(block_open(&params, &first, NULL), 0);
	before = open_fds();
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EAGAIN);
	params.path = "/dev/zero";
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(block_try_open(f, &params, text, sizeof(text)), -EINVAL);
	assert_int_equal(open_fds(), before);
	block_close(first);
}

static void nothing_can_be_closed(void **state)
{
	block_close(NULL);
	block_queue_free(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, block_set_up, block_tear_down)

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
		TEST(refresh_sees_a_new_size_and_keeps_the_old_one_on_failure),
		TEST(opening_and_closing_leaves_no_descriptor),
		TEST(image_is_not_busy_after_its_close),
		TEST(failed_opens_leave_no_descriptor),
		cmocka_unit_test(nothing_can_be_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
