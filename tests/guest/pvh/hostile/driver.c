/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pvh/hostile/driver.h"

#define VENDOR	       0x1af4
#define FIRST_ID       0x1040
#define CAP_MSIX       0x11
#define CAP_VENDOR     0x09
#define CAP_COMMON     1
#define CAP_NOTIFY     2
#define CAP_ISR	       3
#define CAP_DEVICE     4
#define CAP_WINDOW     5
#define PCI_DECODE     6 /* memory, bus master */
#define PATIENCE_MS    2000
#define NET_HEADER     12
#define BLK_SECTOR     512
#define MIN_FRAME      60
#define USUAL_FEATURES (FEATURE_VERSION_1 | FEATURE_INDIRECT)

struct vdev vdevs[MAX_DEVICES];
unsigned num_vdevs;
uint64_t random_state = 1;

static struct queue_memory queue_memory[MAX_DEVICES][MAX_QUEUES] __attribute__((aligned(4096)));

uint64_t any(void)
{
	/* Knuth's MMIX; the low bits are not to be relied on. */
	random_state = random_state * 6364136223846793005ULL + 1442695040888963407ULL;
	return random_state ^ random_state >> 29;
}

uint32_t now_ms(void)
{
	return (in32(GUEST_PM_TIMER) & 0xffffff) / (GUEST_PM_HZ / 1000);
}

/* Milliseconds since `start`; the timer's 24 bits are 4,686 of them. */
static uint32_t since(uint32_t start)
{
	uint32_t now = now_ms();

	return now >= start ? now - start : now + 0x1000000 / (GUEST_PM_HZ / 1000) - start;
}

uint64_t read_width(uint64_t address, unsigned width)
{
	switch (width) {
	case 1: return *mmio8(address);
	case 2: return *mmio16(address);
	case 4: return *mmio32(address);
	default: return *mmio64(address);
	}
}

void write_width(uint64_t address, unsigned width, uint64_t value)
{
	switch (width) {
	case 1: *mmio8(address) = (uint8_t)value; break;
	case 2: *mmio16(address) = (uint16_t)value; break;
	case 4: *mmio32(address) = (uint32_t)value; break;
	default: *mmio64(address) = value; break;
	}
}

/* --- finding --- */

static void read_virtio_capability(struct vdev *d, unsigned cap)
{
	uint64_t at = d->bar + guest_pci_read(d->slot, cap + 8);

	switch (guest_pci_read(d->slot, cap) >> 24) {
	case CAP_COMMON: d->common = at; break;
	case CAP_ISR: d->isr = at; break;
	case CAP_DEVICE: d->config = at; break;
	case CAP_WINDOW: d->window = cap; break;
	case CAP_NOTIFY:
		d->notify = at;
		d->notify_stride = guest_pci_read(d->slot, cap + 16);
		break;
	default: break;
	}
}

static void read_capabilities(struct vdev *d)
{
	unsigned cap = guest_pci_read(d->slot, 0x34) & 0xfc;

	while (cap) {
		uint32_t head = guest_pci_read(d->slot, cap);

		if ((head & 0xff) == CAP_VENDOR)
			read_virtio_capability(d, cap);
		if ((head & 0xff) == CAP_MSIX) {
			d->msix = cap;
			d->num_vectors = (head >> 16 & 0x7ff) + 1;
			d->table = guest_pci_read(d->slot, cap + 4) & ~7U;
			d->pba = guest_pci_read(d->slot, cap + 8) & ~7U;
		}
		cap = head >> 8 & 0xfc;
	}
}

static void read_bars(struct vdev *d)
{
	for (unsigned i = 0; i < 6; i++)
		d->home[i] = guest_pci_read(d->slot, 0x10 + 4 * i);
	d->bar = d->home[0] & ~0xfU;
	if (d->home[0] & 4)
		d->bar |= (uint64_t)d->home[1] << 32;
	guest_pci_write(d->slot, 0x10, 0xffffffff);
	d->bar_size = ~(guest_pci_read(d->slot, 0x10) & ~0xfU) + 1;
	guest_pci_write(d->slot, 0x10, d->home[0]);
}

