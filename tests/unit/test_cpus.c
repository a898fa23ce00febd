/* SPDX-License-Identifier: Apache-2.0 */
/* The life of vCPUs. Skipped where /dev/kvm cannot be opened. */
#include "tests/unit/cpus_rig.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

/* mov dx, PORT_OUT; out dx, eax; mov dx, PORT_OFF; out dx, eax; mov dx, PORT_OUT; out dx, eax; hlt
 */
static const uint8_t switch_off[] = {0x66, 0xba, 0x00, 0x01, 0xef, 0x66, 0xba, 0x08,
				     0x01, 0xef, 0x66, 0xba, 0x00, 0x01, 0xef, 0xf4};

static void test_guest_runs_only_between_start_and_pause(void **state)
{
	struct cpus_params params = params_for(1);
	struct machine m;
	unsigned seen;

	(void)state;
	machine_init(&m, &params, count_up, sizeof(count_up));
	assert_int_equal(atomic_load(&m.writes), 0);
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 10));
	pause_all(&m);
	seen = atomic_load(&m.writes);
	sleep_ms(50);
	assert_int_equal(atomic_load(&m.writes), seen);
	assert_int_equal(atomic_load(&m.last), seen);
	cpus_resume(m.cpus);
	assert_true(reaches(&m.writes, seen + 10));
	cpus_stop(m.cpus);
	/* Nothing was lost or done twice on the way. */
	assert_int_equal(atomic_load(&m.last), atomic_load(&m.writes));
	assert_int_equal(atomic_load(&m.caller), 0);
	assert_int_equal(cpus_current(), -1);
	assert_true(atomic_load(&cpus_counters(m.cpus, 0)->pio) >= seen + 10);
	assert_true(atomic_load(&cpus_counters(m.cpus, 0)->kicks) >= 1);
	machine_fini(&m);
}

/* A user's other processes may have filled what there is for queued signals. */
static void test_halted_guest_pauses_though_no_signal_can_be_queued(void **state)
{
	/* mov dx, PORT_OUT; out dx, eax; hlt */
	static const uint8_t out_and_halt[] = {0x66, 0xba, 0x00, 0x01, 0xef, 0xf4};
	struct cpus_params params = params_for(1);
	struct rlimit before, none;
	struct machine m;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_SIGPENDING, &before), 0);
	none = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	machine_init(&m, &params, out_and_halt, sizeof(out_and_halt));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 1));
	sleep_ms(20); /* it halts at last, or is stopped on its way there: right either way */
	assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &none), 0);
	pause_all(&m);
	cpus_resume(m.cpus);
	sleep_ms(20);
	cpus_stop(m.cpus);
	assert_int_equal(setrlimit(RLIMIT_SIGPENDING, &before), 0);
	machine_fini(&m);
}

static void test_vcpu_that_asked_for_reset_runs_no_further_until_it_is_reset(void **state)
{
	struct cpus_params params = params_for(1);
	struct machine m;

	(void)state;
	machine_init(&m, &params, switch_off, sizeof(switch_off));
	for (unsigned i = 1; i <= 10; i++) {
		cpus_start(m.cpus);
		assert_true(asked(&m, GUEST_RESET));
		sleep_ms(5);
		pause_all(&m);
		cpus_resume(m.cpus);
		sleep_ms(5);
		pause_all(&m);
		assert_int_equal(atomic_load(&m.writes), i);
		assert_int_equal(cpus_set_boot_state(m.cpus, &rig_entry, NULL), 0);
		atomic_store(&m.request, 0);
	}
	machine_fini(&m);
}

/* Waits in hlt for an NMI, whose handler tells 77. (It does not return: KVM without hardware does
 * not emulate iret.) */
