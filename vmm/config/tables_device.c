/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of devices. */
#include "vmm/config/config_fields.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <sys/random.h>

/* --- rate limits ------------------------------------------------------------------------------ */

static const struct config_field bucket_rows[] = {
	ROW(token_bucket_config, size, CONFIG_U64, .flags = CF_REQUIRED,
	    .help = "tokens: bytes (bw) or requests (ops)"),
	OPTIONAL(token_bucket_config, one_time_burst, CONFIG_U64,
		 .help = "tokens that are there once, at the start"),
	ROW(token_bucket_config, refill_time, CONFIG_U64, .flags = CF_REQUIRED,
	    .help = "milliseconds in which all tokens come back"),
};

static const struct config_table bucket_table = {
	TABLE_BODY("TokenBucket", token_bucket_config, bucket_rows),
	.strict = true,
};

static const struct config_field limiter_rows[] = {
	ROW(rate_limiter_config, bandwidth, CONFIG_OBJECT_PTR, .table = &bucket_table,
	    .key_prefix = "bw_"),
	ROW(rate_limiter_config, ops, CONFIG_OBJECT_PTR, .table = &bucket_table,
	    .key_prefix = "ops_"),
};

const struct config_table rate_limiter_config_table = {
	TABLE_BODY("RateLimiterConfig", rate_limiter_config, limiter_rows),
	.strict = true,
};

static const struct config_field limiter_group_rows[] = {
	ROW(rate_limiter_group_config, id, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .max = 255, .help = "identifier of the group"),
	ROW(rate_limiter_group_config, rate_limiter_config, CONFIG_OBJECT,
	    .table = &rate_limiter_config_table, .key_prefix = "", .flags = CF_REQUIRED),
};

const struct config_table rate_limiter_group_config_table = {
	TABLE_BODY("RateLimitGroupConfig", rate_limiter_group_config, limiter_group_rows)};

#define LIMITER_ROW(tag)                                                                      \
	ROW(tag, rate_limiter_config, CONFIG_OBJECT_PTR, .table = &rate_limiter_config_table, \
	    .key_prefix = "", .unbuilt = "rate limits")

/* --- disks ------------------------------------------------------------------------------------ */

static const struct config_enum_value image_type_values[] = {
	{"Raw", "raw", IMAGE_TYPE_RAW, NULL},
	{"Qcow2", "qcow2", IMAGE_TYPE_QCOW2, "qcow2 images"},
	{"FixedVhd", "vhd", IMAGE_TYPE_FIXED_VHD, "VHD images"},
	{"Vhdx", "vhdx", IMAGE_TYPE_VHDX, "VHDX images"},
	{"FlatVmdk", "vmdk", IMAGE_TYPE_FLAT_VMDK, "VMDK images"},
	{"Unknown", NULL, IMAGE_TYPE_UNKNOWN, NULL},
	{0},
};

static const struct config_enum_value lock_granularity_values[] = {
	{"ByteRange", "byte-range", LOCK_GRANULARITY_BYTE_RANGE, NULL},
	{"Full", "full", LOCK_GRANULARITY_FULL, NULL},
	{0},
};

static const struct config_field queue_affinity_rows[] = {
	ROW(queue_affinity_config, queue_index, CONFIG_U16, .flags = CF_REQUIRED),
	LIST(queue_affinity_config, host_cpus, CONFIG_NUMBER_LIST, .element = CONFIG_U32,
	     .flags = CF_REQUIRED),
};

static const struct config_table queue_affinity_table = {
	TABLE_BODY("VirtQueueAffinity", queue_affinity_config, queue_affinity_rows)};

