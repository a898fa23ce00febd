/* SPDX-License-Identifier: Apache-2.0 */
/* VmConfig from JSON and back, as real clients write it. */
#include "tests/unit/config_text.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* What Kata's Go runtime sends to vm.create, debug on. */
static const char kata_go[] =
	"{'cpus':{'boot_vcpus':1,'max_vcpus':8,'kvm_hyperv':false,'nested':true,'topology':"
	"{'threads_per_core':1,'cores_per_die':8,'dies_per_package':1,'packages':1}},"
	"'memory':{'size':2147483648,'hotplug_size':33554432000,'hotplug_method':'Acpi','shared':"
	"true,'hugepages':false,'mergeable':false,'prefault':false,'thp':true,'reserve':false},"
	"'payload':{'kernel':'/opt/kata/vmlinux','cmdline':'root=/dev/vda1 panic=1'},"
	"'platform':{'num_pci_segments':2,'tdx':false,'sev_snp':false},"
	"'disks':[{'path':'/opt/kata/kata.img','readonly':true,'image_type':'Raw','num_queues':1,"
	"'queue_size':128,'direct':false,'iommu':false,'vhost_user':false,'backing_files':false,"
	"'sparse':true,'rate_limiter_config':{'bandwidth':{'size':1000,'refill_time':100,"
	"'one_time_burst':0}}}],"
	"'fs':[{'tag':'kataShared','socket':'/run/vc/virtiofsd.sock','num_queues':1,'queue_size':"
	"1024,'pci_segment':1}],"
	"'vsock':{'cid':3,'socket':'/run/vc/clh.sock','iommu':false},"
	"'rng':{'src':'/dev/urandom','iommu':false},"
	"'balloon':{'size':0,'free_page_reporting':true,'deflate_on_oom':false},"
	"'serial':{'mode':'Tty'},'console':{'mode':'Off'},"
	"'devices':[{'path':'/sys/bus/pci/devices/0000:01:00.0','iommu':false,'id':'kata0'}],"
	"'iommu':false,'watchdog':false,'pvpanic':false,'landlock_enable':false}";

/* Its template: no size, one zone. */
static const char kata_template[] =
	"{'cpus':{'boot_vcpus':1,'max_vcpus':1},'memory':{'size':0,'zones':[{'id':'mem0','size':"
	"268435456,'file':'/run/vc/template/memory','shared':true}]},"
	"'payload':{'kernel':'/k','initramfs':'/i'},'vsock':{'cid':3,'socket':'/s'}}";

/* Kata's runtime-rs: absent members as null. */
static const char kata_rust[] =
	"{'cpus':{'boot_vcpus':2,'max_vcpus':4,'topology':null,'kvm_hyperv':false,"
	"'max_phys_bits':46,'affinity':null,'features':{'amx':false}},"
	"'memory':{'size':536870912,'mergeable':false,'hotplug_method':'Acpi','hotplug_size':"
	"1075838976,'hotplugged_size':null,'shared':true,'hugepages':false,'hugepage_size':null,"
	"'prefault':false,'zones':null,'thp':true},"
	"'payload':{'firmware':null,'kernel':'/opt/vmlinux','cmdline':'a','initramfs':null},"
	"'disks':[{'path':'/img','readonly':true,'direct':false,'iommu':false,'num_queues':1,"
	"'queue_size':128,'vhost_user':false,'vhost_socket':null,'rate_limiter_config':null,"
	"'id':null,'disable_io_uring':false,'pci_segment':0,'sparse':true,"
	"'image_type':'Unknown'}],"
	"'net':null,'rng':{'src':'/dev/urandom','iommu':false},'balloon':null,'fs':null,"
	"'pmem':null,'serial':{'file':null,'mode':'Off','iommu':false},"
	"'console':{'file':null,'mode':'Tty','iommu':false},'devices':null,'user_devices':null,"
	"'vdpa':null,'vsock':{'cid':3,'socket':'/run/kata/ch-vm.sock','iommu':false,'id':null,"
	"'pci_segment':0},'iommu':false,'numa':null,'watchdog':false,'platform':null}";

