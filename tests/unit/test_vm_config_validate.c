/* SPDX-License-Identifier: Apache-2.0 */
/* Rules between members of VmConfig, and what this build refuses to pretend. */
#include "tests/unit/config_text.h"

#include <errno.h>

/* What a case needs besides what it is about. */
#define CPUS "'cpus':{'boot_vcpus':2,'max_vcpus':2}"
#define BOOT "'payload':{'kernel':'/k'}"
#define SHM  "'memory':{'size':1048576,'shared':true}"

struct rule {
	const char *json, *message;
};

static const struct rule cpu_rules[] = {
	{"{'cpus':{'boot_vcpus':0,'max_vcpus':1}," BOOT "}", "cpus.boot_vcpus: is 0"},
	{"{'cpus':{'boot_vcpus':2,'max_vcpus':1}," BOOT "}", "cpus.max_vcpus: is 1, below"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':8193}," BOOT "}", "8192 at most"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'max_phys_bits':0}," BOOT "}", "max_phys_bits"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':4,'topology':{'threads_per_core':1,'cores_per_die':2,"
	 "'dies_per_package':1,'packages':1}}," BOOT "}",
	 "makes 2 CPUs, max_vcpus is 4"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':4,'topology':{'threads_per_core':4,'cores_per_die':1,"
	 "'dies_per_package':1,'packages':1}}," BOOT "}",
	 "threads_per_core is 4"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'topology':{'threads_per_core':0,'cores_per_die':1,"
	 "'dies_per_package':1,'packages':1}}," BOOT "}",
	 "no part may be 0"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'affinity':[{'vcpu':1,'host_cpus':[0]}]}," BOOT "}",
	 "there is no vCPU 1"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'affinity':[{'vcpu':0,'host_cpus':[]}]}," BOOT "}",
	 "names no host CPU"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'affinity':[{'vcpu':0,'host_cpus':[1]},"
	 "{'vcpu':0,'host_cpus':[1]}]}," BOOT "}",
	 "is named twice"},
};

static const struct rule memory_rules[] = {
	{"{'memory':{'size':0}," BOOT "}", "memory.size: is 0"},
	{"{'memory':{'size':4097}," BOOT "}", "no multiple of the page size"},
	{"{'memory':{'size':9223372036854771712}," BOOT "}", "more than 2^52"},
	{"{'memory':{'size':4096,'hotplug_size':9223372036854771712}," BOOT "}", "2^52"},
	{"{'memory':{'size':4096,'hotplug_size':0}," BOOT "}", "memory.hotplug_size: is 0"},
	{"{'memory':{'size':4096,'hotplugged_size':1}," BOOT "}", "above hotplug_size"},
	{"{'memory':{'size':4096,'shared':true,'mergeable':true}," BOOT "}", "memory.mergeable"},
	{"{'memory':{'size':4096,'hugepage_size':4096}," BOOT "}", "without hugepages"},
	{"{'memory':{'size':4096,'hugepages':true,'hugepage_size':5000}," BOOT "}", "no power"},
	{"{'memory':{'size':4096,'hugepages':true,'hugepage_size':2097152}," BOOT "}",
	 "no multiple of hugepage_size"},
	{"{'memory':{'size':4096,'zones':[{'id':'z','size':4096}]}," BOOT "}",
	 "must be 0 when there are zones"},
	{"{'memory':{'size':0,'zones':[{'id':'z','size':0}]}," BOOT "}", "memory.zones[0].size"},
	{"{'memory':{'size':0,'zones':[{'id':'z','size':4096,'hotplug_size':4096}]}," BOOT "}",
	 "needs memory.hotplug_method VirtioMem"},
	{"{'memory':{'size':0,'zones':[{'id':'z','size':4096},{'id':'z','size':4096}]}," BOOT "}",
	 "is used twice"},
	{"{}", "nothing to boot"},
	{"{'payload':{'cmdline':'x'}}", "nothing to boot"},
	{"{'payload':{'kernel':'/k','firmware':'/f'}}", "exclude each other"},
	{"{'payload':{'igvm':'/k','firmware':'/f'}}", "igvm excludes"},
	{"{'payload':{'kernel':'/k','host_data':'00'}}", "64 hexadecimal"},
	{"{'payload':{'kernel':'/k','fw_cfg_config':{}}}", "there is no cmdline"},
	{"{'payload':{'kernel':'/k','cmdline':'','initramfs':'/i','fw_cfg_config':{'items':"
	 "{'item_list':[{'name':'a','file':'/f','string':'s'}]}}}}",
	 "either a file or a string"},
};