static const struct config_field disk_rows[] = {
	PCI_ROWS(disk_config, 0),
	ROW(disk_config, path, CONFIG_STRING, .help = "image file or block device"),
	ROW(disk_config, readonly, CONFIG_BOOL, .help = "the guest may not write"),
	ROW(disk_config, direct, CONFIG_BOOL, .help = "O_DIRECT"),
	ROW(disk_config, num_queues, CONFIG_U32, .def = 1, .help = "number of virtqueues"),
	ROW(disk_config, queue_size, CONFIG_U16, .def = 128, .help = "entries of a virtqueue"),
	ROW(disk_config, vhost_user, CONFIG_BOOL, .unbuilt = "vhost-user block devices",
	    .help = "served by a vhost-user back-end"),
	ROW(disk_config, vhost_socket, CONFIG_STRING, .key = "socket",
	    .unbuilt = "vhost-user block devices", .help = "socket of the vhost-user back-end"),
	ROW(disk_config, rate_limit_group, CONFIG_STRING, .max = 255, .unbuilt = "rate limits",
	    .help = "share the limits of this group"),
	LIMITER_ROW(disk_config),
	ROW(disk_config, disable_io_uring, CONFIG_BOOL, .key = "_disable_io_uring",
	    .help = "for tests"),
	ROW(disk_config, disable_aio, CONFIG_BOOL, .key = "_disable_aio", .help = "for tests"),
	ROW(disk_config, serial, CONFIG_STRING, .max = 255, .help = "serial number, 20 bytes"),
	LIST(disk_config, queue_affinity, CONFIG_OBJECT_LIST, .table = &queue_affinity_table,
	     .flags = CF_TUPLES, .help = "host CPUs for each queue"),
	ROW(disk_config, backing_files, CONFIG_BOOL, .unbuilt = "backing files",
	    .help = "follow an image's backing files"),
	ROW(disk_config, sparse, CONFIG_BOOL, .def = true,
	    .help = "let the guest punch holes by discard"),
	ROW(disk_config, image_type, CONFIG_ENUM, .values = image_type_values,
	    .def = IMAGE_TYPE_UNKNOWN, .help = "format of the image; probed when not given"),
	ROW(disk_config, lock_granularity, CONFIG_ENUM, .values = lock_granularity_values,
	    .help = "extent of the lock on the image"),
};

const struct config_table disk_config_table = {TABLE_BODY("DiskConfig", disk_config, disk_rows)};

/* --- network ---------------------------------------------------------------------------------- */

static const struct config_enum_value vhost_mode_values[] = {
	{"Client", "client", VHOST_MODE_CLIENT, NULL},
	{"Server", "server", VHOST_MODE_SERVER, NULL},
	{0},
};

static const struct config_field net_rows[] = {
	PCI_ROWS(net_config, 0),
	ROW(net_config, tap, CONFIG_STRING, .max = 255, .help = "tap device, created if need be"),
	ROW(net_config, ip, CONFIG_STRING, .format = CONFIG_IP, .max = 63,
	    .help = "address of the tap"),
	ROW(net_config, mask, CONFIG_STRING, .format = CONFIG_IP, .max = 63,
	    .help = "network mask of the tap"),
	ROW(net_config, mac, CONFIG_STRING, .format = CONFIG_MAC, .max = 63,
	    .help = "guest's MAC address; random when not given"),
	ROW(net_config, host_mac, CONFIG_STRING, .format = CONFIG_MAC, .max = 63,
	    .help = "MAC address of the tap"),
	OPTIONAL(net_config, mtu, CONFIG_U16, .help = "MTU, 1280 or more"),
	ROW(net_config, num_queues, CONFIG_U32, .def = 2, .help = "virtqueues, two per pair"),
	ROW(net_config, queue_size, CONFIG_U16, .def = 256, .help = "entries of a virtqueue"),
	ROW(net_config, vhost_user, CONFIG_BOOL, .unbuilt = "vhost-user network devices",
	    .help = "served by a vhost-user back-end"),
	ROW(net_config, vhost_socket, CONFIG_STRING, .key = "socket",
	    .unbuilt = "vhost-user network devices", .help = "socket of the vhost-user back-end"),
	ROW(net_config, vhost_mode, CONFIG_ENUM, .values = vhost_mode_values,
	    .unbuilt = "vhost-user network devices", .help = "who listens on the socket"),
	LIST(net_config, fds, CONFIG_NUMBER_LIST, .element = CONFIG_FD, .key = "fd",
	     .help = "open taps, one per queue pair"),
	LIMITER_ROW(net_config),
	ROW(net_config, offload_tso, CONFIG_BOOL, .def = true, .help = "segmentation offload"),
	ROW(net_config, offload_ufo, CONFIG_BOOL, .def = true, .help = "UDP fragmentation offload"),
	ROW(net_config, offload_csum, CONFIG_BOOL, .def = true, .help = "checksum offload"),
};

