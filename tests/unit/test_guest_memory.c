/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memory/guest_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct guest_memory *make(const struct guest_memory_params *params)
{
	struct guest_memory *mem = NULL;
	struct err err = ERR_INIT;
	char text[256];

	if (guest_memory_new(params, NULL, &mem, &err) < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
	return mem;
}

static struct guest_memory *make_size(uint64_t size)
{
	return make(&(struct guest_memory_params){.size_bytes = size});
}

static void test_small_memory_is_one_region_at_zero(void **state)
{
	struct guest_memory *mem = make_size(64 * MIB);

	(void)state;
	assert_int_equal(mem->num_regions, 1);
	assert_int_equal(mem->regions[0].start.v, 0);
	assert_int_equal(mem->regions[0].size_bytes, 64 * MIB);
	assert_int_equal(mem->regions[0].fd, -1);
	assert_int_equal(guest_memory_end(mem), 4 * GIB);
	guest_memory_free(mem);
}

static void test_large_memory_goes_around_the_hole(void **state)
{
	struct guest_memory *mem = make_size(5 * GIB);

	(void)state;
	assert_int_equal(mem->num_regions, 2);
	assert_int_equal(mem->size_bytes, 5 * GIB);
	assert_int_equal(mem->regions[0].size_bytes, 3 * GIB);
	assert_int_equal(mem->regions[1].start.v, 4 * GIB);
	assert_int_equal(mem->regions[1].size_bytes, 2 * GIB);
	assert_int_equal(guest_memory_end(mem), 6 * GIB);
	assert_true(guest_memory_contains(mem, gpa(3 * GIB - 1), 1));
	assert_false(guest_memory_contains(mem, gpa(3 * GIB), 1));
	assert_false(guest_memory_contains(mem, gpa(4 * GIB - 1), 2));
	assert_true(guest_memory_contains(mem, gpa(6 * GIB - 1), 1));
	assert_false(guest_memory_contains(mem, gpa(6 * GIB - 1), 2));
	/* Both regions, and the last byte of each. */
	assert_int_equal(guest_memory_write(mem, gpa(3 * GIB - 1), "a", 1), 0);
	assert_int_equal(guest_memory_write(mem, gpa(6 * GIB - 1), "b", 1), 0);
	assert_int_equal(mem->regions[0].host[3 * GIB - 1], 'a');
	assert_int_equal(mem->regions[1].host[2 * GIB - 1], 'b');
	guest_memory_free(mem);
}

static void test_exactly_three_gib_is_one_region(void **state)
{
	struct guest_memory *mem = make_size(3 * GIB);

	(void)state;
	assert_int_equal(mem->num_regions, 1);
	guest_memory_free(mem);
}

static void test_access_outside_of_ram_is_refused(void **state)
{
	struct guest_memory *mem = make_size(MIB);
	uint8_t byte = 0x55;
	void *host = &byte;

	(void)state;
	assert_int_equal(guest_memory_map(mem, gpa(0), 0, GUEST_READ, &host), -EFAULT);
	assert_int_equal(guest_memory_map(mem, gpa(MIB), 1, GUEST_READ, &host), -EFAULT);
	assert_int_equal(guest_memory_map(mem, gpa(MIB - 1), 2, GUEST_READ, &host), -EFAULT);
	assert_int_equal(guest_memory_map(mem, gpa(UINT64_MAX), 1, GUEST_READ, &host), -EFAULT);
	assert_int_equal(guest_memory_map(mem, gpa(UINT64_MAX), 2, GUEST_READ, &host), -EFAULT);
	assert_int_equal(guest_memory_map(mem, gpa(1), UINT64_MAX, GUEST_READ, &host), -EFAULT);
	assert_int_equal(guest_memory_map(mem, gpa(16), UINT64_MAX - 7, GUEST_WRITE, &host),
			 -EFAULT);
	assert_ptr_equal(host, &byte);
	assert_int_equal(guest_memory_read(mem, gpa(MIB), &byte, 1), -EFAULT);
	assert_int_equal(byte, 0x55);
	assert_int_equal(guest_memory_write(mem, gpa(MIB - 1), "xy", 2), -EFAULT);
	assert_int_equal(mem->regions[0].host[MIB - 1], 0);
	assert_int_equal(guest_memory_map(mem, gpa(0), MIB, GUEST_WRITE, &host), 0);
	assert_ptr_equal(host, mem->regions[0].host);
	guest_memory_free(mem);
}

static void test_shared_memory_can_be_mapped_by_its_descriptor(void **state)
{
	struct guest_memory *mem =
		make(&(struct guest_memory_params){.size_bytes = 2 * MIB, .shared = true});
	uint8_t *other;

	(void)state;
	assert_true(mem->regions[0].fd >= 0);
	other = mmap(NULL, 2 * MIB, PROT_READ, MAP_SHARED, mem->regions[0].fd,
		     (off_t)mem->regions[0].fd_offset);
	assert_ptr_not_equal(other, MAP_FAILED);
	assert_int_equal(guest_memory_write(mem, gpa(0x1234), "seen", 4), 0);
	assert_memory_equal(other + 0x1234, "seen", 4);
	munmap(other, 2 * MIB);
	guest_memory_free(mem);
}

static void test_shared_memory_cannot_be_resized_by_its_receiver(void **state)
{
	struct guest_memory *mem =
		make(&(struct guest_memory_params){.size_bytes = 2 * MIB, .shared = true});

	(void)state;
	assert_int_equal(ftruncate(mem->memfd, 4096), -1);
	assert_int_equal(ftruncate(mem->memfd, 4 * MIB), -1);
	assert_true(fcntl(mem->memfd, F_GETFD) & FD_CLOEXEC);
	guest_memory_free(mem);
}

static void test_two_regions_of_one_file_do_not_overlap(void **state)
{
	struct guest_memory *mem =
		make(&(struct guest_memory_params){.size_bytes = 4 * GIB, .shared = true});

	(void)state;
	assert_int_equal(mem->regions[1].fd_offset, 3 * GIB);
	assert_int_equal(guest_memory_write(mem, gpa(4 * GIB), "high", 4), 0);
	assert_int_equal(mem->regions[0].host[0], 0);
	guest_memory_free(mem);
}

static void test_bad_sizes_are_refused_with_a_message(void **state)
{
	static const uint64_t sizes[] = {0,	     4096,	 MIB - 4096,	    MIB + 1,
					 MIB + 2048, UINT64_MAX, UINT64_MAX - 4095, 1ULL << 63};
	struct guest_memory *mem = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct guest_memory_params params = {.size_bytes = sizes[i]};
		struct err err = ERR_INIT;

		assert_int_equal(guest_memory_new(&params, NULL, &mem, &err), -EINVAL);
		assert_int_equal(err_count(&err), 1);
		assert_null(mem);
	}
}

