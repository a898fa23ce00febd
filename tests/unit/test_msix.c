/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pci/msix.h"

#include "tests/unit/device_rig.h"

#include "base/cursor.h"
#include "base/endian.h"
#include "base/thread.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define VECTORS	 70
#define TABLE	 0x1000
#define PBA	 0x3000
#define BAR_SIZE 0x4000
#define ECAM	 0xe8000000ULL
#define MSI_TO_0 0xfee00000ULL

struct fixture {
	struct device_rig rig;
	struct pci_segment *segment;
	struct pci_device pdev;
	uint64_t bar;
	unsigned device_accesses;
};

static void device_read(struct pci_device *pdev, unsigned bar, uint64_t offset, void *data,
			unsigned len)
{
	container_of(pdev, struct fixture, pdev)->device_accesses++;
	memset(data, 0, len);
}

static void device_write(struct pci_device *pdev, unsigned bar, uint64_t offset, const void *data,
			 unsigned len)
{
	container_of(pdev, struct fixture, pdev)->device_accesses++;
}

static const struct pci_device_ops ops = {.bar_read = device_read, .bar_write = device_write};
static const struct pci_device_id id = {.vendor = 0x1af4, .device = 0x1041};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct pci_segment_params params = {
		.ecam_base = ECAM,
		.mmio32_base = 0xc0000000,
		.mmio32_size = 640 * MIB,
	};
	struct err err = ERR_INIT;

	*state = f;
	if (!f || !device_rig_init(&f->rig) ||
	    pci_segment_new(&params, f->rig.host.mmio, f->rig.host.pio, &f->segment, &err) < 0 ||
	    pci_device_init(&f->pdev, &ops, "msix-card", &id) < 0 ||
	    pci_device_add_bar(&f->pdev, 0, BAR_SIZE, false, false) < 0 ||
	    msix_new(&f->pdev, f->rig.host.irq, VECTORS, 0, TABLE, PBA, &err) < 0 ||
	    pci_attach(f->segment, &f->pdev, 1, &err) < 0)
		return -1;
	f->bar = f->pdev.bars[0].base;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pci_detach(&f->pdev);
	msix_free(&f->pdev);
	pci_device_fini(&f->pdev);
	pci_segment_free(f->segment);
	device_rig_fini(&f->rig);
	free(f);
	return 0;
}

static uint64_t bar_in(struct fixture *f, uint64_t offset, unsigned len)
{
	return rig_in(f->rig.host.mmio, f->bar + offset, len);
}

static void bar_out(struct fixture *f, uint64_t offset, uint64_t value, unsigned len)
{
	rig_out(f->rig.host.mmio, f->bar + offset, value, len);
}

static void set_control(struct fixture *f, uint16_t control)
{
	rig_out(f->rig.host.mmio, ECAM + 0x8000 + msix_cap_offset(f->pdev.msix) + 2, control, 2);
}

static void set_vector(struct fixture *f, unsigned v, uint32_t data, bool masked)
{
	bar_out(f, TABLE + v * 16 + 12, 1, 4);
	bar_out(f, TABLE + v * 16, MSI_TO_0, 8);
	bar_out(f, TABLE + v * 16 + 8, data, 4);
	if (!masked)
		bar_out(f, TABLE + v * 16 + 12, 0, 4);
}

static bool pending(struct fixture *f, unsigned v)
{
	return bar_in(f, PBA + v / 64 * 8, 8) >> (v % 64) & 1;
}

static void start(struct fixture *f)
{
	msix_set_deferred(f->pdev.msix, false);
	pci_device_reset(&f->pdev);
	if (f->rig.has_kvm)
		device_rig_clear_irr(&f->rig);
	f->device_accesses = 0;
}

static void capability_describes_table_and_pba(void **state)
{
	struct fixture *f = *state;
	uint64_t cap = ECAM + 0x8000 + msix_cap_offset(f->pdev.msix);
	struct bus *mmio = f->rig.host.mmio;

	start(f);
	assert_true(rig_in(mmio, cap, 1) == 0x11);
	assert_true(rig_in(mmio, cap + 2, 2) == VECTORS - 1);
	assert_true(rig_in(mmio, cap + 4, 4) == TABLE);
	assert_true(rig_in(mmio, cap + 8, 4) == PBA);
	rig_out(mmio, cap, UINT32_MAX, 4);
	assert_true(rig_in(mmio, cap + 2, 2) == (0xc000 | (VECTORS - 1)));
	rig_out(mmio, cap + 4, UINT32_MAX, 4);
	assert_true(rig_in(mmio, cap + 4, 4) == TABLE);
}

