/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of processors, memory, payload, platform and the topology of the machine. */
#include "vmm/config/config_fields.h"

/* --- processors ------------------------------------------------------------------------------- */

static const struct config_enum_value core_scheduling_values[] = {
	{"Vm", "vm", CORE_SCHEDULING_VM, NULL},
	{"Vcpu", "vcpu", CORE_SCHEDULING_VCPU, NULL},
	{"Off", "off", CORE_SCHEDULING_OFF, NULL},
	{0},
};

static const struct config_enum_value cpu_profile_values[] = {
	{"Host", "host", CPU_PROFILE_HOST, NULL},
	{0},
};

static const struct config_field topology_rows[] = {
	ROW(cpu_topology_config, threads_per_core, CONFIG_U16, .flags = CF_REQUIRED),
	ROW(cpu_topology_config, cores_per_die, CONFIG_U16, .flags = CF_REQUIRED),
	ROW(cpu_topology_config, dies_per_package, CONFIG_U16, .flags = CF_REQUIRED),
	ROW(cpu_topology_config, packages, CONFIG_U16, .flags = CF_REQUIRED),
};

static const struct config_table topology_table = {
	TABLE_BODY("CpuTopology", cpu_topology_config, topology_rows)};

static const struct config_field affinity_rows[] = {
	ROW(cpu_affinity_config, vcpu, CONFIG_U32, .flags = CF_REQUIRED),
	LIST(cpu_affinity_config, host_cpus, CONFIG_NUMBER_LIST, .element = CONFIG_U32,
	     .flags = CF_REQUIRED),
};

static const struct config_table affinity_table = {
	TABLE_BODY("CpuAffinity", cpu_affinity_config, affinity_rows)};

static const struct config_field features_rows[] = {
	ROW(cpu_features_config, amx, CONFIG_BOOL, .help = "AMX tiles"),
};

static const struct config_table features_table = {
	TABLE_BODY("CpuFeatures", cpu_features_config, features_rows)};

static const struct config_field cpus_rows[] = {
	ROW(cpus_config, boot_vcpus, CONFIG_U32, .key = "boot", .flags = CF_REQUIRED, .def = 1,
	    .help = "vCPUs present at boot"),
	ROW(cpus_config, max_vcpus, CONFIG_U32, .key = "max", .flags = CF_REQUIRED, .def = 1,
	    .help = "most vCPUs; the number at boot when not given"),
	ROW(cpus_config, topology, CONFIG_OBJECT_PTR, .table = &topology_table, .flags = CF_COLONS,
	    .help = "threads per core : cores per die : dies per package : packages"),
	ROW(cpus_config, kvm_hyperv, CONFIG_BOOL, .unbuilt = "Hyper-V enlightenments",
	    .help = "Hyper-V enlightenments"),
	ROW(cpus_config, max_phys_bits, CONFIG_U8, .def = 46,
	    .help = "most physical address bits that the guest sees"),
	LIST(cpus_config, affinity, CONFIG_OBJECT_LIST, .table = &affinity_table,
	     .flags = CF_TUPLES, .help = "host CPUs for each vCPU"),
	ROW(cpus_config, features, CONFIG_OBJECT, .table = &features_table, .flags = CF_WORDS,
	    .help = "optional CPU features: amx"),
	ROW(cpus_config, nested, CONFIG_BOOL, .def = true, .help = "show VMX or SVM to the guest"),
	ROW(cpus_config, core_scheduling, CONFIG_ENUM, .values = core_scheduling_values,
	    .help = "who may share a physical core"),
	ROW(cpus_config, profile, CONFIG_ENUM, .values = cpu_profile_values,
	    .help = "CPU model shown to the guest"),
};

/* `--cpus boot=4` alone means that there are never more. */
static int cpus_finish_option(void *obj, uint64_t seen, struct err *err)
{
	struct cpus_config *cpus = obj;

	if (!(seen & 1 << 1))
		cpus->max_vcpus = cpus->boot_vcpus;
	return 0;
}