static const char kata_rust_net[] =
	"{'tap':null,'ip':'192.168.249.1','mask':'255.255.255.0','mac':'02:00:ca:fe:00:01',"
	"'host_mac':null,'mtu':null,'iommu':false,'num_queues':2,'queue_size':256,"
	"'vhost_user':false,'vhost_socket':null,'vhost_mode':'Client','id':null,'fds':[17],"
	"'rate_limiter_config':null,'pci_segment':0}";

/* libvirt's ch driver. */
static const char libvirt[] =
	"{'cpus':{'boot_vcpus':2,'max_vcpus':2},'memory':{'size':1073741824},"
	"'payload':{'kernel':'/boot/vmlinuz','cmdline':'console=hvc0','initramfs':'/boot/initrd'},"
	"'disks':[{'path':'/var/a.img','id':'virtio-disk0'},{'path':'/var/b.iso','readonly':true}],"
	"'devices':[{'path':'/sys/bus/pci/devices/0000:02:00.0'}],"
	"'console':{'mode':'Pty'},'serial':{'mode':'Socket','socket':'/run/s'}}";

static void defaults_are_those_of_the_interface(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{}");

	assert_int_equal(c->cpus.boot_vcpus, 1);
	assert_int_equal(c->cpus.max_vcpus, 1);
	assert_int_equal(c->cpus.max_phys_bits, 46);
	assert_true(c->cpus.nested);
	assert_int_equal(c->cpus.core_scheduling, CORE_SCHEDULING_VM);
	assert_int_equal(c->memory.size, 512 * MIB);
	assert_true(c->memory.thp);
	assert_false(c->memory.has_hotplug_size);
	assert_int_equal(c->memory.hotplug_method, HOTPLUG_METHOD_ACPI);
	assert_null(c->payload);
	assert_string_equal(c->rng.src, "/dev/urandom");
	assert_int_equal(c->serial.mode, CONSOLE_MODE_NULL);
	assert_int_equal(c->console.mode, CONSOLE_MODE_TTY);
	assert_int_equal(c->debug_console.mode, CONSOLE_MODE_OFF);
	assert_null(c->disks);
	assert_int_equal(c->num_disks, 0);
	assert_null(c->platform);
}

static void devices_have_their_defaults(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(
		"{'disks':[{'path':'/a'}],'net':[{}],'fs':[{'tag':'t','socket':'/s'}],"
		"'platform':{},'pci_segments':[{}],'vdpa':[{'path':'/v'}],'pmem':[{'file':'/p'}]}");

	assert_int_equal(c->disks[0].num_queues, 1);
	assert_int_equal(c->disks[0].queue_size, 128);
	assert_true(c->disks[0].sparse);
	assert_int_equal(c->disks[0].image_type, IMAGE_TYPE_UNKNOWN);
	assert_int_equal(c->disks[0].lock_granularity, LOCK_GRANULARITY_BYTE_RANGE);
	assert_int_equal(c->net[0].num_queues, 2);
	assert_int_equal(c->net[0].queue_size, 256);
	assert_true(c->net[0].offload_tso && c->net[0].offload_ufo && c->net[0].offload_csum);
	assert_null(c->net[0].ip);
	assert_int_equal(c->fs[0].num_queues, 1);
	assert_int_equal(c->fs[0].queue_size, 1024);
	assert_int_equal(c->platform->num_pci_segments, 1);
	assert_int_equal(c->platform->iommu_address_width_bits, 64);
	assert_true(c->platform->vfio_p2p_dma);
	assert_int_equal(c->pci_segments[0].mmio32_aperture_weight, 1);
	assert_int_equal(c->vdpa[0].num_queues, 1);
	assert_false(c->pmem[0].has_size);
}

static void serial_without_mode_parses(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{'serial':{},'console':{}}");

	assert_int_equal(c->serial.mode, CONSOLE_MODE_NULL);
	assert_int_equal(c->console.mode, CONSOLE_MODE_TTY);
}