static void nmi_machine_init(struct machine *m)
{
	/* lidt [0x101000]; l: hlt; jmp l */
	static const uint8_t code[] = {0x0f, 0x01, 0x1d, 0x00, 0x10, 0x10, 0x00, 0xf4, 0xeb, 0xfd};
	/* At CODE + 0x20: mov dx, PORT_OUT; mov eax, 77; out dx, eax; l: hlt; jmp l */
	static const uint8_t handler[] = {0x66, 0xba, 0x00, 0x01, 0xb8, 0x4d, 0x00,
					  0x00, 0x00, 0xef, 0xf4, 0xeb, 0xfd};
	static const uint8_t idtr[] = {0xff, 0x00, 0x00, 0x20, 0x10, 0x00}; /* at 0x102000 */
	static const uint8_t gate[] = {0x20, 0x00, 0x10, 0x00, 0x00, 0x8e, 0x10, 0x00};
	struct cpus_params params = params_for(1);

	machine_init(m, &params, code, sizeof(code));
	put(m, CODE + 0x20, handler, sizeof(handler));
	put(m, 0x101000, idtr, sizeof(idtr));
	put(m, 0x102000 + 2 * 8, gate, sizeof(gate));
	cpus_start(m->cpus);
	sleep_ms(20);
}

static void test_nmi_wakes_a_halted_guest(void **state)
{
	struct machine m;

	(void)state;
	nmi_machine_init(&m);
	assert_int_equal(atomic_load(&m.writes), 0);
	cpus_nmi(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(atomic_load(&m.last), 77);
	machine_fini(&m);
}

static void test_nmi_during_a_pause_comes_after_it(void **state)
{
	struct machine m;

	(void)state;
	nmi_machine_init(&m);
	pause_all(&m);
	cpus_nmi(m.cpus);
	sleep_ms(20);
	assert_int_equal(atomic_load(&m.writes), 0);
	cpus_resume(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(atomic_load(&m.last), 77);
	machine_fini(&m);
}

static unsigned threads_named(const char *prefix)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *e;
	unsigned n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir))) {
		char path[300], name[32] = "";
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (f && fgets(name, sizeof(name), f) && !strncmp(name, prefix, strlen(prefix)))
			n++;
		if (f)
			fclose(f);
	}
	closedir(dir);
	return n;
}

/* A joined thread is visible for a moment longer. */
static bool all_threads_gone(void)
{
	for (int i = 0; i < 1000; i++) {
		if (!threads_named("vcpu"))
			return true;
		sleep_ms(1);
	}
	return false;
}

static void test_threads_are_named_and_gone_after_stop(void **state)
{
	struct cpus_params params = params_for(4);
	struct machine m;

	(void)state;
	machine_init(&m, &params, count_up, sizeof(count_up));
	assert_int_equal(threads_named("vcpu"), 4);
	assert_int_equal(threads_named("vcpu3\n"), 1);
	cpus_stop(m.cpus);
	assert_true(all_threads_gone());
	/* What comes after is nothing. */
	cpus_start(m.cpus);
	cpus_nmi(m.cpus);
	pause_all(&m);
	cpus_stop(m.cpus);
	machine_fini(&m);
}

static void test_start_pause_resume_and_stop_in_any_order(void **state)
{
	struct cpus_params params = params_for(4);

	(void)state;
	for (unsigned round = 0; round < 30; round++) {
		struct machine m;
		unsigned dice = round * 2654435761u;

		machine_init(&m, &params, count_up, sizeof(count_up));
		for (int i = 0; i < 16; i++, dice = dice * 1103515245u + 12345u) {
			switch (dice >> 16 & 3) {
			case 0: cpus_start(m.cpus); break;
			case 1: pause_all(&m); break;
			case 2: cpus_nmi(m.cpus); break;
			case 3:
				/* Overtaken: the pause's q is let go all the same. */
				quiesce_init(&m.q, m.loop, on_quiet, m.loop);
				cpus_pause(m.cpus, &m.q);
				cpus_resume(m.cpus);
				quiesce_release(&m.q);
				loop_run(m.loop);
				break;
			}
		}
		if (round & 1)
			cpus_stop(m.cpus);
		machine_fini(&m);
	}
}

