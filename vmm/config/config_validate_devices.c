/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for the devices, kind by kind. */
#include "vmm/config/config_validate.h"

#include <ctype.h>
#include <linux/if.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define QUEUE_SIZE_MAX 32768
#define SERIAL_MAX     20
#define FS_TAG_MAX     36
#define MTU_MIN	       1280

static int validate_socket(const char *path, const char *where, struct err *err)
{
	if (!path || !*path)
		return CONFIG_BAD(err, "%s: the socket's path is missing", where);
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return CONFIG_BAD(err, "%s: the socket's path is longer than %zu bytes", where,
				  sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
	return 0;
}

static int validate_list_socket(const char *path, const char *list, size_t i, struct err *err)
{
	char where[64];

	snprintf(where, sizeof(where), "%s[%zu]", list, i);
	return validate_socket(path, where, err);
}

static int validate_queue_size(uint16_t size, const char *list, size_t i, struct err *err)
{
	if (!is_power_of_two(size) || size > QUEUE_SIZE_MAX)
		return CONFIG_BAD(err, "%s[%zu].queue_size: %u is no power of two up to %d", list,
				  i, size, QUEUE_SIZE_MAX);
	return 0;
}

static int require_shared(const struct vm_config *config, const char *list, size_t i,
			  struct err *err)
{
	if (!vm_config_memory_is_shared(config))
		return CONFIG_BAD(err, "%s[%zu]: needs memory that is shared or of huge pages",
				  list, i);
	return 0;
}

/* What a vhost-user disk and network device have in common. */
static int validate_vhost_user(const struct vm_config *config, const char *socket, bool limited,
			       bool iommu, const char *list, size_t i, struct err *err)
{
	int r = validate_list_socket(socket, list, i, err);

	if (r == 0)
		r = require_shared(config, list, i, err);
	if (r == 0 && limited)
		r = CONFIG_BAD(err, "%s[%zu]: a vhost-user device cannot be rate limited here",
			       list, i);
	if (r == 0 && iommu)
		r = CONFIG_BAD(err, "%s[%zu].iommu: a vhost-user device cannot be behind the IOMMU",
			       list, i);
	return r;
}

/* --- rate limits ------------------------------------------------------------------------------ */

static int validate_bucket(const struct token_bucket_config *b, const char *list, size_t i,
			   struct err *err)
{
	if (b && !b->size != !b->refill_time)
		return CONFIG_BAD(err, "%s[%zu]: a rate limit needs both size and refill_time",
				  list, i);
	return 0;
}

static int validate_limiter(const struct rate_limiter_config *limiter, const char *list, size_t i,
			    struct err *err)
{
	int r = limiter ? validate_bucket(limiter->bandwidth, list, i, err) : 0;

	return limiter && r == 0 ? validate_bucket(limiter->ops, list, i, err) : r;
}

int config_validate_rate_limit_groups(const struct vm_config *config, struct err *err)
{
	for (size_t i = 0; i < config->num_rate_limit_groups; i++) {
		const struct rate_limiter_group_config *g = &config->rate_limit_groups[i];
		int r;

		if (!g->rate_limiter_config.bandwidth && !g->rate_limiter_config.ops)
			return CONFIG_BAD(err, "rate_limit_groups[%zu]: limits nothing", i);
		r = validate_limiter(&g->rate_limiter_config, "rate_limit_groups", i, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static bool has_group(const struct vm_config *config, const char *id)
{
	for (size_t i = 0; i < config->num_rate_limit_groups; i++) {
		if (strcmp(config->rate_limit_groups[i].id, id) == 0)
			return true;
	}
	return false;
}

/* --- disks ------------------------------------------------------------------------------------ */

static int validate_disk_source(const struct vm_config *config, const struct disk_config *d,
				size_t i, struct err *err)
{
	if (d->path && d->vhost_socket)
		return CONFIG_BAD(err, "disks[%zu]: path and vhost_socket exclude each other", i);
	if (d->vhost_user)
		return validate_vhost_user(config, d->vhost_socket,
					   d->rate_limiter_config || d->rate_limit_group,
					   d->pci.iommu, "disks", i, err);
	if (d->vhost_socket)
		return CONFIG_BAD(err, "disks[%zu].vhost_socket: is given without vhost_user", i);
	if (!d->path || !*d->path)
		return CONFIG_BAD(err, "disks[%zu].path: is missing", i);
	return 0;
}

static int validate_disk_queues(const struct vm_config *config, const struct disk_config *d,
				size_t i, struct err *err)
{
	if (d->num_queues == 0 || d->num_queues > config->cpus.boot_vcpus)
		return CONFIG_BAD(err,
				  "disks[%zu].num_queues: %u is not within 1 to boot_vcpus (%u)", i,
				  d->num_queues, config->cpus.boot_vcpus);
	if (d->queue_size <= 2)
		return CONFIG_BAD(err, "disks[%zu].queue_size: %u is too small", i, d->queue_size);
	for (size_t k = 0; k < d->num_queue_affinity; k++) {
		const struct queue_affinity_config *a = &d->queue_affinity[k];

		if (a->queue_index >= d->num_queues)
			return CONFIG_BAD(err,
					  "disks[%zu].queue_affinity[%zu]: there is no queue %u", i,
					  k, a->queue_index);
		if (a->num_host_cpus == 0)
			return CONFIG_BAD(err, "disks[%zu].queue_affinity[%zu]: names no host CPU",
					  i, k);
		for (size_t n = 0; n < a->num_host_cpus; n++) {
			if (a->host_cpus[n] >= CONFIG_MAX_HOST_CPUS)
				return CONFIG_BAD(err,
						  "disks[%zu].queue_affinity[%zu]: no host CPU %u",
						  i, k, a->host_cpus[n]);
		}
	}
	return validate_queue_size(d->queue_size, "disks", i, err);
}

static int validate_disk(const struct vm_config *config, size_t i, struct err *err)
{
	const struct disk_config *d = &config->disks[i];
	int r = validate_disk_source(config, d, i, err);

	if (r == 0)
		r = validate_disk_queues(config, d, i, err);
	if (r == 0)
		r = validate_limiter(d->rate_limiter_config, "disks", i, err);
	if (r < 0)
		return r;
	if (d->rate_limiter_config && d->rate_limit_group)
		return CONFIG_BAD(err,
				  "disks[%zu]: rate_limiter_config and rate_limit_group exclude "
				  "each other",
				  i);
	if (d->rate_limit_group && !has_group(config, d->rate_limit_group))
		return CONFIG_BAD(err, "disks[%zu].rate_limit_group: there is no such group", i);
	if (d->serial && strlen(d->serial) > SERIAL_MAX)
		return CONFIG_BAD(err, "disks[%zu].serial: is longer than %d bytes", i, SERIAL_MAX);
	return 0;
}

int config_validate_disks(const struct vm_config *config, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->num_disks; i++)
		r = validate_disk(config, i, err);
	return r;
}

/* --- network ---------------------------------------------------------------------------------- */

static bool is_interface_name(const char *name)
{
	size_t n = strnlen(name, IFNAMSIZ);

	if (n == 0 || n >= IFNAMSIZ || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (size_t i = 0; i < n; i++) {
		if (name[i] == '/' || name[i] == ':' || isspace((unsigned char)name[i]))
			return false;
	}
	return true;
}

static bool fd_used_before(const struct vm_config *config, size_t i, size_t k)
{
	for (size_t a = 0; a <= i; a++) {
		for (size_t b = 0; b < (a == i ? k : config->net[a].num_fds); b++) {
			if (config->net[a].fds[b] == config->net[i].fds[k])
				return true;
		}
	}
	return false;
}

static int validate_net_fds(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *n = &config->net[i];

	if (n->num_fds == 0)
		return 0;
	if (n->num_fds > n->num_queues || n->num_fds * 2 != n->num_queues)
		return CONFIG_BAD(err,
				  "net[%zu].fds: %zu descriptors for %u queues, must be one for "
				  "each two",
				  i, n->num_fds, n->num_queues);
	for (size_t k = 0; k < n->num_fds; k++) {
		if (n->fds[k] < 0)
			return CONFIG_BAD(err, "net[%zu].fds: no descriptor came with the request",
					  i);
		if (n->fds[k] <= 2)
			return CONFIG_BAD(err, "net[%zu].fds: %d is a standard stream", i,
					  n->fds[k]);
		if (fd_used_before(config, i, k))
			return CONFIG_BAD(err, "net[%zu].fds: %d is given twice", i, n->fds[k]);
	}
	return 0;
}

static int validate_net_addresses(const struct net_config *n, size_t i, struct err *err)
{
	uint8_t mac[6];

	if (n->mask && !n->ip)
		return CONFIG_BAD(err, "net[%zu].mask: is given without ip", i);
	if (n->ip && !n->mask)
		return CONFIG_BAD(err, "net[%zu].ip: is given without mask", i);
	if (n->ip && !strchr(n->ip, ':') != !strchr(n->mask, ':'))
		return CONFIG_BAD(err, "net[%zu]: ip and mask are of different families", i);
	if (n->mac && (vm_config_parse_mac(n->mac, mac) < 0 || mac[0] & 1))
		return CONFIG_BAD(err, "net[%zu].mac: is not the address of one station", i);
	if (n->host_mac && (vm_config_parse_mac(n->host_mac, mac) < 0 || mac[0] & 1))
		return CONFIG_BAD(err, "net[%zu].host_mac: is not the address of one station", i);
	if (n->has_mtu && n->mtu < MTU_MIN)
		return CONFIG_BAD(err, "net[%zu].mtu: is %u, %d at least", i, n->mtu, MTU_MIN);
	return 0;
}

static int validate_net_queues(const struct vm_config *config, const struct net_config *n, size_t i,
			       struct err *err)
{
	if (n->num_queues < 2 || n->num_queues % 2)
		return CONFIG_BAD(err, "net[%zu].num_queues: %u is no even number from 2 on", i,
				  n->num_queues);
	if (n->num_queues / 2 > config->cpus.boot_vcpus)
		return CONFIG_BAD(err,
				  "net[%zu].num_queues: %u pairs are more than boot_vcpus (%u)", i,
				  n->num_queues / 2, config->cpus.boot_vcpus);
	return validate_queue_size(n->queue_size, "net", i, err);
}

static int validate_one_net(const struct vm_config *config, size_t i, struct err *err)
{
	const struct net_config *n = &config->net[i];
	int r = validate_net_queues(config, n, i, err);

	if (r == 0)
		r = validate_net_addresses(n, i, err);
	if (r == 0)
		r = validate_net_fds(config, i, err);
	if (r == 0)
		r = validate_limiter(n->rate_limiter_config, "net", i, err);
	if (r == 0 && n->vhost_user)
		r = validate_vhost_user(config, n->vhost_socket, n->rate_limiter_config,
					n->pci.iommu, "net", i, err);
	if (r < 0)
		return r;
	if (n->vhost_socket && !n->vhost_user)
		return CONFIG_BAD(err, "net[%zu].vhost_socket: is given without vhost_user", i);
	if (n->tap && !is_interface_name(n->tap))
		return CONFIG_BAD(err, "net[%zu].tap: is no name of a network interface", i);
	if ((n->offload_tso || n->offload_ufo) && !n->offload_csum)
		return CONFIG_BAD(err, "net[%zu]: offload_tso and offload_ufo need offload_csum",
				  i);
	return 0;
}

int config_validate_net(const struct vm_config *config, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->num_net; i++)
		r = validate_one_net(config, i, err);
	return r;
}

/* --- consoles --------------------------------------------------------------------------------- */

static int validate_console(enum console_mode mode, const char *file, const char *socket,
			    const char *name, struct err *err)
{
	if (mode == CONSOLE_MODE_FILE && (!file || !*file))
		return CONFIG_BAD(err, "%s.file: is missing for mode File", name);
	if (mode == CONSOLE_MODE_SOCKET && (!socket || !*socket))
		return CONFIG_BAD(err, "%s.socket: is missing for mode Socket", name);
	if (mode == CONSOLE_MODE_SOCKET &&
	    strlen(socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return CONFIG_BAD(err, "%s.socket: is too long for a socket's path", name);
	return 0;
}

int config_validate_consoles(const struct vm_config *config, struct err *err)
{
	const struct serial_config *s = &config->serial;
	const struct console_config *c = &config->console;
	const struct debug_console_config *d = &config->debug_console;
	int r = validate_console(s->mode, s->file, s->socket, "serial", err);

	if (r == 0)
		r = validate_console(c->mode, c->file, c->socket, "console", err);
	if (r == 0 && d->mode == CONSOLE_MODE_SOCKET)
		return CONFIG_BAD(err, "debug_console.mode: cannot be Socket");
	return r < 0 ? r : validate_console(d->mode, d->file, NULL, "debug_console", err);
}

/* --- other virtio devices --------------------------------------------------------------------- */

static int validate_fs(const struct vm_config *config, size_t i, struct err *err)
{
	const struct fs_config *fs = &config->fs[i];
	int r = validate_list_socket(fs->socket, "fs", i, err);

	if (r == 0)
		r = require_shared(config, "fs", i, err);
	if (r == 0)
		r = validate_queue_size(fs->queue_size, "fs", i, err);
	if (r < 0)
		return r;
	if (!*fs->tag || strlen(fs->tag) > FS_TAG_MAX)
		return CONFIG_BAD(err, "fs[%zu].tag: is not 1 to %d bytes long", i, FS_TAG_MAX);
	if (fs->num_queues == 0 || fs->num_queues > config->cpus.boot_vcpus)
		return CONFIG_BAD(err, "fs[%zu].num_queues: %u is not within 1 to boot_vcpus (%u)",
				  i, fs->num_queues, config->cpus.boot_vcpus);
	return 0;
}

static int validate_generic(const struct vm_config *config, size_t i, struct err *err)
{
	const struct generic_vhost_user_config *g = &config->generic_vhost_user[i];
	int r = validate_list_socket(g->socket, "generic_vhost_user", i, err);

	if (r == 0)
		r = require_shared(config, "generic_vhost_user", i, err);
	if (r == 0 && g->num_queue_sizes == 0)
		r = CONFIG_BAD(err, "generic_vhost_user[%zu].queue_sizes: is empty", i);
	for (size_t k = 0; r == 0 && k < g->num_queue_sizes; k++)
		r = validate_queue_size(g->queue_sizes[k], "generic_vhost_user", i, err);
	if (r == 0 && (g->device_type == VIRTIO_ID_IOMMU || g->device_type == VIRTIO_ID_WATCHDOG))
		r = CONFIG_BAD(err, "generic_vhost_user[%zu].device_type: cannot be %u", i,
			       g->device_type);
	return r;
}

static int validate_vsock(const struct vsock_config *vsock, struct err *err)
{
	if (!vsock)
		return 0;
	if (vsock->cid <= 2 || vsock->cid == UINT32_MAX)
		return CONFIG_BAD(err, "vsock.cid: %u is reserved", vsock->cid);
	return validate_socket(vsock->socket, "vsock.socket", err);
}

int config_validate_virtio(const struct vm_config *config, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->num_fs; i++)
		r = validate_fs(config, i, err);
	for (size_t i = 0; r == 0 && i < config->num_generic_vhost_user; i++)
		r = validate_generic(config, i, err);
	/* Whether pmem.file is a directory, and so needs a size, its device finds out. */
	for (size_t i = 0; r == 0 && i < config->num_pmem; i++) {
		if (config->pmem[i].has_size &&
		    (!config->pmem[i].size || config->pmem[i].size % (2 * MIB)))
			r = CONFIG_BAD(err, "pmem[%zu].size: is no multiple of 2 MiB", i);
	}
	for (size_t i = 0; r == 0 && i < config->num_vdpa; i++) {
		if (!*config->vdpa[i].path || config->vdpa[i].num_queues == 0)
			r = CONFIG_BAD(err, "vdpa[%zu]: has no path or no queue", i);
	}
	if (r == 0 && config->balloon &&
	    config->balloon->size >= config_memory_total(&config->memory))
		r = CONFIG_BAD(err, "balloon.size: leaves nothing of the guest's memory");
	if (r == 0 && config->ivshmem && !is_power_of_two(config->ivshmem->size))
		r = CONFIG_BAD(err, "ivshmem.size: is no power of two");
	if (r == 0 && (!config->rng.src || !*config->rng.src))
		r = CONFIG_BAD(err, "rng.src: is empty");
	if (r == 0 && config->tpm)
		r = validate_socket(config->tpm->socket, "tpm.socket", err);
	return r < 0 ? r : validate_vsock(config->vsock, err);
}

/* --- devices from elsewhere ------------------------------------------------------------------- */

static int validate_device(const struct vm_config *config, size_t i, struct err *err)
{
	const struct device_config *d = &config->devices[i];
	const struct platform_config *p = config->platform;

	if (!d->path && !d->has_fd)
		return CONFIG_BAD(err, "devices[%zu]: has neither path nor fd", i);
	if (d->path && d->has_fd)
		return CONFIG_BAD(err, "devices[%zu]: path and fd exclude each other", i);
	if (d->has_fd && (!p || !p->iommufd))
		return CONFIG_BAD(err, "devices[%zu].fd: needs platform.iommufd", i);
	if (d->has_x_nv_gpudirect_clique && p && !p->vfio_p2p_dma)
		return CONFIG_BAD(
			err, "devices[%zu].x_nv_gpudirect_clique: needs platform.vfio_p2p_dma", i);
	for (size_t k = 0; k < d->num_x_exclude_mmap_bars; k++) {
		if (d->x_exclude_mmap_bars[k] > 5)
			return CONFIG_BAD(err,
					  "devices[%zu].x_exclude_mmap_bars: there is no BAR %u", i,
					  d->x_exclude_mmap_bars[k]);
	}
	for (size_t k = 0; d->path && k < i; k++) {
		if (config->devices[k].path && strcmp(config->devices[k].path, d->path) == 0)
			return err_set_kind(err, ERR_CONFLICT, -EEXIST,
					    "devices[%zu].path: is also that of devices[%zu]", i,
					    k);
	}
	return 0;
}

int config_validate_passthrough(const struct vm_config *config, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < config->num_devices; i++)
		r = validate_device(config, i, err);
	for (size_t i = 0; r == 0 && i < config->num_user_devices; i++) {
		const char *socket = config->user_devices[i].socket;

		r = validate_list_socket(socket, "user_devices", i, err);
		if (r == 0)
			r = require_shared(config, "user_devices", i, err);
		for (size_t k = 0; r == 0 && k < i; k++) {
			if (strcmp(config->user_devices[k].socket, socket) == 0)
				r = CONFIG_BAD(err,
					       "user_devices[%zu].socket: is also that of "
					       "user_devices[%zu]",
					       i, k);
		}
	}
	return r;
}
