/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine/machine.h"

#include "base/json.h"
#include "base/log.h"
#include "vmm/acpi/acpi.h"
#include "vmm/boot/boot.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"
#include "vmm/config/vm_config.h"
#include "vmm/cpu/cpus.h"
#include "vmm/kvm/kvm.h"
#include "vmm/legacy/acpi_ged.h"
#include "vmm/machine/backends.h"
#include "vmm/machine/machine_private.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The last 64 KiB of the guest's physical space stay unused, as in Cloud Hypervisor's map. */
#define TOP_RESERVED (64 * KIB)

/* --- what other threads tell ------------------------------------------------------------------ */

static void tell_event(const struct machine_hooks *hooks, void *arg, const struct machine_event *e)
{
	struct json *properties = json_new_object();

	if (properties && json_set(properties, "id", json_new_string(e->id)) < 0) {
		json_put(properties);
		properties = NULL;
	}
	hooks->event(arg, e->source, e->event, properties);
}

static void read_inbox(struct loop_task *task)
{
	/* A panic is told before the reset or power-off that often comes with it. */
	static const enum guest_request order[] = {
		GUEST_PANIC, GUEST_CRASH_LOADED,   GUEST_TRIPLE_FAULT,
		GUEST_RESET, GUEST_PANIC_SHUTDOWN, GUEST_POWER_OFF,
	};
	struct machine *m = task->arg;
	struct machine_event events[MACHINE_INBOX_MAX];
	struct machine_hooks hooks = m->hooks; /* a hook may have the machine torn down */
	void *arg = m->arg;
	unsigned n, dropped, requests = atomic_exchange(&m->requests, 0);
	struct err failure;

	pthread_mutex_lock(&m->inbox_lock);
	n = m->inbox_len;
	dropped = m->inbox_dropped;
	memcpy(events, m->inbox, n * sizeof(events[0]));
	m->inbox_len = m->inbox_dropped = 0;
	failure = m->failure;
	m->failure = (struct err)ERR_INIT;
	pthread_mutex_unlock(&m->inbox_lock);

	if (dropped)
		log_warn_limited("%u device events came too fast and were dropped", dropped);
	for (unsigned i = 0; i < n; i++)
		tell_event(&hooks, arg, &events[i]);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (requests & 1u << order[i])
			hooks.guest_request(arg, order[i]);
	}
	if (err_count(&failure))
		hooks.failed(arg, &failure);
}

static void guest_request(void *arg, enum guest_request request)
{
	struct machine *m = arg;

	atomic_fetch_or(&m->requests, 1u << request);
	/* After its own reset or power-off a vCPU has no business going on. */
	if (request == GUEST_RESET || request == GUEST_POWER_OFF)
		cpus_halt_caller();
	loop_post(m->host.main_loop, &m->inbox_task);
}

static void device_event(void *arg, const char *source, const char *event, const char *id)
{
	struct machine *m = arg;

	pthread_mutex_lock(&m->inbox_lock);
	if (m->inbox_len < MACHINE_INBOX_MAX) {
		struct machine_event *e = &m->inbox[m->inbox_len++];

		e->source = source;
		e->event = event;
		snprintf(e->id, sizeof(e->id), "%s", id);
	} else {
		m->inbox_dropped++;
	}
	pthread_mutex_unlock(&m->inbox_lock);
	loop_post(m->host.main_loop, &m->inbox_task);
}

static void vcpu_failed(void *arg, const struct err *err)
{
	struct machine *m = arg;

	pthread_mutex_lock(&m->inbox_lock);
	if (!err_count(&m->failure))
		m->failure = *err;
	pthread_mutex_unlock(&m->inbox_lock);
	loop_post(m->host.main_loop, &m->inbox_task);
}

/* --- building --------------------------------------------------------------------------------- */

static int add_memory(struct machine *m, const atomic_bool *cancel, struct err *err)
{
	const struct memory_config *c = &m->config->memory;
	struct guest_memory_params params = {
		.size_bytes = c->size,
		.shared = c->shared,
		.hugepages = c->hugepages,
		.hugepage_size_bytes = c->has_hugepage_size ? c->hugepage_size : 0,
		.prefault = c->prefault,
		.reserve = c->reserve,
		.thp = c->thp,
		.mergeable = c->mergeable,
	};
	int r = guest_memory_new(&params, cancel, &m->host.memory, err);

	return r < 0 ? err_wrap(err, r, "cannot make guest memory") : 0;
}

