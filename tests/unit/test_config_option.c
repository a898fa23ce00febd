/* SPDX-License-Identifier: Apache-2.0 */
/* The command line's key syntax. */
#include "tests/unit/config_text.h"

#include "base/fd.h"
#include "vmm/config/config_option.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static void parse(const struct config_table *table, const char *text, void *obj)
{
	struct err err = ERR_INIT;

	if (config_parse_option(table, text, obj, &err) < 0)
		fail_msg("%s: %s", text, err_message(&err, 0));
}

static void refuse(const struct config_table *table, const char *text, const char *message)
{
	AUTO_FREE char *obj = malloc(table->size);
	struct err err = ERR_INIT;

	memset(obj, 0xff, table->size);
	if (config_parse_option(table, text, obj, &err) == 0)
		fail_msg("%s was accepted", text);
	assert_message_has(&err, message);
	assert_int_equal(err.kind, ERR_BAD_REQUEST);
	for (size_t i = 0; i < table->size; i++)
		assert_int_equal(obj[i], 0);
}

static void cpus_are_read(void **state)
{
	struct cpus_config c;

	parse(&cpus_config_table,
	      "boot=2,max=4,topology=1:4:1:1,affinity=[0@[1-3],1@[4,6]],features=amx,"
	      "nested=off,core_scheduling=vcpu,profile=host,max_phys_bits=40,kvm_hyperv=on",
	      &c);
	assert_int_equal(c.boot_vcpus, 2);
	assert_int_equal(c.max_vcpus, 4);
	assert_int_equal(c.topology->cores_per_die, 4);
	assert_int_equal(c.num_affinity, 2);
	assert_int_equal(c.affinity[0].num_host_cpus, 3);
	assert_int_equal(c.affinity[0].host_cpus[2], 3);
	assert_int_equal(c.affinity[1].vcpu, 1);
	assert_int_equal(c.affinity[1].host_cpus[1], 6);
	assert_true(c.features.amx);
	assert_false(c.nested);
	assert_int_equal(c.core_scheduling, CORE_SCHEDULING_VCPU);
	assert_int_equal(c.max_phys_bits, 40);
	config_object_fini(&cpus_config_table, &c);
}

static void max_vcpus_follows_boot(void **state)
{
	struct cpus_config c;

	parse(&cpus_config_table, "boot=8", &c);
	assert_int_equal(c.max_vcpus, 8);
	config_object_fini(&cpus_config_table, &c);
	parse(&cpus_config_table, "max=8", &c);
	assert_int_equal(c.boot_vcpus, 1);
	assert_int_equal(c.max_vcpus, 8);
	config_object_fini(&cpus_config_table, &c);
}

static void sizes_take_binary_suffixes(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} cases[] = {{"size=512M", 512 * MIB},
		     {"size=1G", GIB},
		     {"size=4K", 4096},
		     {"size=4096", 4096},
		     {"size=\"2G\"", 2 * GIB},
		     {"", 512 * MIB},
		     {"size=1G,size=2G", 2 * GIB},
		     {"size=1G,size=", 512 * MIB}};
	struct memory_config m;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		parse(&memory_config_table, cases[i].text, &m);
		assert_int_equal(m.size, cases[i].size);
		config_object_fini(&memory_config_table, &m);
	}
	parse(&memory_config_table, "size=1G,file=/x,hotplug_method=virtio-mem,thp=OFF", &m);
	assert_int_equal(m.hotplug_method, HOTPLUG_METHOD_VIRTIO_MEM);
	assert_false(m.thp);
	config_object_fini(&memory_config_table, &m);
}

static void wrong_sizes_are_refused(void **state)
{
	static const char *const wrong[] = {"size=1T",
					    "size=1g",
					    "size=G",
					    "size=-1",
					    "size=1.5G",
					    "size=1GG",
					    "size=0x10",
					    "size=99999999999999999999",
					    "size=18014398509481984K",
					    "size=9223372036854775808"};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		refuse(&memory_config_table, wrong[i], "size: ");
}

