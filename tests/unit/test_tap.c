/* SPDX-License-Identifier: Apache-2.0 */
/* Real taps, each test in a network namespace of its own. What they look like is asked by ioctl and
 * procfs, not by the code under test. */
#include "base/fd.h"
#include "net/tap.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "tests/unit/netns.h"

static const uint8_t mac[6] = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};

static struct tap_params params_for(const char *name, unsigned num_queues)
{
	return (struct tap_params){.name = name, .num_queues = num_queues, .vnet_hdr_len = 12};
}

/* --- how the host sees a device -------------------------------------------------------------- */

static int query(const char *name, unsigned long request, struct ifreq *ifr)
{
	AUTO_FD int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(sock >= 0);
	memset(ifr, 0, sizeof(*ifr));
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
	return ioctl(sock, request, ifr) < 0 ? -errno : 0;
}

static bool exists(const char *name)
{
	return if_nametoindex(name) != 0;
}

static bool is_up(const char *name)
{
	struct ifreq ifr;

	assert_int_equal(query(name, SIOCGIFFLAGS, &ifr), 0);
	return ifr.ifr_flags & IFF_UP;
}

static int mtu_of(const char *name)
{
	struct ifreq ifr;

	assert_int_equal(query(name, SIOCGIFMTU, &ifr), 0);
	return ifr.ifr_mtu;
}

static void get_mac(const char *name, uint8_t ret[6])
{
	struct ifreq ifr;

	assert_int_equal(query(name, SIOCGIFHWADDR, &ifr), 0);
	memcpy(ret, ifr.ifr_hwaddr.sa_data, 6);
}

/* "" when it has none. */
static const char *ipv4_of(const char *name, unsigned long request)
{
	struct ifreq ifr;
	struct sockaddr_in in;

	if (query(name, request, &ifr) < 0)
		return "";
	memcpy(&in, &ifr.ifr_addr, sizeof(in));
	return inet_ntoa(in.sin_addr);
}

static bool has_ipv6_line(const char *start)
{
	FILE *f = fopen("/proc/thread-self/net/if_inet6", "re");
	char line[256];
	bool found = false;

	if (!f)
		return false;
	while (fgets(line, sizeof(line), f))
		found |= strncmp(line, start, strlen(start)) == 0;
	fclose(f);
	return found;
}

/* How many queues the frames of many connections come out of. */
static unsigned queues_in_use(struct tap *tap)
{
	AUTO_FD int sock = packet_socket(tap->name);
	unsigned used = 0;
	uint8_t frame[100];
	ssize_t n;

	for (unsigned i = 0; i < 100; i++) {
		udp_frame(frame, sizeof(frame), (uint16_t)(1000 + i));
		assert_int_equal(send(sock, frame, sizeof(frame), 0), sizeof(frame));
	}
	for (unsigned i = 0; i < tap->num_queues; i++) {
		unsigned frames = 0;

		while ((n = read(tap->fds[i], frame, sizeof(frame))) > 0)
			frames++;
		assert_int_equal(n, -1);
		assert_int_equal(errno, EAGAIN);
		used += frames > 0;
	}
	return used;
}

/* A tap as an orchestrator makes it. */
static int make_tap(const char *name, unsigned flags, bool persistent)
{
	struct ifreq ifr = {.ifr_flags = (short)flags};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	assert_int_equal(ioctl(fd, TUNSETIFF, &ifr), 0);
	if (persistent)
		assert_int_equal(ioctl(fd, TUNSETPERSIST, 1UL), 0);
	return fd;
}

static void make_persistent(const char *name, unsigned flags)
{
	close(make_tap(name, flags, true));
}

static void refused(const struct tap_params *params, int code, const char *says)
{
	struct tap tap = {.num_queues = 0};
	struct err err = ERR_INIT;
	char text[512];
	int rc = tap_open(params, &tap, &err);

	err_format(&err, text, sizeof(text));
	if (rc != code || !strstr(text, says))
		fail_msg("%d (%s) instead of %d (%s)", rc, text, code, says);
	assert_int_equal(tap.num_queues, 0);
}

