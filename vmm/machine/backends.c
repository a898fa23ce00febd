/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/machine/backends.h"

#include "base/fd.h"
#include "chardev/chardev.h"
#include "net/tap.h"
#include "storage/block.h"
#include "vmm/bus/device.h"
#include "vmm/config/vm_config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VNET_HDR_LEN 12 /* struct virtio_net_hdr of virtio 1.x, with num_buffers */

struct backend_tap {
	struct list node;
	char id[DEVICE_ID_MAX];
	struct tap tap;
};

struct backend_image {
	struct list node;
	char id[DEVICE_ID_MAX];
	struct block *block;
};

struct backends {
	struct loop *loop;
	struct chardev *serial;
	struct chardev *console;
	struct chardev *debug_console;
	struct list taps;
	struct list images;
};

int backends_new(struct loop *loop, struct backends **ret_backends)
{
	struct backends *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->loop = loop;
	list_init(&b->taps);
	list_init(&b->images);
	*ret_backends = b;
	return 0;
}

void backends_free(struct backends *b)
{
	struct list *node;

	if (!b)
		return;
	backends_close_images(b);
	while ((node = list_pop(&b->taps))) {
		struct backend_tap *t = container_of(node, struct backend_tap, node);

		tap_close(&t->tap);
		free(t);
	}
	chardev_free(b->serial);
	chardev_free(b->console);
	chardev_free(b->debug_console);
	free(b);
}

/* --- consoles --------------------------------------------------------------------------------- */

static int open_console(struct backends *b, const char *what, enum console_mode mode,
			const char *path, bool input, struct chardev **ret_dev, struct err *err)
{
	static const enum chardev_mode modes[] = {
		[CONSOLE_MODE_OFF] = CHARDEV_OFF,	[CONSOLE_MODE_PTY] = CHARDEV_PTY,
		[CONSOLE_MODE_TTY] = CHARDEV_TTY,	[CONSOLE_MODE_FILE] = CHARDEV_FILE,
		[CONSOLE_MODE_SOCKET] = CHARDEV_SOCKET, [CONSOLE_MODE_NULL] = CHARDEV_NULL,
	};
	struct chardev_params params = {.mode = modes[mode], .path = path, .input = input};
	int r;

	if (mode == CONSOLE_MODE_OFF)
		return 0;
	if ((mode == CONSOLE_MODE_FILE || mode == CONSOLE_MODE_SOCKET) && !path)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "%s: mode %s needs a path", what,
				    mode == CONSOLE_MODE_FILE ? "File" : "Socket");
	r = chardev_new(b->loop, &params, ret_dev, err);
	return r < 0 ? err_wrap(err, r, "cannot open the %s", what) : 0;
}

/* Clients read the slave's path where they would have written a file's. */
static int show_pty(enum console_mode mode, struct chardev *dev, char **file, struct err *err)
{
	char *path;

	if (mode != CONSOLE_MODE_PTY)
		return 0;
	path = strdup(chardev_path(dev));
	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	free(*file);
	*file = path;
	return 0;
}

int backends_open_consoles(struct backends *b, struct vm_config *config, struct err *err)
{
	struct serial_config *serial = &config->serial;
	struct console_config *console = &config->console;
	struct debug_console_config *debug = &config->debug_console;
	int r = open_console(b, "serial port", serial->mode,
			     serial->mode == CONSOLE_MODE_SOCKET ? serial->socket : serial->file,
			     true, &b->serial, err);

	if (r >= 0)
		r = open_console(b, "console", console->mode,
				 console->mode == CONSOLE_MODE_SOCKET ? console->socket
								      : console->file,
				 true, &b->console, err);
	if (r >= 0)
		r = open_console(b, "debug console", debug->mode, debug->file, false,
				 &b->debug_console, err);
	if (r >= 0)
		r = show_pty(serial->mode, b->serial, &serial->file, err);
	if (r >= 0)
		r = show_pty(console->mode, b->console, &console->file, err);
	if (r >= 0)
		r = show_pty(debug->mode, b->debug_console, &debug->file, err);
	return r;
}

struct chardev *backends_serial(struct backends *b)
{
	return b->serial;
}

