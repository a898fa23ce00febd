/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/cpus_rig.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

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

bool have_kvm(void)
{
	AUTO_FD int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return true;
	print_message("skipped: /dev/kvm: %s\n", strerror(errno));
	return false;
}

/* GDT as vmm/boot writes it, needed by guests that take an interrupt. */
static const uint64_t gdt[] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};

const struct boot_entry rig_entry = {.protocol = BOOT_PVH, .ip = CODE, .arg = 0x6000};

struct cpus_params params_for(unsigned vcpus)
{
	return (struct cpus_params){
		.boot_vcpus = vcpus,
		.max_vcpus = vcpus,
		.phys_bits = 40,
		.nested = true,
		.core_scheduling = CORE_SCHEDULING_VM,
	};
}

void put(struct machine *m, uint64_t at, const void *bytes, size_t len)
{
	assert_int_equal(guest_memory_write(m->memory, gpa(at), bytes, len), 0);
}

void machine_init(struct machine *m, const struct cpus_params *params, const void *code, size_t len)
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
		rc = cpus_set_boot_state(m->cpus, &rig_entry, &err);
	if (rc < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
}

void machine_fini(struct machine *m)
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

void on_quiet(struct loop_task *task)
{
	loop_stop(task->arg);
}

void pause_all(struct machine *m)
{
	quiesce_init(&m->q, m->loop, on_quiet, m->loop);
	cpus_pause(m->cpus, &m->q);
	quiesce_release(&m->q);
	loop_run(m->loop);
}

bool reaches(atomic_uint *value, unsigned least)
{
	for (int i = 0; i < 10000; i++) {
		if (atomic_load(value) >= least)
			return true;
		sleep_ms(1);
	}
	return false;
}

bool asked(struct machine *m, enum guest_request request)
{
	for (int i = 0; i < 10000 && !atomic_load(&m->request); i++)
		sleep_ms(1);
	return atomic_load(&m->request) == (int)request + 1;
}

/* xor eax, eax; mov dx, PORT_OUT; l: inc eax; out dx, eax; jmp l */
const uint8_t count_up[10] = {0x31, 0xc0, 0x66, 0xba, 0x00, 0x01, 0x40, 0xef, 0xeb, 0xfc};

void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}