static const struct rule device_rules[] = {
	{"{'disks':[{}]," BOOT "}", "disks[0].path: is missing"},
	{"{'disks':[{'path':'/a','vhost_socket':'/s'}]," BOOT "}", "exclude each other"},
	{"{'disks':[{'vhost_socket':'/s'}]," BOOT "}", "without vhost_user"},
	{"{'disks':[{'vhost_user':true}]," BOOT "}", "disks[0]: the socket's path is missing"},
	{"{'disks':[{'vhost_user':true,'vhost_socket':'/s'}]," BOOT "}",
	 "needs memory that is shared"},
	{"{'disks':[{'vhost_user':true,'vhost_socket':'/s','iommu':true}]," SHM "," BOOT "}",
	 "cannot be behind the IOMMU"},
	{"{'disks':[{'path':'/a','num_queues':0}]," BOOT "}", "disks[0].num_queues"},
	{"{'disks':[{'path':'/a','num_queues':3}]," CPUS "," BOOT "}", "boot_vcpus (2)"},
	{"{'disks':[{'path':'/a','queue_size':2}]," BOOT "}", "too small"},
	{"{'disks':[{'path':'/a','queue_size':100}]," BOOT "}", "no power of two"},
	{"{'disks':[{'path':'/a','serial':'123456789012345678901'}]," BOOT "}", "20 bytes"},
	{"{'disks':[{'path':'/a','rate_limit_group':'g'}]," BOOT "}", "no such group"},
	{"{'disks':[{'path':'/a','rate_limiter_config':{'ops':{'size':5,'refill_time':0}}}]," BOOT
	 "}",
	 "needs both size and refill_time"},
	{"{'disks':[{'path':'/a','queue_affinity':[{'queue_index':1,'host_cpus':[0]}]}]," BOOT "}",
	 "there is no queue 1"},
	{"{'rate_limit_groups':[{'id':'g','rate_limiter_config':{}}]," BOOT "}", "limits nothing"},
	{"{'net':[{'num_queues':1}]," BOOT "}", "no even number"},
	{"{'net':[{'num_queues':3}]," CPUS "," BOOT "}", "no even number"},
	{"{'net':[{'num_queues':4}]," BOOT "}", "more than boot_vcpus"},
	{"{'net':[{'queue_size':3}]," BOOT "}", "no power of two"},
	{"{'net':[{'ip':'1.2.3.4'}]," BOOT "}", "without mask"},
	{"{'net':[{'mask':'255.0.0.0'}]," BOOT "}", "without ip"},
	{"{'net':[{'ip':'fe80::1','mask':'255.0.0.0'}]," BOOT "}", "different families"},
	{"{'net':[{'mac':'01:00:5e:00:00:01'}]," BOOT "}", "not the address of one station"},
	{"{'net':[{'mtu':1279}]," BOOT "}", "1280 at least"},
	{"{'net':[{'fds':[3,4]}]," BOOT "}", "2 descriptors for 2 queues"},
	{"{'net':[{'fds':[3]}]," BOOT "}", "no descriptor came"},
	{"{'net':[{'tap':'a name'}]," BOOT "}", "no name of a network interface"},
	{"{'net':[{'tap':'sixteen-bytes-xx'}]," BOOT "}", "no name of a network interface"},
	{"{'net':[{'offload_csum':false}]," BOOT "}", "need offload_csum"},
	{"{'net':[{'vhost_user':true,'vhost_socket':'/s'}]," BOOT "}", "needs memory"},
	{"{'serial':{'mode':'File'}," BOOT "}", "serial.file: is missing"},
	{"{'console':{'mode':'Socket'}," BOOT "}", "console.socket: is missing"},
	{"{'debug_console':{'mode':'Socket'}," BOOT "}", "cannot be Socket"},
	{"{'debug_console':{'mode':'File'}," BOOT "}", "debug_console.file: is missing"},
	{"{'rng':{'src':''}," BOOT "}", "rng.src"},
	{"{'balloon':{'size':536870912}," BOOT "}", "balloon.size"},
	{"{'fs':[{'tag':'t','socket':'/s'}]," BOOT "}", "fs[0]: needs memory"},
	{"{'fs':[{'tag':'','socket':'/s'}]," SHM "," BOOT "}", "fs[0].tag"},
	{"{'fs':[{'tag':'t','socket':'/s','num_queues':2}]," SHM "," BOOT "}", "fs[0].num_queues"},
	{"{'fs':[{'tag':'t','socket':'/s','iommu':true}]," SHM "," BOOT "}", "fs[0].iommu"},
	{"{'generic_vhost_user':[{'socket':'/s','queue_sizes':[],'device_type':1}]," SHM "," BOOT
	 "}",
	 "queue_sizes: is empty"},
	{"{'generic_vhost_user':[{'socket':'/s','queue_sizes':[8],'device_type':23}]," SHM "," BOOT
	 "}",
	 "device_type: cannot be 23"},
	{"{'pmem':[{'file':'/p','size':4096}]," BOOT "}", "2 MiB"},
	{"{'vdpa':[{'path':'/p','num_queues':0}]," BOOT "}", "vdpa[0]"},
	{"{'vsock':{'cid':2,'socket':'/s'}," BOOT "}", "vsock.cid: 2 is reserved"},
	{"{'vsock':{'cid':4294967295,'socket':'/s'}," BOOT "}", "is reserved"},
	{"{'ivshmem':{'path':'/i','size':3}," BOOT "}", "no power of two"},
	{"{'devices':[{}]," BOOT "}", "neither path nor fd"},
	{"{'devices':[{'path':'/d','fd':3}]," BOOT "}", "exclude each other"},
	{"{'devices':[{'fd':3}]," BOOT "}", "needs platform.iommufd"},
	{"{'devices':[{'path':'/d','x_exclude_mmap_bars':[6]}]," BOOT "}", "no BAR 6"},
	{"{'user_devices':[{'socket':'/u'}]," BOOT "}", "needs memory"},
	{"{'user_devices':[{'socket':'/u'},{'socket':'/u'}]," SHM "," BOOT "}", "is also that of"},
	{"{'landlock_rules':[{'path':'/','access':'x'}]," BOOT "}", "not made of r and w"},
	{"{'landlock_rules':[{'path':'/no/such','access':'r'}]," BOOT "}", "does not exist"},
};