static void booleans_are_read_in_any_case(void **state)
{
	static const struct {
		const char *text;
		bool on;
	} cases[] = {{"readonly=on", true},
		     {"readonly=TRUE", true},
		     {"readonly=Off", false},
		     {"readonly=false", false},
		     {"readonly=", false}};
	struct disk_config d;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		parse(&disk_config_table, cases[i].text, &d);
		assert_int_equal(d.readonly, cases[i].on);
		config_object_fini(&disk_config_table, &d);
	}
	refuse(&disk_config_table, "readonly=yes", "readonly: \"yes\" is not on, off");
	refuse(&disk_config_table, "readonly=1", "is not on, off");
}

static void disks_are_read(void **state)
{
	struct disk_config d;

	parse(&disk_config_table,
	      "path=\"/a,b=[c\",readonly=on,direct=on,num_queues=2,queue_size=64,"
	      "bw_size=1000,bw_refill_time=100,ops_size=5,ops_refill_time=7,ops_one_time_burst=9,"
	      "id=d0,pci_device_id=4,queue_affinity=[0@[1],1@[2-3]],serial=abc,"
	      "image_type=raw,lock_granularity=full,sparse=off,_disable_io_uring=on",
	      &d);
	assert_string_equal(d.path, "/a,b=[c");
	assert_int_equal(d.num_queues, 2);
	assert_int_equal(d.rate_limiter_config->bandwidth->size, 1000);
	assert_int_equal(d.rate_limiter_config->bandwidth->refill_time, 100);
	assert_false(d.rate_limiter_config->bandwidth->has_one_time_burst);
	assert_int_equal(d.rate_limiter_config->ops->one_time_burst, 9);
	assert_string_equal(d.pci.id, "d0");
	assert_true(d.pci.has_pci_device_id);
	assert_int_equal(d.queue_affinity[1].host_cpus[1], 3);
	assert_int_equal(d.image_type, IMAGE_TYPE_RAW);
	assert_int_equal(d.lock_granularity, LOCK_GRANULARITY_FULL);
	assert_false(d.sparse);
	assert_true(d.disable_io_uring);
	config_object_fini(&disk_config_table, &d);

	parse(&disk_config_table, "vhost_user=on,socket=/s", &d);
	assert_string_equal(d.vhost_socket, "/s");
	assert_null(d.rate_limiter_config);
	config_object_fini(&disk_config_table, &d);
}

static void an_unknown_key_is_answered_with_the_known_ones(void **state)
{
	refuse(&disk_config_table, "path=/a,paht=/b", "unknown key \"paht\"; known are: id, iommu");
	refuse(&disk_config_table, "vhost_socket=/s", "socket");
	refuse(&disk_config_table, "bw_=1", "unknown key \"bw_\"");
	refuse(&disk_config_table, "x", "bw_size, bw_one_time_burst, bw_refill_time, ops_size");
	refuse(&disk_config_table, "path", "path: needs a value");
	refuse(&serial_config_table, "tyt", "known are: off, pty, tty, null, file, socket");
	refuse(&serial_config_table, "mode=tty", "unknown key \"mode\"");
	refuse(&fs_config_table, "tag=t,socket=/s,iommu=on", "unknown key \"iommu\"");
}

static void unbalanced_text_is_refused(void **state)
{
	refuse(&disk_config_table, "path=\"/a", "a quote is not closed");
	refuse(&cpus_config_table, "affinity=[0@[1]", "a [ is not closed");
	refuse(&cpus_config_table, "affinity=0]", "a ] has no [");
	refuse(&disk_config_table, ",", "unknown key \"\"");
	refuse(&disk_config_table, "=", "unknown key \"\"");
}

static void missing_keys_are_named(void **state)
{
	refuse(&fs_config_table, "tag=t", "socket= is missing");
	refuse(&fs_config_table, "tag=,socket=/s", "tag= is missing");
	refuse(&vsock_config_table, NULL, "cid= is missing");
	refuse(&memory_zone_config_table, "id=z", "size= is missing");
}

