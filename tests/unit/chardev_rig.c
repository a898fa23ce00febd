/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/chardev_rig.h"

#include "base/fd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static size_t front_room(void *arg)
{
	return ((struct chardev_front *)arg)->room;
}

static void front_receive(void *arg, const uint8_t *data, size_t len)
{
	struct chardev_front *f = arg;

	assert_true(len <= f->room && f->len + len <= sizeof(f->got));
	memcpy(&f->got[f->len], data, len);
	f->len += len;
	f->room -= len;
}

static void front_resized(void *arg, unsigned columns, unsigned rows)
{
	struct chardev_front *f = arg;

	f->columns = columns;
	f->rows = rows;
}

const struct chardev_client chardev_rig_client = {
	.can_receive = front_room,
	.receive = front_receive,
	.resized = front_resized,
};

int chardev_rig_setup(void **state)
{
	struct chardev_rig *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f || loop_new(&f->loop) < 0)
		return -1;
	strcpy(f->dir, "/tmp/test_chardev.XXXXXX");
	if (!mkdtemp(f->dir))
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/console", f->dir);
	return 0;
}

int chardev_rig_teardown(void **state)
{
	struct chardev_rig *f = *state;

	chardev_free(f->dev);
	loop_free(f->loop);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

void chardev_rig_stop(struct loop_timer *t, void *arg)
{
	loop_stop(arg);
}

void chardev_rig_run(struct chardev_rig *f, unsigned ms)
{
	struct loop_timer *t = NULL;

	assert_int_equal(loop_timer_new(f->loop, chardev_rig_stop, f->loop, &t), 0);
	loop_timer_start(t, ms, 0);
	loop_run(f->loop);
	loop_timer_free(t);
}

void chardev_rig_open(struct chardev_rig *f, enum chardev_mode mode, const char *path)
{
	const struct chardev_params params = {.mode = mode, .path = path, .input = true};
	struct err err = ERR_INIT;

	assert_int_equal(chardev_new(f->loop, &params, &f->dev, &err), 0);
}

void chardev_rig_say(struct chardev_rig *f, const char *text)
{
	chardev_write(f->dev, text, strlen(text));
}

/* All that can be read from fd now. */
size_t chardev_rig_slurp(int fd, char *buf, size_t len)
{
	size_t n = 0;
	ssize_t r;

	fd_set_nonblock(fd, true);
	while (n < len && (r = read(fd, buf + n, len - n)) > 0)
		n += (size_t)r;
	return n;
}