static const struct rule topology_rules[] = {
	{"{'disks':[{'path':'/a','pci_segment':1}]," BOOT "}", "disks[0].pci_segment: is 1"},
	{"{'disks':[{'path':'/a','pci_device_id':0}]," BOOT "}", "0 is the host bridge"},
	{"{'disks':[{'path':'/a','pci_device_id':32}]," BOOT "}", "31 at most"},
	{"{'disks':[{'path':'/a'}],'platform':{'iommu_segments':[0]}," BOOT "}", "iommu is off"},
	{"{'disks':[{'path':'/a','id':''}]," BOOT "}", "an id is empty"},
	{"{'disks':[{'path':'/a','id':'__x'}]," BOOT "}", "reserved"},
	{"{'disks':[{'path':'/a','id':'a{b'}]," BOOT "}", "no id may have"},
	{"{'disks':[{'path':'/a','id':'a\\nb'}]," BOOT "}", "no id may have"},
	{"{'platform':{'num_pci_segments':0}," BOOT "}", "not within 1 to 96"},
	{"{'platform':{'num_pci_segments':97}," BOOT "}", "not within 1 to 96"},
	{"{'platform':{'iommu_segments':[1]}," BOOT "}", "there is no segment 1"},
	{"{'platform':{'iommu_address_width_bits':65}," BOOT "}", "64 at most"},
	{"{'platform':{'iommufd_fd':3}," BOOT "}", "without iommufd"},
	{"{'platform':{'sev_snp':true}," BOOT "}", "needs payload.igvm"},
	{"{'pci_segments':[{'pci_segment':1}]," BOOT "}", "there is no segment 1"},
	{"{'pci_segments':[{'mmio32_aperture_weight':0}]," BOOT "}", "a weight is 0"},
	{"{'numa':[{'guest_numa_id':0}]," BOOT "}", "has neither"},
	{"{'numa':[{'guest_numa_id':0,'cpus':[7]}]," BOOT "}", "there is no vCPU 7"},
	{"{'numa':[{'guest_numa_id':0,'memory_zones':['z']}]," BOOT "}", "there is no zone"},
	{"{'numa':[{'guest_numa_id':1,'cpus':[0],'pci_segments':[0]}]," BOOT "}", "to node 0"},
	{"{'numa':[{'guest_numa_id':0,'cpus':[0],'device_id':'d'}]," BOOT "}", "excludes"},
	{"{'numa':[{'guest_numa_id':0,'cpus':[0]},{'guest_numa_id':1,'cpus':[0]}]," BOOT "}",
	 "vCPU 0 is named twice"},
	{"{'memory':{'size':0,'zones':[{'id':'z','size':4096}]},"
	 "'numa':[{'guest_numa_id':0,'memory_zones':['z']},{'guest_numa_id':1,'memory_zones':"
	 "['z']}]," BOOT "}",
	 "zone \"z\" is named twice"},
};