const struct config_table cpus_config_table = {
	TABLE_BODY("CpusConfig", cpus_config, cpus_rows),
	.finish_option = cpus_finish_option,
};

/* --- memory ----------------------------------------------------------------------------------- */

static const struct config_enum_value hotplug_method_values[] = {
	{"Acpi", "acpi", HOTPLUG_METHOD_ACPI, NULL},
	{"VirtioMem", "virtio-mem", HOTPLUG_METHOD_VIRTIO_MEM, "virtio-mem"},
	{0},
};

static const struct config_field zone_rows[] = {
	ROW(memory_zone_config, id, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .max = 255, .help = "identifier of the zone"),
	ROW(memory_zone_config, size, CONFIG_U64,
	    .flags = CF_REQUIRED | CF_REQUIRED_OPTION | CF_SIZE, .help = "bytes at boot"),
	ROW(memory_zone_config, file, CONFIG_STRING, .help = "backing file or directory"),
	ROW(memory_zone_config, mergeable, CONFIG_BOOL, .help = "let KSM merge pages"),
	ROW(memory_zone_config, shared, CONFIG_BOOL, .help = "map shared"),
	ROW(memory_zone_config, hugepages, CONFIG_BOOL, .help = "back with huge pages"),
	OPTIONAL(memory_zone_config, hugepage_size, CONFIG_U64, .flags = CF_SIZE,
		 .help = "bytes of a huge page"),
	OPTIONAL(memory_zone_config, host_numa_node, CONFIG_U32, .help = "bind to a host node"),
	OPTIONAL(memory_zone_config, hotplug_size, CONFIG_U64, .flags = CF_SIZE,
		 .help = "room for growth"),
	OPTIONAL(memory_zone_config, hotplugged_size, CONFIG_U64, .flags = CF_SIZE,
		 .help = "bytes plugged at boot"),
	ROW(memory_zone_config, prefault, CONFIG_BOOL, .help = "touch all pages at boot"),
	ROW(memory_zone_config, reserve, CONFIG_BOOL, .help = "reserve swap space"),
};

const struct config_table memory_zone_config_table = {
	TABLE_BODY("MemoryZoneConfig", memory_zone_config, zone_rows)};

static const struct config_field memory_rows[] = {
	ROW(memory_config, size, CONFIG_U64, .flags = CF_REQUIRED | CF_SIZE, .def = 512 << 20,
	    .help = "bytes at boot; 0 with memory zones"),
	{.key = "file", .kind = CONFIG_IGNORED, .help = "accepted and without effect"},
	ROW(memory_config, mergeable, CONFIG_BOOL, .help = "let KSM merge pages"),
	ROW(memory_config, hotplug_method, CONFIG_ENUM, .values = hotplug_method_values,
	    .help = "how memory is added to a running guest"),
	OPTIONAL(memory_config, hotplug_size, CONFIG_U64, .flags = CF_SIZE,
		 .help = "room for growth"),
	OPTIONAL(memory_config, hotplugged_size, CONFIG_U64, .flags = CF_SIZE,
		 .unbuilt = "memory hotplug", .help = "bytes plugged at boot"),
	ROW(memory_config, shared, CONFIG_BOOL, .help = "map shared, for vhost-user"),
	ROW(memory_config, hugepages, CONFIG_BOOL, .help = "back with huge pages"),
	OPTIONAL(memory_config, hugepage_size, CONFIG_U64, .flags = CF_SIZE,
		 .help = "bytes of a huge page"),
	ROW(memory_config, prefault, CONFIG_BOOL, .help = "touch all pages at boot"),
	ROW(memory_config, reserve, CONFIG_BOOL, .help = "reserve swap space"),
	ROW(memory_config, thp, CONFIG_BOOL, .def = true, .help = "transparent huge pages"),
	LIST(memory_config, zones, CONFIG_OBJECT_LIST, .table = &memory_zone_config_table,
	     .max = 512, .flags = CF_NO_KEY, .unbuilt = "memory zones"),
};

