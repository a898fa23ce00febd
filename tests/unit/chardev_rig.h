/* SPDX-License-Identifier: Apache-2.0 */
/* A console end, the loop it runs on, a front-end that records, and a place for its file. */
#ifndef TESTS_UNIT_CHARDEV_RIG_H
#define TESTS_UNIT_CHARDEV_RIG_H

#include "base/loop.h"
#include "chardev/chardev.h"

/* A front-end that takes what it has room for. */
struct chardev_front {
	size_t room;
	uint8_t got[1 << 16];
	size_t len;
	unsigned columns, rows;
};

struct chardev_rig {
	struct loop *loop;
	struct chardev *dev;
	struct chardev_front front;
	char dir[32];
	char path[64];
};

/* `arg` is a struct chardev_front. */
extern const struct chardev_client chardev_rig_client;

/* For cmocka: *state is a struct chardev_rig. */
int chardev_rig_setup(void **state);
int chardev_rig_teardown(void **state);

/* Opens rig->dev; fails the test if that fails. */
void chardev_rig_open(struct chardev_rig *rig, enum chardev_mode mode, const char *path);

void chardev_rig_run(struct chardev_rig *rig, unsigned ms);
void chardev_rig_say(struct chardev_rig *rig, const char *text);

/* All that can be read from fd now, which becomes non-blocking. */
size_t chardev_rig_slurp(int fd, char *buf, size_t len);

/* A timer's callback that stops the loop `arg`. */
void chardev_rig_stop(struct loop_timer *t, void *arg);

#endif