static void test_more_than_the_address_space_is_an_error(void **state)
{
	struct guest_memory_params params = {.size_bytes = 1ULL << 50};
	struct guest_memory *mem = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(guest_memory_new(&params, NULL, &mem, &err), -ENOMEM);
	assert_int_equal(err_count(&err), 1);
	params.shared = true;
	assert_true(guest_memory_new(&params, NULL, &mem, &err) < 0);
	assert_null(mem);
}

static void test_huge_page_sizes_that_the_host_lacks_are_refused(void **state)
{
	struct guest_memory_params params = {.size_bytes = 64 * MIB, .hugepages = true};
	static const uint64_t sizes[] = {3 * MIB, 4096, 8 * MIB, 1, 1ULL << 63};
	struct guest_memory *mem = NULL;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct err err = ERR_INIT;

		params.hugepage_size_bytes = sizes[i];
		assert_int_equal(guest_memory_new(&params, NULL, &mem, &err), -EINVAL);
		assert_int_equal(err_count(&err), 1);
	}
	assert_null(mem);
}

/* Whether the pool has pages or not depends on the host; it must never be found out by a fault. */
static void test_huge_pages_are_reserved_or_refused(void **state)
{
	struct guest_memory_params params = {.size_bytes = 4 * MIB, .hugepages = true};
	struct guest_memory *mem = NULL;
	struct err err = ERR_INIT;
	int rc;

	(void)state;
	params.hugepage_size_bytes = 2 * MIB;
	rc = guest_memory_new(&params, NULL, &mem, &err);
	if (rc < 0) {
		assert_int_equal(err_count(&err), 1);
		print_message("no huge pages here: %s\n", err_message(&err, 0));
		return;
	}
	memset(mem->regions[0].host, 1, 4 * MIB);
	guest_memory_free(mem);
}

static void test_prefault_gives_every_page_its_host_page(void **state)
{
	struct guest_memory_params params = {
		.size_bytes = 96 * MIB + 4096, .prefault = true, .shared = true};
	struct guest_memory *mem;
	struct stat st;

	(void)state;
	mem = make(&params);
	assert_int_equal(fstat(mem->memfd, &st), 0);
	assert_int_equal((uint64_t)st.st_blocks * 512, params.size_bytes);
	guest_memory_free(mem);
	params.shared = false;
	params.thp = true;
	mem = make(&params);
	for (uint64_t i = 0; i < params.size_bytes; i += 16 * MIB) {
		unsigned char in_core = 0;

		assert_int_equal(mincore(mem->regions[0].host + i, 4096, &in_core), 0);
		assert_int_equal(in_core & 1, 1);
	}
	guest_memory_free(mem);
}