const struct config_table memory_config_table = {
	TABLE_BODY("MemoryConfig", memory_config, memory_rows)};

/* --- payload ---------------------------------------------------------------------------------- */

static const struct config_field fw_cfg_item_rows[] = {
	ROW(fw_cfg_item_config, name, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .max = 55),
	ROW(fw_cfg_item_config, file, CONFIG_STRING),
	ROW(fw_cfg_item_config, string, CONFIG_STRING, .max = 65535),
};

static const struct config_table fw_cfg_item_table = {
	TABLE_BODY("FwCfgItem", fw_cfg_item_config, fw_cfg_item_rows)};

static const struct config_field fw_cfg_items_rows[] = {
	LIST(fw_cfg_items_config, item_list, CONFIG_OBJECT_LIST, .table = &fw_cfg_item_table,
	     .key = "items", .flags = CF_ITEMS, .help = "[name=..,file=..:name=..,string=..]"),
};

static const struct config_table fw_cfg_items_table = {
	TABLE_BODY("FwCfgItemList", fw_cfg_items_config, fw_cfg_items_rows)};

static const struct config_field fw_cfg_rows[] = {
	ROW(fw_cfg_config, e820, CONFIG_BOOL, .def = true, .help = "the memory map"),
	ROW(fw_cfg_config, kernel, CONFIG_BOOL, .def = true, .help = "the kernel"),
	ROW(fw_cfg_config, cmdline, CONFIG_BOOL, .def = true, .help = "its command line"),
	ROW(fw_cfg_config, initramfs, CONFIG_BOOL, .def = true, .help = "the initramfs"),
	ROW(fw_cfg_config, acpi_tables, CONFIG_BOOL, .key = "acpi_table", .def = true,
	    .help = "the ACPI tables"),
	ROW(fw_cfg_config, items, CONFIG_OBJECT_PTR, .table = &fw_cfg_items_table,
	    .key_prefix = ""),
};

const struct config_table fw_cfg_config_table = {
	TABLE_BODY("FwCfgConfig", fw_cfg_config, fw_cfg_rows)};

static const struct config_field payload_rows[] = {
	ROW(payload_config, firmware, CONFIG_STRING, .unbuilt = "booting firmware"),
	ROW(payload_config, kernel, CONFIG_STRING),
	ROW(payload_config, cmdline, CONFIG_STRING, .max = 65535),
	ROW(payload_config, initramfs, CONFIG_STRING),
	ROW(payload_config, igvm, CONFIG_STRING, .unbuilt = "IGVM payloads"),
	ROW(payload_config, host_data, CONFIG_STRING, .unbuilt = "SEV-SNP host data"),
	ROW(payload_config, fw_cfg_config, CONFIG_OBJECT_PTR, .table = &fw_cfg_config_table,
	    .unbuilt = "fw_cfg"),
};

const struct config_table payload_config_table = {
	TABLE_BODY("PayloadConfig", payload_config, payload_rows)};

/* --- topology and platform -------------------------------------------------------------------- */

static const struct config_field distance_rows[] = {
	ROW(numa_distance_config, destination, CONFIG_U32, .flags = CF_REQUIRED),
	ROW(numa_distance_config, distance, CONFIG_U8, .flags = CF_REQUIRED),
};

static const struct config_table distance_table = {
	TABLE_BODY("NumaDistance", numa_distance_config, distance_rows)};