static void check_rules(const struct rule *rules, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		AUTO_VM_CONFIG struct vm_config *c = config_from(rules[i].json);
		struct err err = ERR_INIT;

		if (vm_config_validate(c, &err) == 0)
			fail_msg("%s was accepted", rules[i].json);
		assert_message_has(&err, rules[i].message);
		assert_int_not_equal(err.kind, ERR_INTERNAL);
	}
}

static void cpus_are_checked(void **state)
{
	check_rules(cpu_rules, ARRAY_SIZE(cpu_rules));
}

static void memory_and_payload_are_checked(void **state)
{
	check_rules(memory_rules, ARRAY_SIZE(memory_rules));
}

static void devices_are_checked(void **state)
{
	check_rules(device_rules, ARRAY_SIZE(device_rules));
}

static void segments_nodes_and_ids_are_checked(void **state)
{
	check_rules(topology_rules, ARRAY_SIZE(topology_rules));
}

static void what_is_used_twice_is_a_conflict(void **state)
{
	static const char *const bodies[] = {
		"{'disks':[{'path':'/a','id':'x'}],'net':[{'id':'x'}]," BOOT "}",
		"{'rng':{'id':'x'},'console':{'id':'x'}," BOOT "}",
		"{'rate_limit_groups':[{'id':'d','rate_limiter_config':{'ops':{'size':1,"
		"'refill_time':1}}}],'disks':[{'path':'/a','id':'d'}]," BOOT "}",
		"{'devices':[{'path':'/d'},{'path':'/d'}]," BOOT "}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		AUTO_VM_CONFIG struct vm_config *c = config_from(bodies[i]);
		struct err err = ERR_INIT;

		assert_int_equal(vm_config_validate(c, &err), -EEXIST);
		assert_int_equal(err.kind, ERR_CONFLICT);
	}
}

