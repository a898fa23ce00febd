/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest does and what it finds: exits, CPUID, saved state. Skipped where /dev/kvm cannot be
 * opened. */
#include "tests/unit/cpus_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* l: mov dx, PORT_IN; in eax, dx; mov dx, PORT_OUT; out dx, eax; jmp l */
static const uint8_t echo[] = {0x66, 0xba, 0x04, 0x01, 0xed, 0x66,
			       0xba, 0x00, 0x01, 0xef, 0xeb, 0xf4};

static void test_port_read_cut_by_a_pause_is_finished_before_rest(void **state)
{
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, echo, sizeof(echo));
	for (int i = 0; i < 50; i++) {
		struct buf saved = {0};
		struct cursor in;

		cpus_start(m.cpus);
		assert_true(reaches(&m.writes, (unsigned)i * 3 + 1));
		pause_all(&m);
		/* What a read gave last must be in the registers that are saved. */
		assert_int_equal(cpus_save(m.cpus, &saved, NULL), 0);
		in = cursor_init(saved.data, saved.len);
		assert_int_equal(cpus_load(m.cpus, &in, NULL), 0);
		assert_int_equal(cursor_left(&in), 0);
		buf_fini(&saved);
	}
	cpus_stop(m.cpus);
	assert_int_equal(atomic_load(&m.mismatches), 0);
	machine_fini(&m);
}

static void test_saved_guest_goes_on_in_another_machine(void **state)
{
	struct cpus_params params = params_for(2);
	struct buf saved = {0};
	struct machine a, b;
	struct cursor in;
	unsigned seen;

	(void)state;
	machine_init(&a, &params, count_up, sizeof(count_up));
	cpus_start(a.cpus);
	assert_true(reaches(&a.writes, 100));
	pause_all(&a);
	seen = atomic_load(&a.last);
	assert_int_equal(cpus_save(a.cpus, &saved, NULL), 0);
	machine_init(&b, &params, count_up, sizeof(count_up));
	in = cursor_init(saved.data, saved.len);
	assert_int_equal(cpus_load(b.cpus, &in, NULL), 0);
	cpus_start(b.cpus);
	assert_true(reaches(&b.writes, 1));
	pause_all(&b);
	/* It counts on from where it was, not from one. */
	assert_int_equal(atomic_load(&b.last), seen + atomic_load(&b.writes));
	machine_fini(&a);
	machine_fini(&b);
	buf_fini(&saved);
}

static void test_malformed_state_is_refused(void **state)
{
	struct cpus_params one = params_for(1), two = params_for(2);
	struct buf saved = {0};
	struct machine a, b;
	struct cursor in;

	(void)state;
	machine_init(&a, &one, count_up, sizeof(count_up));
	machine_init(&b, &two, count_up, sizeof(count_up));
	assert_int_equal(cpus_save(a.cpus, &saved, NULL), 0);
	in = cursor_init(saved.data, saved.len);
	assert_int_equal(cpus_load(b.cpus, &in, NULL), -EPROTO);
	for (size_t len = 0; len < saved.len; len += 97) {
		in = cursor_init(saved.data, len);
		assert_true(cpus_load(a.cpus, &in, NULL) < 0);
	}
	machine_fini(&a);
	machine_fini(&b);
	buf_fini(&saved);
}

static void test_mmio_reaches_the_bus(void **state)
{
	/* mov eax, [MMIO_BASE + 8]; mov [MMIO_BASE + 4], eax; mov dx, PORT_OUT; out dx, eax; hlt */
	static const uint8_t code[] = {0xa1, 0x08, 0x00, 0x00, 0xd0, 0xa3, 0x04, 0x00,
				       0x00, 0xd0, 0x66, 0xba, 0x00, 0x01, 0xef, 0xf4};
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, code, sizeof(code));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(atomic_load(&m.last), 0x55667790);
	assert_int_equal(atomic_load(&m.mmio_value), 0x55667790);
	machine_fini(&m);
}

static void test_string_output_reaches_the_bus_byte_by_byte(void **state)
{
	/* mov esi, 0x101000; mov ecx, 11; mov dx, PORT_OUT; cld; rep outsb; hlt */
	static const uint8_t code[] = {0xbe, 0x00, 0x10, 0x10, 0x00, 0xb9, 0x0b, 0x00, 0x00,
				       0x00, 0x66, 0xba, 0x00, 0x01, 0xfc, 0xf3, 0x6e, 0xf4};
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, code, sizeof(code));
	put(&m, 0x101000, "hello world", 11);
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 11));
	cpus_stop(m.cpus);
	assert_int_equal(m.num_bytes, 11);
	assert_memory_equal(m.bytes, "hello world", 11);
	machine_fini(&m);
}

static void test_string_input_fills_guest_memory(void **state)
{
	/* mov edi, 0x101000; mov ecx, 4; mov dx, PORT_IN; cld; rep insd; mov dx, PORT_OUT;
	 * mov eax, [0x10100c]; out dx, eax; hlt */
	static const uint8_t code[] = {0xbf, 0x00, 0x10, 0x10, 0x00, 0xb9, 0x04, 0x00, 0x00, 0x00,
				       0x66, 0xba, 0x04, 0x01, 0xfc, 0xf3, 0x6d, 0x66, 0xba, 0x00,
				       0x01, 0xa1, 0x0c, 0x10, 0x10, 0x00, 0xef, 0xf4};
	struct cpus_params params = params_for(1);
	struct machine m;
	uint32_t got[4];

	(void)state;
	machine_init(&m, &params, code, sizeof(code));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(guest_memory_read(m.memory, gpa(0x101000), got, sizeof(got)), 0);
	/* KVM may have asked for more than the guest took, never for less or out of order. */
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(got[i], i + 1);
	assert_int_equal(atomic_load(&m.last), 4);
	machine_fini(&m);
}