/* A client may read the address back from vm.info, so it is fixed as soon as the object is. */
static int net_finish(void *obj, struct err *err)
{
	struct net_config *net = obj;
	uint8_t m[6];

	if (net->mac)
		return 0;
	if (getrandom(m, sizeof(m), 0) != (ssize_t)sizeof(m))
		return err_set_errno(err, -errno, "getting a random MAC address");
	m[0] = (uint8_t)((m[0] & ~1U) | 2U); /* one station, locally administered */
	if (asprintf(&net->mac, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		     m[5]) < 0) {
		net->mac = NULL;
		return err_set(err, -ENOMEM, "out of memory for a MAC address");
	}
	return 0;
}

const struct config_table net_config_table = {
	TABLE_BODY("NetConfig", net_config, net_rows),
	.finish = net_finish,
};

/* --- consoles --------------------------------------------------------------------------------- */

static const struct config_enum_value console_mode_values[] = {
	{"Off", "off", CONSOLE_MODE_OFF, NULL},
	{"Pty", "pty", CONSOLE_MODE_PTY, NULL},
	{"Tty", "tty", CONSOLE_MODE_TTY, NULL},
	{"File", NULL, CONSOLE_MODE_FILE, NULL},
	{"Socket", NULL, CONSOLE_MODE_SOCKET, NULL},
	{"Null", "null", CONSOLE_MODE_NULL, NULL},
	{0},
};

#define MODE_ROW(tag, fallback)                                                       \
	ROW(tag, mode, CONFIG_ENUM, .values = console_mode_values, .def = (fallback), \
	    .flags = CF_NO_KEY, .help = "off, null, pty or tty, without a key")

#define MODE_FILE_ROW(tag)                                                               \
	ROW(tag, file, CONFIG_STRING, .flags = CF_IMPLIES, .implied = CONSOLE_MODE_FILE, \
	    .help = "write to this file")

#define MODE_SOCKET_ROW(tag)                                                                 \
	ROW(tag, socket, CONFIG_STRING, .flags = CF_IMPLIES, .implied = CONSOLE_MODE_SOCKET, \
	    .help = "listen on this socket")

static const struct config_field serial_rows[] = {
	MODE_ROW(serial_config, CONSOLE_MODE_NULL),
	MODE_FILE_ROW(serial_config),
	MODE_SOCKET_ROW(serial_config),
};

const struct config_table serial_config_table = {
	TABLE_BODY("SerialConfig", serial_config, serial_rows),
	.bare = &serial_rows[0],
};

static const struct config_field console_rows[] = {
	MODE_ROW(console_config, CONSOLE_MODE_TTY),
	MODE_FILE_ROW(console_config),
	MODE_SOCKET_ROW(console_config),
	PCI_ROWS(console_config, 0),
};

const struct config_table console_config_table = {
	TABLE_BODY("ConsoleConfig", console_config, console_rows),
	.bare = &console_rows[0],
};