/* Kata sends its whole list of interfaces again, so the same address twice is no error. */
static void the_same_mac_twice_is_fine(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(
		"{'net':[{'mac':'02:00:00:00:00:01'},{'mac':'02:00:00:00:00:01'}]," BOOT "}");

	assert_int_equal(vm_config_validate(c, NULL), 0);
}

static void one_descriptor_for_two_devices_is_refused(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c =
		config_from("{'net':[{'fds':[3]},{'fds':[3]}]," BOOT "}");
	struct err err = ERR_INIT;

	c->net[0].fds[0] = c->net[1].fds[0] = 77;
	assert_int_equal(vm_config_validate(c, &err), -EINVAL);
	assert_message_has(&err, "77 is given twice");
	c->net[0].fds[0] = 2;
	assert_int_equal(vm_config_validate(c, &err), -EINVAL);
	assert_message_has(&err, "standard stream");
	c->net[0].fds[0] = c->net[1].fds[0] = -1;
}

/* --- what is built ---------------------------------------------------------------------------- */

static const struct rule unbuilt[] = {
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'kvm_hyperv':true}}", "cpus.kvm_hyperv: Hyper-V"},
	{"{'memory':{'size':0,'zones':[{'id':'z','size':4096}]}}", "memory.zones: memory zones"},
	{"{'memory':{'size':4096,'hotplugged_size':0}}", "memory.hotplugged_size"},
	{"{'memory':{'size':4096,'hotplug_method':'VirtioMem'}}", "memory.hotplug_method"},
	{"{'payload':{'firmware':'/f'}}", "payload.firmware"},
	{"{'payload':{'igvm':'/f'}}", "payload.igvm"},
	{"{'payload':{'host_data':'/f'}}", "payload.host_data"},
	{"{'payload':{'fw_cfg_config':{}}}", "payload.fw_cfg_config"},
	{"{'disks':[{},{'image_type':'Qcow2'}]}", "disks[1].image_type: qcow2"},
	{"{'disks':[{'vhost_user':true}]}", "disks[0].vhost_user"},
	{"{'disks':[{'rate_limiter_config':{}}]}", "disks[0].rate_limiter_config"},
	{"{'disks':[{'backing_files':true}]}", "disks[0].backing_files"},
	{"{'disks':[{'iommu':true}]}", "disks[0].iommu"},
	{"{'disks':[{'pci_segment':1}]}", "disks[0].pci_segment"},
	{"{'net':[{'vhost_user':true}]}", "net[0].vhost_user"},
	{"{'net':[{'rate_limiter_config':{}}]}", "net[0].rate_limiter_config"},
	{"{'rng':{'iommu':true}}", "rng.iommu"},
	{"{'platform':{'num_pci_segments':2}}", "platform.num_pci_segments"},
	{"{'platform':{'uuid':'x'}}", "platform.system_uuid: SMBIOS tables"},
	{"{'platform':{'oem_strings':['x']}}", "platform.oem_strings: SMBIOS tables"},
	{"{'platform':{'tdx':true}}", "platform.tdx"},
	{"{'pci_segments':[{}]}", "pci_segments"},
	{"{'watchdog':true}", "watchdog"},
	{"{'iommu':true}", "iommu"},
	{"{'balloon':{'size':0}}", "balloon"},
	{"{'fs':[{'tag':'t','socket':'/s'}]}", "fs: virtio-fs"},
	{"{'generic_vhost_user':[{'socket':'/s','queue_sizes':[8],'device_type':1}]}",
	 "vhost-user"},
	{"{'pmem':[{'file':'/p'}]}", "pmem"},
	{"{'devices':[{}]}", "devices: VFIO"},
	{"{'user_devices':[{'socket':'/u'}]}", "user_devices"},
	{"{'vdpa':[{'path':'/u'}]}", "vdpa"},
	{"{'vsock':{'cid':3,'socket':'/s'}}", "vsock: virtio-vsock"},
	{"{'numa':[{'guest_numa_id':0}]}", "numa"},
	{"{'tpm':{'socket':'/t'}}", "tpm"},
	{"{'rtc':{}}", "rtc: virtio-rtc"},
	{"{'landlock_enable':true}", "landlock_enable"},
	{"{'ivshmem':{'path':'/i'}}", "ivshmem"},
	{"{'pvmemcontrol':{}}", "pvmemcontrol"},
	{"{'rate_limit_groups':[{'id':'g','rate_limiter_config':{}}]}", "rate_limit_groups"},
};