static void a_net_without_mac_gets_a_local_unicast_one(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{'net':[{},{}]}");
	uint8_t mac[6];

	assert_int_equal(vm_config_parse_mac(c->net[0].mac, mac), 0);
	assert_int_equal(mac[0] & 3, 2);
	assert_string_not_equal(c->net[0].mac, c->net[1].mac);
}

static void kata_go_body_is_understood(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(kata_go);

	assert_int_equal(c->cpus.max_vcpus, 8);
	assert_int_equal(c->cpus.topology->cores_per_die, 8);
	assert_true(c->memory.has_hotplug_size);
	assert_int_equal(c->memory.hotplug_size, 33554432000);
	assert_int_equal(c->platform->num_pci_segments, 2);
	assert_true(c->disks[0].readonly);
	assert_int_equal(c->disks[0].rate_limiter_config->bandwidth->size, 1000);
	assert_true(c->disks[0].rate_limiter_config->bandwidth->has_one_time_burst);
	assert_null(c->disks[0].rate_limiter_config->ops);
	assert_int_equal(c->fs[0].pci.pci_segment, 1);
	assert_int_equal(c->vsock->cid, 3);
	assert_true(c->balloon->free_page_reporting);
	assert_string_equal(c->devices[0].pci.id, "kata0");
	assert_int_equal(vm_config_validate(c, NULL), 0);
}

static void kata_template_body_is_understood(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(kata_template);

	assert_int_equal(c->memory.num_zones, 1);
	assert_string_equal(c->memory.zones[0].id, "mem0");
	assert_true(vm_config_memory_is_shared(c));
	assert_int_equal(vm_config_validate(c, NULL), 0);
}

static void kata_rust_body_is_understood_and_supported_but_for_vsock(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(kata_rust);
	struct err err = ERR_INIT;

	assert_null(c->cpus.topology);
	assert_null(c->disks[0].pci.id);
	assert_int_equal(vm_config_validate(c, &err), 0);
	assert_int_equal(vm_config_check_supported(c, &err), -EOPNOTSUPP);
	assert_message_has(&err, "vsock: virtio-vsock");
}

static void libvirt_body_is_understood(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(libvirt);

	assert_int_equal(c->num_disks, 2);
	assert_int_equal(c->serial.mode, CONSOLE_MODE_SOCKET);
	assert_string_equal(c->serial.socket, "/run/s");
	assert_int_equal(c->console.mode, CONSOLE_MODE_PTY);
	assert_int_equal(vm_config_validate(c, NULL), 0);
}

static void an_object_is_parsed_alone_and_its_address_echoed(void **state)
{
	AUTO_JSON struct json *json = json_from(kata_rust_net), *out = NULL;
	struct net_config net;

	assert_int_equal(vm_config_parse_object(&net_config_table, json, &net, NULL), 0);
	assert_int_equal(net.num_fds, 1);
	assert_int_equal(net.fds[0], -1); /* the number means nothing */
	out = config_object_to_json(&net_config_table, &net);
	assert_string_equal(json_string(json_member(out, "ip")), "192.168.249.1");
	assert_string_equal(json_string(json_member(out, "mask")), "255.255.255.0");
	assert_string_equal(json_string(json_member(out, "mac")), "02:00:ca:fe:00:01");
	config_object_fini(&net_config_table, &net);
}

static void aliases_are_read_and_never_written(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c =
		config_from("{'platform':{'serial_number':'s1','uuid':'u1'}}");
	AUTO_FREE char *text = text_of(c);

	assert_string_equal(c->platform->system_serial_number, "s1");
	assert_string_equal(c->platform->system_uuid, "u1");
	assert_non_null(strstr(text, "\"system_uuid\":\"u1\""));
	assert_null(strstr(text, "\"uuid\""));
}

