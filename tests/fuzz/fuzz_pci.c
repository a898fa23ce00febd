/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A segment with several functions, its ECAM, its ports, and the bus that their BARs move about on.
 * After each step the bus is asked for the rules that no guest may break. KVM refuses everything,
 * or (for inputs whose first byte is odd) agrees to everything.
 *
 * Input: one byte, then steps of what8 function8 and what the step takes; see step().
 */
#include "base/endian.h"
#include "base/fd.h"
#include "chardev/chardev.h"
#include "tests/fuzz/guest_program.h"
#include "vmm/bus/irq.h"
#include "vmm/kvm/kvm.h"
#include "vmm/legacy/pvpanic_pci.h"
#include "vmm/memory/layout.h"
#include "vmm/pci/msix.h"
#include "vmm/pci/pci.h"
#include "vmm/virtio/virtio_console.h"
#include "vmm/virtio/virtio_pci.h"
#include "vmm/virtio/virtio_rng.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUNCTIONS  4
#define FIRST_SLOT 2
#define STEPS_MAX  256
#define MMIO64	   (LAYOUT_MMIO64_ALIGN * 2)
#define COMMAND	   0x04
#define CAP_VENDOR 0x09
#define CAP_MSIX   0x11

struct function {
	struct virtio_device *vdev; /* NULL: not virtio */
	struct device *node;
	struct pci_device *pdev;
};

struct machine {
	struct device_fixture f;
	struct pci_segment *segment;
	struct function functions[FUNCTIONS];
	struct buf power_on; /* state of all */
};

/* --- KVM ------------------------------------------------------------------------------------ */

static struct kvm_vm any_kvm = {.dev_fd = -1, .fd = -1, .caps.max_irq_routes = 64};
static bool kvm_agrees;

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);
	if (fd != any_kvm.fd || fd < 0)
		return (int)syscall(SYS_ioctl, fd, request, arg);
	errno = ENOSPC;
	return kvm_agrees ? 0 : -1;
}

/* --- the machine ---------------------------------------------------------------------------- */

static void ignore_request(void *arg, enum guest_request request) {}

static void add_segment(struct machine *m)
{
	struct pci_segment_params params = {
		.ecam_base = LAYOUT_ECAM_START,
		.mmio32_base = LAYOUT_MMIO32_START,
		.mmio32_size = LAYOUT_MMIO32_SIZE,
		.mmio64_base = MMIO64,
		.mmio64_size = 64 * GIB,
		.memory = m->f.host.memory,
	};

	any_kvm.fd = eventfd_new();
	m->f.host.kvm = &any_kvm;
	m->f.host.guest_request = ignore_request;
	if (any_kvm.fd < 0 || irq_router_new(&any_kvm, &m->f.host.irq) < 0 ||
	    pci_segment_new(&params, m->f.host.mmio, m->f.host.pio, &m->segment, NULL) < 0)
		abort();
}

static void add_virtio(struct machine *m, unsigned i, struct virtio_device *vdev, bool bar32)
{
	struct function *f = &m->functions[i];

	f->vdev = vdev;
	if (virtio_pci_new(&m->f.host, vdev, m->segment, (int)(FIRST_SLOT + i), bar32, &f->node,
			   NULL) < 0 ||
	    vdev->dev.ops->realize(&vdev->dev, NULL) < 0 ||
	    f->node->ops->realize(f->node, NULL) < 0)
		abort();
	f->pdev = virtio_pci_function(f->node);
}

static void add_pvpanic(struct machine *m, unsigned i)
{
	struct function *f = &m->functions[i];

	if (pvpanic_pci_new(&m->f.host, m->segment, (int)(FIRST_SLOT + i), &f->node, NULL) < 0 ||
	    f->node->ops->realize(f->node, NULL) < 0)
		abort();
	f->pdev = pvpanic_pci_function(f->node);
}

static void at_rest(struct machine *m, bool rest)
{
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		struct virtio_device *vdev = m->functions[i].vdev;

		if (vdev && rest)
			fuzz_quiesce(&m->f, &vdev->dev);
		else if (vdev)
			vdev->dev.ops->resume(&vdev->dev);
	}
}

static void save(struct machine *m, struct buf *out)
{
	for (unsigned i = 0; i < FUNCTIONS; i++)
		if (m->functions[i].node->ops->save(m->functions[i].node, out) < 0)
			abort();
	if (pci_segment_save(m->segment, out) < 0)
		abort();
}

static void load(struct machine *m, const struct buf *state)
{
	struct cursor in = cursor_init(state->data, state->len);

	for (unsigned i = 0; i < FUNCTIONS; i++)
		if (m->functions[i].node->ops->load(m->functions[i].node, &in, NULL) < 0)
			abort();
	if (pci_segment_load(m->segment, &in, NULL) < 0 || cursor_left(&in))
		abort();
}