static void test_cancel_ends_prefaulting(void **state)
{
	struct guest_memory_params params = {.size_bytes = 256 * MIB, .prefault = true};
	atomic_bool cancel = true;
	struct guest_memory *mem = NULL;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(guest_memory_new(&params, &cancel, &mem, &err), -ECANCELED);
	assert_null(mem);
}

static bool bit(const uint64_t *bitmap, uint64_t page)
{
	return bitmap[page / 64] >> page % 64 & 1;
}

static void test_our_writes_are_logged_page_by_page(void **state)
{
	struct guest_memory *mem = make_size(3 * GIB + MIB);
	uint64_t *low = calloc(3 * GIB / 4096 / 64, 8), high[4] = {0};

	(void)state;
	assert_non_null(low);
	assert_int_equal(guest_memory_write(mem, gpa(0x9000), "x", 1), 0); /* not logged yet */
	assert_int_equal(guest_memory_dirty_start(mem), 0);
	assert_int_equal(guest_memory_dirty_start(mem), -EALREADY);
	assert_int_equal(guest_memory_write(mem, gpa(0x1fff), "ab", 2), 0);
	assert_int_equal(guest_memory_write(mem, gpa(4 * GIB + 0x3000), "c", 1), 0);
	assert_int_equal(guest_memory_write(mem, gpa(3 * GIB - 1), "d", 1), 0);
	guest_memory_dirty_take(mem, 0, low);
	guest_memory_dirty_take(mem, 1, high);
	assert_false(bit(low, 0));
	assert_true(bit(low, 1));
	assert_true(bit(low, 2));
	assert_false(bit(low, 3));
	assert_false(bit(low, 9));
	assert_true(bit(low, 3 * GIB / 4096 - 1));
	assert_int_equal(high[0], 1 << 3);
	/* Taken is cleared; what is in the caller's bitmap stays. */
	memset(high, 0, sizeof(high));
	guest_memory_dirty_take(mem, 1, high);
	assert_int_equal(high[0], 0);
	guest_memory_dirty_stop(mem);
	guest_memory_dirty_stop(mem);
	assert_int_equal(guest_memory_write(mem, gpa(0), "e", 1), 0);
	free(low);
	guest_memory_free(mem);
}

static void test_written_ignores_what_is_no_guest_memory(void **state)
{
	struct guest_memory *mem = make_size(MIB);
	uint64_t bits[4] = {0};

	(void)state;
	assert_int_equal(guest_memory_dirty_start(mem), 0);
	guest_memory_written(mem, bits, sizeof(bits));
	guest_memory_written(mem, mem->regions[0].host + MIB - 1, 2);
	guest_memory_written(mem, mem->regions[0].host, UINT64_MAX);
	guest_memory_written(mem, mem->regions[0].host, 0);
	guest_memory_dirty_take(mem, 0, bits);
	for (size_t i = 0; i < ARRAY_SIZE(bits); i++)
		assert_int_equal(bits[i], 0);
	guest_memory_free(mem);
	guest_memory_free(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_memory_is_one_region_at_zero),
		cmocka_unit_test(test_large_memory_goes_around_the_hole),
		cmocka_unit_test(test_exactly_three_gib_is_one_region),
		cmocka_unit_test(test_access_outside_of_ram_is_refused),
		cmocka_unit_test(test_shared_memory_can_be_mapped_by_its_descriptor),
		cmocka_unit_test(test_shared_memory_cannot_be_resized_by_its_receiver),
		cmocka_unit_test(test_two_regions_of_one_file_do_not_overlap),
		cmocka_unit_test(test_bad_sizes_are_refused_with_a_message),
		cmocka_unit_test(test_more_than_the_address_space_is_an_error),
		cmocka_unit_test(test_huge_page_sizes_that_the_host_lacks_are_refused),
		cmocka_unit_test(test_huge_pages_are_reserved_or_refused),
		cmocka_unit_test(test_prefault_gives_every_page_its_host_page),
		cmocka_unit_test(test_cancel_ends_prefaulting),
		cmocka_unit_test(test_our_writes_are_logged_page_by_page),
		cmocka_unit_test(test_written_ignores_what_is_no_guest_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
