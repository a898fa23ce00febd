/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/ctl/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABEL 12

/* What a terminal would take as a command is shown as `?`: names come from configurations. */
static void put_safe(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void put_scalar(const struct json *v)
{
	switch (json_kind(v)) {
	case JSON_STRING: put_safe(json_string(v)); break;
	case JSON_INT: printf("%" PRId64, json_int(v)); break;
	case JSON_BOOL: fputs(json_bool(v) ? "yes" : "no", stdout); break;
	case JSON_REAL: printf("%g", json_real(v)); break;
	case JSON_NULL: putchar('-'); break;
	default: fputs("...", stdout); break;
	}
}

static void put_label(const char *label)
{
	printf("%-*s  ", LABEL, label);
}

static void put_pair(const char *label, const struct json *v)
{
	if (json_kind(v) == JSON_NULL)
		return;
	put_label(label);
	put_scalar(v);
	putchar('\n');
}

static void put_bytes(int64_t bytes)
{
	if (bytes >= (int64_t)GIB && bytes % (int64_t)GIB == 0)
		printf("%" PRId64 " GiB", bytes / (int64_t)GIB);
	else
		printf("%.*f MiB", bytes % (int64_t)MIB ? 1 : 0, (double)bytes / (double)MIB);
}

void show_ping(const struct json *answer)
{
	const struct json *features = json_member(answer, "features");

	put_pair("Build", json_member(answer, "build_version"));
	put_pair("API level", json_member(answer, "version"));
	put_pair("Process", json_member(answer, "pid"));
	put_label("Features");
	for (size_t i = 0; i < json_size(features); i++) {
		fputs(i ? ", " : "", stdout);
		put_scalar(json_at(features, i));
	}
	putchar('\n');
}

/* --- vm.info -------------------------------------------------------------------------------- */

/* The device's node hangs below its transport's, which has the address. */
static const struct json *find_bdf(const struct json *tree, const char *id)
{
	const struct json *node = json_member(tree, id);
	const struct json *bdf = json_member(node, "pci_bdf");
	const char *parent = json_string(json_member(node, "parent"));

	if (json_kind(bdf) == JSON_NULL && parent)
		bdf = json_member(json_member(tree, parent), "pci_bdf");
	return bdf;
}

static void put_device(const char *kind, const struct json *device, const char *id,
		       const char *const *details, const struct json *tree)
{
	const struct json *bdf = id ? find_bdf(tree, id) : NULL;

	put_label(kind);
	printf("%-10s", id ? id : "-");
	if (json_kind(bdf) == JSON_STRING) {
		fputs("  ", stdout);
		put_scalar(bdf);
	}
	for (; *details; details++) {
		const struct json *v = json_member(device, *details);

		if (json_kind(v) == JSON_NULL || (json_kind(v) == JSON_BOOL && !json_bool(v)))
			continue;
		printf("  %s=", *details);
		put_scalar(v);
	}
	putchar('\n');
}

static void put_devices(const char *kind, const struct json *list, const char *const *details,
			const struct json *tree)
{
	for (size_t i = 0; i < json_size(list); i++) {
		const struct json *device = json_at(list, i);

		put_device(kind, device, json_string(json_member(device, "id")), details, tree);
	}
}

static void put_payload(const struct json *payload)
{
	put_pair("Firmware", json_member(payload, "firmware"));
	put_pair("Kernel", json_member(payload, "kernel"));
	put_pair("Initramfs", json_member(payload, "initramfs"));
	put_pair("Command line", json_member(payload, "cmdline"));
}

static void put_console(const char *label, const struct json *console)
{
	const struct json *where = json_member(console, "file");

	if (json_kind(where) == JSON_NULL)
		where = json_member(console, "socket");
	if (!console)
		return;
	put_label(label);
	put_scalar(json_member(console, "mode"));
	if (json_kind(where) == JSON_STRING) {
		putchar(' ');
		put_scalar(where);
	}
	putchar('\n');
}

void show_info(const struct json *answer)
{
	static const char *const disk[] = {"path", "readonly", "direct", "num_queues", NULL};
	static const char *const net[] = {"tap", "mac", "ip", "num_queues", NULL};
	const struct json *config = json_member(answer, "config");
	const struct json *tree = json_member(answer, "device_tree");
	const struct json *cpus = json_member(config, "cpus");

	put_pair("State", json_member(answer, "state"));
	put_label("vCPUs");
	put_scalar(json_member(cpus, "boot_vcpus"));
	fputs(" of ", stdout);
	put_scalar(json_member(cpus, "max_vcpus"));
	putchar('\n');
	put_label("Memory");
	put_bytes(json_int(json_member(answer, "memory_actual_size")));
	putchar('\n');
	put_payload(json_member(config, "payload"));
	put_console("Serial", json_member(config, "serial"));
	put_console("Console", json_member(config, "console"));
	put_devices("Disk", json_member(config, "disks"), disk, tree);
	put_devices("Net", json_member(config, "net"), net, tree);
}

/* --- the others ----------------------------------------------------------------------------- */

void show_counters(const struct json *answer)
{
	AUTO_JSON struct json *devices = json_copy(answer);

	printf("%-16s %-20s %20s\n", "DEVICE", "COUNTER", "VALUE");
	for (struct json_iter *d = json_first(devices); d; d = json_next(devices, d)) {
		struct json *counters = json_iter_value(d);

		for (struct json_iter *c = json_first(counters); c; c = json_next(counters, c))
			printf("%-16s %-20s %20" PRId64 "\n", json_iter_key(d), json_iter_key(c),
			       json_int(json_iter_value(c)));
	}
}

void show_device(const struct json *answer)
{
	put_pair("Device", json_member(answer, "id"));
	put_pair("Address", json_member(answer, "bdf"));
}

void show_event(const struct json *event)
{
	const struct json *time = json_member(event, "timestamp");
	AUTO_JSON struct json *properties = json_copy(json_member(event, "properties"));
	const char *source = json_string(json_member(event, "source"));
	const char *name = json_string(json_member(event, "event"));

	printf("%8" PRId64 ".%03" PRId64 "  ", json_int(json_member(time, "secs")),
	       json_int(json_member(time, "nanos")) / 1000000);
	put_safe(source ? source : "?");
	putchar(':');
	put_safe(name ? name : "?");
	for (struct json_iter *i = json_first(properties); i; i = json_next(properties, i)) {
		printf("  %s=", json_iter_key(i));
		put_scalar(json_iter_value(i));
	}
	putchar('\n');
}
