/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VmConfig: everything that a client can say about a virtual machine.
 *
 * Theory of operation. The structs below are plain data; tables (config_table.h) describe each
 * member once: JSON name, command-line key, kind, bounds, default, whether this build can realise
 * it. From the tables come the JSON parser and writer, the command-line syntax, copying, freeing
 * and the check for what is not built. A configuration passes three gates:
 *
 *   vm_config_parse()            vm.create: shape, types, ranges, spelling. Nothing looks outside.
 *   vm_config_validate()         vm.boot and each vm.add-*: rules between members, limits.
 *   vm_config_check_supported()  vm.boot and each vm.add-*: names what this build cannot realise.
 *
 * Conventions of the structs: strings are malloced and owned by the struct, NULL = absent; an
 * optional number x comes with `has_x`; an object that may be absent is an owned pointer; a list is
 * an owned pointer with `num_`, NULL and 0 when absent; a member that is neither always has a value
 * (its default when the client was silent). Sizes are in bytes. File descriptors >= 0 are owned:
 * the struct's release closes them, a copy duplicates them.
 *
 * Implements the VmConfig of the Cloud Hypervisor REST API, version 0.3.0 of its OpenAPI document.
 * Nothing here is locked: a configuration belongs to one thread at a time.
 */
#ifndef VMM_CONFIG_VM_CONFIG_H
#define VMM_CONFIG_VM_CONFIG_H

#include "base/err.h"
#include "base/json.h"

struct config_table;

/* --- what all PCI devices share --------------------------------------------------------------- */

struct pci_device_config {
	char *id;   /* unique among all ids; given by vm_config_assign_ids() when absent */
	bool iommu; /* behind the virtual IOMMU */
	uint16_t pci_segment;
	bool has_pci_device_id;
	uint8_t pci_device_id; /* slot 0..31; chosen by the bus when absent */
};

/* --- processors and memory -------------------------------------------------------------------- */

enum core_scheduling { CORE_SCHEDULING_VM, CORE_SCHEDULING_VCPU, CORE_SCHEDULING_OFF };
enum cpu_profile { CPU_PROFILE_HOST };
enum hotplug_method { HOTPLUG_METHOD_ACPI, HOTPLUG_METHOD_VIRTIO_MEM };

struct cpu_topology_config {
	uint16_t threads_per_core;
	uint16_t cores_per_die;
	uint16_t dies_per_package;
	uint16_t packages;
};

struct cpu_affinity_config {
	uint32_t vcpu;
	uint32_t *host_cpus;
	size_t num_host_cpus;
};

struct cpu_features_config {
	bool amx; /* ask the host for AMX tile state and show it to the guest */
};

struct cpus_config {
	uint32_t boot_vcpus; /* default 1 */
	uint32_t max_vcpus;  /* default 1 */
	struct cpu_topology_config *topology;
	bool kvm_hyperv;
	uint8_t max_phys_bits; /* guest's physical address bits = min(host's, this); default 46 */
	struct cpu_affinity_config *affinity;
	size_t num_affinity;
	struct cpu_features_config features;
	bool nested; /* default true; false hides VMX and SVM */
	enum core_scheduling core_scheduling;
	enum cpu_profile profile;
};

struct memory_zone_config {
	char *id; /* required */
	uint64_t size;
	char *file; /* backing file or directory */
	bool mergeable;
	bool shared;
	bool hugepages;
	bool has_hugepage_size;
	uint64_t hugepage_size;
	bool has_host_numa_node;
	uint32_t host_numa_node;
	bool has_hotplug_size;
	uint64_t hotplug_size;
	bool has_hotplugged_size;
	uint64_t hotplugged_size;
	bool prefault;
	bool reserve;
};

struct memory_config {
	uint64_t size; /* default 512 MiB; 0 when zones are used */
	bool mergeable;
	enum hotplug_method hotplug_method;
	bool has_hotplug_size;
	uint64_t hotplug_size; /* room for growth beyond `size` */
	bool has_hotplugged_size;
	uint64_t hotplugged_size;
	bool shared; /* memfd or file mapping that another process can map too */
	bool hugepages;
	bool has_hugepage_size;
	uint64_t hugepage_size; /* the host's default when absent */
	bool prefault;
	bool reserve; /* map without MAP_NORESERVE */
	bool thp;     /* default true: madvise(MADV_HUGEPAGE) on anonymous memory */
	struct memory_zone_config *zones;
	size_t num_zones;
};

/* --- what to boot ----------------------------------------------------------------------------- */