static void vectors_are_masked_after_reset(void **state)
{
	struct fixture *f = *state;

	start(f);
	set_vector(f, 5, 0x44, false);
	pci_device_reset(&f->pdev);
	for (unsigned v = 0; v < VECTORS; v++) {
		assert_true(bar_in(f, TABLE + v * 16, 8) == 0);
		assert_true(bar_in(f, TABLE + v * 16 + 8, 8) == 1ULL << 32);
	}
}

static void table_takes_dwords_and_qwords_and_keeps_reserved_bits_clear(void **state)
{
	struct fixture *f = *state;

	start(f);
	bar_out(f, TABLE + 16, UINT64_MAX, 8);
	assert_true(bar_in(f, TABLE + 16, 8) == 0xfffffffffffffffcULL);
	assert_true(bar_in(f, TABLE + 20, 4) == 0xffffffff);
	bar_out(f, TABLE + 24, UINT64_MAX, 8);
	assert_true(bar_in(f, TABLE + 24, 8) == 0x1ffffffffULL);
	assert_int_equal(f->device_accesses, 0);
}

static void every_offset_and_width_is_answered_and_bounded(void **state)
{
	struct fixture *f = *state;

	start(f);
	for (unsigned offset = 0; offset < BAR_SIZE; offset++) {
		/* Whole table and PBA with their edges; the rest sparsely. */
		if (offset > 0x20 && offset < TABLE - 0x20)
			continue;
		for (unsigned len = 1; len <= 8; len *= 2) {
			bool table = offset < TABLE + VECTORS * 16 && offset + len > TABLE;
			bool pba = offset < PBA + 16 && offset + len > PBA;
			bool inside =
				table ? offset >= TABLE && offset + len <= TABLE + VECTORS * 16
				      : offset >= PBA && offset + len <= PBA + 16;
			bool legal = len >= 4 && offset % len == 0 && inside;
			uint64_t all = len == 8 ? UINT64_MAX : (1ULL << len * 8) - 1;
			uint64_t value;

			if (offset + len > BAR_SIZE)
				continue;
			f->device_accesses = 0;
			value = bar_in(f, offset, len);
			bar_out(f, offset, 0xfffffff0ffffffffULL, len);
			assert_int_equal(f->device_accesses, table || pba ? 0 : 2);
			if ((table || pba) && !legal)
				assert_true(value == all);
		}
	}
	for (unsigned v = 0; v < VECTORS; v++)
		assert_false(pending(f, v)); /* the PBA is read only */
}

static void only_dword_and_qword_writes_change_the_table(void **state)
{
	struct fixture *f = *state;

	start(f);
	for (unsigned offset = 0; offset < 16; offset++) {
		bar_out(f, TABLE + offset, UINT64_MAX, 1);
		bar_out(f, TABLE + offset, UINT64_MAX, 2);
		if (offset % 4)
			bar_out(f, TABLE + offset, UINT64_MAX, 4);
		if (offset % 8)
			bar_out(f, TABLE + offset, UINT64_MAX, 8);
	}
	assert_true(bar_in(f, TABLE, 8) == 0);
	assert_true(bar_in(f, TABLE + 8, 8) == 1ULL << 32);
}

static void raise_is_ignored_while_disabled_or_beyond_the_table(void **state)
{
	struct fixture *f = *state;

	start(f);
	set_vector(f, 0, 0x41, false);
	msix_raise(f->pdev.msix, 0);
	assert_false(pending(f, 0));
	for (unsigned v = VECTORS; v < 0x10000; v++)
		msix_raise(f->pdev.msix, v);
	msix_raise(f->pdev.msix, UINT32_MAX);
	set_control(f, 0x8000);
	for (unsigned v = 0; v < VECTORS; v++)
		assert_false(pending(f, v));
}

static void masked_vector_is_pending_until_unmasked(void **state)
{
	struct fixture *f = *state;

	start(f);
	set_control(f, 0x8000);
	set_vector(f, 69, 0x42, true);
	msix_raise(f->pdev.msix, 69);
	assert_true(pending(f, 69));
	assert_false(pending(f, 5));
	/* Two dwords see it as one qword does. */
	assert_true(bar_in(f, PBA + 8, 4) == 1U << 5);
	DEVICE_RIG_NEEDS_KVM(&f->rig);
	assert_false(device_rig_irr(&f->rig, 0x42));
	bar_out(f, TABLE + 69 * 16 + 12, 0, 4);
	assert_true(device_rig_wait_irr(&f->rig, 0x42));
	assert_false(pending(f, 69));
}