/* Gives KVM the memory, and lays out what lies above it. */
static int map_memory(struct machine *m, struct err *err)
{
	const struct guest_memory *memory = m->host.memory;
	int r;

	for (size_t i = 0; i < memory->num_regions; i++) {
		const struct guest_region *region = &memory->regions[i];

		r = kvm_vm_set_memory(m->host.kvm, (unsigned)i, region->start.v, region->size_bytes,
				      region->host, 0);
		if (r < 0)
			return err_set_errno(err, r, "KVM refuses memory at 0x%llx",
					     (unsigned long long)region->start.v);
	}
	r = cpus_phys_bits(m->host.kvm, m->config->cpus.max_phys_bits, err);
	if (r < 0)
		return r;
	m->phys_bits = (unsigned)r;
	m->platform_base = (1ULL << m->phys_bits) - TOP_RESERVED - LAYOUT_PLATFORM_SIZE;
	if (guest_memory_end(memory) > m->platform_base)
		return err_set_kind(err, ERR_BAD_REQUEST, -E2BIG,
				    "memory of %llu bytes does not fit into %u address bits",
				    (unsigned long long)memory->size_bytes, m->phys_bits);
	return 0;
}

static int add_buses(struct machine *m, struct err *err)
{
	int r = bus_new("port", &m->host.pio);

	if (r >= 0)
		r = bus_new("mmio", &m->host.mmio);
	if (r >= 0)
		r = irq_router_new(m->host.kvm, &m->host.irq);
	if (r < 0)
		return err_set_errno(err, r, "cannot make the buses");
	return ioapic_new(m->host.irq, m->host.mmio, &m->host.ioapic, err);
}

static void mmio64_window(const struct machine *m, uint64_t *ret_base, uint64_t *ret_size)
{
	uint64_t base = align_up(guest_memory_end(m->host.memory), LAYOUT_MMIO64_ALIGN);

	*ret_base = base;
	*ret_size = base < m->platform_base ? m->platform_base - base : 0;
}

static int add_pci(struct machine *m, struct err *err)
{
	struct pci_segment_params params = {
		.ecam_base = LAYOUT_ECAM_START,
		.mmio32_base = LAYOUT_MMIO32_START,
		.mmio32_size = LAYOUT_MMIO32_SIZE,
		.memory = m->host.memory,
	};

	mmio64_window(m, &params.mmio64_base, &params.mmio64_size);
	return pci_segment_new(&params, m->host.mmio, m->host.pio, &m->segment, err);
}

static struct cpu_topology topology_of(const struct cpus_config *c)
{
	if (!c->topology)
		return cpu_topology_flat(c->max_vcpus);
	return (struct cpu_topology){
		.threads_per_core = c->topology->threads_per_core,
		.cores_per_die = c->topology->cores_per_die,
		.dies_per_package = c->topology->dies_per_package,
		.packages = c->topology->packages,
	};
}

static int add_cpus(struct machine *m, struct err *err)
{
	const struct cpus_config *c = &m->config->cpus;
	struct cpus_params params = {
		.boot_vcpus = c->boot_vcpus,
		.max_vcpus = c->max_vcpus,
		.topology = topology_of(c),
		.phys_bits = m->phys_bits,
		.nested = c->nested,
		.amx = c->features.amx,
		.msi_ext_dest_id = true,
		.core_scheduling = c->core_scheduling,
		.affinity = c->affinity,
		.num_affinity = c->num_affinity,
	};
	struct cpus_hooks hooks = {.guest_request = guest_request, .failed = vcpu_failed, .arg = m};

	return cpus_new(&params, m->host.kvm, m->host.pio, m->host.mmio, m->host.ioapic, &hooks,
			&m->cpus, err);
}

static unsigned highest_apic_id(const struct cpus_config *c)
{
	struct cpu_topology topology = topology_of(c);

	return cpu_topology_apic_id(&topology, c->max_vcpus - 1);
}

static uint32_t apic_id(const void *arg, unsigned vcpu)
{
	return cpus_apic_id(arg, vcpu);
}

static int add_tables(struct machine *m, uint64_t *ret_rsdp, struct err *err)
{
	struct acpi_params params = {
		.boot_vcpus = m->config->cpus.boot_vcpus,
		.max_vcpus = m->config->cpus.max_vcpus,
		.apic_id = apic_id,
		.arg = m->cpus,
		.serial = m->config->serial.mode != CONSOLE_MODE_OFF,
		.ged_address = m->platform_base + PLATFORM_GED_OFFSET,
		.ged_irq = LAYOUT_IRQ_FIRST_FREE,
		.platform_base = m->platform_base,
		.platform_size_bytes = LAYOUT_PLATFORM_SIZE,
		.mmio32_base = LAYOUT_MMIO32_START,
		.mmio32_size_bytes = LAYOUT_MMIO32_SIZE,
	};

	mmio64_window(m, &params.mmio64_base, &params.mmio64_size_bytes);
	return acpi_build(&params, m->host.memory, ret_rsdp, err);
}

