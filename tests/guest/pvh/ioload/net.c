/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/guest/pvh/ioload/net.h"
#include "tests/guest/pvh/ioload/meter.h"

#define F_CSUM	     (1ULL << 0)
#define F_GUEST_CSUM (1ULL << 1)
#define F_MAC	     (1ULL << 5)
#define F_GUEST_TSO4 (1ULL << 7)
#define F_HOST_TSO4  (1ULL << 11)
#define F_MRG_RXBUF  (1ULL << 15)

/* As Linux has it. */
#define FEATURES (F_CSUM | F_GUEST_CSUM | F_MAC | F_GUEST_TSO4 | F_HOST_TSO4 | F_MRG_RXBUF)

#define RX 0
#define TX 1

#define HEADER	  12
#define RX_BUFFER 2048
#define MAX_PLAIN 1514

#define RETURN_AT_A_TIME 32

#define ECHO_MS 20 /* after which a frame is sent again: the other end may not have been there */

#define NEEDS_CSUM 1
#define GSO_TCPV4  1

struct header {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;
};

static struct virtio device;
static uint8_t frame[HEADER + NET_MAX_FRAME] __attribute__((aligned(4096)));
static uint8_t buffers[QUEUE_SIZE][RX_BUFFER] __attribute__((aligned(4096)));
static uint64_t started[QUEUE_SIZE];

static uint32_t address(const volatile void *p)
{
	return (uint32_t)(uintptr_t)p;
}

static bool start(uint32_t ecam)
{
	if (!virtio_start(&device, ecam, VIRTIO_NET, FEATURES, 2))
		return false;
	if (device.features & F_MRG_RXBUF)
		return true;
	guest_print("FAILED no mergeable buffers");
	return false;
}

/* --- frames --------------------------------------------------------------------------------------
 */

static void put16(uint8_t *at, unsigned value)
{
	at[0] = (uint8_t)(value >> 8);
	at[1] = (uint8_t)value;
}

/* TCP over IPv4, whose segments the device is to cut out. */
static void make_segments(uint32_t bytes)
{
	struct header *header = (void *)frame;
	uint8_t *ip = frame + HEADER + 14, *tcp = ip + 20;

	*header = (struct header){.flags = NEEDS_CSUM,
				  .gso_type = GSO_TCPV4,
				  .hdr_len = 54,
				  .gso_size = 1448,
				  .csum_start = 34,
				  .csum_offset = 16};
	put16(frame + HEADER + 12, 0x0800);
	ip[0] = 0x45;
	put16(ip + 2, bytes - 14);
	ip[8] = 64;
	ip[9] = 6;
	put16(ip + 12, 0x0a00);
	put16(ip + 14, 0x0002);
	put16(ip + 16, 0x0a00);
	put16(ip + 18, 0x0003);
	put16(tcp, 1000);
	put16(tcp + 2, 1000);
	tcp[12] = 0x50;
}

/* To a station that is not there, of a type for experiments: whoever gets it counts it, and no
 * more. */
static void make_frame(uint32_t bytes)
{
	memset(frame, 0, HEADER + bytes);
	memset(frame + HEADER, 2, 6);
	memset(frame + HEADER + 6, 6, 6);
	put16(frame + HEADER + 12, 0x88b5);
	if (bytes > MAX_PLAIN)
		make_segments(bytes);
}

/* --- work ----------------------------------------------------------------------------------------
 */

static void submit_frame(uint16_t i, uint32_t bytes)
{
	started[i] = meter_now();
	device.queues[TX].desc[i] = (struct desc){address(frame), HEADER + bytes, 0, 0};
	queue_add(&device.queues[TX], i);
}

void net_send(uint32_t ecam, const struct net_work *work)
{
	struct queue *q = &device.queues[TX];
	struct used_elem answer;
	struct meter meter;
	unsigned in_flight = 0;

	if (!start(ecam))
		return;
	make_frame(work->bytes);
	meter_begin(&meter, work->ms);
	for (; in_flight < work->depth && in_flight < q->size; in_flight++)
		submit_frame((uint16_t)in_flight, work->bytes);
	while (in_flight) {
		queue_kick(q);
		while (!queue_take(q, &answer))
			__asm__ volatile("pause");
		do {
			meter_count(&meter, started[answer.id], work->bytes);
			if (meter_over(&meter))
				in_flight--;
			else
				submit_frame((uint16_t)answer.id, work->bytes);
		} while (queue_take(q, &answer));
	}
	meter_end(&meter, q->kicks);
}

static void give_buffer(uint16_t i)
{
	queue_add(&device.queues[RX], i);
}

static void give_buffers(void)
{
	struct queue *q = &device.queues[RX];

	memset(buffers, 0, sizeof(buffers));
	for (unsigned i = 0; i < q->size; i++) {
		q->desc[i] = (struct desc){address(buffers[i]), RX_BUFFER, DESC_WRITE, 0};
		give_buffer((uint16_t)i);
	}
	queue_kick(q);
}

/* Buffers that have been used go back so many at a time, as Linux gives them. */
static void return_buffers(void)
{
	struct queue *q = &device.queues[RX];

	if ((uint16_t)(q->next_avail - q->published) >= RETURN_AT_A_TIME)
		queue_kick(q);
}

/* Takes one frame with all its buffers. Returns its length, or 0. */
static uint32_t take_frame(void)
{
	struct queue *q = &device.queues[RX];
	const struct header *header;
	struct used_elem answer;
	uint32_t bytes;
	unsigned left;

	if (!queue_take(q, &answer))
		return 0;
	header = (const void *)buffers[answer.id];
	left = header->num_buffers - 1U;
	bytes = answer.len - HEADER;
	give_buffer((uint16_t)answer.id);
	while (left--) {
		while (!queue_take(q, &answer))
			;
		bytes += answer.len;
		give_buffer((uint16_t)answer.id);
	}
	return bytes;
}

void net_receive(uint32_t ecam, uint32_t ms)
{
	struct meter meter;

	if (!start(ecam))
		return;
	give_buffers();
	meter_begin(&meter, ms);
	while (!meter_over(&meter)) {
		uint32_t bytes = take_frame();

		if (bytes)
			meter_count(&meter, meter_now(), bytes);
		else
			__asm__ volatile("pause");
		return_buffers();
	}
	meter_end(&meter, device.queues[RX].kicks);
}

void net_echo(uint32_t ecam, const struct net_work *work)
{
	struct queue *tx = &device.queues[TX];
	struct used_elem answer;
	struct meter meter;

	if (!start(ecam))
		return;
	make_frame(work->bytes);
	give_buffers();
	meter_begin(&meter, work->ms);
	while (!meter_over(&meter)) {
		uint64_t sent = meter_now();
		uint64_t lost = sent + (uint64_t)ECHO_MS * meter_tsc_khz;
		uint32_t bytes = 0;

		submit_frame(0, work->bytes);
		queue_kick(tx);
		while (!bytes && meter_now() < lost) {
			bytes = take_frame();
			return_buffers();
		}
		if (bytes)
			meter_count(&meter, sent, bytes);
		while (!queue_take(tx, &answer))
			__asm__ volatile("pause");
	}
	meter_end(&meter, tx->kicks + device.queues[RX].kicks);
}