static void function_mask_holds_all_vectors_back(void **state)
{
	struct fixture *f = *state;

	start(f);
	DEVICE_RIG_NEEDS_KVM(&f->rig);
	set_vector(f, 1, 0x51, false);
	set_vector(f, 2, 0x52, false);
	set_control(f, 0xc000);
	msix_raise(f->pdev.msix, 1);
	msix_raise(f->pdev.msix, 2);
	assert_true(pending(f, 1) && pending(f, 2));
	assert_false(device_rig_irr(&f->rig, 0x51));
	set_control(f, 0x8000);
	assert_true(device_rig_wait_irr(&f->rig, 0x51));
	assert_true(device_rig_wait_irr(&f->rig, 0x52));
	assert_false(pending(f, 1) || pending(f, 2));
}

static void unmasked_vector_arrives_and_follows_its_new_route(void **state)
{
	struct fixture *f = *state;

	start(f);
	DEVICE_RIG_NEEDS_KVM(&f->rig);
	set_control(f, 0x8000);
	set_vector(f, 3, 0x61, false);
	msix_raise(f->pdev.msix, 3);
	assert_true(device_rig_wait_irr(&f->rig, 0x61));
	set_vector(f, 3, 0x62, false);
	msix_raise(f->pdev.msix, 3);
	assert_true(device_rig_wait_irr(&f->rig, 0x62));
	assert_false(pending(f, 3));
}

static void deferred_vector_fires_when_the_device_is_set_going(void **state)
{
	struct fixture *f = *state;

	start(f);
	DEVICE_RIG_NEEDS_KVM(&f->rig);
	msix_set_deferred(f->pdev.msix, true);
	set_control(f, 0x8000);
	set_vector(f, 4, 0x71, false);
	msix_raise(f->pdev.msix, 4);
	usleep(5000);
	assert_false(device_rig_irr(&f->rig, 0x71));
	assert_true(pending(f, 4));
	msix_set_deferred(f->pdev.msix, false);
	assert_true(device_rig_wait_irr(&f->rig, 0x71));
}

static void vector_without_an_interrupt_stays_pending(void **state)
{
	/* A VM that gives no irqfd. */
	struct kvm_vm broken = {.dev_fd = -1, .fd = -1, .caps.max_irq_routes = 64};
	struct irq_router *router = NULL;
	struct pci_device pdev;
	const uint32_t unmasked = 0;
	uint64_t bits = 0;

	assert_int_equal(irq_router_new(&broken, &router), 0);
	assert_int_equal(pci_device_init(&pdev, &ops, "x", &id), 0);
	assert_int_equal(pci_device_add_bar(&pdev, 0, 4096, false, false), 0);
	assert_int_equal(msix_new(&pdev, router, 1, 0, 0, 0x800, NULL), 0);
	pdev.config[msix_cap_offset(pdev.msix) + 3] = 0x80;
	msix_control_written(pdev.msix);
	assert_true(msix_write(pdev.msix, 0, 12, &unmasked, 4));
	msix_raise(pdev.msix, 0);
	assert_true(msix_read(pdev.msix, 0, 0x800, &bits, 8));
	assert_true(bits == 1);
	msix_free(&pdev);
	pci_device_fini(&pdev);
	irq_router_free(router);
}

static void state_survives_save_and_load(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;

	start(f);
	set_control(f, 0x8000);
	set_vector(f, 7, 0x77, true);
	msix_raise(f->pdev.msix, 7);
	assert_int_equal(pci_device_save(&f->pdev, &out), 0);
	start(f);
	assert_false(pending(f, 7));
	in = cursor_init(out.data, out.len);
	assert_int_equal(pci_device_load(&f->pdev, &in, &err), 0);
	assert_int_equal(cursor_left(&in), 0);
	assert_true(pending(f, 7));
	assert_true(bar_in(f, TABLE + 7 * 16 + 8, 4) == 0x77);
	for (size_t len = 0; len < out.len; len++) {
		in = cursor_init(out.data, len);
		assert_true(pci_device_load(&f->pdev, &in, &err) < 0);
	}
	DEVICE_RIG_NEEDS_KVM(&f->rig);
	bar_out(f, TABLE + 7 * 16 + 12, 0, 4);
	assert_true(device_rig_wait_irr(&f->rig, 0x77));
}