static const struct config_field debug_console_rows[] = {
	MODE_ROW(debug_console_config, CONSOLE_MODE_OFF),
	MODE_FILE_ROW(debug_console_config),
	OPTIONAL(debug_console_config, iobase, CONFIG_U16, .flags = CF_HEX,
		 .help = "I/O port, 0xe9 when not given"),
};

const struct config_table debug_console_config_table = {
	TABLE_BODY("DebugConsoleConfig", debug_console_config, debug_console_rows),
	.bare = &debug_console_rows[0],
};

/* --- other virtio devices --------------------------------------------------------------------- */

static const struct config_field rng_rows[] = {
	PCI_ROWS(rng_config, 0),
	ROW(rng_config, src, CONFIG_STRING, .def_string = "/dev/urandom",
	    .help = "source of random bytes"),
};

const struct config_table rng_config_table = {TABLE_BODY("RngConfig", rng_config, rng_rows)};

static const struct config_field rtc_rows[] = {
	PCI_ROWS(rtc_config, 0),
};

const struct config_table rtc_config_table = {TABLE_BODY("RtcConfig", rtc_config, rtc_rows)};

static const struct config_field balloon_rows[] = {
	PCI_ROWS(balloon_config, 0),
	ROW(balloon_config, size, CONFIG_U64, .flags = CF_REQUIRED | CF_SIZE,
	    .help = "bytes taken from the guest"),
	ROW(balloon_config, deflate_on_oom, CONFIG_BOOL,
	    .help = "give memory back when the guest runs out"),
	ROW(balloon_config, free_page_reporting, CONFIG_BOOL,
	    .help = "let the guest report free pages"),
};

const struct config_table balloon_config_table = {
	TABLE_BODY("BalloonConfig", balloon_config, balloon_rows)};

static const struct config_field fs_rows[] = {
	PCI_ROWS(fs_config, CF_NO_KEY),
	ROW(fs_config, tag, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION, .max = 255,
	    .help = "name by which the guest mounts it"),
	ROW(fs_config, socket, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "socket of virtiofsd"),
	ROW(fs_config, num_queues, CONFIG_U32, .def = 1, .help = "number of request queues"),
	ROW(fs_config, queue_size, CONFIG_U16, .def = 1024, .help = "entries of a virtqueue"),
};

const struct config_table fs_config_table = {TABLE_BODY("FsConfig", fs_config, fs_rows)};

static const struct config_enum_value virtio_type_values[] = {
	{"net", "net", VIRTIO_ID_NET, NULL},
	{"block", "block", VIRTIO_ID_BLOCK, NULL},
	{"console", "console", VIRTIO_ID_CONSOLE, NULL},
	{"rng", "rng", VIRTIO_ID_RNG, NULL},
	{"balloon", "balloon", VIRTIO_ID_BALLOON, NULL},
	{"scsi", "scsi", VIRTIO_ID_SCSI, NULL},
	{"9p", "9p", VIRTIO_ID_9P, NULL},
	{"gpu", "gpu", VIRTIO_ID_GPU, NULL},
	{"input", "input", VIRTIO_ID_INPUT, NULL},
	{"vsock", "vsock", VIRTIO_ID_VSOCK, NULL},
	{"crypto", "crypto", VIRTIO_ID_CRYPTO, NULL},
	{"mem", "mem", VIRTIO_ID_MEM, NULL},
	{"sound", "sound", VIRTIO_ID_SOUND, NULL},
	{"fs", "fs", VIRTIO_ID_FS, NULL},
	{"pmem", "pmem", VIRTIO_ID_PMEM, NULL},
	{0},
};

