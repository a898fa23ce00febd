/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/device_rig.h"

#include "base/cursor.h"
#include "base/log.h"
#include "chardev/chardev.h"
#include "vmm/legacy/acpi_ged.h"
#include "vmm/legacy/acpi_pm.h"
#include "vmm/legacy/debug_port.h"
#include "vmm/legacy/debugcon.h"
#include "vmm/legacy/i8042.h"
#include "vmm/legacy/pvpanic_pci.h"
#include "vmm/memory/layout.h"
#include "vmm/pci/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GED_ADDRESS 0xfffffff000ULL
#define GED_PIN	    9
#define ECAM	    0xe8000000ULL

static int setup(void **state)
{
	struct device_rig *rig = calloc(1, sizeof(*rig));

	*state = rig;
	return rig && device_rig_init(rig) ? 0 : -1;
}

static int teardown(void **state)
{
	device_rig_fini(*state);
	free(*state);
	return 0;
}

static void realize(struct device *dev)
{
	struct err err = ERR_INIT;

	assert_int_equal(dev->ops->realize(dev, &err), 0);
}

static void discard(struct device *dev)
{
	dev->ops->unrealize(dev);
	dev->ops->free(dev);
}

/* Saves, resets, loads; then every shorter prefix must be refused or leave it intact. */
static void round_trip(struct device *dev)
{
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;

	assert_int_equal(dev->ops->save(dev, &out), 0);
	dev->ops->reset(dev);
	for (size_t len = 0; len < out.len; len++) {
		in = cursor_init(out.data, len);
		assert_true(dev->ops->load(dev, &in, &err) < 0);
	}
	in = cursor_init(out.data, out.len);
	assert_int_equal(dev->ops->load(dev, &in, &err), 0);
	assert_int_equal(cursor_left(&in), 0);
}

/* --- i8042 --- */