static void what_is_not_built_is_refused_by_name(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(unbuilt); i++) {
		AUTO_VM_CONFIG struct vm_config *c = config_from(unbuilt[i].json);
		struct err err = ERR_INIT;

		if (vm_config_check_supported(c, &err) == 0)
			fail_msg("%s was accepted", unbuilt[i].json);
		assert_int_equal(err.kind, ERR_BAD_REQUEST);
		assert_message_has(&err, unbuilt[i].message);
		assert_message_has(&err, "not supported");
	}
}

static void what_is_built_passes(void **state)
{
	static const char *const bodies[] = {
		"{" BOOT "}",
		"{'cpus':{'boot_vcpus':2,'max_vcpus':4,'topology':{'threads_per_core':2,"
		"'cores_per_die':2,'dies_per_package':1,'packages':1},'nested':false,"
		"'affinity':[{'vcpu':3,'host_cpus':[0]}],'features':{'amx':true},"
		"'core_scheduling':'Vcpu','max_phys_bits':40}," BOOT "}",
		"{'memory':{'size':2097152,'hotplug_size':2097152,'shared':true,'hugepages':true,"
		"'hugepage_size':2097152,'prefault':true,'reserve':true,'thp':false}," BOOT "}",
		"{'memory':{'size':4096,'mergeable':true}," BOOT "}",
		"{'payload':{'kernel':'/k','cmdline':'c','initramfs':'/i'}}",
		"{'disks':[{'path':'/a','image_type':'Raw','direct':true,'serial':'s','sparse':"
		"false,'queue_affinity':[{'queue_index':0,'host_cpus':[0]}],'pci_device_id':3,"
		"'lock_granularity':'Full','disable_io_uring':true}]," BOOT "}",
		"{'net':[{'tap':'t%d','ip':'10.0.0.1','mask':'255.0.0.0','mtu':9000,'host_mac':"
		"'02:00:00:00:00:09'}]," BOOT "}",
		"{'serial':{'mode':'Socket','socket':'/s'},'console':{'mode':'File','file':'/f'},"
		"'debug_console':{'mode':'Tty','iobase':1026}," BOOT "}",
		"{'platform':{'num_pci_segments':1,'tdx':false},'watchdog':false," BOOT "}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		AUTO_VM_CONFIG struct vm_config *c = config_from(bodies[i]);
		struct err err = ERR_INIT;

		if (vm_config_validate(c, &err) < 0 || vm_config_check_supported(c, &err) < 0)
			fail_msg("%s: %s", bodies[i], err_message(&err, 0));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cpus_are_checked),
		cmocka_unit_test(memory_and_payload_are_checked),
		cmocka_unit_test(devices_are_checked),
		cmocka_unit_test(segments_nodes_and_ids_are_checked),
		cmocka_unit_test(what_is_used_twice_is_a_conflict),
		cmocka_unit_test(the_same_mac_twice_is_fine),
		cmocka_unit_test(one_descriptor_for_two_devices_is_refused),
		cmocka_unit_test(what_is_not_built_is_refused_by_name),
		cmocka_unit_test(what_is_built_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