static void absent_members_and_false_iommu_are_left_out(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{'disks':[{'path':'/a'}],'net':null}");
	AUTO_FREE char *text = text_of(c);

	assert_null(strstr(text, "null"));
	assert_null(strstr(text, "iommu"));
	assert_null(strstr(text, "hotplug_size"));
	assert_null(strstr(text, "\"net\""));
	assert_null(strstr(text, "pci_device_id"));
	assert_non_null(strstr(text, "\"image_type\":\"Unknown\""));
	assert_non_null(strstr(text, "\"hotplug_method\":\"Acpi\""));
	assert_non_null(strstr(text, "\"max_phys_bits\":46"));
	assert_non_null(strstr(text, "\"mode\":\"Tty\""));
}

static void true_iommu_is_written(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{'disks':[{'path':'/a','iommu':true}]}");
	AUTO_FREE char *text = text_of(c);

	assert_non_null(strstr(text, "\"iommu\":true"));
}

static const char everything[] =
	"{'cpus':{'boot_vcpus':4,'max_vcpus':4,'affinity':[{'vcpu':0,'host_cpus':[0,1]}],"
	"'features':{'amx':true},'core_scheduling':'Off','profile':'Host'},"
	"'memory':{'size':1048576,'shared':true,'hugepages':true,'hugepage_size':2097152,"
	"'hotplugged_size':0},"
	"'payload':{'kernel':'/k','fw_cfg_config':{'e820':false,'items':{'item_list':["
	"{'name':'n','string':'s'}]}}},"
	"'rate_limit_groups':[{'id':'g','rate_limiter_config':{'ops':{'size':1,'refill_time':2}}}],"
	"'disks':[{'id':'d','path':'/a','serial':'x','queue_affinity':[{'queue_index':0,"
	"'host_cpus':[3]}],'rate_limit_group':'g','pci_device_id':4}],"
	"'net':[{'tap':'t0','mac':'02:00:00:00:00:01','fds':[3,4],'num_queues':4,'mtu':1500}],"
	"'rtc':{},'balloon':{'size':4096},'generic_vhost_user':[{'socket':'/g','queue_sizes':[64],"
	"'device_type':26}],'pmem':[{'file':'/p','size':2097152}],"
	"'debug_console':{'mode':'File','file':'/d','iobase':1026},"
	"'devices':[{'fd':9,'x_nv_gpudirect_clique':1,'x_exclude_mmap_bars':[0,5]}],"
	"'user_devices':[{'socket':'/u'}],'vdpa':[{'path':'/v'}],"
	"'vsock':{'cid':5,'socket':'/s'},'ivshmem':{'path':'/i'},'pvmemcontrol':{},"
	"'pvpanic':true,'iommu':true,'watchdog':true,"
	"'numa':[{'guest_numa_id':0,'cpus':[0],'distances':[{'destination':1,'distance':20}],"
	"'memory_zones':['z'],'pci_segments':[0],'device_id':'d'}],"
	"'pci_segments':[{'pci_segment':0,'mmio32_aperture_weight':2}],"
	"'platform':{'oem_strings':['a','b'],'iommu_segments':[0],'iommufd':true,'iommufd_fd':5},"
	"'tpm':{'socket':'/t'},'gdb':true,'landlock_enable':true,"
	"'landlock_rules':[{'path':'/','access':'rw'}]}";

static const char *const bodies[] = {"{}", kata_go, kata_template, kata_rust, libvirt, everything};

/* It would not read back without. */
static void an_empty_list_that_must_be_there_is_written(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(
		"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'affinity':[{'vcpu':0,'host_cpus':[]}]},"
		"'disks':[{'path':'/a','queue_affinity':[{'queue_index':0,'host_cpus':[]}]}]}");
	AUTO_FREE char *text = text_of(c);
	AUTO_VM_CONFIG struct vm_config *again = config_from(text);

	assert_non_null(strstr(text, "{\"vcpu\":0,\"host_cpus\":[]}"));
	assert_int_equal(again->cpus.num_affinity, 1);
	assert_int_equal(again->disks[0].num_queue_affinity, 1);
}