static void add_device(unsigned slot, enum type type)
{
	static const char *const names[] = {
		[NET] = "net", [BLK] = "blk", [CONSOLE] = "console", [RNG] = "rng"};
	struct vdev *d = &vdevs[num_vdevs];

	d->name = names[type];
	d->type = type;
	d->slot = slot;
	d->num_queues = type == NET ? 3 : type == CONSOLE ? 2 : 1;
	d->features = USUAL_FEATURES | (type == NET ? FEATURE_NET_CTRL_VQ : 0);
	guest_pci_write(slot, 4, PCI_DECODE);
	read_bars(d);
	read_capabilities(d);
	for (unsigned q = 0; q < d->num_queues; q++)
		d->queues[q].memory = &queue_memory[num_vdevs][q];
	num_vdevs++;
}

void find_devices(void)
{
	for (unsigned slot = 0; slot < GUEST_PCI_SLOTS && num_vdevs < MAX_DEVICES; slot++) {
		uint32_t id = guest_pci_read(slot, 0);
		uint32_t type = (id >> 16) - FIRST_ID;

		if ((id & 0xffff) == VENDOR && type >= NET && type <= RNG)
			add_device(slot, type);
	}
}

struct vdev *device_of(enum type type)
{
	for (unsigned i = 0; i < num_vdevs; i++)
		if (vdevs[i].type == type)
			return &vdevs[i];
	return NULL;
}

/* --- bringing up --- */

void restore_function(const struct vdev *d)
{
	guest_pci_write(d->slot, 4, 0);
	for (unsigned i = 0; i < 6; i++)
		guest_pci_write(d->slot, 0x10 + 4 * i, d->home[i]);
	guest_pci_write(d->slot, d->msix, 0);
	guest_pci_write(d->slot, 4, PCI_DECODE);
}

uint8_t status_of(const struct vdev *d)
{
	return *mmio8(d->common + COMMON_STATUS);
}

bool reset_device(const struct vdev *d)
{
	uint32_t start = now_ms();

	*mmio8(d->common + COMMON_STATUS) = 0;
	while (status_of(d))
		if (since(start) > PATIENCE_MS)
			return false;
	return true;
}

bool negotiate(const struct vdev *d, uint64_t features)
{
	uint8_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;

	*mmio8(d->common + COMMON_STATUS) = status;
	for (unsigned i = 0; i < 2; i++) {
		*mmio32(d->common + COMMON_GFSELECT) = i;
		*mmio32(d->common + COMMON_GF) = (uint32_t)(features >> 32 * i);
	}
	status |= STATUS_FEATURES_OK;
	*mmio8(d->common + COMMON_STATUS) = status;
	return status_of(d) == status;
}

void set_up_queue(struct vdev *d, unsigned q, uint16_t size)
{
	struct queue *queue = &d->queues[q];
	struct queue_memory *m = queue->memory;

	memset(m, 0, offsetof(struct queue_memory, indirect));
	queue->size = size;
	queue->offered = 0;
	queue->notify = d->notify + (uint64_t)q * d->notify_stride;
	*mmio16(d->common + COMMON_Q_SELECT) = (uint16_t)q;
	*mmio16(d->common + COMMON_Q_SIZE) = size;
	*mmio64(d->common + COMMON_Q_DESC) = (uintptr_t)m->desc;
	*mmio64(d->common + COMMON_Q_AVAIL) = (uintptr_t)&m->avail;
	*mmio64(d->common + COMMON_Q_USED) = (uintptr_t)&m->used;
	*mmio16(d->common + COMMON_Q_ENABLE) = 1;
}

void go(const struct vdev *d)
{
	*mmio8(d->common + COMMON_STATUS) =
		STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
}

bool start_device(struct vdev *d, uint16_t size)
{
	if (!reset_device(d) || !negotiate(d, d->features))
		return false;
	for (unsigned q = 0; q < d->num_queues; q++)
		set_up_queue(d, q, size);
	go(d);
	return true;
}

/* --- requests --- */

static void put(struct queue *queue, unsigned i, uint64_t offset, uint32_t len, uint16_t flags)
{
	queue->memory->desc[i] = (struct desc){
		.addr = (uintptr_t)queue->memory->buffer + offset,
		.len = len,
		.flags = flags,
		.next = (uint16_t)(i + 1),
	};
}

