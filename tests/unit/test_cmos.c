/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/cmos_mc146818.h"

#include "tests/unit/device_rig.h"

#include "base/cursor.h"
#include "vmm/memory/guest_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

struct fixture {
	struct device_rig rig;
	struct guest_memory memory;
	struct device *dev;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	*state = f;
	if (!f || !device_rig_init(&f->rig))
		return -1;
	f->memory.num_regions = 2;
	f->memory.regions[0] = (struct guest_region){.size_bytes = 3 * GIB};
	f->memory.regions[1] = (struct guest_region){.start = {4 * GIB}, .size_bytes = 5 * GIB};
	f->rig.host.memory = &f->memory;
	return cmos_mc146818_new(&f->rig.host, &f->dev, NULL) < 0 ||
			       f->dev->ops->realize(f->dev, NULL) < 0
		       ? -1
		       : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->dev->ops->unrealize(f->dev);
	f->dev->ops->free(f->dev);
	device_rig_fini(&f->rig);
	free(f);
	return 0;
}

static uint8_t get(struct fixture *f, uint8_t index)
{
	rig_out(f->rig.host.pio, 0x70, index, 1);
	return (uint8_t)rig_in(f->rig.host.pio, 0x71, 1);
}

static void set(struct fixture *f, uint8_t index, uint8_t value)
{
	rig_out(f->rig.host.pio, 0x70, index, 1);
	rig_out(f->rig.host.pio, 0x71, value, 1);
}

static unsigned bcd(uint8_t value)
{
	assert_true((value & 0xf) < 10 && value >> 4 < 10);
	return value / 16 * 10U + value % 16;
}

/* The clock as seconds, read as Linux does. */
static time_t read_clock(struct fixture *f)
{
	struct tm tm = {0};

	assert_int_equal(get(f, 0x0a) & 0x80, 0);
	tm.tm_sec = (int)bcd(get(f, 0x00));
	tm.tm_min = (int)bcd(get(f, 0x02));
	tm.tm_hour = (int)bcd(get(f, 0x04));
	tm.tm_mday = (int)bcd(get(f, 0x07));
	tm.tm_mon = (int)bcd(get(f, 0x08)) - 1;
	tm.tm_year = (int)(bcd(get(f, 0x32)) * 100 + bcd(get(f, 0x09))) - 1900;
	return timegm(&tm);
}

static void clock_shows_the_hosts_time_in_utc(void **state)
{
	time_t before = time(NULL), shown = read_clock(*state), after = time(NULL);

	assert_true(shown >= before - 1 && shown <= after + 1);
	assert_int_equal(get(*state, 0x0d), 0x80);
	assert_int_equal(get(*state, 0x06), gmtime(&shown)->tm_wday + 1);
}

static void reading_is_quick(void **state)
{
	uint64_t start = loop_now_ns();

	for (unsigned i = 0; i < 1000; i++)
		read_clock(*state);
	assert_true(loop_now_ns() - start < 1000000000ULL);
}

static void binary_and_twelve_hour_modes(void **state)
{
	struct fixture *f = *state;
	unsigned hour24, hour12;

	for (unsigned i = 0; i < 2; i++) { /* again if the hour turned in between */
		usleep(12000);
		set(f, 0x0b, 0x06);
		hour24 = get(f, 0x04);
		set(f, 0x0b, 0x04);
		hour12 = get(f, 0x04);
		if ((hour12 & 0x7f) % 12 == hour24 % 12)
			break;
	}
	assert_true(hour24 < 24);
	assert_int_equal((hour12 & 0x7f) % 12, hour24 % 12);
	assert_int_equal(!!(hour12 & 0x80), hour24 >= 12);
	set(f, 0x0b, 0x02);
}

static void guest_can_set_the_clock(void **state)
{
	struct fixture *f = *state;
	struct tm tm = {
		.tm_year = 101, .tm_mon = 1, .tm_mday = 3, .tm_hour = 4, .tm_min = 5, .tm_sec = 6};
	time_t want = timegm(&tm), got;

	set(f, 0x0b, 0x82); /* SET: the clock stands */
	set(f, 0x00, 0x06);
	set(f, 0x02, 0x05);
	set(f, 0x04, 0x04);
	set(f, 0x07, 0x03);
	set(f, 0x08, 0x02);
	set(f, 0x09, 0x01);
	set(f, 0x32, 0x20);
	usleep(20000);
	assert_true(read_clock(f) == want);
	set(f, 0x0b, 0x02);
	got = read_clock(f);
	assert_true(got >= want && got <= want + 2);
	/* It survives a reset of the machine: there is a battery. */
	f->dev->ops->reset(f->dev);
	got = read_clock(f);
	assert_true(got >= want && got <= want + 2);
}

