/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that means harm. Each word of its command line is an attack:
 *
 *   chains        loops, self-links, too long, next beyond the table, no bytes, all flags
 *   addresses     buffers in holes, MMIO, the device's own BAR, at and across the end of RAM
 *   indirect      tables of bad sizes and places, nested, looped, with a next, not negotiated
 *   available     available indices that jump, heads beyond the table
 *   duplicates    one head in flight many times
 *   rings         rings in holes and MMIO, across the end, unaligned, one over the other
 *   registers     every register of the common configuration in every width, value and state
 *   status        the status register in every order
 *   activated     queue sizes and addresses changed after DRIVER_OK
 *   selectors     queues and words of features that do not exist
 *   vectors       MSI-X vectors that do not exist
 *   notify        the notification region, at every width, for queues that are not there
 *   bar           every edge within the BAR, at every width
 *   msix          MSI-X table and pending bits; messages to nowhere
 *   config        configuration space: every offset and width, by ports and ECAM
 *   bars          BARs onto RAM, onto each other, out of the windows, sized while decoded
 *   window        the PCI configuration access capability
 *   ports         I/O ports in every width
 *   strings       the same by string instructions
 *   holes         memory that is nobody's; the IOAPIC
 *   disk          block requests beyond the disk, of unknown types, in odd pieces
 *   net           frames with wild headers, commands with wild data
 *   flood-serial=N, -console=N, -entropy=N, -frames=N, -notify=N
 *                 256 bytes on COM1, 64 KiB on the virtio console, 32 MiB of entropy, a frame,
 *                 a notification of each queue: N times
 *   flood-panic=N, -activations=N, -log=N
 *                 reports of panics, starts and resets of every device, whatever is logged
 *   race-descriptors=MS, -rings=MS, -reset=MS, -bars=MS, -random=MS
 *                 a second processor changes descriptors while they are read; the same with indices
 *                 and heads, with the status register, with BARs, with any register
 *   random=SEED,COUNT   anything
 *
 * For each it prints "ATTACK word", lines that begin with "WRONG" for whatever a device must not
 * do, and "END word"; then it has every device do a good request, and prints "ALIVE" when all have.
 * "poweroff" does that.
 *
 * The second processor is there if the machine has two.
 */
#include "tests/guest/pvh/hostile/attacks.h"

static const struct {
	const char *word;
	void (*attack)(const char *value);
} attacks[] = {
	{"chains", attack_chains},
	{"addresses", attack_addresses},
	{"indirect", attack_indirect},
	{"available", attack_available},
	{"duplicates", attack_duplicates},
	{"rings", attack_rings},
	{"registers", attack_registers},
	{"status", attack_status},
	{"activated", attack_activated},
	{"selectors", attack_selectors},
	{"vectors", attack_vectors},
	{"notify", attack_notify},
	{"bar", attack_bar},
	{"msix", attack_msix},
	{"config", attack_config},
	{"bars", attack_bars},
	{"window", attack_window},
	{"ports", attack_ports},
	{"strings", attack_strings},
	{"holes", attack_holes},
	{"disk", attack_disk},
	{"net", attack_net},
	{"flood-serial", attack_flood_serial},
	{"flood-console", attack_flood_console},
	{"flood-entropy", attack_flood_entropy},
	{"flood-frames", attack_flood_frames},
	{"flood-notify", attack_flood_notify},
	{"flood-panic", attack_flood_panic},
	{"flood-activations", attack_flood_activations},
	{"flood-log", attack_flood_log},
	{"race-descriptors", attack_race_descriptors},
	{"race-rings", attack_race_rings},
	{"race-reset", attack_race_reset},
	{"race-bars", attack_race_bars},
	{"race-random", attack_race_random},
	{"random", attack_random},
};

#define MAX_COMPLAINTS 20

static unsigned complaints;

void complain(const struct vdev *d, const char *what, uint64_t number)
{
	if (++complaints > MAX_COMPLAINTS)
		return;
	guest_put("WRONG ");
	guest_put(d->name);
	guest_put(" ");
	guest_put(what);
	guest_put(" ");
	guest_put_hex(number);
	guest_print("");
}

/* "WHAT word" */
static void report(const char *what, const char *word)
{
	guest_put(what);
	guest_put(" ");
	guest_print(word);
}

void guest_obey(const char *word)
{
	guest_enter_user();
	if (!num_vdevs)
		find_devices();
	if (guest_is(word, "poweroff"))
		out8(GUEST_PM_SLEEP, 0x34);
	for (unsigned i = 0; i < sizeof(attacks) / sizeof(attacks[0]); i++) {
		const char *value = guest_value(word, attacks[i].word);

		if (!value && !guest_is(word, attacks[i].word))
			continue;
		report("ATTACK", attacks[i].word);
		attacks[i].attack(value);
		report("END", attacks[i].word);
		if (revive_all())
			guest_print("ALIVE");
	}
}