static void what_is_written_reads_back_the_same(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		AUTO_VM_CONFIG struct vm_config *a = config_from(bodies[i]);
		AUTO_FREE char *first = text_of(a);
		AUTO_VM_CONFIG struct vm_config *b = config_from(first);
		AUTO_FREE char *second = text_of(b);

		assert_string_equal(first, second);
	}
}

static void a_copy_is_the_same_and_independent(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		struct vm_config *a = config_from(bodies[i]);
		AUTO_VM_CONFIG struct vm_config *b = NULL;
		AUTO_FREE char *first = text_of(a), *second = NULL;

		assert_int_equal(vm_config_copy(a, &b, NULL), 0);
		vm_config_free(a);
		second = text_of(b);
		assert_string_equal(first, second);
	}
}

static void every_member_is_carried(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from(everything);
	AUTO_FREE char *text = text_of(c);
	static const char *const parts[] = {
		"\"affinity\":[{\"vcpu\":0,\"host_cpus\":[0,1]}]",
		"\"fds\":[-1,-1]",
		"\"fd\":-1",
		"\"x_exclude_mmap_bars\":[0,5]",
		"\"item_list\":[{\"name\":\"n\",\"string\":\"s\"}]",
		"\"oem_strings\":[\"a\",\"b\"]",
		"\"pvmemcontrol\":{}",
		"\"iobase\":1026",
		"\"memory_zones\":[\"z\"]",
		"\"pci_device_id\":4",
		"\"gdb\":true",
	};

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		if (!strstr(text, parts[i]))
			fail_msg("%s is not in %s", parts[i], text);
	}
}

/* --- refusals --------------------------------------------------------------------------------- */

static const struct {
	const char *json, *message;
} refused[] = {
	{"[]", "VmConfig: expected an object, found an array"},
	{"{'cpus':{}}", "cpus.boot_vcpus: is missing"},
	{"{'cpus':{'boot_vcpus':1}}", "cpus.max_vcpus: is missing"},
	{"{'cpus':{'boot_vcpus':null,'max_vcpus':1}}", "cpus.boot_vcpus: is missing"},
	{"{'cpus':[]}", "cpus: expected an object, found an array"},
	{"{'memory':{}}", "memory.size: is missing"},
	{"{'memory':{'size':-1}}", "memory.size: -1 is not within"},
	{"{'memory':{'size':1.5}}", "memory.size: expected an integer"},
	{"{'memory':{'size':'1G'}}", "memory.size: expected an integer, found a string"},
	{"{'memory':{'size':1,'shared':1}}", "memory.shared: expected a boolean"},
	{"{'memory':{'size':1,'hotplug_method':'acpi'}}", "\"acpi\" is not one of Acpi, VirtioMem"},
	{"{'memory':{'size':1,'zones':[{'id':'a'}]}}", "memory.zones[0].size: is missing"},
	{"{'cpus':{'boot_vcpus':4294967296,'max_vcpus':1}}", "is not within 0 to 4294967295"},
	{"{'cpus':{'boot_vcpus':1,'max_vcpus':1,'max_phys_bits':256}}", "cpus.max_phys_bits: 256"},
	{"{'disks':[{},{'queue_size':'8'}]}",
	 "disks[1].queue_size: expected an integer, found a string"},
	{"{'disks':[{'queue_size':65536}]}", "disks[0].queue_size: 65536 is not within 0 to 65535"},
	{"{'disks':{}}", "disks: expected an array"},
	{"{'disks':[null]}", "disks[0]: expected an object"},
	{"{'disks':[{'path':7}]}", "disks[0].path: expected a string"},
	{"{'disks':[{'image_type':'raw'}]}", "disks[0].image_type: \"raw\" is not one of Raw"},
	{"{'disks':[{'rate_limiter_config':{'x':1}}]}",
	 "rate_limiter_config: unknown member \"x\""},
	{"{'disks':[{'rate_limiter_config':{'ops':{'size':1}}}]}", "ops.refill_time: is missing"},
	{"{'net':[{'mac':'02:00:00:00:00'}]}", "net[0].mac: \"02:00:00:00:00\" is not a MAC"},
	{"{'net':[{'mac':'02-00-00-00-00-00'}]}", "is not a MAC address"},
	{"{'net':[{'ip':'1.2.3'}]}", "net[0].ip: \"1.2.3\" is not an IPv4 or IPv6 address"},
	{"{'net':[{'fds':['a']}]}", "net[0].fds[0]: expected an integer"},
	{"{'net':[{'fds':3}]}", "net[0].fds: expected an array"},
	{"{'vsock':{'cid':3}}", "vsock.socket: is missing"},
	{"{'vsock':{'cid':4294967296,'socket':'/s'}}", "vsock.cid: 4294967296"},
	{"{'fs':[{'tag':'x'}]}", "fs[0].socket: is missing"},
	{"{'platform':{'uuid':'a','system_uuid':'b'}}", "is also given by its other name, uuid"},
	{"{'numa':[{}]}", "numa[0].guest_numa_id: is missing"},
	{"{'payload':{'kernel':true}}", "payload.kernel: expected a string"},
	{"{'serial':{'mode':'tty'}}", "serial.mode: \"tty\" is not one of Off, Pty, Tty"},
	{"{'landlock_rules':[{'path':'/'}]}", "landlock_rules[0].access: is missing"},
	{"{'numa':[{'guest_numa_id':0,'memory_zones':[1]}]}", "numa[0].memory_zones[0]: expected"},
};

