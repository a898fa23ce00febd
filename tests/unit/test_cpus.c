/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vCPUs on the machine's real KVM. The guests are a few instructions each, which also run where KVM
 * has no hardware behind it and emulates them. Skipped where /dev/kvm cannot be opened.
 */
#include "base/fd.h"
#include "base/loop.h"
#include "vmm/bus/bus.h"
#include "vmm/cpu/cpus.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/guest_memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define CODE	  0x100000
#define PORT_OUT  0x100 /* what is written is noted */
#define PORT_IN	  0x104 /* gives 1, 2, 3, ... */
#define PORT_OFF  0x108 /* a write halts the vCPU and is noted as a request */
#define MMIO_BASE 0xd0000000

struct machine {
	struct loop *loop;
	struct kvm_vm *kvm;
	struct guest_memory *memory;
	struct bus *pio;
	struct bus *mmio;
	struct bus_range ports, device;
	struct cpus *cpus;
	struct quiesce q;

	atomic_uint writes;	/* to PORT_OUT */
	atomic_uint last;	/* what was written last */
	atomic_uint given;	/* by PORT_IN */
	atomic_uint mismatches; /* written, but not what was given last */
	atomic_int caller;	/* cpus_current() of the last write */
	atomic_uint mmio_value;
	atomic_int request; /* enum guest_request + 1 */
	atomic_int failures;
	char failure[256];
	uint8_t bytes[64];
	unsigned num_bytes;
};

static void port_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct machine *m = arg;
	uint32_t v = 0xffffffff;

	if (offset == PORT_IN - PORT_OUT)
		v = atomic_fetch_add(&m->given, 1) + 1;
	memcpy(data, &v, MIN(len, 4u));
}

static void port_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct machine *m = arg;
	uint32_t v = 0;

	memcpy(&v, data, MIN(len, 4u));
	if (offset == PORT_OFF - PORT_OUT) {
		cpus_halt_caller();
		atomic_store(&m->request, GUEST_RESET + 1);
		return;
	}
	if (len == 1 && m->num_bytes < sizeof(m->bytes))
		m->bytes[m->num_bytes++] = (uint8_t)v;
	if (v != atomic_load(&m->given))
		atomic_fetch_add(&m->mismatches, 1);
	atomic_store(&m->caller, cpus_current());
	atomic_store(&m->last, v);
	atomic_fetch_add(&m->writes, 1);
}

static void mmio_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	uint64_t v = 0x1122334455667788 + offset;

	(void)arg;
	memcpy(data, &v, len);
}

static void mmio_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct machine *m = arg;
	uint32_t v = 0;

	(void)offset;
	memcpy(&v, data, MIN(len, 4u));
	atomic_store(&m->mmio_value, v);
}

static const struct bus_ops port_ops = {.read = port_read, .write = port_write};
static const struct bus_ops mmio_ops = {.read = mmio_read, .write = mmio_write};

static void on_request(void *arg, enum guest_request request)
{
	struct machine *m = arg;

	atomic_store(&m->request, (int)request + 1);
}

static void on_failed(void *arg, const struct err *err)
{
	struct machine *m = arg;

	err_format(err, m->failure, sizeof(m->failure));
	atomic_fetch_add(&m->failures, 1);
}

static bool have_kvm(void)
{
	AUTO_FD int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return true;
	print_message("skipped: /dev/kvm: %s\n", strerror(errno));
	return false;
}

/* GDT as vmm/boot writes it, needed by guests that take an interrupt. */
static const uint64_t gdt[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};

static const struct boot_entry entry = {.protocol = BOOT_PVH, .ip = CODE, .arg = 0x6000};

static struct cpus_params params_for(unsigned vcpus)
{
	return (struct cpus_params){
		.boot_vcpus = vcpus,
		.max_vcpus = vcpus,
		.phys_bits = 40,
		.nested = true,
		.core_scheduling = CORE_SCHEDULING_VM,
	};
}

static void put(struct machine *m, uint64_t at, const void *bytes, size_t len)
{
	assert_int_equal(guest_memory_write(m->memory, gpa(at), bytes, len), 0);
}