static void hostile_state_is_cut_to_what_exists(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;

	start(f);
	assert_int_equal(msix_save(f->pdev.msix, &out), 0);
	memset(out.data + out.len - VECTORS * 16 - 16, 0xff, VECTORS * 16 + 16);
	in = cursor_init(out.data, out.len);
	assert_int_equal(msix_load(f->pdev.msix, &in, &err), 0);
	assert_true(bar_in(f, PBA + 8, 8) == (1ULL << (VECTORS - 64)) - 1);
	assert_true(bar_in(f, TABLE + 8, 8) == 0x1ffffffffULL);
	start(f);
}

static void tables_that_do_not_fit_are_refused(void **state)
{
	static const struct {
		unsigned vectors, bar;
		uint32_t table, pba;
	} bad[] = {
		{0, 0, 0, 0x800}, {2049, 0, 0, 0x800}, {4, 6, 0, 0x800},      {4, 1, 0, 0x800},
		{4, 0, 4, 0x800}, {4, 0, 0, 0x804},    {4, 0, 0xfc8, 0x800},  {4, 0, 0, 0x1000},
		{4, 0, 0, 0x38},  {257, 0, 0, 0},      {4, 0, 0xfffffff8, 8}, {UINT32_MAX, 0, 0, 8},
	};
	struct fixture *f = *state;
	struct pci_device pdev;

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(pci_device_init(&pdev, &ops, "x", &id), 0);
		assert_int_equal(pci_device_add_bar(&pdev, 0, 4096, false, false), 0);
		assert_int_equal(msix_new(&pdev, f->rig.host.irq, bad[i].vectors, bad[i].bar,
					  bad[i].table, bad[i].pba, NULL),
				 -EINVAL);
		assert_null(pdev.msix);
		msix_free(&pdev);
		pci_device_fini(&pdev);
	}
}

/* --- concurrency --- */

struct raiser {
	struct msix *msix;
	atomic_bool stop;
};

static void *raise_all_the_time(void *arg)
{
	struct raiser *r = arg;

	while (!r->stop)
		for (unsigned v = 0; v < 4; v++)
			msix_raise(r->msix, v);
	return NULL;
}

static void no_interrupt_is_lost_between_masking_and_raising(void **state)
{
	struct fixture *f = *state;
	struct raiser r = {.msix = f->pdev.msix};
	struct thread t = {0};

	start(f);
	DEVICE_RIG_NEEDS_KVM(&f->rig);
	set_control(f, 0x8000);
	for (unsigned v = 0; v < 4; v++)
		set_vector(f, v, 0x80 + v, false);
	assert_int_equal(thread_start(&t, "raiser", THREAD_VIRTIO, raise_all_the_time, &r), 0);
	for (unsigned i = 0; i < 300; i++) {
		bar_out(f, TABLE + i % 4 * 16 + 12, 1, 4);
		bar_out(f, TABLE + i % 4 * 16 + 8, 0x80 + i % 4 + (i & 16), 4);
		bar_out(f, TABLE + i % 4 * 16 + 12, 0, 4);
		if (i % 64 == 0) {
			set_control(f, 0xc000);
			set_control(f, 0x8000);
		}
	}
	r.stop = true;
	thread_join(&t);
	/* Nothing may be stuck: one raise each, each arrives. */
	usleep(20000);
	for (unsigned v = 0; v < 4; v++)
		set_vector(f, v, 0xa0 + v, false);
	device_rig_clear_irr(&f->rig);
	for (unsigned v = 0; v < 4; v++) {
		msix_raise(f->pdev.msix, v);
		assert_true(device_rig_wait_irr(&f->rig, 0xa0 + v));
		assert_false(pending(f, v));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(capability_describes_table_and_pba),
		cmocka_unit_test(vectors_are_masked_after_reset),
		cmocka_unit_test(table_takes_dwords_and_qwords_and_keeps_reserved_bits_clear),
		cmocka_unit_test(every_offset_and_width_is_answered_and_bounded),
		cmocka_unit_test(only_dword_and_qword_writes_change_the_table),
		cmocka_unit_test(raise_is_ignored_while_disabled_or_beyond_the_table),
		cmocka_unit_test(masked_vector_is_pending_until_unmasked),
		cmocka_unit_test(function_mask_holds_all_vectors_back),
		cmocka_unit_test(unmasked_vector_arrives_and_follows_its_new_route),
		cmocka_unit_test(deferred_vector_fires_when_the_device_is_set_going),
		cmocka_unit_test(vector_without_an_interrupt_stays_pending),
		cmocka_unit_test(state_survives_save_and_load),
		cmocka_unit_test(hostile_state_is_cut_to_what_exists),
		cmocka_unit_test(tables_that_do_not_fit_are_refused),
		cmocka_unit_test(no_interrupt_is_lost_between_masking_and_raising),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