static const struct config_field numa_rows[] = {
	ROW(numa_config, guest_numa_id, CONFIG_U32, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "number of the guest's node"),
	LIST(numa_config, cpus, CONFIG_NUMBER_LIST, .element = CONFIG_U32,
	     .help = "vCPUs of the node"),
	LIST(numa_config, distances, CONFIG_OBJECT_LIST, .table = &distance_table,
	     .flags = CF_TUPLES, .help = "distance to other nodes"),
	LIST(numa_config, memory_zones, CONFIG_STRING_LIST, .help = "memory zones of the node"),
	LIST(numa_config, pci_segments, CONFIG_NUMBER_LIST, .element = CONFIG_U16,
	     .help = "PCI segments of the node"),
	ROW(numa_config, device_id, CONFIG_STRING, .max = 255,
	    .help = "device that makes the node a generic initiator"),
};

const struct config_table numa_config_table = {TABLE_BODY("NumaConfig", numa_config, numa_rows)};

static const struct config_field pci_segment_rows[] = {
	ROW(pci_segment_config, pci_segment, CONFIG_U16, .help = "number of the segment"),
	ROW(pci_segment_config, mmio32_aperture_weight, CONFIG_U32, .def = 1,
	    .help = "share of the 32-bit address space"),
	ROW(pci_segment_config, mmio64_aperture_weight, CONFIG_U32, .def = 1,
	    .help = "share of the 64-bit address space"),
};

const struct config_table pci_segment_config_table = {
	TABLE_BODY("PciSegmentConfig", pci_segment_config, pci_segment_rows)};

#define SMBIOS_ROW(member, ...) \
	ROW(platform_config, member, CONFIG_STRING, .unbuilt = "SMBIOS tables", __VA_ARGS__)

static const struct config_field platform_rows[] = {
	ROW(platform_config, num_pci_segments, CONFIG_U16, .def = 1,
	    .unbuilt = "more than one PCI segment", .help = "number of PCI segments"),
	LIST(platform_config, iommu_segments, CONFIG_NUMBER_LIST, .element = CONFIG_U16,
	     .unbuilt = "a virtual IOMMU", .help = "segments behind the virtual IOMMU"),
	ROW(platform_config, iommu_address_width_bits, CONFIG_U8, .key = "iommu_address_width",
	    .def = 64, .unbuilt = "a virtual IOMMU", .help = "address bits of the virtual IOMMU"),
	SMBIOS_ROW(system_serial_number, .alias = "serial_number", .key_alias = "serial_number",
		   .help = "SMBIOS serial number"),
	SMBIOS_ROW(system_uuid, .alias = "uuid", .key_alias = "uuid", .help = "SMBIOS UUID"),
	LIST(platform_config, oem_strings, CONFIG_STRING_LIST, .unbuilt = "SMBIOS tables",
	     .help = "SMBIOS OEM strings"),
	SMBIOS_ROW(system_manufacturer, .help = "SMBIOS manufacturer"),
	SMBIOS_ROW(system_product_name, .help = "SMBIOS product name"),
	SMBIOS_ROW(system_version, .help = "SMBIOS version"),
	SMBIOS_ROW(system_family, .help = "SMBIOS family"),
	SMBIOS_ROW(system_sku_number, .help = "SMBIOS SKU number"),
	SMBIOS_ROW(chassis_asset_tag, .help = "SMBIOS asset tag of the chassis"),
	ROW(platform_config, tdx, CONFIG_BOOL, .unbuilt = "TDX guests", .help = "TDX guest"),
	ROW(platform_config, sev_snp, CONFIG_BOOL, .unbuilt = "SEV-SNP guests",
	    .help = "SEV-SNP guest"),
	ROW(platform_config, iommufd, CONFIG_BOOL, .unbuilt = "iommufd",
	    .help = "use iommufd for VFIO devices"),
	OPTIONAL(platform_config, iommufd_fd, CONFIG_FD, .unbuilt = "iommufd",
		 .help = "open iommufd"),
	ROW(platform_config, vfio_p2p_dma, CONFIG_BOOL, .def = true,
	    .help = "map devices' memory for each other"),
};

const struct config_table platform_config_table = {
	TABLE_BODY("PlatformConfig", platform_config, platform_rows)};