static void test_stop_lets_go_of_a_pause(void **state)
{
	struct cpus_params params = params_for(2);
	struct machine m;

	(void)state;
	machine_init(&m, &params, count_up, sizeof(count_up));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 1));
	quiesce_init(&m.q, m.loop, on_quiet, m.loop);
	cpus_pause(m.cpus, &m.q);
	cpus_stop(m.cpus);
	quiesce_release(&m.q);
	loop_run(m.loop);
	machine_fini(&m);
}

static void test_affinity_pins_and_an_impossible_one_is_an_error(void **state)
{
	uint32_t here = (uint32_t)sched_getcpu(), nowhere = 8000;
	struct cpu_affinity_config pin = {.vcpu = 0, .host_cpus = &here, .num_host_cpus = 1};
	struct cpus_params params = params_for(1);
	struct cpus_hooks hooks = {0};
	struct cpus *cpus = NULL;
	struct err err = ERR_INIT;
	struct machine m;

	(void)state;
	params.affinity = &pin;
	params.num_affinity = 1;
	machine_init(&m, &params, count_up, sizeof(count_up));
	cpus_start(m.cpus);
	assert_true(reaches(&m.writes, 5));
	cpus_free(TAKE(m.cpus));
	kvm_vm_free(TAKE(m.kvm));
	assert_int_equal(kvm_vm_new(0, &m.kvm, NULL), 0);
	pin.host_cpus = &nowhere;
	assert_int_equal(cpus_new(&params, m.kvm, m.pio, m.mmio, NULL, &hooks, &cpus, &err),
			 -EINVAL);
	assert_null(cpus);
	assert_non_null(strstr(err_message(&err, 0), "pin vCPU 0"));
	assert_true(all_threads_gone());
	machine_fini(&m);
}

static void test_bad_parameters_are_refused(void **state)
{
	struct cpus_params params = params_for(2);
	struct cpus_hooks hooks = {0};
	struct kvm_vm *kvm = NULL;
	struct cpus *cpus = NULL;

	(void)state;
	assert_int_equal(kvm_vm_new(0, &kvm, NULL), 0);
	params.boot_vcpus = 0;
	assert_int_equal(cpus_new(&params, kvm, NULL, NULL, NULL, &hooks, &cpus, NULL), -EINVAL);
	params.boot_vcpus = 3;
	assert_int_equal(cpus_new(&params, kvm, NULL, NULL, NULL, &hooks, &cpus, NULL), -EINVAL);
	params.boot_vcpus = 2;
	params.topology = (struct cpu_topology){1, 1, 1, 1};
	assert_int_equal(cpus_new(&params, kvm, NULL, NULL, NULL, &hooks, &cpus, NULL), -EINVAL);
	params = params_for(1000000);
	assert_int_equal(cpus_new(&params, kvm, NULL, NULL, NULL, &hooks, &cpus, NULL), -E2BIG);
	assert_int_equal(cpus_phys_bits(kvm, 33, NULL), 33);
	assert_int_equal(cpus_phys_bits(kvm, 20, NULL), -EINVAL);
	kvm_vm_free(kvm);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_guest_runs_only_between_start_and_pause),
		cmocka_unit_test(test_halted_guest_pauses_though_no_signal_can_be_queued),
		cmocka_unit_test(test_vcpu_that_asked_for_reset_runs_no_further_until_it_is_reset),
		cmocka_unit_test(test_nmi_wakes_a_halted_guest),
		cmocka_unit_test(test_nmi_during_a_pause_comes_after_it),
		cmocka_unit_test(test_threads_are_named_and_gone_after_stop),
		cmocka_unit_test(test_start_pause_resume_and_stop_in_any_order),
		cmocka_unit_test(test_stop_lets_go_of_a_pause),
		cmocka_unit_test(test_affinity_pins_and_an_impossible_one_is_an_error),
		cmocka_unit_test(test_bad_parameters_are_refused),
	};

	if (!have_kvm())
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