static void opened(const struct tap_params *params, struct tap *ret_tap)
{
	struct err err = ERR_INIT;
	char text[512];

	if (tap_open(params, ret_tap, &err) < 0)
		fail_msg("%s", err_format(&err, text, sizeof(text)));
}

/* --- by name --------------------------------------------------------------------------------- */

static void tap_without_name_is_up_and_goes_when_closed(void **state)
{
	struct tap_params params = params_for(NULL, 1);
	struct tap tap;
	int flags, len = 0;

	netns_enter();
	opened(&params, &tap);
	assert_string_equal(tap.name, "vmtap0");
	assert_true(tap.created);
	assert_true(is_up("vmtap0"));
	assert_int_equal(ioctl(tap.fds[0], TUNGETVNETHDRSZ, &len), 0);
	assert_int_equal(len, 12);
	flags = fcntl(tap.fds[0], F_GETFL);
	assert_true(flags & O_NONBLOCK);
	assert_true(fcntl(tap.fds[0], F_GETFD) & FD_CLOEXEC);
	tap_close(&tap);
	assert_false(exists("vmtap0"));
	tap_close(&tap);
}

static void new_tap_gets_what_is_asked_for(void **state)
{
	struct tap_params params = params_for("mytap", 1);
	struct tap tap;
	uint8_t got[6];

	netns_enter();
	params.ip = "192.168.249.1";
	params.mask = "255.255.254.0";
	params.host_mac = mac;
	params.mtu = 9000;
	opened(&params, &tap);
	assert_string_equal(ipv4_of("mytap", SIOCGIFADDR), "192.168.249.1");
	assert_string_equal(ipv4_of("mytap", SIOCGIFNETMASK), "255.255.254.0");
	get_mac("mytap", got);
	assert_memory_equal(got, mac, 6);
	assert_memory_equal(tap.host_mac, mac, 6);
	assert_int_equal(mtu_of("mytap"), 9000);
	assert_int_equal(tap.mtu, 9000);
	assert_true(is_up("mytap"));
	tap_close(&tap);
}

static void new_tap_gets_an_ipv6_address(void **state)
{
	struct tap_params params = params_for("tap6", 1);
	struct tap tap;

	netns_enter();
	if (access("/proc/thread-self/net/if_inet6", R_OK) < 0) {
		print_message("skipped: no IPv6\n");
		skip();
	}
	params.ip = "fd00:1::17";
	params.mask = "ffff:ffff:ffff:fff0::";
	opened(&params, &tap);
	/* address, index, prefix length in hexadecimal digits */
	assert_true(has_ipv6_line("fd000001000000000000000000000017 02 3c"));
	tap_close(&tap);
}

static void several_queues_can_be_switched(void **state)
{
	struct tap_params params = params_for("mq", 3);
	struct tap tap;

	netns_enter();
	opened(&params, &tap);
	assert_int_equal(tap.num_queues, 3);
	assert_int_equal(queues_in_use(&tap), 3);
	assert_int_equal(tap_set_active_queues(&tap, 1), 0);
	assert_int_equal(queues_in_use(&tap), 1);
	assert_int_equal(tap_set_offload(&tap, TUN_F_CSUM | TUN_F_TSO4), 0);
	assert_int_equal(tap_set_active_queues(&tap, 3), 0);
	assert_int_equal(queues_in_use(&tap), 3);
	assert_int_equal(tap_set_active_queues(&tap, 0), -EINVAL);
	assert_int_equal(tap_set_active_queues(&tap, 4), -EINVAL);
	assert_int_equal(tap_set_offload(&tap, 0x40000000), -EINVAL);
	tap_close(&tap);
	assert_false(exists("mq"));
}

static void persistent_tap_is_found_and_stays(void **state)
{
	struct tap_params params = params_for("keep", 1);
	struct tap tap;

	netns_enter();
	make_persistent("keep", IFF_TAP | IFF_NO_PI);
	opened(&params, &tap);
	assert_false(tap.created);
	assert_true(is_up("keep"));
	refused(&params, -EBUSY, "keep");
	tap_close(&tap);
	assert_true(exists("keep"));
}