unsigned good_chain(struct vdev *d, unsigned q)
{
	struct queue *queue = &d->queues[q];

	memset(queue->memory->buffer, 0, 256);
	switch (d->type) {
	case BLK: /* read sector 0 */
		put(queue, 0, 0, 16, DESC_NEXT);
		put(queue, 1, 4096, BLK_SECTOR, DESC_WRITE | DESC_NEXT);
		put(queue, 2, 64, 1, DESC_WRITE);
		queue->memory->buffer[64] = 0xff;
		return 3;
	case CONSOLE:
		if (q == 0) {
			put(queue, 0, 0, 64, DESC_WRITE);
			return 1;
		}
		memcpy(queue->memory->buffer, "a good line\n", 12);
		put(queue, 0, 0, 12, 0);
		return 1;
	case NET:
		if (q == 0) {
			put(queue, 0, 0, 2048, DESC_WRITE);
			return 1;
		}
		if (q == 1) {
			memset(queue->memory->buffer + NET_HEADER, 0xff, 6);
			put(queue, 0, 0, NET_HEADER, DESC_NEXT);
			put(queue, 1, NET_HEADER, MIN_FRAME, 0);
			return 2;
		}
		put(queue, 0, 0, 2, DESC_NEXT); /* class, command: both 0, which is not offered */
		put(queue, 1, 16, 1, DESC_NEXT);
		put(queue, 2, 32, 1, DESC_WRITE);
		return 3;
	default: put(queue, 0, 0, 64, DESC_WRITE); return 1;
	}
}

void offer(struct vdev *d, unsigned q, uint16_t head)
{
	struct queue *queue = &d->queues[q];
	volatile struct avail *avail = &queue->memory->avail;

	avail->ring[queue->offered % queue->size] = head;
	__asm__ volatile("" : : : "memory");
	avail->idx = ++queue->offered;
}

void notify(const struct vdev *d, unsigned q)
{
	*mmio16(d->queues[q].notify) = (uint16_t)q;
}

enum outcome wait_for(const struct vdev *d, unsigned q, uint16_t answers, unsigned ms)
{
	volatile struct used *used = &d->queues[q].memory->used;
	uint32_t start = now_ms();

	do {
		for (unsigned i = 0; i < 1000; i++) {
			if (used->idx == answers)
				return ANSWERED;
			__asm__ volatile("pause");
		}
		if (status_of(d) & STATUS_NEEDS_RESET)
			return BROKEN;
	} while (since(start) < ms);
	return SILENT;
}

bool answers_at_once(const struct vdev *d, unsigned q)
{
	return !((d->type == NET || d->type == CONSOLE) && q == 0);
}

/* Whether the answer to a good request is a good one. */
static bool answer_good(const struct vdev *d, unsigned q)
{
	const struct queue_memory *m = d->queues[q].memory;

	if (d->type == BLK) /* the test wrote its number into each sector */
		return m->buffer[64] == 0 && m->buffer[4096] == 'S';
	if (d->type == NET && q == 2)
		return m->buffer[32] == 1; /* VIRTIO_NET_ERR */
	if (d->type == RNG)
		return m->used.ring[0].len == 64;
	return true;
}

bool revive(struct vdev *d)
{
	const char *what = NULL;

	restore_function(d);
	if (!start_device(d, 64))
		what = "does not come up";
	for (unsigned q = 0; q < d->num_queues && !what; q++) {
		good_chain(d, q);
		if (!answers_at_once(d, q))
			continue;
		offer(d, q, 0);
		notify(d, q);
		if (wait_for(d, q, 1, PATIENCE_MS) != ANSWERED)
			what = "does not answer";
		else if (!answer_good(d, q))
			what = "answers wrongly";
	}
	if (what) {
		guest_put("DEAD ");
		guest_put(d->name);
		guest_put(" ");
		guest_print(what);
	}
	return !what;
}

bool revive_all(void)
{
	bool good = true;

	for (unsigned i = 0; i < num_vdevs; i++)
		good &= revive(&vdevs[i]);
	return good;
}
