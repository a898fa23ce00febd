/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal (stdin, stdout), pseudo-terminals and files.
 *
 * Several devices may use the terminal; its settings are saved when the first one makes it raw and
 * put back when the last one goes.
 */
#include "base/fd.h"
#include "base/log.h"
#include "chardev/chardev_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* --- what all three share: dev->out to write, dev->in (or out) to read --- */

static void on_out_ready(void *arg, unsigned events)
{
	struct chardev *dev = arg;

	if (events & LOOP_WRITE) {
		endpoint_watch(&dev->out, dev->out.events & ~(unsigned)LOOP_WRITE);
		chardev_writable(dev);
	}
	if (events & LOOP_READ)
		chardev_readable(dev);
}

static void on_in_ready(void *arg, unsigned events)
{
	chardev_readable(arg);
}

static ssize_t out_write(struct chardev *dev, const uint8_t *data, size_t len)
{
	ssize_t n = endpoint_write(&dev->out, data, len);

	if (n == -EAGAIN && endpoint_watch(&dev->out, dev->out.events | LOOP_WRITE) < 0)
		return -EIO;
	if (n < 0 && n != -EAGAIN && n != -EPIPE)
		log_warn_limited("Console output is lost: %s", strerror((int)-n));
	return n;
}

static int get_size(int fd, unsigned *columns, unsigned *rows)
{
	struct winsize ws;

	if (ioctl(fd, TIOCGWINSZ, &ws) < 0)
		return -errno;
	*columns = ws.ws_col;
	*rows = ws.ws_row;
	return 0;
}

/* --- the terminal --- */

/* Read by a signal handler, so written in this order: settings, then the count. */
static struct termios saved_settings;
static volatile sig_atomic_t terminal_users;

void chardev_restore_terminal(void)
{
	if (terminal_users)
		tcsetattr(STDIN_FILENO, TCSANOW, &saved_settings);
}

/* Whether stdin is a terminal that we may use: one of which we are in the background would stop us
 * at the first read. */
static bool is_our_terminal(void)
{
	return isatty(STDIN_FILENO) &&
	       (tcgetpgrp(STDIN_FILENO) == getpgrp() || tcgetpgrp(STDIN_FILENO) < 0);
}

static int make_raw(struct chardev *dev, struct err *err)
{
	struct termios raw;

	if (!terminal_users && tcgetattr(STDIN_FILENO, &saved_settings) < 0)
		return err_set_errno(err, -errno, "Cannot read the terminal's settings");
	raw = saved_settings;
	cfmakeraw(&raw);
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
		return err_set_errno(err, -errno, "Cannot switch the terminal to raw mode");
	terminal_users++;
	dev->holds_terminal = true;
	return 0;
}

static int tty_open(struct chardev *dev, const char *path, struct err *err)
{
	free(TAKE(dev->path));
	endpoint_inherit(&dev->out, STDOUT_FILENO, true);
	endpoint_on_ready(&dev->out, dev->loop, on_out_ready, dev);
	if (!dev->input || (isatty(STDIN_FILENO) && !is_our_terminal()))
		return 0;
	endpoint_inherit(&dev->in, STDIN_FILENO, false);
	endpoint_on_ready(&dev->in, dev->loop, on_in_ready, dev);
	if (!isatty(STDIN_FILENO))
		return 0;
	return make_raw(dev, err);
}

static void tty_close(struct chardev *dev)
{
	endpoint_close(&dev->in);
	endpoint_close(&dev->out);
	if (!dev->holds_terminal)
		return;
	dev->holds_terminal = false;
	if (terminal_users == 1)
		chardev_restore_terminal();
	terminal_users--;
}

static void tty_want_input(struct chardev *dev, bool on)
{
	/* What cannot be watched is never empty: it is read at attach and whenever there is room.
	 */
	if (endpoint_watch(&dev->in, on ? LOOP_READ : 0) < 0 && on && dev->in.pollable)
		endpoint_close(&dev->in);
}