static void set_up(struct machine *m)
{
	const struct chardev_params params = {.mode = CHARDEV_NULL};
	struct virtio_device *vdev;
	struct chardev *chardev;

	fuzz_machine_init(&m->f);
	add_segment(m);
	if (virtio_rng_new(&m->f.host, "rng0", "/dev/zero", &vdev, NULL) < 0)
		abort();
	add_virtio(m, 0, vdev, false);
	if (chardev_new(m->f.host.main_loop, &params, &chardev, NULL) < 0 ||
	    virtio_console_new(&m->f.host, "con0", chardev, &vdev, NULL) < 0)
		abort();
	add_virtio(m, 1, vdev, true);
	if (virtio_rng_new(&m->f.host, "rng1", "/dev/zero", &vdev, NULL) < 0)
		abort();
	add_virtio(m, 2, vdev, true);
	add_pvpanic(m, 3);
	save(m, &m->power_on);
}

static void power_cycle(struct machine *m)
{
	at_rest(m, true);
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		struct function *f = &m->functions[i];

		if (f->vdev)
			f->vdev->dev.ops->reset(&f->vdev->dev);
		f->node->ops->reset(f->node);
	}
	pci_segment_reset(m->segment);
	at_rest(m, false);
}

/* Out of its slot and into it again; its BAR may get another place. */
static void replug(struct machine *m, struct function *f)
{
	at_rest(m, true);
	f->node->ops->unrealize(f->node);
	if (f->node->ops->realize(f->node, NULL) < 0)
		abort();
	at_rest(m, false);
}

static void save_and_load(struct machine *m)
{
	AUTO_BUF struct buf state = {0};

	at_rest(m, true);
	save(m, &state);
	load(m, &state);
	at_rest(m, false);
}

static void load_any(struct machine *m, struct function *f, struct cursor *c)
{
	size_t len = MIN((size_t)cursor_le16(c), cursor_left(c));
	struct cursor in = cursor_init(cursor_slice(c, len), len);
	struct err err = ERR_INIT;

	at_rest(m, true);
	if (len && f->node->ops->load(f->node, &in, &err) < 0 && !err_count(&err))
		abort();
	at_rest(m, false);
}

/* --- what always holds ---------------------------------------------------------------------- */

static void check_place(struct machine *m, const struct pci_bar *bar)
{
	uint64_t base = bar->base, size = bar->size_bytes;
	bool within = range_within(base, size, LAYOUT_MMIO32_START, LAYOUT_MMIO32_SIZE) ||
		      (bar->is64 && range_within(base, size, MMIO64, 64 * GIB));

	if (!within || base % size || bar->range.base != base)
		abort();
	if (ranges_overlap(base, size, 0, FIXTURE_MEMORY_BYTES) ||
	    ranges_overlap(base, size, LAYOUT_ECAM_START, LAYOUT_ECAM_SEGMENT))
		abort();
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		const struct pci_bar *other = &m->functions[i].pdev->bars[0];

		if (other != bar && other->mapped &&
		    ranges_overlap(base, size, other->base, other->size_bytes))
			abort();
	}
}

static void check(struct machine *m)
{
	for (unsigned i = 0; i < FUNCTIONS; i++) {
		const struct pci_device *pdev = m->functions[i].pdev;
		const struct pci_bar *bar = &pdev->bars[0];

		if (bar->mapped && !(pdev->config[COMMAND] & 2))
			abort();
		if (bar->mapped)
			check_place(m, bar);
	}
}

/* --- steps ---------------------------------------------------------------------------------- */

static void access_bus(struct bus *bus, uint64_t addr, unsigned what, uint64_t value)
{
	unsigned len = 1U << (what >> 4 & 3);
	uint8_t data[8];

	le_store(data, value, 8);
	if (what & 0x40)
		bus_write(bus, addr, data, len);
	else
		bus_read(bus, addr, data, len);
}

static uint64_t config_address(const struct function *f, unsigned offset)
{
	return LAYOUT_ECAM_START + f->pdev->slot * 0x8000ULL + offset;
}

static void set_config(struct machine *m, const struct function *f, unsigned offset, uint32_t value,
		       unsigned len)
{
	uint8_t data[4];

	le_store(data, value, 4);
	bus_write(m->f.host.mmio, config_address(f, offset), data, len);
}

static unsigned find_capability(const struct function *f, uint8_t id, uint8_t type)
{
	const uint8_t *config = f->pdev->config;
	unsigned at = config[0x34];

	while (at && (config[at] != id || (type && config[at + 3] != type)))
		at = config[at + 1];
	return at;
}