static const struct config_field generic_vhost_user_rows[] = {
	PCI_ROWS(generic_vhost_user_config, CF_NO_KEY),
	ROW(generic_vhost_user_config, socket, CONFIG_STRING,
	    .flags = CF_REQUIRED | CF_REQUIRED_OPTION, .help = "socket of the back-end"),
	LIST(generic_vhost_user_config, queue_sizes, CONFIG_NUMBER_LIST, .element = CONFIG_U16,
	     .flags = CF_REQUIRED | CF_REQUIRED_OPTION, .help = "entries of each virtqueue"),
	ROW(generic_vhost_user_config, device_type, CONFIG_U32, .key_alias = "virtio_id",
	    .flags = CF_REQUIRED | CF_REQUIRED_OPTION, .values = virtio_type_values,
	    .help = "virtio device type, a number or a name"),
};

const struct config_table generic_vhost_user_config_table = {
	TABLE_BODY("GenericVhostUserConfig", generic_vhost_user_config, generic_vhost_user_rows)};

static const struct config_field pmem_rows[] = {
	PCI_ROWS(pmem_config, 0),
	ROW(pmem_config, file, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "backing file or directory"),
	OPTIONAL(pmem_config, size, CONFIG_U64, .flags = CF_SIZE, .help = "bytes"),
	ROW(pmem_config, discard_writes, CONFIG_BOOL, .help = "keep writes from the file"),
};

const struct config_table pmem_config_table = {TABLE_BODY("PmemConfig", pmem_config, pmem_rows)};

static const struct config_field vsock_rows[] = {
	PCI_ROWS(vsock_config, 0),
	ROW(vsock_config, cid, CONFIG_U32, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "the guest's context id, 3 or more"),
	ROW(vsock_config, socket, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "socket on the host"),
};

const struct config_table vsock_config_table = {
	TABLE_BODY("VsockConfig", vsock_config, vsock_rows)};

/* --- devices from elsewhere ------------------------------------------------------------------- */

static const struct config_field device_rows[] = {
	PCI_ROWS(device_config, 0),
	ROW(device_config, path, CONFIG_STRING, .help = "the device in sysfs"),
	OPTIONAL(device_config, fd, CONFIG_FD, .help = "or its open VFIO descriptor"),
	OPTIONAL(device_config, x_nv_gpudirect_clique, CONFIG_U8, .help = "GPUDirect P2P clique"),
	LIST(device_config, x_exclude_mmap_bars, CONFIG_NUMBER_LIST, .element = CONFIG_U8,
	     .help = "BARs that are not mapped into the guest"),
};

const struct config_table device_config_table = {
	TABLE_BODY("DeviceConfig", device_config, device_rows)};

static const struct config_field user_device_rows[] = {
	PCI_ROWS(user_device_config, CF_NO_KEY),
	ROW(user_device_config, socket, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "socket of the vfio-user device"),
};

const struct config_table user_device_config_table = {
	TABLE_BODY("UserDeviceConfig", user_device_config, user_device_rows)};

static const struct config_field vdpa_rows[] = {
	PCI_ROWS(vdpa_config, 0),
	ROW(vdpa_config, path, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "vhost-vdpa character device"),
	ROW(vdpa_config, num_queues, CONFIG_U32, .def = 1, .help = "number of virtqueues"),
};

const struct config_table vdpa_config_table = {TABLE_BODY("VdpaConfig", vdpa_config, vdpa_rows)};

static const struct config_field ivshmem_rows[] = {
	PCI_ROWS(ivshmem_config, CF_NO_KEY),
	ROW(ivshmem_config, path, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "backing file"),
	ROW(ivshmem_config, size, CONFIG_U64, .flags = CF_SIZE, .def = 128 << 20, .help = "bytes"),
};

const struct config_table ivshmem_config_table = {
	TABLE_BODY("IvshmemConfig", ivshmem_config, ivshmem_rows)};

const struct config_table pvmemcontrol_config_table = {
	.name = "PvmemcontrolConfig",
	.size = sizeof(struct pvmemcontrol_config),
};

static const struct config_field tpm_rows[] = {
	ROW(tpm_config, socket, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "socket of swtpm"),
};

const struct config_table tpm_config_table = {TABLE_BODY("TpmConfig", tpm_config, tpm_rows)};
