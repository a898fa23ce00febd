/* SPDX-License-Identifier: Apache-2.0 */
/* The same thing again and again, as fast as it goes. The number behind the word says how often,
 * where a thousand is not right. */
#include "tests/guest/pvh/hostile/attacks.h"

#define PVPANIC 0x00111b36
#define SIZE	256

static unsigned times(const char *value)
{
	return value ? guest_number(value) : 1000;
}

static uint8_t text[256];

/* 256 bytes by one string instruction. */
void attack_flood_serial(const char *value)
{
	memset(text, 'x', sizeof(text));
	for (unsigned i = 0; i < times(value); i++) {
		const void *from = text;
		unsigned long n = sizeof(text);

		__asm__ volatile("rep outsb"
				 : "+S"(from), "+c"(n)
				 : "d"((uint16_t)GUEST_COM1)
				 : "memory");
	}
	guest_print("");
}

/* Keeps a queue full of the same chain, so often as `count` says; waits only for room. */
static void pump(struct vdev *d, unsigned q, unsigned chain_len, unsigned count)
{
	struct queue *queue = &d->queues[q];
	struct queue_memory *m = queue->memory;
	volatile struct used *used = &m->used;
	unsigned heads = SIZE / chain_len;

	for (unsigned h = 1; h < heads; h++)
		for (unsigned i = 0; i < chain_len; i++) {
			m->desc[h * chain_len + i] = m->desc[i];
			m->desc[h * chain_len + i].next = (uint16_t)(h * chain_len + i + 1);
		}
	for (unsigned i = 0; i < count; i++) {
		while ((uint16_t)(queue->offered - used->idx) >= heads)
			if (status_of(d) & STATUS_NEEDS_RESET)
				return;
		offer(d, q, (uint16_t)(i % heads * chain_len));
		if (i % 16 == 15)
			notify(d, q);
	}
	notify(d, q);
}

void attack_flood_console(const char *value)
{
	struct vdev *d = device_of(CONSOLE);

	if (!d || !start_device(d, SIZE))
		return;
	good_chain(d, 1);
	memset(d->queues[1].memory->buffer, 'y', sizeof(d->queues[1].memory->buffer));
	d->queues[1].memory->desc[0].len = sizeof(d->queues[1].memory->buffer);
	pump(d, 1, 1, times(value));
}

void attack_flood_entropy(const char *value)
{
	struct vdev *d = device_of(RNG);

	if (!d || !start_device(d, SIZE))
		return;
	good_chain(d, 0);
	/* All of RAM behind the guest, at once and for each of them. */
	d->queues[0].memory->desc[0].addr = RAM_END / 2;
	d->queues[0].memory->desc[0].len = RAM_END / 2;
	pump(d, 0, 1, times(value));
}

void attack_flood_frames(const char *value)
{
	struct vdev *d = device_of(NET);

	if (!d || !start_device(d, SIZE))
		return;
	pump(d, 1, good_chain(d, 1), times(value));
}

/* Notifications of every queue, with and without work. */
void attack_flood_notify(const char *value)
{
	for (unsigned i = 0; i < num_vdevs; i++)
		start_device(&vdevs[i], SIZE);
	for (unsigned n = 0; n < times(value); n++)
		for (unsigned i = 0; i < num_vdevs; i++)
			for (unsigned q = 0; q < vdevs[i].num_queues; q++)
				notify(&vdevs[i], q);
	for (unsigned i = 0; i < num_vdevs; i++)
		reset_device(&vdevs[i]);
	for (unsigned n = 0; n < times(value); n++)
		notify(&vdevs[n % num_vdevs], 0);
}

void attack_flood_panic(const char *value)
{
	int slot = guest_pci_find(PVPANIC, -1);
	uint64_t bar;

	if (slot < 0)
		return;
	guest_pci_write((unsigned)slot, 4, 2);
	bar = guest_pci_read((unsigned)slot, 0x10) & ~0xfU;
	for (unsigned n = 0; n < times(value); n++)
		*mmio8(bar) = 1 + n % 2; /* panicked, crash loaded; the third one powers off */
	for (unsigned at = 1; at < 0x1000; at += 15)
		for (unsigned width = 1; width <= 8; width *= 2)
			write_width(bar + at, width, ~0ULL);
}

/* Each start and each reset of a device is an event; with queues, and without. */
void attack_flood_activations(const char *value)
{
	for (unsigned n = 0; n < times(value); n++)
		for (unsigned i = 0; i < num_vdevs; i++) {
			if (n % 2) {
				start_device(&vdevs[i], SIZE);
				continue;
			}
			reset_device(&vdevs[i]);
			negotiate(&vdevs[i], FEATURE_VERSION_1);
			go(&vdevs[i]);
		}
}

/* Whatever makes the VMM say something: malformed chains, BARs that lie over each other, debug
 * codes. */
void attack_flood_log(const char *value)
{
	for (unsigned n = 0; n < times(value); n++)
		for (unsigned i = 0; i < num_vdevs; i++) {
			struct vdev *d = &vdevs[i];
			unsigned q = d->num_queues > 1;

			out8(0x80, (uint8_t)n);
			guest_pci_write(d->slot, 0x10, d->home[0]);
			guest_pci_write(d->slot, 0x10, vdevs[(i + 1) % num_vdevs].home[0]);
			guest_pci_write(d->slot, 0x10, d->home[0]);
			start_device(d, SIZE);
			offer(d, q, SIZE);
			notify(d, q);
			wait_for(d, q, 1, 100);
			if (d->type == BLK) {
				/* An image that fails is not at hand; a request that does is. */
				start_device(d, SIZE);
				good_chain(d, 0);
				*(uint64_t *)(void *)(d->queues[0].memory->buffer + 8) = ~0ULL;
				offer(d, 0, 0);
				notify(d, 0);
				wait_for(d, 0, 1, 100);
			}
		}
}