static void refusals_name_the_place(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct vm_config *c = NULL;
		struct err err = ERR_INIT;

		if (parse_text(refused[i].json, &c, &err) == 0)
			fail_msg("%s was accepted", refused[i].json);
		assert_null(c);
		assert_int_equal(err.kind, ERR_BAD_REQUEST);
		assert_message_has(&err, refused[i].message);
	}
}

static void unknown_members_are_ignored(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c =
		config_from("{'future':[1,{}],'disks':[{'path':'/a','new':{'x':1}}]}");

	assert_int_equal(c->num_disks, 1);
}

static void a_refusal_of_hostile_text_is_printable(void **state)
{
	AUTO_JSON struct json *json = json_new_object(), *serial = json_new_object();
	struct vm_config *c = NULL;
	struct err err = ERR_INIT;
	char text[3000];

	memset(text, 0xc3, sizeof(text));
	for (size_t i = 1; i < sizeof(text); i += 2)
		text[i] = (char)0xa9;
	text[sizeof(text) - 2 + sizeof(text) % 2] = '\0';
	assert_int_equal(json_set(serial, "mode", json_new_string(text)), 0);
	assert_int_equal(json_set(json, "serial", TAKE(serial)), 0);
	assert_int_equal(vm_config_parse(json, &c, &err), -EINVAL);
	for (const char *p = err_message(&err, 0); *p; p++)
		assert_in_range(*p, ' ', '~');
}

static void long_strings_and_lists_are_bounded(void **state)
{
	AUTO_JSON struct json *json = json_new_object(), *disks = json_new_array();
	struct vm_config *c = NULL;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < 513; i++)
		assert_int_equal(json_append(disks, json_new_object()), 0);
	assert_int_equal(json_set(json, "disks", TAKE(disks)), 0);
	assert_int_equal(vm_config_parse(json, &c, &err), -E2BIG);
	assert_message_has(&err, "disks: has more than 512 elements");
}

/* Every member of a valid body in turn becomes a value of each other kind: an error or not, but
 * never a crash or a leak, and never a lie about which. */