static void lists_are_checked(void **state)
{
	refuse(&cpus_config_table, "affinity=[0@[3-1]]", "below the start");
	refuse(&cpus_config_table, "affinity=[0@[0-99999]]", "more than 8192 elements");
	refuse(&cpus_config_table, "affinity=[0@[0-4294967295]]", "more than 8192 elements");
	refuse(&cpus_config_table, "affinity=[0@[a]]", "affinity: \"a\" is not a number");
	refuse(&cpus_config_table, "affinity=[0]", "is not a pair");
	refuse(&cpus_config_table, "affinity=[0@]", "is not a pair");
	refuse(&cpus_config_table, "affinity=[0@[1],]", "is not a pair");
	refuse(&cpus_config_table, "affinity=[0@[-]]", "is not a number");
	refuse(&cpus_config_table, "topology=1:2:1", "of the form");
	refuse(&cpus_config_table, "topology=1:2:1:1:1", "of the form");
	refuse(&cpus_config_table, "topology=1::1:1", "of the form");
	refuse(&cpus_config_table, "topology=1:2:1:65536", "not within 0 to 65535");
	refuse(&cpus_config_table, "features=avx", "not a known word");
	refuse(&cpus_config_table, "profile=x", "is not one of host");
}

static void numa_nodes_are_read(void **state)
{
	struct numa_config n;

	parse(&numa_config_table,
	      "guest_numa_id=1,cpus=[0-2,7],distances=[0@20,2@30],memory_zones=[\"a,b\",c],"
	      "pci_segments=[1]",
	      &n);
	assert_int_equal(n.num_cpus, 4);
	assert_int_equal(n.cpus[3], 7);
	assert_int_equal(n.distances[1].destination, 2);
	assert_int_equal(n.distances[1].distance, 30);
	assert_int_equal(n.num_memory_zones, 2);
	assert_string_equal(n.memory_zones[0], "a,b");
	config_object_fini(&numa_config_table, &n);
}

static void consoles_start_with_a_word(void **state)
{
	static const struct {
		const char *text;
		enum console_mode mode;
	} cases[] = {{"off", CONSOLE_MODE_OFF},		 {"tty", CONSOLE_MODE_TTY},
		     {"pty", CONSOLE_MODE_PTY},		 {"null", CONSOLE_MODE_NULL},
		     {"file=/f", CONSOLE_MODE_FILE},	 {"socket=/s", CONSOLE_MODE_SOCKET},
		     {"off,iommu=on", CONSOLE_MODE_OFF}, {"", CONSOLE_MODE_TTY}};
	struct console_config c;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		parse(&console_config_table, cases[i].text, &c);
		assert_int_equal(c.mode, cases[i].mode);
		config_object_fini(&console_config_table, &c);
	}
}

static void the_debug_consoles_port_is_hexadecimal(void **state)
{
	struct debug_console_config d;

	parse(&debug_console_config_table, "file=/f,iobase=0x402", &d);
	assert_int_equal(d.iobase, 0x402);
	assert_string_equal(d.file, "/f");
	config_object_fini(&debug_console_config_table, &d);
	refuse(&debug_console_config_table, "tty,iobase=402", "hexadecimal");
	refuse(&debug_console_config_table, "tty,iobase=0x", "is not a number");
	refuse(&debug_console_config_table, "tty,iobase=0x10000", "not within");
	refuse(&debug_console_config_table, "socket=/s", "unknown key");
}

static void platform_keys_have_two_names(void **state)
{
	struct platform_config p;

	parse(&platform_config_table,
	      "serial_number=s,system_uuid=u,oem_strings=[a,\"b,c\"],iommu_address_width=48,"
	      "iommu_segments=[0],num_pci_segments=2",
	      &p);
	assert_string_equal(p.system_serial_number, "s");
	assert_string_equal(p.system_uuid, "u");
	assert_string_equal(p.oem_strings[1], "b,c");
	assert_int_equal(p.iommu_address_width_bits, 48);
	config_object_fini(&platform_config_table, &p);
}

static void device_types_have_names(void **state)
{
	struct generic_vhost_user_config g;

	parse(&generic_vhost_user_config_table, "socket=/s,device_type=fs,queue_sizes=[64,128]",
	      &g);
	assert_int_equal(g.device_type, 26);
	assert_int_equal(g.queue_sizes[1], 128);
	config_object_fini(&generic_vhost_user_config_table, &g);
	parse(&generic_vhost_user_config_table, "socket=/s,virtio_id=29,queue_sizes=[64]", &g);
	assert_int_equal(g.device_type, 29);
	config_object_fini(&generic_vhost_user_config_table, &g);
}