static void machine_init(struct machine *m, const struct cpus_params *params, const void *code,
			 size_t len)
{
	struct guest_memory_params mem = {.size_bytes = 4 * MIB};
	struct cpus_hooks hooks = {.guest_request = on_request, .failed = on_failed, .arg = m};
	struct err err = ERR_INIT;
	char text[512];
	int rc;

	memset(m, 0, sizeof(*m));
	assert_int_equal(loop_new(&m->loop), 0);
	assert_int_equal(guest_memory_new(&mem, NULL, &m->memory, NULL), 0);
	rc = kvm_vm_new(0, &m->kvm, &err);
	if (rc < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
	assert_int_equal(kvm_vm_set_memory(m->kvm, 0, 0, 4 * MIB, m->memory->regions[0].host, 0),
			 0);
	assert_int_equal(bus_new("pio", &m->pio), 0);
	assert_int_equal(bus_new("mmio", &m->mmio), 0);
	m->ports = (struct bus_range){
		.name = "ports", .ops = &port_ops, .arg = m, .base = PORT_OUT, .size_bytes = 16};
	m->device = (struct bus_range){.name = "device",
				       .ops = &mmio_ops,
				       .arg = m,
				       .base = MMIO_BASE,
				       .size_bytes = 4096};
	assert_int_equal(bus_add(m->pio, &m->ports, NULL), 0);
	assert_int_equal(bus_add(m->mmio, &m->device, NULL), 0);
	put(m, CODE, code, len);
	put(m, LAYOUT_GDT, gdt, sizeof(gdt));
	rc = cpus_new(params, m->kvm, m->pio, m->mmio, NULL, &hooks, &m->cpus, &err);
	if (rc == 0)
		rc = cpus_set_boot_state(m->cpus, &entry, &err);
	if (rc < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
}

static void machine_fini(struct machine *m)
{
	cpus_free(m->cpus);
	bus_remove(m->pio, &m->ports);
	bus_remove(m->mmio, &m->device);
	bus_free(m->pio);
	bus_free(m->mmio);
	kvm_vm_free(m->kvm);
	guest_memory_free(m->memory);
	loop_free(m->loop);
}

static void on_quiet(struct loop_task *task)
{
	loop_stop(task->arg);
}

static void pause_all(struct machine *m)
{
	quiesce_init(&m->q, m->loop, on_quiet, m->loop);
	cpus_pause(m->cpus, &m->q);
	quiesce_release(&m->q);
	loop_run(m->loop);
}

/* Waits until *value is at least `least`, for ten seconds at most. */
static bool reaches(atomic_uint *value, unsigned least)
{
	for (int i = 0; i < 10000; i++) {
		if (atomic_load(value) >= least)
			return true;
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return false;
}

static bool asked(struct machine *m, enum guest_request request)
{
	for (int i = 0; i < 10000 && !atomic_load(&m->request); i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return atomic_load(&m->request) == (int)request + 1;
}

/* xor eax, eax; mov dx, PORT_OUT; l: inc eax; out dx, eax; jmp l */
static const uint8_t count_up[] = {0x31, 0xc0, 0x66, 0xba, 0x00, 0x01, 0x40, 0xef, 0xeb, 0xfc};

/* l: mov dx, PORT_IN; in eax, dx; mov dx, PORT_OUT; out dx, eax; jmp l */
static const uint8_t echo[] = {0x66, 0xba, 0x04, 0x01, 0xed, 0x66,
			       0xba, 0x00, 0x01, 0xef, 0xeb, 0xf4};

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
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
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
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_int_equal(atomic_load(&m.failures), 1);
	assert_non_null(strstr(m.failure, "vCPU 0 cannot go on: "));
	pause_all(&m);
	cpus_resume(m.cpus);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_int_equal(atomic_load(&m.failures), 1);
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
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
		pause_all(&m);
		cpus_resume(m.cpus);
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
		pause_all(&m);
		assert_int_equal(atomic_load(&m.writes), i);
		assert_int_equal(cpus_set_boot_state(m.cpus, &entry, NULL), 0);
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
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
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
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	assert_int_equal(atomic_load(&m.writes), 0);
	cpus_resume(m.cpus);
	assert_true(reaches(&m.writes, 1));
	assert_int_equal(atomic_load(&m.last), 77);
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
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
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
		cmocka_unit_test(test_port_read_cut_by_a_pause_is_finished_before_rest),
		cmocka_unit_test(test_saved_guest_goes_on_in_another_machine),
		cmocka_unit_test(test_malformed_state_is_refused),
		cmocka_unit_test(test_mmio_reaches_the_bus),
		cmocka_unit_test(test_string_output_reaches_the_bus_byte_by_byte),
		cmocka_unit_test(test_string_input_fills_guest_memory),
		cmocka_unit_test(test_access_to_nothing_reads_all_ones),
		cmocka_unit_test(test_triple_fault_is_reported_and_halts),
		cmocka_unit_test(test_vcpu_that_kvm_cannot_run_is_reported_and_the_process_lives),
		cmocka_unit_test(test_vcpu_that_asked_for_reset_runs_no_further_until_it_is_reset),
		cmocka_unit_test(test_nmi_wakes_a_halted_guest),
		cmocka_unit_test(test_nmi_during_a_pause_comes_after_it),
		cmocka_unit_test(test_application_processor_waits_for_sipi_and_has_its_apic_id),
		cmocka_unit_test(test_first_vcpu_has_apic_id_0),
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