struct fw_cfg_item_config {
	char *name;
	char *file;   /* either this */
	char *string; /* or that */
};

struct fw_cfg_items_config {
	struct fw_cfg_item_config *item_list;
	size_t num_item_list;
};

struct fw_cfg_config {
	bool e820, kernel, cmdline, initramfs, acpi_tables; /* each default true */
	struct fw_cfg_items_config *items;
};

struct payload_config {
	char *firmware;
	char *kernel;
	char *cmdline;
	char *initramfs;
	char *igvm;
	char *host_data;
	struct fw_cfg_config *fw_cfg_config;
};

/* --- rate limits ------------------------------------------------------------------------------ */

struct token_bucket_config {
	uint64_t size; /* tokens: bytes or operations */
	bool has_one_time_burst;
	uint64_t one_time_burst;
	uint64_t refill_time; /* milliseconds in which `size` tokens come back */
};

struct rate_limiter_config {
	struct token_bucket_config *bandwidth;
	struct token_bucket_config *ops;
};

struct rate_limiter_group_config {
	char *id; /* required */
	struct rate_limiter_config rate_limiter_config;
};

/* --- disks and network ------------------------------------------------------------------------ */

enum image_type {
	IMAGE_TYPE_UNKNOWN, /* to be found out by probing */
	IMAGE_TYPE_RAW,
	IMAGE_TYPE_QCOW2,
	IMAGE_TYPE_FIXED_VHD,
	IMAGE_TYPE_VHDX,
	IMAGE_TYPE_FLAT_VMDK,
};

enum lock_granularity { LOCK_GRANULARITY_BYTE_RANGE, LOCK_GRANULARITY_FULL };

struct queue_affinity_config {
	uint16_t queue_index;
	uint32_t *host_cpus;
	size_t num_host_cpus;
};

struct disk_config {
	struct pci_device_config pci;
	char *path;
	bool readonly;
	bool direct;	     /* O_DIRECT */
	uint32_t num_queues; /* default 1 */
	uint16_t queue_size; /* default 128 */
	bool vhost_user;
	char *vhost_socket;
	char *rate_limit_group;
	struct rate_limiter_config *rate_limiter_config;
	bool disable_io_uring;
	bool disable_aio;
	char *serial; /* at most 20 bytes */
	struct queue_affinity_config *queue_affinity;
	size_t num_queue_affinity;
	bool backing_files;
	bool sparse; /* default true: discard and write-zeroes may punch holes */
	enum image_type image_type;
	enum lock_granularity lock_granularity;
};

enum vhost_mode { VHOST_MODE_CLIENT, VHOST_MODE_SERVER };

struct net_config {
	struct pci_device_config pci;
	char *tap;
	char *ip; /* as the client wrote it; a valid IPv4 or IPv6 address */
	char *mask;
	char *mac;	/* never NULL after parsing: random and locally administered when absent */
	char *host_mac; /* NULL = leave the tap's */
	bool has_mtu;
	uint16_t mtu;
	uint32_t num_queues; /* default 2; two per queue pair */
	uint16_t queue_size; /* default 256 */
	bool vhost_user;
	char *vhost_socket;
	enum vhost_mode vhost_mode;
	int *fds; /* one tap per queue pair, owned; -1 each after JSON: to be replaced */
	size_t num_fds;
	struct rate_limiter_config *rate_limiter_config;
	bool offload_tso;  /* default true */
	bool offload_ufo;  /* default true */
	bool offload_csum; /* default true */
};

/* --- other devices ---------------------------------------------------------------------------- */

struct rng_config {
	struct pci_device_config pci;
	char *src; /* default /dev/urandom */
};

struct rtc_config { /* virtio-rtc */
	struct pci_device_config pci;
};

struct balloon_config {
	struct pci_device_config pci;
	uint64_t size;
	bool deflate_on_oom;
	bool free_page_reporting;
};

struct fs_config {
	struct pci_device_config pci;
	char *tag;
	char *socket;
	uint32_t num_queues; /* default 1 */
	uint16_t queue_size; /* default 1024 */
};

struct generic_vhost_user_config {
	struct pci_device_config pci;
	char *socket;
	uint16_t *queue_sizes;
	size_t num_queue_sizes;
	uint32_t device_type; /* virtio device id */
};

struct pmem_config {
	struct pci_device_config pci;
	char *file;
	bool has_size;
	uint64_t size;
	bool discard_writes;
};

