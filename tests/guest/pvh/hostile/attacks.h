/* SPDX-License-Identifier: Apache-2.0 */
/* The attacks; hostile.c has the table of their words. Each leaves devices as it likes. */
#ifndef TESTS_GUEST_PVH_HOSTILE_ATTACKS_H
#define TESTS_GUEST_PVH_HOSTILE_ATTACKS_H

#include "tests/guest/pvh/hostile/driver.h"

/* chains.c */
void attack_chains(const char *value);
void attack_addresses(const char *value);
void attack_indirect(const char *value);
void attack_available(const char *value);
void attack_rings(const char *value);
void attack_duplicates(const char *value);

/* registers.c */
void attack_registers(const char *value);
void attack_status(const char *value);
void attack_activated(const char *value);
void attack_selectors(const char *value);
void attack_notify(const char *value);
void attack_bar(const char *value);
void attack_msix(const char *value);
void attack_vectors(const char *value);

/* pci.c */
void attack_config(const char *value);
void attack_bars(const char *value);
void attack_window(const char *value);

/* ports.c */
void attack_ports(const char *value);
void attack_strings(const char *value);
void attack_holes(const char *value);

/* requests.c */
void attack_disk(const char *value);
void attack_net(const char *value);

/* floods.c */
void attack_flood_serial(const char *value);
void attack_flood_console(const char *value);
void attack_flood_entropy(const char *value);
void attack_flood_frames(const char *value);
void attack_flood_notify(const char *value);
void attack_flood_panic(const char *value);
void attack_flood_activations(const char *value);
void attack_flood_log(const char *value);

/* races.c */
void attack_race_descriptors(const char *value);
void attack_race_rings(const char *value);
void attack_race_reset(const char *value);
void attack_race_bars(const char *value);

void attack_race_random(const char *value);

/* random.c */
void attack_random(const char *value);
void random_registers(struct vdev *d, unsigned q);

/* Says that a device did what it must not: the test fails. */
void complain(const struct vdev *d, const char *what, uint64_t number);

#endif