static void single_queue_fits_a_multi_queue_tap(void **state)
{
	struct tap_params params = params_for("keep", 1);
	struct tap tap;

	netns_enter();
	make_persistent("keep", IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE);
	opened(&params, &tap);
	assert_false(tap.created);
	tap_close(&tap);
	params.num_queues = 2;
	opened(&params, &tap);
	tap_close(&tap);
	assert_true(exists("keep"));
}

static void several_queues_do_not_fit_a_single_queue_tap(void **state)
{
	struct tap_params params = params_for("keep", 2);

	netns_enter();
	make_persistent("keep", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	refused(&params, -EINVAL, "multi-queue");
	assert_true(exists("keep"));
	assert_false(is_up("keep"));
}

static void what_is_no_tap_is_refused(void **state)
{
	struct tap_params params = params_for("lo", 1);

	netns_enter();
	refused(&params, -EINVAL, "lo: is no tap");
}

static void failure_takes_a_new_tap_away(void **state)
{
	struct tap_params params = params_for("gone", 2);

	netns_enter();
	params.mtu = 100000;
	refused(&params, -EINVAL, "gone: cannot set MTU 100000");
	assert_false(exists("gone"));
}

static void failure_leaves_a_found_tap_as_it_was(void **state)
{
	struct tap_params params = params_for("keep", 1);
	uint8_t before[6], after[6];

	netns_enter();
	make_persistent("keep", IFF_TAP | IFF_NO_PI);
	get_mac("keep", before);
	params.host_mac = mac;
	params.mtu = 4000;
	params.ip = "10.0.0.1";
	params.mask = "255.0.255.0";
	refused(&params, -EINVAL, "has holes");
	get_mac("keep", after);
	assert_memory_equal(before, after, 6);
	assert_int_equal(mtu_of("keep"), 1500);
	assert_string_equal(ipv4_of("keep", SIOCGIFADDR), "");
	assert_false(is_up("keep"));
}

static void address_that_is_there_already_is_fine(void **state)
{
	struct tap_params params = params_for("keep", 1);
	struct tap tap;

	netns_enter();
	make_persistent("keep", IFF_TAP | IFF_NO_PI);
	params.ip = "10.0.0.1";
	params.mask = "255.255.255.0";
	opened(&params, &tap);
	tap_close(&tap);
	opened(&params, &tap);
	tap_close(&tap);
	assert_string_equal(ipv4_of("keep", SIOCGIFADDR), "10.0.0.1");
}

static void bad_parameters_are_refused(void **state)
{
	static const struct {
		const char *name, *ip, *mask, *says;
	} cases[] = {
		{"", NULL, NULL, "name of a tap"},
		{"a/b", NULL, NULL, "name of a tap"},
		{"sixteen-letters!", NULL, NULL, "name of a tap"},
		{"t", "10.0.0.256", "255.0.0.0", "no IP address"},
		{"t", "10.0.0.1", NULL, "no mask"},
		{"t", "10.0.0.1", "ffff::", "no mask"},
		{"t", "fd00::1", "255.255.0.0", "no mask"},
	};
	struct tap_params params;

	netns_enter();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		params = params_for(cases[i].name, 1);
		params.ip = cases[i].ip;
		params.mask = cases[i].mask;
		refused(&params, -EINVAL, cases[i].says);
		assert_false(exists("t"));
	}
	params = params_for("t", 0);
	refused(&params, -EINVAL, "queues");
	params = params_for("t", TAP_MAX_QUEUES + 1);
	refused(&params, -EINVAL, "queues");
}

/* --- by fd ----------------------------------------------------------------------------------- */

#define GIVEN (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)