static int load_kernel(struct machine *m, uint64_t rsdp, const atomic_bool *cancel, struct err *err)
{
	const struct payload_config *p = m->config->payload;
	AUTO_FREE struct e820_map *e820 = malloc(sizeof(*e820));
	struct boot_params params = {
		.kernel = p->kernel,
		.initramfs = p->initramfs,
		.cmdline = p->cmdline,
		.e820 = e820,
		.rsdp = rsdp,
	};
	struct boot_entry entry;
	int r;

	if (!e820)
		return err_set(err, -ENOMEM, "out of memory");
	e820_map_init(e820, m->host.memory);
	r = boot_load(&params, m->host.memory, cancel, &entry, err);
	if (r < 0)
		return r;
	log_info_limited("the guest enters by %s at 0x%llx", entry.name,
			 (unsigned long long)entry.ip);
	return cpus_set_boot_state(m->cpus, &entry, err);
}

static int assemble(struct machine *m, const atomic_bool *cancel, struct err *err)
{
	uint64_t rsdp = 0;
	int r = add_memory(m, cancel, err);

	if (r >= 0)
		r = kvm_vm_new(highest_apic_id(&m->config->cpus), &m->host.kvm, err);
	if (r >= 0)
		r = map_memory(m, err);
	if (r >= 0)
		r = add_buses(m, err);
	if (r >= 0)
		r = add_pci(m, err);
	if (r >= 0)
		r = add_cpus(m, err);
	if (r >= 0)
		r = machine_add_devices(m, err);
	if (r >= 0)
		r = add_tables(m, &rsdp, err);
	if (r >= 0)
		r = load_kernel(m, rsdp, cancel, err);
	return r;
}

int machine_build(const struct vm_config *config, struct backends *backends, struct loop *loop,
		  const struct machine_hooks *hooks, void *arg, const atomic_bool *cancel,
		  struct machine **ret_machine, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->config = config;
	m->backends = backends;
	m->hooks = *hooks;
	m->arg = arg;
	list_init(&m->nodes);
	pthread_mutex_init(&m->inbox_lock, NULL);
	m->inbox_task.fn = read_inbox;
	m->inbox_task.arg = m;
	m->host = (struct device_host){
		.main_loop = loop,
		.guest_request = guest_request,
		.device_event = device_event,
		.arg = m,
	};
	r = assemble(m, cancel, err);
	if (r < 0) {
		machine_free(m);
		return r;
	}
	*ret_machine = m;
	return 0;
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	/* vCPUs first: while one runs, devices are still spoken to. */
	if (m->cpus)
		cpus_stop(m->cpus);
	machine_remove_devices(m);
	pci_segment_free(m->segment);
	cpus_free(m->cpus);
	ioapic_free(m->host.ioapic);
	irq_router_free(m->host.irq);
	bus_free(m->host.mmio);
	bus_free(m->host.pio);
	kvm_vm_free(m->host.kvm);
	guest_memory_free(m->host.memory);
	pthread_mutex_destroy(&m->inbox_lock);
	free(m);
}

/* --- running ---------------------------------------------------------------------------------- */

static void resume_devices(struct machine *m)
{
	struct list *node;

	list_for_each (node, &m->nodes) {
		struct device *dev = container_of(node, struct machine_node, node)->dev;

		if (dev->ops->resume)
			dev->ops->resume(dev);
	}
}

void machine_start(struct machine *m)
{
	resume_devices(m);
	cpus_start(m->cpus);
}

static void devices_at_rest(struct loop_task *task)
{
	struct machine *m = task->arg;

	/* Who is told that the guest stands still sees all that it said before. */
	backends_flush_consoles(m->backends);
	m->paused(m->paused_arg);
}

static void cpus_at_rest(struct loop_task *task)
{
	struct machine *m = task->arg;
	struct list *node;

	quiesce_init(&m->pause, m->host.main_loop, devices_at_rest, m);
	list_for_each (node, &m->nodes) {
		struct device *dev = container_of(node, struct machine_node, node)->dev;

		if (dev->ops->quiesce)
			dev->ops->quiesce(dev, &m->pause);
	}
	quiesce_release(&m->pause);
}

void machine_pause(struct machine *m, void (*done)(void *arg), void *arg)
{
	m->paused = done;
	m->paused_arg = arg;
	quiesce_init(&m->pause, m->host.main_loop, cpus_at_rest, m);
	cpus_pause(m->cpus, &m->pause);
	quiesce_release(&m->pause);
}

void machine_resume(struct machine *m)
{
	resume_devices(m);
	cpus_resume(m->cpus);
}

void machine_detach(struct machine *m)
{
	loop_task_cancel(m->host.main_loop, &m->inbox_task);
}

int machine_power_button(struct machine *m, struct err *err)
{
	acpi_ged_notify(m->ged, ACPI_GED_POWER_BUTTON);
	return 0;
}

int machine_nmi(struct machine *m, struct err *err)
{
	cpus_nmi(m->cpus);
	return 0;
}