static const struct config_field landlock_rows[] = {
	ROW(landlock_rule_config, path, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .help = "existing file or directory"),
	ROW(landlock_rule_config, access, CONFIG_STRING, .flags = CF_REQUIRED | CF_REQUIRED_OPTION,
	    .max = 16, .help = "r, w or rw"),
};

const struct config_table landlock_rule_config_table = {
	TABLE_BODY("LandlockConfig", landlock_rule_config, landlock_rows)};

/* --- the whole -------------------------------------------------------------------------------- */

#define OBJECT_ROW(member, sub) ROW(vm_config, member, CONFIG_OBJECT, .table = &(sub))
#define PTR_ROW(member, sub, ...) \
	ROW(vm_config, member, CONFIG_OBJECT_PTR, .table = &(sub), __VA_ARGS__)
/* More devices than this fit no bus, and ids are looked up one by one. */
#define LIST_ROW(member, sub, ...) \
	LIST(vm_config, member, CONFIG_OBJECT_LIST, .table = &(sub), .max = 512, __VA_ARGS__)

static const struct config_field vm_rows[] = {
	OBJECT_ROW(cpus, cpus_config_table),
	OBJECT_ROW(memory, memory_config_table),
	PTR_ROW(payload, payload_config_table),
	LIST_ROW(rate_limit_groups, rate_limiter_group_config_table, .unbuilt = "rate limits"),
	LIST_ROW(disks, disk_config_table),
	LIST_ROW(net, net_config_table),
	OBJECT_ROW(rng, rng_config_table),
	PTR_ROW(rtc, rtc_config_table, .unbuilt = "virtio-rtc"),
	PTR_ROW(balloon, balloon_config_table, .unbuilt = "virtio-balloon"),
	LIST_ROW(fs, fs_config_table, .unbuilt = "virtio-fs"),
	LIST_ROW(generic_vhost_user, generic_vhost_user_config_table,
		 .unbuilt = "generic vhost-user devices"),
	LIST_ROW(pmem, pmem_config_table, .unbuilt = "virtio-pmem"),
	OBJECT_ROW(serial, serial_config_table),
	OBJECT_ROW(console, console_config_table),
	OBJECT_ROW(debug_console, debug_console_config_table),
	LIST_ROW(devices, device_config_table, .unbuilt = "VFIO devices"),
	LIST_ROW(user_devices, user_device_config_table, .unbuilt = "vfio-user devices"),
	LIST_ROW(vdpa, vdpa_config_table, .unbuilt = "vDPA devices"),
	PTR_ROW(vsock, vsock_config_table, .unbuilt = "virtio-vsock"),
	PTR_ROW(ivshmem, ivshmem_config_table, .unbuilt = "ivshmem"),
	PTR_ROW(pvmemcontrol, pvmemcontrol_config_table, .unbuilt = "pvmemcontrol"),
	ROW(vm_config, pvpanic, CONFIG_BOOL),
	ROW(vm_config, iommu, CONFIG_BOOL, .flags = CF_OMIT_FALSE, .unbuilt = "a virtual IOMMU"),
	ROW(vm_config, watchdog, CONFIG_BOOL, .unbuilt = "virtio-watchdog"),
	LIST_ROW(numa, numa_config_table, .unbuilt = "NUMA nodes"),
	LIST_ROW(pci_segments, pci_segment_config_table, .unbuilt = "PCI segment weights"),
	PTR_ROW(platform, platform_config_table),
	PTR_ROW(tpm, tpm_config_table, .unbuilt = "a TPM"),
	ROW(vm_config, gdb, CONFIG_BOOL, .flags = CF_OMIT_FALSE, .unbuilt = "the GDB stub"),
	ROW(vm_config, landlock_enable, CONFIG_BOOL, .unbuilt = "Landlock"),
	LIST_ROW(landlock_rules, landlock_rule_config_table, .unbuilt = "Landlock"),
};

const struct config_table vm_config_table = {TABLE_BODY("VmConfig", vm_config, vm_rows)};