static void move_bar(struct machine *m, const struct function *f, struct cursor *c)
{
	uint8_t where = cursor_u8(c);
	uint32_t random = cursor_le32(c);
	const struct pci_bar *other = &m->functions[where / 8 % FUNCTIONS].pdev->bars[0];
	uint64_t base;

	switch (where % 8) {
	case 0: base = f->pdev->bars[0].home; break;
	case 1: base = other->base; break;
	case 2: base = other->base + other->size_bytes; break;
	case 3: base = other->base - f->pdev->bars[0].size_bytes; break;
	case 4:
		base = LAYOUT_MMIO32_START + LAYOUT_MMIO32_SIZE - f->pdev->bars[0].size_bytes;
		break;
	case 5: base = LAYOUT_ECAM_START; break;
	case 6: base = MMIO64 + ((uint64_t)random << 12); break;
	default: base = (uint64_t)random << 12; break;
	}
	set_config(m, f, 0x10, (uint32_t)base, 4);
	if (f->pdev->bars[0].is64)
		set_config(m, f, 0x14, (uint32_t)(base >> 32), 4);
}

static void window(struct machine *m, const struct function *f, struct cursor *c)
{
	unsigned cap = find_capability(f, CAP_VENDOR, VIRTIO_PCI_CAP_PCI_CFG);

	if (!cap)
		return;
	set_config(m, f, cap + 8, cursor_le32(c), 4);
	set_config(m, f, cap + 12, cursor_u8(c), 4);
	set_config(m, f, cap + 16, cursor_le32(c), 4);
}

static void bring_up(struct function *f, uint8_t how)
{
	struct virtio_device *vdev = f->vdev;
	struct virtqueue_config config = {
		.size = 4, .enabled = true, .desc = {0x1000}, .avail = {0x2000}, .used = {0x3000}};

	if (!vdev)
		return;
	virtio_set_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(vdev, 1, 1);
	virtio_set_status(vdev, virtio_status(vdev) | VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned i = 0; how & 1 && i < vdev->num_queues; i++)
		virtio_configure_queue(vdev, i, &config);
	virtio_set_status(vdev, virtio_status(vdev) | VIRTIO_CONFIG_S_DRIVER_OK);
}

/* Interrupts from the device. */
static void raise(struct function *f, uint8_t vector)
{
	if (f->pdev->msix)
		msix_raise(f->pdev->msix, vector);
}

/* what: bits 0..3 = what, 4..5 = log2 of the width, 6 = write. */
static void step(struct machine *m, struct cursor *c)
{
	uint8_t what = cursor_u8(c);
	struct function *f = &m->functions[cursor_u8(c) % FUNCTIONS];
	struct bus *mmio = m->f.host.mmio, *pio = m->f.host.pio;
	uint32_t offset;

	switch (what & 15) {
	case 0:
		offset = cursor_u8(c);
		access_bus(mmio, config_address(f, offset), what, cursor_le32(c));
		break;
	case 1:
		offset = cursor_le16(c) % 0x1008;
		access_bus(mmio, config_address(f, offset), what, cursor_le32(c));
		break;
	case 2:
		offset = cursor_le32(c);
		access_bus(pio, 0xcf8, 0x60, offset);
		break;
	case 3:
		offset = cursor_u8(c) % 8;
		access_bus(pio, 0xcf8 + offset, what, cursor_le64(c));
		break;
	case 4:
		offset = cursor_le32(c) % 0x80008;
		access_bus(mmio, f->pdev->bars[0].base + offset, what, cursor_le64(c));
		break;
	case 5:
		offset = cursor_u8(c) % 0x48;
		access_bus(mmio, f->pdev->bars[0].base + offset, what, cursor_le64(c));
		break;
	case 6:
		offset = cursor_u8(c);
		access_bus(mmio, f->pdev->bars[0].base + 0x8000 + offset, what, cursor_le64(c));
		break;
	case 7: move_bar(m, f, c); break;
	case 8: set_config(m, f, COMMAND, cursor_u8(c), 2); break;
	case 9: set_config(m, f, find_capability(f, CAP_MSIX, 0) + 2, cursor_le16(c), 2); break;
	case 10: window(m, f, c); break;
	case 11: bring_up(f, cursor_u8(c)); break;
	case 12: raise(f, cursor_u8(c)); break;
	case 13:
		if (what & 0x80)
			replug(m, f);
		else
			what & 0x40 ? save_and_load(m) : power_cycle(m);
		break;
	case 14: load_any(m, f, c); break;
	case 15:
		offset = cursor_le32(c);
		access_bus(mmio, (uint64_t)offset << 12, what, 0);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor c = cursor_init(data, size);
	static struct machine m;

	if (!m.segment)
		set_up(&m);
	kvm_agrees = cursor_u8(&c) & 1;
	for (unsigned i = 0; i < STEPS_MAX && cursor_left(&c); i++) {
		step(&m, &c);
		check(&m);
	}
	power_cycle(&m);
	check(&m);
	/* And with what was saved at first it is as it was then. */
	at_rest(&m, true);
	load(&m, &m.power_on);
	at_rest(&m, false);
	for (unsigned i = 0; i < FUNCTIONS; i++)
		if (!m.functions[i].pdev->bars[0].mapped)
			abort();
	return 0;
}
