/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that reads and writes configuration space, ECAM, and the BAR of a virtio device at any
 * offset and width, moves and switches BARs, and resets. KVM's part (routes, ioeventfds) fails
 * throughout, as on a machine that has used them up.
 *
 * Input: steps of kind8 offset32 value64; see step().
 */
#include "base/endian.h"
#include "tests/fuzz/guest_program.h"
#include "vmm/bus/irq.h"
#include "vmm/kvm/kvm.h"
#include "vmm/memory/layout.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/virtio/virtio_rng.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SLOT 3
#define BAR0 0x10

struct machine {
	struct device_fixture f;
	struct pci_segment *segment;
	struct virtio_device *vdev;
	struct device *node;
};

static void add_buses(struct machine *m)
{
	static struct kvm_vm no_kvm = {.dev_fd = -1, .fd = -1, .caps.max_irq_routes = 4096};
	struct pci_segment_params params = {
		.ecam_base = LAYOUT_ECAM_START,
		.mmio32_base = LAYOUT_MMIO32_START,
		.mmio32_size = LAYOUT_MMIO32_SIZE,
		.mmio64_base = LAYOUT_MMIO64_ALIGN * 2,
		.mmio64_size = 64 * GIB,
		.memory = m->f.host.memory,
	};

	m->f.host.kvm = &no_kvm;
	if (irq_router_new(&no_kvm, &m->f.host.irq) < 0 ||
	    pci_segment_new(&params, m->f.host.mmio, m->f.host.pio, &m->segment, NULL) < 0)
		abort();
}

static void set_up(struct machine *m)
{
	fuzz_machine_init(&m->f);
	add_buses(m);
	if (virtio_rng_new(&m->f.host, "rng", "/dev/zero", &m->vdev, NULL) < 0 ||
	    virtio_pci_new(&m->f.host, m->vdev, m->segment, SLOT, false, &m->node, NULL) < 0 ||
	    m->vdev->dev.ops->realize(&m->vdev->dev, NULL) < 0 ||
	    m->node->ops->realize(m->node, NULL) < 0)
		abort();
}

static void access_bus(struct bus *bus, uint64_t addr, unsigned len, bool write, uint64_t value)
{
	uint8_t data[8];

	le_store(data, value, 8);
	if (write)
		bus_write(bus, addr, data, len);
	else
		bus_read(bus, addr, data, len);
}

static uint64_t ecam(unsigned offset)
{
	return LAYOUT_ECAM_START + SLOT * 0x8000ULL + offset;
}

static uint64_t bar_address(struct machine *m)
{
	uint8_t data[8];

	bus_read(m->f.host.mmio, ecam(BAR0), data, 8);
	return le_load(data, 8) & ~0xfULL;
}

static void save_and_load(struct machine *m)
{
	struct buf state = {0};
	struct cursor in;

	fuzz_quiesce(&m->f, &m->vdev->dev);
	if (m->node->ops->save(m->node, &state) < 0 || pci_segment_save(m->segment, &state) < 0)
		abort();
	in = cursor_init(state.data, state.len);
	if (m->node->ops->load(m->node, &in, NULL) < 0 ||
	    pci_segment_load(m->segment, &in, NULL) < 0)
		abort();
	buf_fini(&state);
	m->vdev->dev.ops->resume(&m->vdev->dev);
}

static void power_cycle(struct machine *m)
{
	fuzz_quiesce(&m->f, &m->vdev->dev);
	m->vdev->dev.ops->reset(&m->vdev->dev);
	m->node->ops->reset(m->node);
	pci_segment_reset(m->segment);
	m->vdev->dev.ops->resume(&m->vdev->dev);
}

/* kind: bits 0..2 = what, bit 3 = write, bits 4..5 = log2 of the width. */
static void step(struct machine *m, struct cursor *c)
{
	uint8_t kind = cursor_u8(c);
	uint32_t offset = cursor_le32(c);
	uint64_t value = cursor_le64(c);
	unsigned len = 1U << (kind >> 4 & 3);
	bool write = kind & 8;
	struct bus *mmio = m->f.host.mmio;

	switch (kind & 7) {
	case 0: access_bus(mmio, ecam(offset % 0x110), len, write, value); break;
	case 1: access_bus(mmio, bar_address(m) + offset % 0x80000, len, write, value); break;
	case 2: access_bus(mmio, bar_address(m) + offset % 0x60, len, write, value); break;
	case 3: access_bus(m->f.host.pio, 0xcf8 + offset % 8, len, write, value); break;
	case 4: access_bus(mmio, LAYOUT_ECAM_START + offset, len, write, value); break;
	case 5: save_and_load(m); break;
	case 6: access_bus(mmio, (uint64_t)offset << 12, len, write, value); break;
	case 7: power_cycle(m); break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_init(data, size);
	static struct machine m;
	uint8_t id[4];

	if (!m.node)
		set_up(&m);
	while (cursor_left(&c))
		step(&m, &c);
	power_cycle(&m);
	bus_read(m.f.host.mmio, ecam(0), id, sizeof(id));
	if (le_load(id, 4) != 0x10441af4 || !bar_address(&m))
		abort();
	return 0;
}