static void fw_cfg_items_are_read(void **state)
{
	struct fw_cfg_config f;

	parse(&fw_cfg_config_table,
	      "e820=off,acpi_table=off,items=[name=opt/a,file=/f:name=opt/b,string=\"x:y\"]", &f);
	assert_false(f.e820);
	assert_true(f.kernel);
	assert_false(f.acpi_tables);
	assert_int_equal(f.items->num_item_list, 2);
	assert_string_equal(f.items->item_list[0].file, "/f");
	assert_string_equal(f.items->item_list[1].string, "x:y");
	config_object_fini(&fw_cfg_config_table, &f);
	refuse(&fw_cfg_config_table, "items=[file=/f]", "name= is missing");
}

static void descriptors_must_be_open_and_single(void **state)
{
	int fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 50);
	struct net_config n;
	char text[64];

	snprintf(text, sizeof(text), "fd=[%d]", fd);
	parse(&net_config_table, text, &n);
	assert_int_equal(n.fds[0], fd);
	assert_non_null(n.mac);
	config_object_fini(&net_config_table, &n);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	refuse(&net_config_table, text, "is not an open file descriptor");
	refuse(&net_config_table, "fd=[2]", "standard streams");
	fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 50);
	snprintf(text, sizeof(text), "fd=[%d,%d]", fd, fd);
	refuse(&net_config_table, text, "one owner");
}

static void endpoints_may_be_bare_paths(void **state)
{
	struct endpoint_option e;

	parse(&endpoint_option_table, "/run/a,b=c.sock", &e);
	assert_string_equal(e.path, "/run/a,b=c.sock");
	config_object_fini(&endpoint_option_table, &e);
	parse(&endpoint_option_table, "path=/run/x", &e);
	assert_string_equal(e.path, "/run/x");
	config_object_fini(&endpoint_option_table, &e);
	parse(&endpoint_option_table, "fd=activation:api", &e);
	assert_string_equal(e.fd, "activation:api");
	assert_null(e.path);
	config_object_fini(&endpoint_option_table, &e);
}

static void options_fill_the_configuration(void **state)
{
	static const struct {
		const char *name, *text;
	} uses[] = {{"memory-zone", "id=z,size=1M"},
		    {"memory", "size=0"},
		    {"kernel", "/a,b"},
		    {"cmdline", "console=ttyS0 x=\"y\""},
		    {"disk", "path=/1"},
		    {"disk", "path=/2"},
		    {"serial", "tty"},
		    {"rtc", NULL},
		    {"pvpanic", NULL},
		    {"vsock", "cid=3,socket=/s"},
		    {"vsock", "cid=4,socket=/t"}};
	AUTO_VM_CONFIG struct vm_config *c = vm_config_new();

	for (size_t i = 0; i < ARRAY_SIZE(uses); i++)
		assert_int_equal(
			vm_option_apply(c, vm_option_find(uses[i].name), uses[i].text, NULL), 0);
	assert_int_equal(c->memory.size, 0);
	assert_int_equal(c->memory.num_zones, 1);
	assert_string_equal(c->payload->kernel, "/a,b");
	assert_string_equal(c->payload->cmdline, "console=ttyS0 x=\"y\"");
	assert_int_equal(c->num_disks, 2);
	assert_string_equal(c->disks[1].path, "/2");
	assert_int_equal(c->serial.mode, CONSOLE_MODE_TTY);
	assert_non_null(c->rtc);
	assert_true(c->pvpanic);
	assert_int_equal(c->vsock->cid, 4);
}

static void a_refused_option_names_itself_and_changes_nothing(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = vm_config_new();
	struct err err = ERR_INIT;

	assert_true(vm_option_apply(c, vm_option_find("vsock"), "cid=x", &err) < 0);
	assert_string_equal(err_message(&err, 0), "--vsock");
	assert_null(c->vsock);
	assert_true(vm_option_apply(c, vm_option_find("disk"), NULL, &err) < 0);
	assert_int_equal(c->num_disks, 0);
	assert_null(vm_option_find("dsk"));
}