enum console_mode {
	CONSOLE_MODE_OFF,
	CONSOLE_MODE_PTY,
	CONSOLE_MODE_TTY,
	CONSOLE_MODE_FILE,
	CONSOLE_MODE_SOCKET,
	CONSOLE_MODE_NULL,
};

struct serial_config {
	enum console_mode mode; /* default Null */
	char *file;		/* mode File; with mode Pty the shim fills in the pty's path */
	char *socket;
};

struct console_config { /* virtio-console */
	struct pci_device_config pci;
	enum console_mode mode; /* default Tty */
	char *file;
	char *socket;
};

struct debug_console_config {
	enum console_mode mode; /* default Off */
	char *file;
	bool has_iobase;
	uint16_t iobase; /* default DEBUG_CONSOLE_IOBASE */
};

#define DEBUG_CONSOLE_IOBASE 0xe9

struct device_config { /* VFIO */
	struct pci_device_config pci;
	char *path; /* in sysfs */
	bool has_fd;
	int fd; /* VFIO cdev, owned; -1 after JSON: to be replaced */
	bool has_x_nv_gpudirect_clique;
	uint8_t x_nv_gpudirect_clique;
	uint8_t *x_exclude_mmap_bars;
	size_t num_x_exclude_mmap_bars;
};

struct user_device_config { /* vfio-user */
	struct pci_device_config pci;
	char *socket;
};

struct vdpa_config {
	struct pci_device_config pci;
	char *path;
	uint32_t num_queues; /* default 1 */
};

struct vsock_config {
	struct pci_device_config pci;
	uint32_t cid;
	char *socket;
};

struct ivshmem_config {
	struct pci_device_config pci;
	char *path;
	uint64_t size; /* default 128 MiB */
};

struct pvmemcontrol_config {
	bool reserved; /* the object has no members */
};

struct tpm_config {
	char *socket;
};

/* --- topology and platform -------------------------------------------------------------------- */

struct numa_distance_config {
	uint32_t destination;
	uint8_t distance;
};

struct numa_config {
	uint32_t guest_numa_id;
	uint32_t *cpus;
	size_t num_cpus;
	struct numa_distance_config *distances;
	size_t num_distances;
	char **memory_zones;
	size_t num_memory_zones;
	uint16_t *pci_segments;
	size_t num_pci_segments;
	char *device_id; /* makes the node a generic initiator */
};

struct pci_segment_config {
	uint16_t pci_segment;
	uint32_t mmio32_aperture_weight; /* default 1 */
	uint32_t mmio64_aperture_weight; /* default 1 */
};

struct platform_config {
	uint16_t num_pci_segments; /* default 1; 1..MAX_PCI_SEGMENTS */
	uint16_t *iommu_segments;
	size_t num_iommu_segments;
	uint8_t iommu_address_width_bits; /* default 64 */
	char *system_serial_number;
	char *system_uuid;
	char **oem_strings;
	size_t num_oem_strings;
	char *system_manufacturer;
	char *system_product_name;
	char *system_version;
	char *system_family;
	char *system_sku_number;
	char *chassis_asset_tag;
	bool tdx;
	bool sev_snp;
	bool iommufd;
	bool has_iommufd_fd;
	int iommufd_fd; /* owned; -1 after JSON: to be replaced */
	bool vfio_p2p_dma;
};

#define MAX_PCI_SEGMENTS 96

struct landlock_rule_config {
	char *path;
	char *access; /* of the letters r and w */
};

/* --- the whole -------------------------------------------------------------------------------- */

struct vm_config {
	struct cpus_config cpus;
	struct memory_config memory;
	struct payload_config *payload;
	struct rate_limiter_group_config *rate_limit_groups;
	size_t num_rate_limit_groups;
	struct disk_config *disks;
	size_t num_disks;
	struct net_config *net;
	size_t num_net;
	struct rng_config rng;
	struct rtc_config *rtc;
	struct balloon_config *balloon;
	struct fs_config *fs;
	size_t num_fs;
	struct generic_vhost_user_config *generic_vhost_user;
	size_t num_generic_vhost_user;
	struct pmem_config *pmem;
	size_t num_pmem;
	struct serial_config serial;
	struct console_config console;
	struct debug_console_config debug_console;
	struct device_config *devices;
	size_t num_devices;
	struct user_device_config *user_devices;
	size_t num_user_devices;
	struct vdpa_config *vdpa;
	size_t num_vdpa;
	struct vsock_config *vsock;
	struct ivshmem_config *ivshmem;
	struct pvmemcontrol_config *pvmemcontrol;
	bool pvpanic;
	bool iommu;
	bool watchdog;
	struct numa_config *numa;
	size_t num_numa;
	struct pci_segment_config *pci_segments;
	size_t num_pci_segments;
	struct platform_config *platform;
	struct tpm_config *tpm;
	bool gdb;
	bool landlock_enable;
	struct landlock_rule_config *landlock_rules;
	size_t num_landlock_rules;
};