static ssize_t tty_read(struct chardev *dev, uint8_t *data, size_t len)
{
	ssize_t n = endpoint_read(&dev->in, data, len);

	if (n == 0 || (n < 0 && n != -EAGAIN))
		endpoint_close(&dev->in); /* end of file: never look again */
	return n;
}

static int tty_size(struct chardev *dev, unsigned *columns, unsigned *rows)
{
	return get_size(STDOUT_FILENO, columns, rows);
}

const struct chardev_ops chardev_tty_ops = {
	.open = tty_open,
	.close = tty_close,
	.write = out_write,
	.want_input = tty_want_input,
	.read = tty_read,
	.size = tty_size,
};

/* --- pseudo-terminal --- */

static int pty_allocate(struct chardev *dev)
{
	AUTO_FD int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	struct termios raw;
	char name[64];

	if (master < 0)
		return -errno;
	if (grantpt(master) < 0 || unlockpt(master) < 0 ||
	    ptsname_r(master, name, sizeof(name)) != 0)
		return -errno;
	/* We keep the other side open: without any opener the master would report a hang-up for
	 * ever, and output from before the first one would be lost. */
	dev->slave_fd = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (dev->slave_fd < 0 || tcgetattr(dev->slave_fd, &raw) < 0)
		return -errno;
	cfmakeraw(&raw);
	if (tcsetattr(dev->slave_fd, TCSANOW, &raw) < 0)
		return -errno;
	free(dev->path);
	dev->path = strdup(name);
	if (!dev->path)
		return -ENOMEM;
	endpoint_own(&dev->out, TAKE_FD(master));
	return 0;
}

static int pty_open(struct chardev *dev, const char *path, struct err *err)
{
	int rc = pty_allocate(dev);

	if (rc < 0)
		return err_set_errno(err, rc, "Cannot allocate a pseudo-terminal");
	endpoint_on_ready(&dev->out, dev->loop, on_out_ready, dev);
	return 0;
}

static void pty_close(struct chardev *dev)
{
	endpoint_close(&dev->out);
	fd_close(&dev->slave_fd);
}

static void pty_want_input(struct chardev *dev, bool on)
{
	unsigned events = dev->out.events & ~(unsigned)LOOP_READ;

	endpoint_watch(&dev->out, on ? events | LOOP_READ : events);
}

static ssize_t pty_read(struct chardev *dev, uint8_t *data, size_t len)
{
	return endpoint_read(&dev->out, data, len);
}

static int pty_size(struct chardev *dev, unsigned *columns, unsigned *rows)
{
	return get_size(dev->out.fd, columns, rows);
}

const struct chardev_ops chardev_pty_ops = {
	.open = pty_open,
	.close = pty_close,
	.write = out_write,
	.want_input = pty_want_input,
	.read = pty_read,
	.size = pty_size,
};

/* --- file --- */

static int file_open(struct chardev *dev, const char *path, struct err *err)
{
	const int flags = O_CREAT | O_TRUNC | O_NOCTTY | O_NONBLOCK | O_CLOEXEC;
	int fd;

	if (!path)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "A console in mode File needs a path");
	fd = open(path, flags | O_WRONLY, 0644);
	if (fd < 0 && errno == ENXIO) /* a FIFO that nobody reads yet */
		fd = open(path, flags | O_RDWR, 0644);
	if (fd < 0)
		return err_set_errno(err, -errno, "Cannot open the console file %s", path);
	endpoint_own(&dev->out, fd);
	endpoint_on_ready(&dev->out, dev->loop, on_out_ready, dev);
	return 0;
}

static void file_close(struct chardev *dev)
{
	endpoint_close(&dev->out);
}

const struct chardev_ops chardev_file_ops = {
	.open = file_open,
	.close = file_close,
	.write = out_write,
};
