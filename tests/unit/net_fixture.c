/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/net_fixture.h"

#include "base/fd.h"
#include "base/json.h"

#include <fcntl.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "tests/unit/netns.h"

#define COMMAND_ADDR (FIXTURE_DATA + 0xf0000)
#define FRAME_BYTES  65600

/* IPv6 sends router solicitations on whatever comes up. */
static void keep_quiet(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (fd_write_all(fd, "1", 1) < 0) {
		print_message("skipped: IPv6 cannot be switched off here\n");
		close(fd);
		skip();
	}
	close(fd);
}

void net_fixture_make_device(struct net_fixture *t)
{
	struct err err = ERR_INIT;
	char text[256];

	if (virtio_net_new(&t->f.host, &t->params, &t->vdev, &err) < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
	assert_int_equal(t->vdev->dev.ops->realize(&t->vdev->dev, &err), 0);
	transport_counts_connect(&t->transport, t->vdev);
}

struct net_fixture *net_fixture_new(unsigned num_pairs)
{
	struct tap_params params = {
		.name = "nettest", .num_queues = num_pairs, .vnet_hdr_len = 12, .mtu = 65521};
	struct net_fixture *t;
	int on = 1;

	netns_enter();
	keep_quiet();
	t = calloc(1, sizeof(*t));
	assert_non_null(t);
	device_fixture_init(&t->f, false);
	assert_int_equal(tap_open(&params, &t->tap, NULL), 0);
	t->sock = packet_socket("nettest");
	assert_int_equal(setsockopt(t->sock, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)),
			 0);
	t->params = (struct virtio_net_params){
		.id = "_net1",
		.tap = &t->tap,
		.mac = {0x02, 1, 2, 3, 4, 5},
		.mtu = 1400,
		.num_queues = 2 * num_pairs,
		.queue_size = NET_QUEUE_SIZE,
		.offload_tso = true,
		.offload_ufo = true,
		.offload_csum = true,
	};
	net_fixture_make_device(t);
	return t;
}

void net_fixture_end(struct net_fixture *t)
{
	device_fixture_end(&t->f, &t->vdev->dev);
	for (unsigned i = 0; i < t->tap.num_queues; i++)
		assert_true(fcntl(t->tap.fds[i], F_GETFD) >= 0);
	tap_close(&t->tap);
	fd_close(&t->sock);
	device_fixture_fini(&t->f);
	free(t);
}

void net_fixture_negotiate(struct net_fixture *t, uint64_t features)
{
	unsigned num = features & NET_BIT(MQ) ? t->vdev->num_queues : 3;
	uint64_t at = FIXTURE_RINGS;

	driver_negotiate(t->vdev, features);
	for (unsigned i = 0; i < num; i++) {
		at = vring_driver_init(&t->rings[i], t->f.host.memory, at, NET_QUEUE_SIZE);
		driver_enable_queue(t->vdev, i, &t->rings[i]);
	}
	assert_true(at <= FIXTURE_DATA);
}

void net_fixture_start(struct net_fixture *t, uint64_t features)
{
	net_fixture_negotiate(t, features);
	driver_ok(t->vdev);
	/* What is sent to the tap before the device is ready is thrown away. */
	device_fixture_run_ms(&t->f, 20);
}

void net_offer(struct net_fixture *t, unsigned queue, uint64_t addr, uint32_t len, unsigned num)
{
	for (unsigned i = 0; i < num; i++) {
		struct vring_buffer buffer = {
			.addr = addr + (uint64_t)i * len, .len = len, .write = true};

		vring_add(&t->rings[queue], &buffer, 1);
	}
	virtio_kick_queue(t->vdev, queue);
}

uint32_t net_wait_used(struct net_fixture *t, unsigned queue)
{
	uint32_t id, len;

	assert_true(driver_wait_used(&t->f, &t->rings[queue], &id, &len));
	return len;
}

void net_expect_none(struct net_fixture *t, unsigned queue)
{
	uint32_t id, len;

	device_fixture_run_ms(&t->f, 50);
	assert_false(vring_get_used(&t->rings[queue], &id, &len));
}

void net_host_send(struct net_fixture *t, uint16_t port, size_t len)
{
	static uint8_t frame[FRAME_BYTES];

	assert_in_range(len, 42, sizeof(frame));
	udp_frame(frame, len, port);
	assert_int_equal(send(t->sock, frame, len, 0), (ssize_t)len);
}

void net_host_expect(struct net_fixture *t, uint16_t port, size_t len)
{
	static uint8_t frame[FRAME_BYTES], got[FRAME_BYTES];
	struct pollfd ready = {.fd = t->sock, .events = POLLIN};

	udp_frame(frame, len, port);
	assert_int_equal(poll(&ready, 1, 5000), 1);
	assert_int_equal(recv(t->sock, got, sizeof(got), 0), (ssize_t)len);
	assert_memory_equal(got, frame, len);
}

void net_expect_frame(struct net_fixture *t, uint64_t addr, uint16_t port, size_t len)
{
	static uint8_t frame[FRAME_BYTES];

	udp_frame(frame, len, port);
	assert_memory_equal(guest_bytes(t, addr + NET_HEADER), frame, len);
}

uint32_t net_lay_frame(struct net_fixture *t, uint64_t addr, uint16_t port, size_t len)
{
	memset(guest_bytes(t, addr), 0, NET_HEADER);
	udp_frame(guest_bytes(t, addr + NET_HEADER), len, port);
	return (uint32_t)(NET_HEADER + len);
}

void net_transmit(struct net_fixture *t, unsigned queue, uint64_t addr, uint32_t len)
{
	struct vring_buffer buffer = {.addr = addr, .len = len};

	vring_add(&t->rings[queue], &buffer, 1);
	virtio_kick_queue(t->vdev, queue);
}

uint8_t net_command(struct net_fixture *t, unsigned queue, const void *command, uint32_t len)
{
	struct vring_buffer buffers[] = {
		{.addr = COMMAND_ADDR, .len = len},
		{.addr = COMMAND_ADDR + 0x1000, .len = 1, .write = true},
	};

	memcpy(guest_bytes(t, COMMAND_ADDR), command, len);
	*guest_bytes(t, COMMAND_ADDR + 0x1000) = 0xee;
	vring_add(&t->rings[queue], buffers, 2);
	virtio_kick_queue(t->vdev, queue);
	assert_int_equal(net_wait_used(t, queue), 1);
	return *guest_bytes(t, COMMAND_ADDR + 0x1000);
}

int64_t net_counter(struct net_fixture *t, const char *name)
{
	AUTO_JSON struct json *counters = t->vdev->dev.ops->counters(&t->vdev->dev);

	assert_int_equal(json_kind(json_member(counters, name)), JSON_INT);
	return json_int(json_member(counters, name));
}

static bool needs_reset(void *arg)
{
	return virtio_status(arg) & VIRTIO_CONFIG_S_NEEDS_RESET;
}

void net_expect_needs_reset(struct net_fixture *t)
{
	assert_true(device_fixture_run(&t->f, needs_reset, t->vdev));
	driver_reset(&t->f, t->vdev);
}