static void given_fds_are_duplicated_and_left_alone(void **state)
{
	struct tap_params params = params_for("ignored", 2);
	int fds[2], len = 0;
	struct tap tap;

	netns_enter();
	fds[0] = make_tap("given", GIVEN | IFF_MULTI_QUEUE, false);
	fds[1] = make_tap("given", GIVEN | IFF_MULTI_QUEUE, false);
	params.fds = fds;
	params.ip = "192.168.249.1";
	params.mask = "255.255.255.0";
	opened(&params, &tap);
	assert_string_equal(tap.name, "given");
	assert_false(tap.created);
	assert_int_not_equal(tap.fds[0], fds[0]);
	assert_string_equal(ipv4_of("given", SIOCGIFADDR), "");
	assert_false(is_up("given"));
	tap_close(&tap);
	assert_int_equal(ioctl(fds[0], TUNGETVNETHDRSZ, &len), 0);
	assert_int_equal(len, 12);
	close(fds[0]);
	close(fds[1]);
	assert_false(exists("given"));
}

static void given_tap_gets_the_mtu_where_it_differs(void **state)
{
	struct tap_params params = params_for(NULL, 1);
	AUTO_FD int fd = -1;
	struct tap tap;

	netns_enter();
	fd = make_tap("given", GIVEN, false);
	params.fds = &fd;
	params.mtu = 2000;
	opened(&params, &tap);
	assert_int_equal(mtu_of("given"), 2000);
	tap_close(&tap);
}

static void tap_of_another_namespace_is_used_but_not_changed(void **state)
{
	struct tap_params params = params_for(NULL, 1);
	AUTO_FD int fd = -1;
	AUTO_FD int ours = -1;
	struct tap tap;

	netns_enter();
	fd = make_tap("given", GIVEN, false);
	netns_enter();
	params.fds = &fd;
	opened(&params, &tap);
	tap_close(&tap);
	params.mtu = 2000;
	refused(&params, -ENODEV, "given");
	ours = make_tap("given", GIVEN, false);
	refused(&params, -ENODEV, "another network namespace");
	assert_int_equal(mtu_of("given"), 1500);
}

static void fds_that_do_not_fit_are_refused(void **state)
{
	struct tap_params params = params_for(NULL, 1);
	int fds[2] = {-1, -1};

	netns_enter();
	params.fds = fds;
	refused(&params, -EBADF, "cannot duplicate fd -1");
	fds[0] = eventfd_new();
	refused(&params, -ENOTTY, "no tap");
	fd_close(&fds[0]);
	fds[0] = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	refused(&params, -EBADFD, "no tap");
	fd_close(&fds[0]);
	fds[0] = make_tap("layer3", IFF_TUN | IFF_NO_PI | IFF_VNET_HDR, false);
	refused(&params, -EINVAL, "layer3: its fd was not opened with");
	fd_close(&fds[0]);
	fds[0] = make_tap("bare", IFF_TAP | IFF_NO_PI, false);
	refused(&params, -EINVAL, "bare: its fd was not opened with");
	fd_close(&fds[0]);
	fds[0] = make_tap("one", GIVEN, false);
	fds[1] = make_tap("two", GIVEN, false);
	params.num_queues = 2;
	refused(&params, -EINVAL, "belong to one and two");
	fd_close(&fds[0]);
	fd_close(&fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tap_without_name_is_up_and_goes_when_closed),
		cmocka_unit_test(new_tap_gets_what_is_asked_for),
		cmocka_unit_test(new_tap_gets_an_ipv6_address),
		cmocka_unit_test(several_queues_can_be_switched),
		cmocka_unit_test(persistent_tap_is_found_and_stays),
		cmocka_unit_test(single_queue_fits_a_multi_queue_tap),
		cmocka_unit_test(several_queues_do_not_fit_a_single_queue_tap),
		cmocka_unit_test(what_is_no_tap_is_refused),
		cmocka_unit_test(failure_takes_a_new_tap_away),
		cmocka_unit_test(failure_leaves_a_found_tap_as_it_was),
		cmocka_unit_test(address_that_is_there_already_is_fine),
		cmocka_unit_test(bad_parameters_are_refused),
		cmocka_unit_test(given_fds_are_duplicated_and_left_alone),
		cmocka_unit_test(given_tap_gets_the_mtu_where_it_differs),
		cmocka_unit_test(tap_of_another_namespace_is_used_but_not_changed),
		cmocka_unit_test(fds_that_do_not_fit_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