/*
 * Makes a configuration of defaults only (1 vCPU, 512 MiB, no payload).
 * Returns it, to be freed by vm_config_free(), or NULL when out of memory.
 */
struct vm_config *vm_config_new(void);

/* Frees all of it and closes the descriptors it owns. NULL is fine. */
void vm_config_free(struct vm_config *config);

static inline void vm_config_free_ptr_(struct vm_config **config)
{
	vm_config_free(*config);
}
#define AUTO_VM_CONFIG CLEANUP(vm_config_free_ptr_)

/* A deep copy with its own duplicates of the descriptors. Returns 0, -ENOMEM, or the errno of
 * duplicating. */
int vm_config_copy(const struct vm_config *config, struct vm_config **ret_config, struct err *err);

/*
 * Reads the body of vm.create: JSON shape, types, ranges of integers, enum spelling, members that a
 * present object must have. null counts as absent; unknown members are ignored except within a
 * rate_limiter_config. Descriptor numbers inside JSON mean nothing and become -1.
 * Returns 0 or negative errno with err set (ERR_BAD_REQUEST naming the member's path, or
 * ERR_INTERNAL for -ENOMEM); *ret_config is then untouched.
 */
int vm_config_parse(const struct json *json, struct vm_config **ret_config, struct err *err);

/* The configuration as vm.info and config.json show it: absent members left out, `iommu` left out
 * when false, descriptors as numbers. A new reference, NULL when out of memory. */
struct json *vm_config_to_json(const struct vm_config *config);

/*
 * Checks the rules between members and the limits that parsing leaves open. Looks at the host only
 * for the paths of landlock_rules.
 * Returns 0, or negative errno with err set: ERR_CONFLICT for an id or a VFIO path used twice
 * (-EEXIST), ERR_BAD_REQUEST for all else (-EINVAL).
 */
int vm_config_validate(const struct vm_config *config, struct err *err);

/*
 * Refuses what this build cannot realise, naming the member and the feature; nothing is ever
 * silently left out. Returns 0 or -EOPNOTSUPP with err set (ERR_BAD_REQUEST).
 */
int vm_config_check_supported(const struct vm_config *config, struct err *err);

/*
 * Gives an id to each disk, net, fs, generic_vhost_user, pmem, vsock, vdpa, device and user_device
 * without one, in this order, which is the order of creation: `_disk0`, `_net1`, ... The number
 * comes from *counter, one sequence for all kinds; names already taken are skipped. rng, console,
 * rtc, balloon and ivshmem keep their absence: their fixed names (`__rng`, ...) are not shown in
 * the configuration.
 * Returns 0 or -ENOMEM with err set; the ids given until then stay.
 */
int vm_config_assign_ids(struct vm_config *config, unsigned *counter, struct err *err);

/* Whether all guest memory is visible to another process: shared, hugepages, or every zone so. */
bool vm_config_memory_is_shared(const struct vm_config *config);

/*
 * Adds a device object to the list (or the single place) of its kind, found by its table, e.g.
 * &disk_config_table with a struct disk_config. The content of *obj is taken over on success and
 * *obj becomes all zero; on failure the caller keeps it.
 * Returns 0, -ENOMEM, or -EEXIST when there is one place and it is taken (vsock, balloon, ...).
 */
int vm_config_add(struct vm_config *config, const struct config_table *table, void *obj,
		  struct err *err);

/*
 * Gives a network device the taps that came with its request: `n` of them, one per queue pair, in
 * order. They replace what the list held and are taken over on success; on failure the caller keeps
 * them. Returns 0, -ENOMEM, or -EINVAL (ERR_BAD_REQUEST) when 2 * n is not num_queues.
 */
int vm_config_net_set_fds(struct net_config *net, const int *fds, size_t n, struct err *err);

/* Removes and frees the device with that id. Returns 0, or -ENOENT (ERR_NOT_FOUND). Memory zones
 * and rate-limit groups are not devices. */
int vm_config_remove_device(struct vm_config *config, const char *id, struct err *err);

/* Six bytes of "xx:xx:xx:xx:xx:xx". Returns 0 or -EINVAL. */
int vm_config_parse_mac(const char *text, uint8_t ret_mac[6]);

#endif