static void alarm_and_ram_keep_their_values(void **state)
{
	static const uint8_t registers[] = {0x01, 0x03, 0x05, 0x0f, 0x10, 0x40, 0x7f};

	for (unsigned i = 0; i < ARRAY_SIZE(registers); i++) {
		set(*state, registers[i], (uint8_t)(0x50 + i));
		assert_int_equal(get(*state, registers[i]), 0x50 + i);
		/* Bit 7 of the index only masks NMIs. */
		assert_int_equal(get(*state, registers[i] | 0x80), 0x50 + i);
	}
	set(*state, 0x0f, 0);
}

static void update_ended_flag_is_cleared_by_reading(void **state)
{
	struct fixture *f = *state;
	unsigned seen = 0;

	get(f, 0x0c);
	for (unsigned i = 0; i < 150 && !seen; i++) {
		usleep(10000);
		seen = get(f, 0x0c);
	}
	assert_int_equal(seen, 0x10);
	assert_int_equal(get(f, 0x0c), 0);
}

static void memory_sizes_are_where_firmware_looks(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, 0x15) | get(f, 0x16) << 8, 640);
	assert_int_equal(get(f, 0x17) | get(f, 0x18) << 8, 0xffff);
	assert_int_equal(get(f, 0x30) | get(f, 0x31) << 8, 0xffff);
	assert_int_equal((get(f, 0x34) | get(f, 0x35) << 8) * 64 / 1024 + 16, 3072);
	assert_int_equal((get(f, 0x5b) | get(f, 0x5c) << 8 | get(f, 0x5d) << 16) / 16, 5 * 1024);
}

static void shutdown_status_zero_with_nmi_off_resets(void **state)
{
	struct fixture *f = *state;

	memset(f->rig.requests, 0, sizeof(f->rig.requests));
	set(f, 0x0f, 0); /* what SMP start-up does */
	set(f, 0x0f, 0x0a);
	set(f, 0x8f, 0x0a);
	assert_int_equal(f->rig.requests[GUEST_RESET], 0);
	set(f, 0x8f, 0);
	assert_int_equal(f->rig.requests[GUEST_RESET], 1);
}

static void every_register_and_value_is_survived(void **state)
{
	struct fixture *f = *state;

	for (unsigned mode = 0; mode < 256; mode += 2)
		for (unsigned reg = 0; reg < 128; reg++) {
			set(f, 0x0b, (uint8_t)mode);
			set(f, (uint8_t)reg, (uint8_t)(mode ^ 0xff));
			get(f, (uint8_t)reg);
		}
	for (unsigned len = 1; len <= 8; len++)
		for (unsigned port = 0x6e; port < 0x74; port++) {
			rig_in(f->rig.host.pio, port, len);
			rig_out(f->rig.host.pio, port, UINT64_MAX, len);
		}
	/* The clock can be set right again. */
	set(f, 0x0b, 0x02);
	guest_can_set_the_clock(state);
}

static void state_survives_save_and_load(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf out = {0};
	struct err err = ERR_INIT;
	struct cursor in;
	time_t shown;

	guest_can_set_the_clock(state);
	set(f, 0x40, 0x77);
	shown = read_clock(f);
	assert_int_equal(f->dev->ops->save(f->dev, &out), 0);
	set(f, 0x40, 0);
	set(f, 0x09, 0x33);
	in = cursor_init(out.data, out.len);
	assert_int_equal(f->dev->ops->load(f->dev, &in, &err), 0);
	assert_int_equal(get(f, 0x40), 0x77);
	assert_true(read_clock(f) >= shown && read_clock(f) <= shown + 2);
	for (size_t len = 0; len < out.len; len++) {
		in = cursor_init(out.data, len);
		assert_true(f->dev->ops->load(f->dev, &in, &err) < 0);
	}
	memset(out.data + out.len - 16, 0x7f, 16); /* a clock beyond all calendars */
	in = cursor_init(out.data, out.len);
	assert_int_equal(f->dev->ops->load(f->dev, &in, &err), 0);
	read_clock(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clock_shows_the_hosts_time_in_utc),
		cmocka_unit_test(reading_is_quick),
		cmocka_unit_test(binary_and_twelve_hour_modes),
		cmocka_unit_test(guest_can_set_the_clock),
		cmocka_unit_test(alarm_and_ram_keep_their_values),
		cmocka_unit_test(update_ended_flag_is_cleared_by_reading),
		cmocka_unit_test(memory_sizes_are_where_firmware_looks),
		cmocka_unit_test(shutdown_status_zero_with_nmi_off_resets),
		cmocka_unit_test(every_register_and_value_is_survived),
		cmocka_unit_test(state_survives_save_and_load),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