static void poison(struct json *root, struct json *at)
{
	static const char *const poisons[] = {"null",  "true",	"-1",	"9223372036854775807",
					      "1e300", "''",	"[]",	"{}",
					      "[[]]",  "['x']", "[{}]", "'\\u00e9'"};

	for (struct json_iter *it = json_first(at); it; it = json_next(at, it)) {
		AUTO_FREE char *key = strdup(json_iter_key(it));
		struct json *old = json_get_ref(json_iter_value(it));

		for (size_t i = 0; i < ARRAY_SIZE(poisons); i++) {
			struct vm_config *c = NULL;
			struct err err = ERR_INIT;
			int r;

			assert_int_equal(json_set(at, key, json_from(poisons[i])), 0);
			r = vm_config_parse(root, &c, &err);
			assert_int_equal(r == 0, c != NULL);
			if (c) {
				vm_config_validate(c, &err);
				vm_config_check_supported(c, &err);
			}
			vm_config_free(c);
		}
		assert_int_equal(json_set(at, key, json_get_ref(old)), 0);
		for (size_t i = 0; json_kind(old) == JSON_ARRAY && i < json_size(old); i++)
			poison(root, json_at(old, i));
		if (json_kind(old) == JSON_OBJECT)
			poison(root, old);
		json_put(old);
	}
}

static void any_member_may_be_of_any_kind(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		AUTO_JSON struct json *json = json_from(bodies[i]);

		poison(json, json);
	}
}

/* --- ids, adding, removing -------------------------------------------------------------------- */

static void ids_come_from_one_sequence_in_order_of_creation(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c =
		config_from("{'net':[{},{'id':'n'}],'disks':[{},{'id':'_net1'},{}],"
			    "'fs':[{'tag':'t','socket':'/s'}],'vsock':{'cid':3,'socket':'/s'}}");
	unsigned counter = 0;

	assert_int_equal(vm_config_assign_ids(c, &counter, NULL), 0);
	assert_string_equal(c->disks[0].pci.id, "_disk0");
	assert_string_equal(c->disks[1].pci.id, "_net1");
	assert_string_equal(c->disks[2].pci.id, "_disk1");
	assert_string_equal(c->net[0].pci.id, "_net2");
	assert_string_equal(c->net[1].pci.id, "n");
	assert_string_equal(c->fs[0].pci.id, "_fs3");
	assert_string_equal(c->vsock->pci.id, "_vsock4");
	assert_null(c->rng.pci.id);
	assert_null(c->console.pci.id);
	assert_int_equal(counter, 5);
}

static void a_taken_name_is_skipped(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{'disks':[{'id':'_disk0'},{}]}");
	unsigned counter = 0;

	assert_int_equal(vm_config_assign_ids(c, &counter, NULL), 0);
	assert_string_equal(c->disks[1].pci.id, "_disk1");
}

static void a_device_is_added_and_removed(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{'disks':[{'id':'a'},{'id':'b'}]}");
	AUTO_JSON struct json *json = json_from("{'id':'c','path':'/c'}");
	struct disk_config disk;
	struct err err = ERR_INIT;

	assert_int_equal(vm_config_parse_object(&disk_config_table, json, &disk, NULL), 0);
	assert_int_equal(vm_config_add(c, &disk_config_table, &disk, NULL), 0);
	assert_null(disk.path);
	assert_int_equal(c->num_disks, 3);
	assert_int_equal(vm_config_remove_device(c, "b", NULL), 0);
	assert_int_equal(c->num_disks, 2);
	assert_string_equal(c->disks[1].path, "/c");
	assert_int_equal(vm_config_remove_device(c, "b", &err), -ENOENT);
	assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void a_second_vsock_is_refused_and_stays_the_callers(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{}");
	AUTO_JSON struct json *json = json_from("{'id':'v','cid':3,'socket':'/s'}");
	struct vsock_config one, two;

	assert_int_equal(vm_config_parse_object(&vsock_config_table, json, &one, NULL), 0);
	assert_int_equal(vm_config_parse_object(&vsock_config_table, json, &two, NULL), 0);
	assert_int_equal(vm_config_add(c, &vsock_config_table, &one, NULL), 0);
	assert_int_equal(vm_config_add(c, &vsock_config_table, &two, NULL), -EEXIST);
	assert_string_equal(two.socket, "/s");
	config_object_fini(&vsock_config_table, &two);
	assert_int_equal(vm_config_remove_device(c, "v", NULL), 0);
	assert_null(c->vsock);
}

static void descriptors_are_owned_and_duplicated(void **state)
{
	struct vm_config *a = config_from("{'net':[{'fds':[1]}]}");
	struct vm_config *b = NULL;
	int fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10), copied;

	assert_true(fd >= 10);
	a->net[0].fds[0] = fd;
	assert_int_equal(vm_config_copy(a, &b, NULL), 0);
	copied = b->net[0].fds[0];
	assert_true(copied > 2 && copied != fd);
	vm_config_free(a);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_true(fcntl(copied, F_GETFD) >= 0);
	vm_config_free(b);
	assert_int_equal(fcntl(copied, F_GETFD), -1);
}

