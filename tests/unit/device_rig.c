/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/device_rig.h"

#include "base/endian.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define APIC_SPURIOUS 0xf0
#define APIC_ISR      0x100
#define APIC_IRR      0x200

static void on_request(void *arg, enum guest_request request)
{
	struct device_rig *rig = arg;

	rig->requests[request]++;
}

static void on_event(void *arg, const char *source, const char *event, const char *id) {}

/* A vCPU with id 0 whose APIC takes interrupts, as after a reset and a write of the spurious vector
 * register. */
static bool start_vcpu(struct device_rig *rig)
{
	struct kvm_lapic_state lapic;
	struct err err = ERR_INIT;

	if (kvm_vcpu_init(rig->vm, 0, &rig->vcpu, &err) < 0 ||
	    kvm_vcpu_get_lapic(&rig->vcpu, &lapic) < 0)
		return false;
	le_store(&lapic.regs[APIC_SPURIOUS], 0x1ff, 4);
	return kvm_vcpu_set_lapic(&rig->vcpu, &lapic) >= 0;
}

bool device_rig_init(struct device_rig *rig)
{
	struct err err = ERR_INIT;
	char text[256];

	memset(rig, 0, sizeof(*rig));
	rig->vcpu.fd = -1;
	rig->no_vm = (struct kvm_vm){.dev_fd = -1, .fd = -1, .caps.max_irq_routes = 4096};
	rig->vm = &rig->no_vm;
	if (kvm_vm_new(0, &rig->vm, &err) >= 0) {
		rig->has_kvm = start_vcpu(rig);
	} else {
		fprintf(stderr, "no KVM: %s\n", err_format(&err, text, sizeof(text)));
		rig->vm = &rig->no_vm;
	}
	rig->host.kvm = rig->vm;
	rig->host.guest_request = on_request;
	rig->host.device_event = on_event;
	rig->host.arg = rig;
	return bus_new("pio", &rig->host.pio) >= 0 && bus_new("mmio", &rig->host.mmio) >= 0 &&
	       irq_router_new(rig->vm, &rig->host.irq) >= 0 &&
	       ioapic_new(rig->host.irq, rig->host.mmio, &rig->host.ioapic, &err) >= 0;
}

void device_rig_fini(struct device_rig *rig)
{
	ioapic_free(rig->host.ioapic);
	irq_router_free(rig->host.irq);
	bus_free(rig->host.mmio);
	bus_free(rig->host.pio);
	kvm_vcpu_fini(&rig->vcpu);
	if (rig->vm != &rig->no_vm)
		kvm_vm_free(rig->vm);
}

bool device_rig_irr(struct device_rig *rig, unsigned vector)
{
	struct kvm_lapic_state lapic;

	if (kvm_vcpu_get_lapic(&rig->vcpu, &lapic) < 0)
		return false;
	return le_load(&lapic.regs[APIC_IRR + vector / 32 * 16], 4) >> (vector % 32) & 1;
}

bool device_rig_wait_irr(struct device_rig *rig, unsigned vector)
{
	for (unsigned i = 0; i < 1000; i++) {
		if (device_rig_irr(rig, vector))
			return true;
		usleep(1000);
	}
	return false;
}

void device_rig_clear_irr(struct device_rig *rig)
{
	struct kvm_lapic_state lapic;

	if (kvm_vcpu_get_lapic(&rig->vcpu, &lapic) < 0)
		return;
	for (unsigned i = 0; i < 8; i++) {
		memset(&lapic.regs[APIC_IRR + i * 16], 0, 4);
		memset(&lapic.regs[APIC_ISR + i * 16], 0, 4);
	}
	kvm_vcpu_set_lapic(&rig->vcpu, &lapic);
}

uint64_t rig_in(struct bus *bus, uint64_t addr, unsigned len)
{
	uint8_t data[8] = {0};

	bus_read(bus, addr, data, len);
	return le_load(data, len);
}

void rig_out(struct bus *bus, uint64_t addr, uint64_t value, unsigned len)
{
	uint8_t data[8];

	le_store(data, value, 8);
	bus_write(bus, addr, data, len);
}
