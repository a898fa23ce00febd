/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of virtio devices, just good enough to bring each into any state, to hand it any bytes,
 * and to tell whether it still works.
 */
#ifndef TESTS_GUEST_PVH_HOSTILE_DRIVER_H
#define TESTS_GUEST_PVH_HOSTILE_DRIVER_H

#include "tests/guest/pvh/guest.h"

/* The machine under attack; as the test makes it. */
#define RAM_END 0x4000000ULL

#define MAX_DEVICES 8
#define MAX_QUEUES  3
#define RING_MAX    256

#define DESC_NEXT     1
#define DESC_WRITE    2
#define DESC_INDIRECT 4

#define FEATURE_NET_CTRL_VQ (1ULL << 17)
#define FEATURE_INDIRECT    (1ULL << 28)
#define FEATURE_EVENT_IDX   (1ULL << 29)
#define FEATURE_VERSION_1   (1ULL << 32)

#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER	   2
#define STATUS_DRIVER_OK   4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64
#define STATUS_FAILED	   128

/* Offsets in the common configuration. */
#define COMMON_DFSELECT 0x00
#define COMMON_DF	0x04
#define COMMON_GFSELECT 0x08
#define COMMON_GF	0x0c
#define COMMON_MSIX	0x10
#define COMMON_NUMQ	0x12
#define COMMON_STATUS	0x14
#define COMMON_Q_SELECT 0x16
#define COMMON_Q_SIZE	0x18
#define COMMON_Q_MSIX	0x1a
#define COMMON_Q_ENABLE 0x1c
#define COMMON_Q_NOFF	0x1e
#define COMMON_Q_DESC	0x20
#define COMMON_Q_AVAIL	0x28
#define COMMON_Q_USED	0x30
#define COMMON_END	0x38

enum type { NET = 1, BLK = 2, CONSOLE = 3, RNG = 4 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

struct avail {
	uint16_t flags;
	uint16_t idx;
	uint16_t ring[RING_MAX + 1];
};

struct used {
	uint16_t flags;
	uint16_t idx;
	struct {
		uint32_t id;
		uint32_t len;
	} ring[RING_MAX + 1];
};

/* One queue's memory; what a device may be told to write over. */
struct queue_memory {
	struct desc desc[RING_MAX];
	struct avail avail __attribute__((aligned(4096)));
	struct used used __attribute__((aligned(4096)));
	struct desc indirect[2048] __attribute__((aligned(4096)));
	uint8_t buffer[65536] __attribute__((aligned(4096)));
};

struct queue {
	struct queue_memory *memory;
	uint16_t size;
	uint16_t offered; /* avail.idx */
	uint64_t notify;
};

struct vdev {
	const char *name;
	enum type type;
	unsigned slot;
	uint64_t bar;
	uint32_t bar_size;
	uint32_t home[6];	      /* BAR registers as they were found */
	uint64_t common, isr, config; /* addresses */
	uint64_t notify;
	uint32_t notify_stride;
	unsigned msix, window; /* capabilities in configuration space */
	uint32_t table, pba;   /* offsets in the BAR */
	unsigned num_vectors;
	unsigned num_queues; /* that this driver uses */
	uint64_t features;   /* that it asks for */
	struct queue queues[MAX_QUEUES];
};

extern struct vdev vdevs[MAX_DEVICES];
extern unsigned num_vdevs;

/* Finds the devices; the first thing to do. */
void find_devices(void);

/* The first of a type; NULL when there is none. */
struct vdev *device_of(enum type type);

/* Puts the function back as it was found: BARs, decoding, MSI-X off. */
void restore_function(const struct vdev *d);

/* Resets, and waits until the device says that it is done. False: it never did. */
bool reset_device(const struct vdev *d);

/* From reset to FEATURES_OK. */
bool negotiate(const struct vdev *d, uint64_t features);

/* Programs queue `q` with its usual addresses. Before go(). */
void set_up_queue(struct vdev *d, unsigned q, uint16_t size);

void go(const struct vdev *d);

/* All of these; queues of `size`. */
bool start_device(struct vdev *d, uint16_t size);

uint8_t status_of(const struct vdev *d);

/* Writes the usual request into descriptors 0.. of the queue. Returns how many it took. */
unsigned good_chain(struct vdev *d, unsigned q);

/* Offers a head, and tells the device. */
void offer(struct vdev *d, unsigned q, uint16_t head);
void notify(const struct vdev *d, unsigned q);

enum outcome { ANSWERED, BROKEN, SILENT };

/* Waits until the device has answered `answers` chains in all, or asks for a reset; or too long. */
enum outcome wait_for(const struct vdev *d, unsigned q, uint16_t answers, unsigned ms);

/* Whether a request that must be answered at once can be made on the queue: not one to receive. */
bool answers_at_once(const struct vdev *d, unsigned q);

/* Brings the device up, and has it do a good request. Says so on COM1 if it does not. */
bool revive(struct vdev *d);
bool revive_all(void);

/* Milliseconds, wrapping; the longest that can be told is some four seconds. */
uint32_t now_ms(void);

/* A number; the same ones from the same seed. */
extern uint64_t random_state;
uint64_t any(void);
static inline uint32_t below(uint32_t n)
{
	return (uint32_t)((any() >> 32) % n);
}

/* An access of 1, 2, 4 or 8 bytes. */
uint64_t read_width(uint64_t address, unsigned width);
void write_width(uint64_t address, unsigned width, uint64_t value);

#endif
