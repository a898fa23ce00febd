/* SPDX-License-Identifier: Apache-2.0 */
/* Against the kernel, with the loopback device of a network namespace of the test's own. */
#include "net/netlink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/unit/netns.h"

static struct netlink *enter(void)
{
	struct netlink *nl = NULL;

	netns_enter();
	assert_int_equal(netlink_open(&nl, NULL), 0);
	return nl;
}

static struct netlink_link loopback(struct netlink *nl)
{
	struct netlink_link link;

	assert_int_equal(netlink_get_link(nl, "lo", &link, NULL), 0);
	return link;
}

static void a_device_is_described_as_it_is(void **state)
{
	AUTO_NETLINK struct netlink *nl = enter();
	static const uint8_t zeroes[6];
	struct netlink_link link = loopback(nl);

	assert_int_equal(link.index, if_nametoindex("lo"));
	assert_string_equal(link.name, "lo");
	assert_int_equal(link.mtu, 65536);
	assert_true(link.has_mac);
	assert_memory_equal(link.mac, zeroes, sizeof(zeroes));
	assert_false(link.up);
}

static void a_device_that_is_not_there_is_named(void **state)
{
	AUTO_NETLINK struct netlink *nl = enter();
	static const char *const names[] = {"nobody", "a-name-of-16-byt",
					    "a-name-that-is-too-long"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct err err = ERR_INIT;
		struct netlink_link link;
		char text[ERR_TEXT_MAX];

		assert_int_equal(netlink_get_link(nl, names[i], &link, &err), -ENODEV);
		assert_non_null(strstr(err_format(&err, text, sizeof(text)), names[i]));
	}
}

static void a_change_is_made_when_the_call_returns(void **state)
{
	AUTO_NETLINK struct netlink *nl = enter();
	struct netlink_link link = loopback(nl);

	assert_int_equal(netlink_set_up(nl, &link, true, NULL), 0);
	assert_true(loopback(nl).up);
	assert_int_equal(netlink_set_mtu(nl, &link, 1400, NULL), 0);
	assert_int_equal(loopback(nl).mtu, 1400);
	assert_int_equal(netlink_set_up(nl, &link, false, NULL), 0);
	assert_false(loopback(nl).up);
}

static void the_kernels_refusal_is_passed_on(void **state)
{
	AUTO_NETLINK struct netlink *nl = enter();
	static const uint8_t multicast[6] = {0x01, 0, 0x5e, 0, 0, 1};
	struct netlink_link gone = {.index = 4711, .name = "gone"};
	struct netlink_link link = loopback(nl);
	struct err err = ERR_INIT;

	assert_true(netlink_set_mac(nl, &link, multicast, &err) < 0);
	assert_int_equal(netlink_set_mtu(nl, &gone, 1400, NULL), -ENODEV);
	assert_int_equal(netlink_set_up(nl, &gone, true, NULL), -ENODEV);
	/* What was asked before does not get into the next answer. */
	assert_int_equal(loopback(nl).index, link.index);
}

static void check_address(struct netlink *nl, const struct netlink_address *address)
{
	struct netlink_link link = loopback(nl);

	assert_int_equal(netlink_add_address(nl, &link, address, NULL), 1);
	assert_int_equal(netlink_add_address(nl, &link, address, NULL), 0);
	assert_int_equal(netlink_del_address(nl, &link, address, NULL), 0);
	assert_int_equal(netlink_del_address(nl, &link, address, NULL), -EADDRNOTAVAIL);
}

static void addresses_of_both_families_come_and_go(void **state)
{
	AUTO_NETLINK struct netlink *nl = enter();
	struct netlink_address v4 = {AF_INET, {10, 1, 2, 3}, 24};
	struct netlink_address v6 = {AF_INET6, {0xfd, 0, [15] = 1}, 64};

	check_address(nl, &v4);
	if (access("/proc/net/if_inet6", F_OK) == 0)
		check_address(nl, &v6);
	else
		print_message("not tried: this kernel has no IPv6\n");
}

static void an_address_that_makes_no_sense_is_refused(void **state)
{
	AUTO_NETLINK struct netlink *nl = enter();
	struct netlink_address address = {AF_INET, {10, 1, 2, 3}, 33};
	struct netlink_link link = loopback(nl);

	assert_int_equal(netlink_add_address(nl, &link, &address, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_device_is_described_as_it_is),
		cmocka_unit_test(a_device_that_is_not_there_is_named),
		cmocka_unit_test(a_change_is_made_when_the_call_returns),
		cmocka_unit_test(the_kernels_refusal_is_passed_on),
		cmocka_unit_test(addresses_of_both_families_come_and_go),
		cmocka_unit_test(an_address_that_makes_no_sense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