static void descriptors_of_a_request_replace_the_numbers_in_it(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = config_from("{'net':[{'fds':[7],'num_queues':4}]}");
	int fds[2] = {fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10),
		      fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10)};
	struct err err = ERR_INIT;

	assert_int_equal(vm_config_net_set_fds(&c->net[0], fds, 1, &err), -EINVAL);
	assert_int_equal(err.kind, ERR_BAD_REQUEST);
	assert_int_equal(vm_config_net_set_fds(&c->net[0], fds, 2, &err), 0);
	assert_int_equal(c->net[0].num_fds, 2);
	assert_int_equal(c->net[0].fds[1], fds[1]);
}

static void tables_describe_themselves(void **state)
{
	AUTO_JSON struct json *json = config_table_describe(&vm_config_table);
	struct json *cpus;

	assert_non_null(json);
	assert_string_equal(json_string(json_member(json, "name")), "VmConfig");
	cpus = json_at(json_member(json, "fields"), 0);
	assert_string_equal(json_string(json_member(cpus, "name")), "cpus");
	assert_string_equal(json_string(json_member(json_member(cpus, "schema"), "name")),
			    "CpusConfig");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_those_of_the_interface),
		cmocka_unit_test(devices_have_their_defaults),
		cmocka_unit_test(serial_without_mode_parses),
		cmocka_unit_test(a_net_without_mac_gets_a_local_unicast_one),
		cmocka_unit_test(kata_go_body_is_understood),
		cmocka_unit_test(kata_template_body_is_understood),
		cmocka_unit_test(kata_rust_body_is_understood_and_supported_but_for_vsock),
		cmocka_unit_test(libvirt_body_is_understood),
		cmocka_unit_test(an_object_is_parsed_alone_and_its_address_echoed),
		cmocka_unit_test(aliases_are_read_and_never_written),
		cmocka_unit_test(absent_members_and_false_iommu_are_left_out),
		cmocka_unit_test(true_iommu_is_written),
		cmocka_unit_test(an_empty_list_that_must_be_there_is_written),
		cmocka_unit_test(what_is_written_reads_back_the_same),
		cmocka_unit_test(a_copy_is_the_same_and_independent),
		cmocka_unit_test(every_member_is_carried),
		cmocka_unit_test(refusals_name_the_place),
		cmocka_unit_test(unknown_members_are_ignored),
		cmocka_unit_test(a_refusal_of_hostile_text_is_printable),
		cmocka_unit_test(long_strings_and_lists_are_bounded),
		cmocka_unit_test(any_member_may_be_of_any_kind),
		cmocka_unit_test(ids_come_from_one_sequence_in_order_of_creation),
		cmocka_unit_test(a_taken_name_is_skipped),
		cmocka_unit_test(a_device_is_added_and_removed),
		cmocka_unit_test(a_second_vsock_is_refused_and_stays_the_callers),
		cmocka_unit_test(descriptors_are_owned_and_duplicated),
		cmocka_unit_test(descriptors_of_a_request_replace_the_numbers_in_it),
		cmocka_unit_test(tables_describe_themselves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
