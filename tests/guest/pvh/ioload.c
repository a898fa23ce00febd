/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a virtio disk or network card with all that the processor has, and tells how fast it was.
 * It polls, from CPL 3, and so runs at full speed on any KVM and under any VMM that enters guests
 * by PVH.
 *
 *   ecam=ADDRESS          where PCI's configuration space is
 *   tsc=KHZ               how fast the time stamp counter runs
 *   bytes=N depth=N ms=N  what the words behind it do
 *   read write            disk: at random places
 *   read-on write-on      disk: one block after another
 *   send receive echo     network
 *   bye                   says so
 */
#include "tests/guest/pvh/guest.h"
#include "tests/guest/pvh/ioload/blk.h"
#include "tests/guest/pvh/ioload/meter.h"
#include "tests/guest/pvh/ioload/net.h"

static uint32_t ecam = GUEST_ECAM, bytes = 4096, depth = 1, ms = 1000;

static uint32_t at_most(uint32_t n, uint32_t limit)
{
	return n < limit ? n : limit;
}

static void run_blk(bool write, bool random)
{
	struct blk_work work = {.write = write,
				.random = random,
				.bytes = at_most(bytes, BLK_MAX_BYTES),
				.depth = at_most(depth, BLK_MAX_DEPTH),
				.ms = ms};

	blk_run(ecam, &work);
}

static void run_net(void (*what)(uint32_t, const struct net_work *))
{
	struct net_work work = {.bytes = at_most(bytes, NET_MAX_FRAME), .depth = depth, .ms = ms};

	what(ecam, &work);
}

static bool set(const char *word)
{
	static const struct {
		const char *name;
		uint32_t *value;
	} all[] = {
		{"ecam", &ecam}, {"tsc", &meter_tsc_khz}, {"bytes", &bytes}, {"depth", &depth},
		{"ms", &ms},
	};

	for (unsigned i = 0; i < sizeof(all) / sizeof(*all); i++) {
		const char *value = guest_value(word, all[i].name);

		if (!value)
			continue;
		*all[i].value = guest_number(value);
		return true;
	}
	return false;
}

void guest_obey(const char *word)
{
	static bool is_user;

	if (!is_user)
		guest_enter_user();
	is_user = true;
	if (set(word))
		return;
	if (guest_is(word, "read") || guest_is(word, "read-on"))
		run_blk(false, guest_is(word, "read"));
	else if (guest_is(word, "write") || guest_is(word, "write-on"))
		run_blk(true, guest_is(word, "write"));
	else if (guest_is(word, "send"))
		run_net(net_send);
	else if (guest_is(word, "receive"))
		net_receive(ecam, ms);
	else if (guest_is(word, "echo"))
		run_net(net_echo);
	else if (guest_is(word, "bye"))
		guest_print("bye");
}