static void test_access_to_nothing_reads_all_ones(void **state)
{
	/* mov dx, 0x9000; in eax, dx; mov dx, PORT_OUT; out dx, eax; hlt */
	static const uint8_t code[] = {0x66, 0xba, 0x00, 0x90, 0xed, 0x66,
				       0xba, 0x00, 0x01, 0xef, 0xf4};
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, code, sizeof(code));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(atomic_load(&m.last), 0xffffffff);
	machine_fini(&m);
}

static void test_triple_fault_is_reported_and_halts(void **state)
{
	static const uint8_t code[] = {0x0f, 0x0b}; /* ud2, without an IDT */
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, code, sizeof(code));
	cpus_start(m.cpus);
	assert_true(asked(&m, GUEST_TRIPLE_FAULT));
	assert_int_equal(atomic_load(&m.failures), 0);
	pause_all(&m);
	machine_fini(&m);
}

static void test_vcpu_that_kvm_cannot_run_is_reported_and_the_process_lives(void **state)
{
	/* mov eax, 0xd8000000; jmp eax: there is nothing to fetch instructions from */
	static const uint8_t code[] = {0xb8, 0x00, 0x00, 0x00, 0xd8, 0xff, 0xe0};
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, code, sizeof(code));
	cpus_start(m.cpus);
	for (int i = 0; i < 10000 && !atomic_load(&m.failures); i++)
		sleep_ms(1);
	assert_int_equal(atomic_load(&m.failures), 1);
	assert_non_null(strstr(m.failure, "vCPU 0 cannot go on: "));
	pause_all(&m);
	cpus_resume(m.cpus);
	sleep_ms(20);
	assert_int_equal(atomic_load(&m.failures), 1);
	machine_fini(&m);
}

/* mov eax, 1; cpuid; shr ebx, 24; mov eax, ebx; mov dx, PORT_OUT; out dx, eax; hlt */
static const uint8_t tell_apic_id[] = {0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0xa2, 0xc1, 0xeb,
				       0x18, 0x89, 0xd8, 0x66, 0xba, 0x00, 0x01, 0xef, 0xf4};

static void test_application_processor_waits_for_sipi_and_has_its_apic_id(void **state)
{
	/* mov dword [0xfee00300], 0xc4500; mov dword [0xfee00300], 0xc4601; hlt
	 * INIT, then SIPI to 0x1000, to all but self. */
	static const uint8_t bsp[] = {0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00,
				      0x45, 0x0c, 0x00, 0xc7, 0x05, 0x00, 0x03,
				      0xe0, 0xfe, 0x01, 0x46, 0x0c, 0x00, 0xf4};
	/* 16-bit: mov eax, 1; cpuid; shr ebx, 24; mov eax, ebx; mov dx, PORT_OUT; out dx, eax; hlt
	 */
	static const uint8_t ap[] = {0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f,
				     0xa2, 0x66, 0xc1, 0xeb, 0x18, 0x66, 0x89,
				     0xd8, 0xba, 0x00, 0x01, 0x66, 0xef, 0xf4};
	struct cpus_params params = params_for(2);
	struct machine m;

	(void)state;
	/* One core in each die of three: the second package's first id is 4, not 3. */
	params.topology = (struct cpu_topology){1, 1, 3, 2};
	params.max_vcpus = 6;
	machine_init(&m, &params, bsp, sizeof(bsp));
	put(&m, 0x1000, ap, sizeof(ap));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(atomic_load(&m.caller), 1);
	assert_int_equal(atomic_load(&m.last), cpus_apic_id(m.cpus, 1));
	pause_all(&m);
	machine_fini(&m);
}

static void test_first_vcpu_has_apic_id_0(void **state)
{
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, tell_apic_id, sizeof(tell_apic_id));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(atomic_load(&m.last), 0);
	machine_fini(&m);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_port_read_cut_by_a_pause_is_finished_before_rest),
		cmocka_unit_test(test_saved_guest_goes_on_in_another_machine),
		cmocka_unit_test(test_malformed_state_is_refused),
		cmocka_unit_test(test_mmio_reaches_the_bus),
		cmocka_unit_test(test_string_output_reaches_the_bus_byte_by_byte),
		cmocka_unit_test(test_string_input_fills_guest_memory),
		cmocka_unit_test(test_access_to_nothing_reads_all_ones),
		cmocka_unit_test(test_triple_fault_is_reported_and_halts),
		cmocka_unit_test(test_vcpu_that_kvm_cannot_run_is_reported_and_the_process_lives),
		cmocka_unit_test(test_application_processor_waits_for_sipi_and_has_its_apic_id),
		cmocka_unit_test(test_first_vcpu_has_apic_id_0),
	};

	if (!have_kvm())
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