struct chardev *backends_console(struct backends *b)
{
	return b->console;
}

struct chardev *backends_debug_console(struct backends *b)
{
	return b->debug_console;
}

void backends_flush_consoles(struct backends *b)
{
	struct chardev *const all[] = {b->serial, b->console, b->debug_console};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (all[i])
			chardev_flush(all[i]);
}

void backends_console_resized(struct backends *b)
{
	if (b->console)
		chardev_update_size(b->console);
	if (b->serial)
		chardev_update_size(b->serial);
}

/* --- taps ------------------------------------------------------------------------------------- */

struct tap *backends_tap(struct backends *b, const char *id)
{
	struct list *node;

	list_for_each (node, &b->taps) {
		struct backend_tap *t = container_of(node, struct backend_tap, node);

		if (!strcmp(t->id, id))
			return &t->tap;
	}
	return NULL;
}

static int open_tap(struct backends *b, const struct net_config *net, struct err *err)
{
	uint8_t host_mac[6];
	struct tap_params params = {
		.name = net->tap,
		.fds = net->fds,
		.num_queues = net->num_queues / 2,
		.ip = net->ip,
		.mask = net->mask,
		.mtu = net->has_mtu ? net->mtu : 0,
		.vnet_hdr_len = VNET_HDR_LEN,
	};
	struct backend_tap *t;
	int r;

	if (net->host_mac) {
		r = vm_config_parse_mac(net->host_mac, host_mac);
		if (r < 0)
			return err_set_kind(err, ERR_BAD_REQUEST, r,
					    "host_mac %s is no MAC address", net->host_mac);
		params.host_mac = host_mac;
	}
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(err, -ENOMEM, "out of memory");
	snprintf(t->id, sizeof(t->id), "%s", net->pci.id);
	r = tap_open(&params, &t->tap, err);
	if (r < 0) {
		free(t);
		return r;
	}
	list_add_tail(&b->taps, &t->node);
	return 0;
}

/* --- images ----------------------------------------------------------------------------------- */

struct block *backends_image(struct backends *b, const char *id)
{
	struct list *node;

	list_for_each (node, &b->images) {
		struct backend_image *i = container_of(node, struct backend_image, node);

		if (!strcmp(i->id, id))
			return i->block;
	}
	return NULL;
}

void backends_close_images(struct backends *b)
{
	struct list *node;

	while ((node = list_pop(&b->images))) {
		struct backend_image *i = container_of(node, struct backend_image, node);

		block_close(i->block);
		free(i);
	}
}

static int open_image(struct backends *b, const struct disk_config *disk, struct err *err)
{
	struct block_params params = {
		.path = disk->path,
		.readonly = disk->readonly,
		.direct = disk->direct,
		.sparse = disk->sparse,
		.no_io_uring = disk->disable_io_uring,
		.lock_whole = disk->lock_granularity == LOCK_GRANULARITY_FULL,
		.untyped = disk->image_type == IMAGE_TYPE_UNKNOWN,
	};
	struct backend_image *i;
	int r;

	if (!disk->path)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL, "it has no path");
	i = calloc(1, sizeof(*i));
	if (!i)
		return err_set(err, -ENOMEM, "out of memory");
	snprintf(i->id, sizeof(i->id), "%s", disk->pci.id);
	r = block_open(&params, &i->block, err);
	if (r < 0) {
		free(i);
		return r;
	}
	list_add_tail(&b->images, &i->node);
	return 0;
}

int backends_open(struct backends *b, const struct vm_config *config, struct err *err)
{
	for (size_t i = 0; i < config->num_disks; i++) {
		const struct disk_config *disk = &config->disks[i];
		int r = backends_image(b, disk->pci.id) ? 0 : open_image(b, disk, err);

		if (r < 0)
			return err_wrap(err, r, "disk %s", disk->pci.id);
	}
	for (size_t i = 0; i < config->num_net; i++) {
		const struct net_config *net = &config->net[i];
		int r = backends_tap(b, net->pci.id) ? 0 : open_tap(b, net, err);

		if (r < 0)
			return err_wrap(err, r, "network device %s", net->pci.id);
	}
	return 0;
}