static void keyboard_controller_resets_on_fe_only(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;

	memset(rig->requests, 0, sizeof(rig->requests));
	assert_int_equal(i8042_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	for (unsigned value = 0; value < 256; value++) {
		rig_out(rig->host.pio, 0x64, value, 1);
		rig_out(rig->host.pio, 0x61, value, 1);
	}
	assert_int_equal(rig->requests[GUEST_RESET], 1);
	round_trip(dev);
	discard(dev);
}

static void driver_gives_up_on_the_keyboard_at_once(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;

	assert_int_equal(i8042_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	assert_true(rig_in(rig->host.pio, 0x61, 1) == 0x20);
	/* The output buffer never empties, so a flush fails after a few reads; the input buffer is
	 * empty, so that nobody waits before the reset command. */
	for (unsigned i = 0; i < 20; i++) {
		assert_true((rig_in(rig->host.pio, 0x64, 1) & 3) == 1);
		assert_true(rig_in(rig->host.pio, 0x60, 1) == 0xff);
	}
	discard(dev);
}

/* --- debug port and console --- */

/* What was logged since the log went to `fd`. */
static void read_log(int fd, char *buf, size_t len)
{
	ssize_t n = pread(fd, buf, len - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
}

static int log_to_file(void)
{
	char path[] = "/tmp/test_legacy.XXXXXX";
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	log_set_fd(fd);
	log_set_level(LOG_INFO);
	return fd;
}

static void log_back(int fd)
{
	log_set_fd(2);
	log_set_level(LOG_WARN);
	close(fd);
}

static void debug_port_logs_codes_with_class_and_time(void **state)
{
	static const struct {
		uint8_t code;
		const char *text;
	} codes[] = {
		{0x01, "[Debug I/O port: Firmware code 0x1] 0."},
		{0x20, "[Debug I/O port: Bootloader code 0x20] 0."},
		{0x41, "[Debug I/O port: Kernel code 0x41] 0."},
		{0x7f, "[Debug I/O port: Userspace code 0x7f] 0."},
		{0xff, "[Debug I/O port: Custom code 0xff] 0."},
	};
	struct device_rig *rig = *state;
	struct device *dev = NULL;
	char text[4096];
	int fd = log_to_file();

	assert_int_equal(debug_port_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++)
		rig_out(rig->host.pio, 0x80, codes[i].code, 1);
	read_log(fd, text, sizeof(text));
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++)
		assert_non_null(strstr(text, codes[i].text));
	assert_non_null(strstr(text, " seconds"));
	assert_true(rig_in(rig->host.pio, 0x80, 1) == 0xff);
	round_trip(dev);
	assert_true(rig_in(rig->host.pio, 0x80, 1) == 0xff);
	/* A driver that uses the port as a delay cannot fill the log. */
	for (unsigned i = 0; i < 100000; i++)
		rig_out(rig->host.pio, 0x80, i, 1);
	assert_true(lseek(fd, 0, SEEK_END) < 20000);
	discard(dev);
	log_back(fd);
}

static void debug_console_without_device_logs_lines(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;
	char text[4096];
	int fd = log_to_file();

	assert_int_equal(
		debugcon_new(&rig->host, "__firmware", DEBUGCON_PORT_FIRMWARE, NULL, &dev, NULL),
		0);
	realize(dev);
	for (const char *p = "Hello \x1b[2J\xff firmware\r\nunfin"; *p; p++)
		rig_out(rig->host.pio, 0x402, (uint8_t)*p, 1);
	read_log(fd, text, sizeof(text));
	assert_non_null(strstr(text, "__firmware: Hello ?[2J? firmware\n"));
	assert_null(strstr(text, "unfin"));
	assert_true(rig_in(rig->host.pio, 0x402, 1) == 0xe9);
	/* A line without end is cut, not collected. */
	for (unsigned i = 0; i < 1000; i++)
		rig_out(rig->host.pio, 0x402, 'x', 1);
	dev->ops->reset(dev);
	discard(dev);
	log_back(fd);
}

static void debug_console_state_cannot_overrun_its_line(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;

	assert_int_equal(debugcon_new(&rig->host, "x", 0xe9, NULL, &dev, NULL), 0);
	realize(dev);
	round_trip(dev);
	assert_int_equal(dev->ops->save(dev, &out), 0);
	for (unsigned used = 0; used < 256; used++) {
		struct cursor in;

		memset(out.data + out.len - 121, '\n', 120);
		out.data[out.len - 1] = (uint8_t)used;
		in = cursor_init(out.data, out.len);
		assert_int_equal(dev->ops->load(dev, &in, &err), 0);
		rig_out(rig->host.pio, 0xe9, 'x', 1);
	}
	discard(dev);
}

static void debug_console_writes_to_its_device(void **state)
{
	struct device_rig *rig = *state;
	char path[] = "/tmp/test_legacy.XXXXXX", text[16] = {0};
	struct chardev_params params = {.mode = CHARDEV_FILE, .path = path};
	struct chardev *chardev = NULL;
	struct loop *loop = NULL;
	struct device *dev = NULL;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(loop_new(&loop), 0);
	assert_int_equal(chardev_new(loop, &params, &chardev, NULL), 0);
	assert_int_equal(debugcon_new(&rig->host, "__debug_console", 0xe9, chardev, &dev, NULL), 0);
	realize(dev);
	rig_out(rig->host.pio, 0xe9, 'o', 1);
	rig_out(rig->host.pio, 0xe9, 'k', 1);
	chardev_flush(chardev);
	assert_int_equal(read(fd, text, sizeof(text)), 2);
	assert_string_equal(text, "ok");
	discard(dev);
	chardev_free(chardev);
	loop_free(loop);
	close(fd);
	unlink(path);
}

static void debug_console_with_an_overlong_id_is_refused(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;
	char id[DEVICE_ID_MAX + 1];

	memset(id, 'i', sizeof(id));
	id[DEVICE_ID_MAX] = '\0';
	assert_int_equal(debugcon_new(&rig->host, id, 0xe9, NULL, &dev, NULL), -ENAMETOOLONG);
	assert_null(dev);
}

/* --- ACPI --- */

static void sleep_register_resets_and_powers_off(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;

	memset(rig->requests, 0, sizeof(rig->requests));
	assert_int_equal(acpi_pm_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	for (unsigned value = 0; value < 256; value++)
		rig_out(rig->host.pio, 0x600, value, 1);
	assert_int_equal(rig->requests[GUEST_RESET], 1);
	assert_int_equal(rig->requests[GUEST_POWER_OFF], 1);
	/* Wider than the register: nobody's. */
	rig_out(rig->host.pio, 0x600, 0x01010101, 4);
	assert_int_equal(rig->requests[GUEST_RESET], 1);
	assert_true(rig_in(rig->host.pio, 0x600, 1) == 0);
	discard(dev);
}

static void timer_runs_at_its_frequency(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;
	uint64_t t0, t1, ns;
	uint32_t a, b;

	assert_int_equal(acpi_pm_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	t0 = loop_now_ns();
	a = (uint32_t)rig_in(rig->host.pio, 0x608, 4);
	usleep(50000);
	b = (uint32_t)rig_in(rig->host.pio, 0x608, 4);
	t1 = loop_now_ns();
	/* The reads lie between t0 and t1, 50 ms or more apart. */
	ns = (uint64_t)(b - a) * 1000000000ULL / ACPI_PM_TIMER_HZ;
	assert_true(ns >= 49900000 && ns <= t1 - t0 + 1000);
	rig_out(rig->host.pio, 0x608, 0, 4);
	assert_true(rig_in(rig->host.pio, 0x608, 4) >= b);
	discard(dev);
}

static void timer_stands_still_while_paused(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;
	uint64_t before, after;

	assert_int_equal(acpi_pm_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	dev->ops->quiesce(dev, NULL);
	before = rig_in(rig->host.pio, 0x608, 4);
	usleep(30000);
	assert_true(rig_in(rig->host.pio, 0x608, 4) == before);
	/* So it does over a snapshot. */
	round_trip(dev);
	assert_true(rig_in(rig->host.pio, 0x608, 4) == before);
	dev->ops->resume(dev);
	after = rig_in(rig->host.pio, 0x608, 4);
	assert_true(after >= before && after - before < ACPI_PM_TIMER_HZ / 40);
	usleep(2000);
	assert_true(rig_in(rig->host.pio, 0x608, 4) > after);
	discard(dev);
}

static void timer_bytes_are_those_of_the_dword(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;
	uint64_t value;

	assert_int_equal(acpi_pm_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	usleep(30000);
	dev->ops->quiesce(dev, NULL);
	value = rig_in(rig->host.pio, 0x608, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_true(rig_in(rig->host.pio, 0x608 + i, 1) == (value >> i * 8 & 0xff));
	assert_true(rig_in(rig->host.pio, 0x60a, 2) == value >> 16);
	assert_true(rig_in(rig->host.pio, 0x609, 4) == UINT32_MAX);
	discard(dev);
}

static void event_register_collects_and_clears_on_read(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;

	assert_int_equal(acpi_ged_new(&rig->host, GED_ADDRESS, GED_PIN, &dev, NULL), 0);
	realize(dev);
	assert_true(rig_in(rig->host.mmio, GED_ADDRESS, 1) == 0);
	acpi_ged_notify(dev, ACPI_GED_POWER_BUTTON);
	acpi_ged_notify(dev, ACPI_GED_CPU);
	acpi_ged_notify(dev, 0xf0); /* no such events */
	rig_out(rig->host.mmio, GED_ADDRESS, 0, 1);
	assert_true(rig_in(rig->host.mmio, GED_ADDRESS, 1) == 9);
	assert_true(rig_in(rig->host.mmio, GED_ADDRESS, 1) == 0);
	acpi_ged_notify(dev, ACPI_GED_PCI);
	round_trip(dev);
	assert_true(rig_in(rig->host.mmio, GED_ADDRESS, 1) == ACPI_GED_PCI);
	discard(dev);
}

static void event_interrupts_the_vcpu_each_time(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;

	DEVICE_RIG_NEEDS_KVM(rig);
	assert_int_equal(acpi_ged_new(&rig->host, GED_ADDRESS, GED_PIN, &dev, NULL), 0);
	realize(dev);
	rig_out(rig->host.mmio, LAYOUT_IOAPIC, 0x10 + GED_PIN * 2, 4);
	rig_out(rig->host.mmio, LAYOUT_IOAPIC + 0x10, 0x39, 4);
	for (unsigned i = 0; i < 3; i++) {
		device_rig_clear_irr(rig);
		acpi_ged_notify(dev, ACPI_GED_POWER_BUTTON);
		assert_true(device_rig_irr(rig, 0x39));
	}
	rig_out(rig->host.mmio, LAYOUT_IOAPIC + 0x10, 0x10000, 4);
	discard(dev);
}

/* --- pvpanic --- */

static void pvpanic_tells_what_the_guest_wrote(void **state)
{
	struct device_rig *rig = *state;
	const struct pci_segment_params params = {
		.ecam_base = ECAM,
		.mmio32_base = 0xc0000000,
		.mmio32_size = 640 * MIB,
	};
	struct pci_segment *segment = NULL;
	struct device *dev = NULL;
	uint64_t bar;

	memset(rig->requests, 0, sizeof(rig->requests));
	assert_int_equal(pci_segment_new(&params, rig->host.mmio, rig->host.pio, &segment, NULL),
			 0);
	assert_int_equal(pvpanic_pci_new(&rig->host, segment, -1, &dev, NULL), 0);
	realize(dev);
	assert_int_equal(pvpanic_pci_function(dev)->slot, 1);
	assert_true(rig_in(rig->host.mmio, ECAM + 0x8000, 4) == 0x00111b36);
	assert_true(rig_in(rig->host.mmio, ECAM + 0x8008, 4) >> 16 == 0x0880);
	bar = rig_in(rig->host.mmio, ECAM + 0x8010, 4);
	assert_true(rig_in(rig->host.mmio, bar, 1) == 7);
	assert_true(rig_in(rig->host.mmio, bar + 1, 1) == 0);
	rig_out(rig->host.mmio, bar + 1, 1, 1);
	assert_int_equal(rig->requests[GUEST_PANIC], 0);
	rig_out(rig->host.mmio, bar, 1, 1);
	assert_int_equal(rig->requests[GUEST_PANIC], 1);
	rig_out(rig->host.mmio, bar, 2, 1);
	rig_out(rig->host.mmio, bar, 4, 1);
	assert_int_equal(rig->requests[GUEST_PANIC], 1);
	assert_int_equal(rig->requests[GUEST_CRASH_LOADED], 1);
	assert_int_equal(rig->requests[GUEST_PANIC_SHUTDOWN], 1);
	round_trip(dev);
	assert_true(rig_in(rig->host.mmio, bar, 1) == 7);
	discard(dev);
	pci_segment_free(segment);
}

static void unrealized_device_is_gone_and_can_be_freed_before_realize(void **state)
{
	struct device_rig *rig = *state;
	struct device *dev = NULL;

	assert_int_equal(acpi_pm_new(&rig->host, &dev, NULL), 0);
	discard(dev); /* never realized */
	assert_int_equal(i8042_new(&rig->host, &dev, NULL), 0);
	realize(dev);
	discard(dev);
	assert_true(rig_in(rig->host.pio, 0x64, 1) == 0xff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keyboard_controller_resets_on_fe_only),
		cmocka_unit_test(driver_gives_up_on_the_keyboard_at_once),
		cmocka_unit_test(debug_port_logs_codes_with_class_and_time),
		cmocka_unit_test(debug_console_without_device_logs_lines),
		cmocka_unit_test(debug_console_state_cannot_overrun_its_line),
		cmocka_unit_test(debug_console_writes_to_its_device),
		cmocka_unit_test(debug_console_with_an_overlong_id_is_refused),
		cmocka_unit_test(sleep_register_resets_and_powers_off),
		cmocka_unit_test(timer_runs_at_its_frequency),
		cmocka_unit_test(timer_stands_still_while_paused),
		cmocka_unit_test(timer_bytes_are_those_of_the_dword),
		cmocka_unit_test(event_register_collects_and_clears_on_read),
		cmocka_unit_test(event_interrupts_the_vcpu_each_time),
		cmocka_unit_test(pvpanic_tells_what_the_guest_wrote),
		cmocka_unit_test(unrealized_device_is_gone_and_can_be_freed_before_realize),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