/* Or the machine that it describes could never be shown. */
static void an_option_that_is_no_utf8_is_refused(void **state)
{
	AUTO_VM_CONFIG struct vm_config *c = vm_config_new();
	struct err err = ERR_INIT;

	assert_int_equal(vm_option_apply(c, vm_option_find("disk"), "path=/d\xff", &err), -EINVAL);
	assert_non_null(strstr(err_message(&err, 0), "--disk"));
	assert_int_equal(c->num_disks, 0);
	assert_int_equal(vm_option_apply(c, vm_option_find("kernel"), "/\xc3", NULL), -EINVAL);
	assert_int_equal(vm_option_apply(c, vm_option_find("kernel"), "/\xc3\xa4", NULL), 0);
	assert_int_equal(vm_option_apply(c, vm_option_find("cmdline"), "\xed\xa0\x80", NULL),
			 -EINVAL);
}

static void every_option_has_help_and_a_place(void **state)
{
	for (const struct vm_option *o = vm_options; o->name; o++) {
		AUTO_VM_CONFIG struct vm_config *c = vm_config_new();
		AUTO_FREE char *help = o->table ? config_option_help(o->table) : NULL;

		assert_non_null(o->help);
		vm_option_apply(c, o, "", NULL);
		if (!o->table)
			continue;
		assert_true(strlen(help) > 0);
		for (size_t i = 0; i < o->table->num_fields; i++) {
			const char *key = config_field_key(&o->table->fields[i]);

			if (key && !strstr(help, key))
				fail_msg("--%s: no help for %s", o->name, key);
			if (key && !o->table->fields[i].help)
				fail_msg("--%s: no text for %s", o->name, key);
		}
	}
}

/* Every beginning of valid texts, and the same with one byte changed: accepted or refused, never a
 * crash or a leak. */
static void any_text_may_come(void **state)
{
	static const struct {
		const struct config_table *table;
		const char *text;
	} seeds[] = {
		{&cpus_config_table,
		 "boot=2,topology=1:2:1:1,affinity=[0@[1-3],1@[4]],features=amx"},
		{&disk_config_table, "path=\"/a,b\",bw_size=1,queue_affinity=[0@[1]],id=x"},
		{&numa_config_table, "guest_numa_id=0,memory_zones=[a,\"b\"],distances=[1@20]"},
		{&fw_cfg_config_table, "items=[name=a,file=/f:name=b,string=c]"},
		{&console_config_table, "tty,file=/f,iommu=on"},
		{&debug_console_config_table, "file=/f,iobase=0x402"},
	};
	static const char bytes[] = "[]\",:=@-0x\xff \n";

	for (size_t s = 0; s < ARRAY_SIZE(seeds); s++) {
		AUTO_FREE char *obj = malloc(seeds[s].table->size);

		for (size_t i = 0; i < strlen(seeds[s].text); i++) {
			for (size_t b = 0; b < sizeof(bytes); b++) {
				AUTO_FREE char *text = strdup(seeds[s].text);
				struct err err = ERR_INIT;

				text[i] = bytes[b];
				if (config_parse_option(seeds[s].table, text, obj, &err) == 0)
					config_object_fini(seeds[s].table, obj);
				else
					assert_true(err_count(&err) > 0);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cpus_are_read),
		cmocka_unit_test(max_vcpus_follows_boot),
		cmocka_unit_test(sizes_take_binary_suffixes),
		cmocka_unit_test(wrong_sizes_are_refused),
		cmocka_unit_test(booleans_are_read_in_any_case),
		cmocka_unit_test(disks_are_read),
		cmocka_unit_test(an_unknown_key_is_answered_with_the_known_ones),
		cmocka_unit_test(unbalanced_text_is_refused),
		cmocka_unit_test(missing_keys_are_named),
		cmocka_unit_test(lists_are_checked),
		cmocka_unit_test(numa_nodes_are_read),
		cmocka_unit_test(consoles_start_with_a_word),
		cmocka_unit_test(the_debug_consoles_port_is_hexadecimal),
		cmocka_unit_test(platform_keys_have_two_names),
		cmocka_unit_test(device_types_have_names),
		cmocka_unit_test(fw_cfg_items_are_read),
		cmocka_unit_test(descriptors_must_be_open_and_single),
		cmocka_unit_test(endpoints_may_be_bare_paths),
		cmocka_unit_test(options_fill_the_configuration),
		cmocka_unit_test(a_refused_option_names_itself_and_changes_nothing),
		cmocka_unit_test(an_option_that_is_no_utf8_is_refused),
		cmocka_unit_test(every_option_has_help_and_a_place),
		cmocka_unit_test(any_text_may_come),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
