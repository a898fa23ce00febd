/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The clock is the host's real time plus an offset, which the guest changes by setting the time.
 * While the guest holds the SET bit the clock stands still in `frozen`.
 *
 * "Update in progress" never shows. Software that reads it clear may rely on the time registers
 * for 244 us; so what it reads comes from a copy of the clock that is renewed when it is older than
 * LATCH_NS. A reader thus gets its seconds, minutes, ... of one instant without ever waiting.
 */
#include "vmm/legacy/cmos_mc146818.h"

#include "base/state.h"
#include "vmm/bus/bus.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

enum {
	REG_SECONDS = 0x00,
	REG_MINUTES = 0x02,
	REG_HOURS = 0x04,
	REG_WEEKDAY = 0x06,
	REG_DAY = 0x07,
	REG_MONTH = 0x08,
	REG_YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	REG_SHUTDOWN = 0x0f,
	REG_CENTURY = 0x32,
};

#define A_DEFAULT 0x26 /* 32,768 Hz time base, 1024 Hz rate */
#define A_UIP	  0x80
#define B_SET	  0x80
#define B_UIE	  0x10
#define B_BINARY  0x04
#define B_24H	  0x02
#define B_PERIODS 0x70 /* interrupt enables */
#define C_UPDATED 0x10
#define C_IRQ	  0x80
#define D_VALID	  0x80
#define HOUR_PM	  0x80

#define INDEX_MASK  0x7f
#define INDEX_RESET 0x8f /* shutdown status, with NMI off */

#define LATCH_NS 10000000ULL

enum { F_SECOND, F_MINUTE, F_HOUR, F_WEEKDAY, F_DAY, F_MONTH, F_YEAR, F_CENTURY, NUM_FIELDS };

struct cmos {
	struct device dev;
	struct bus_range range;
	pthread_mutex_t lock; /* all below */
	uint64_t latched_ns;  /* monotonic time of `latch`; 0 = none */
	uint8_t latch[NUM_FIELDS];
	/* saved */
	uint8_t index;
	uint8_t ram[128]; /* registers that are not the clock's */
	uint8_t frozen[NUM_FIELDS];
	uint64_t offset_s;	/* guest's clock minus the host's, two's complement */
	uint64_t last_update_s; /* guest's second when register C was last read */
};

static struct cmos *from_device(struct device *dev)
{
	return container_of(dev, struct cmos, dev);
}

/* --- the clock, in plain numbers --- */

static int64_t guest_seconds(const struct cmos *c)
{
	return (int64_t)((uint64_t)time(NULL) + c->offset_s);
}

static void fields_from_seconds(int64_t seconds, uint8_t f[NUM_FIELDS])
{
	time_t t = (time_t)seconds;
	struct tm tm = {0};
	unsigned year;

	gmtime_r(&t, &tm);
	year = (unsigned)(tm.tm_year + 1900);
	f[F_SECOND] = (uint8_t)MIN(tm.tm_sec, 59);
	f[F_MINUTE] = (uint8_t)tm.tm_min;
	f[F_HOUR] = (uint8_t)tm.tm_hour;
	f[F_WEEKDAY] = (uint8_t)(tm.tm_wday + 1);
	f[F_DAY] = (uint8_t)tm.tm_mday;
	f[F_MONTH] = (uint8_t)(tm.tm_mon + 1);
	f[F_YEAR] = (uint8_t)(year % 100);
	f[F_CENTURY] = (uint8_t)(year / 100 % 100);
}

/* Fields may hold anything a guest wrote; timegm() normalises. */
static int64_t seconds_from_fields(const uint8_t f[NUM_FIELDS])
{
	struct tm tm = {
		.tm_sec = f[F_SECOND],
		.tm_min = f[F_MINUTE],
		.tm_hour = f[F_HOUR],
		.tm_mday = f[F_DAY],
		.tm_mon = f[F_MONTH] - 1,
		.tm_year = f[F_CENTURY] * 100 + f[F_YEAR] - 1900,
	};

	return timegm(&tm);
}

static void set_clock(struct cmos *c, const uint8_t f[NUM_FIELDS])
{
	c->offset_s = (uint64_t)seconds_from_fields(f) - (uint64_t)time(NULL);
	c->latched_ns = 0;
}

/* --- registers --- */

/* The field behind a register, or -1. */
static int field_of(unsigned reg)
{
	switch (reg) {
	case REG_SECONDS: return F_SECOND;
	case REG_MINUTES: return F_MINUTE;
	case REG_HOURS: return F_HOUR;
	case REG_WEEKDAY: return F_WEEKDAY;
	case REG_DAY: return F_DAY;
	case REG_MONTH: return F_MONTH;
	case REG_YEAR: return F_YEAR;
	case REG_CENTURY: return F_CENTURY;
	default: return -1;
	}
}

static uint8_t encode(const struct cmos *c, uint8_t value)
{
	return c->ram[REG_B] & B_BINARY ? value : (uint8_t)(value / 10 << 4 | value % 10);
}

static uint8_t decode(const struct cmos *c, uint8_t value)
{
	return c->ram[REG_B] & B_BINARY ? value : (uint8_t)((value >> 4) * 10 + (value & 0xf));
}

static uint8_t encode_hour(const struct cmos *c, uint8_t hour)
{
	uint8_t twelve = hour % 12 ? hour % 12 : 12;

	if (c->ram[REG_B] & B_24H)
		return encode(c, hour);
	return encode(c, twelve) | (hour >= 12 ? HOUR_PM : 0);
}

static uint8_t decode_hour(const struct cmos *c, uint8_t value)
{
	if (c->ram[REG_B] & B_24H)
		return decode(c, value);
	return (uint8_t)(decode(c, value & ~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0));
}

static uint8_t read_field(struct cmos *c, int field)
{
	const uint8_t *f = c->frozen;

	if (!(c->ram[REG_B] & B_SET)) {
		uint64_t now = loop_now_ns();

		if (!c->latched_ns || now - c->latched_ns > LATCH_NS) {
			fields_from_seconds(guest_seconds(c), c->latch);
			c->latched_ns = now;
		}
		f = c->latch;
	}
	return field == F_HOUR ? encode_hour(c, f[field]) : encode(c, f[field]);
}

static void write_field(struct cmos *c, int field, uint8_t value)
{
	uint8_t now[NUM_FIELDS];
	uint8_t *f = c->frozen;

	if (!(c->ram[REG_B] & B_SET)) {
		fields_from_seconds(guest_seconds(c), now);
		f = now;
	}
	f[field] = field == F_HOUR ? decode_hour(c, value) : decode(c, value);
	if (f == now)
		set_clock(c, now);
}

static void write_b(struct cmos *c, uint8_t value)
{
	bool was_set = c->ram[REG_B] & B_SET;

	if (!was_set && value & B_SET)
		fields_from_seconds(guest_seconds(c), c->frozen);
	else if (was_set && !(value & B_SET))
		set_clock(c, c->frozen);
	c->ram[REG_B] = value;
}

/* Flags since the last read, which clears them. */
static uint8_t read_c(struct cmos *c)
{
	uint64_t now = (uint64_t)guest_seconds(c);
	uint8_t flags = now != c->last_update_s ? C_UPDATED : 0;

	c->last_update_s = now;
	return flags & c->ram[REG_B] & B_UIE ? flags | C_IRQ : flags;
}

static uint8_t read_register(struct cmos *c)
{
	unsigned reg = c->index & INDEX_MASK;
	int field = field_of(reg);

	if (field >= 0)
		return read_field(c, field);
	if (reg == REG_C)
		return read_c(c);
	if (reg == REG_D)
		return D_VALID;
	return c->ram[reg];
}

/* Returns whether the guest asks for a reset. */
static bool write_register(struct cmos *c, uint8_t value)
{
	unsigned reg = c->index & INDEX_MASK;
	int field = field_of(reg);

	if (c->index == INDEX_RESET && value == 0)
		return true;
	if (field >= 0)
		write_field(c, field, value);
	else if (reg == REG_A)
		c->ram[REG_A] = value & ~A_UIP;
	else if (reg == REG_B)
		write_b(c, value);
	else if (reg != REG_C && reg != REG_D)
		c->ram[reg] = value;
	return false;
}

static void cmos_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct cmos *c = arg;
	uint8_t *p = data;

	pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < len; i++)
		p[i] = offset + i == 0 ? c->index : read_register(c);
	pthread_mutex_unlock(&c->lock);
}

static void cmos_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct cmos *c = arg;
	const uint8_t *p = data;
	bool reset = false;

	pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < len; i++) {
		if (offset + i == 0)
			c->index = p[i];
		else
			reset |= write_register(c, p[i]);
	}
	pthread_mutex_unlock(&c->lock);
	if (reset)
		c->dev.host->guest_request(c->dev.host->arg, GUEST_RESET);
}

static const struct bus_ops cmos_bus_ops = {
	.read = cmos_read,
	.write = cmos_write,
};

/* --- life --- */

static int cmos_realize(struct device *dev, struct err *err)
{
	return bus_add(dev->host->pio, &from_device(dev)->range, err);
}

static void cmos_unrealize(struct device *dev)
{
	bus_remove(dev->host->pio, &from_device(dev)->range);
}

static void put_size(struct cmos *c, unsigned reg, uint64_t size, uint64_t unit, uint64_t max)
{
	uint64_t value = MIN(size / unit, max);

	for (; max; max >>= 8, value >>= 8)
		c->ram[reg++] = (uint8_t)value;
}

/* Memory sizes where PC firmware has looked for them since the AT. */
static void put_sizes(struct cmos *c)
{
	const struct guest_memory *mem = c->dev.host->memory;
	uint64_t low = 0, high = 0;

	for (size_t i = 0; mem && i < mem->num_regions; i++) {
		if (mem->regions[i].start.v < LAYOUT_RAM64_START)
			low += mem->regions[i].size_bytes;
		else
			high += mem->regions[i].size_bytes;
	}
	put_size(c, 0x15, MIN(low, 640 * KIB), KIB, 0xffff);
	put_size(c, 0x17, low - MIN(low, MIB), KIB, 0xffff);
	put_size(c, 0x30, low - MIN(low, MIB), KIB, 0xffff);
	put_size(c, 0x34, low - MIN(low, 16 * MIB), 64 * KIB, 0xffff);
	put_size(c, 0x5b, high, 64 * KIB, 0xffffff);
}

static void cmos_reset(struct device *dev)
{
	struct cmos *c = from_device(dev);

	/* A battery keeps clock and RAM; only the interrupt enables fall. */
	pthread_mutex_lock(&c->lock);
	if (c->ram[REG_B] & B_SET)
		set_clock(c, c->frozen);
	c->index = 0;
	c->ram[REG_A] = A_DEFAULT;
	c->ram[REG_B] &= ~(B_SET | B_PERIODS);
	c->ram[REG_SHUTDOWN] = 0;
	c->latched_ns = 0;
	put_sizes(c);
	pthread_mutex_unlock(&c->lock);
}

static const struct state_field cmos_fields[] = {
	STATE_FIELD(STATE_U8, struct cmos, index),
	STATE_ARRAY(STATE_U8, struct cmos, ram),
	STATE_ARRAY(STATE_U8, struct cmos, frozen),
	STATE_FIELD(STATE_U64, struct cmos, offset_s),
	STATE_FIELD(STATE_U64, struct cmos, last_update_s),
};

static const struct state_layout cmos_layout = {
	.name = "cmos_mc146818",
	.version = 1,
	.fields = cmos_fields,
	.num_fields = ARRAY_SIZE(cmos_fields),
	.struct_size = sizeof(struct cmos),
};

static int cmos_save(struct device *dev, struct buf *out)
{
	return state_save(out, &cmos_layout, from_device(dev));
}

/* What offsets between two clocks can be: +- 100,000 years. Beyond it gmtime_r() would fail. */
#define OFFSET_MAX_S (100000LL * 366 * 86400)

static int cmos_load(struct device *dev, struct cursor *in, struct err *err)
{
	struct cmos *c = from_device(dev);
	int rc;

	pthread_mutex_lock(&c->lock);
	rc = state_load(in, &cmos_layout, c, err);
	if (rc >= 0) {
		int64_t offset = (int64_t)c->offset_s;

		if (offset < -OFFSET_MAX_S || offset > OFFSET_MAX_S)
			c->offset_s = 0;
		c->ram[REG_A] &= ~A_UIP;
		c->latched_ns = 0;
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

static void cmos_free(struct device *dev)
{
	struct cmos *c = from_device(dev);

	pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct device_ops cmos_ops = {
	.kind = "cmos_mc146818",
	.realize = cmos_realize,
	.unrealize = cmos_unrealize,
	.reset = cmos_reset,
	.save = cmos_save,
	.load = cmos_load,
	.free = cmos_free,
};

int cmos_mc146818_new(const struct device_host *host, struct device **ret_dev, struct err *err)
{
	struct cmos *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set_errno(err, -ENOMEM, "Cannot create the real-time clock");
	device_init(&c->dev, &cmos_ops, host, "__cmos", NULL);
	c->range = (struct bus_range){
		.name = "cmos_mc146818",
		.ops = &cmos_bus_ops,
		.arg = c,
		.base = LAYOUT_PORT_CMOS,
		.size_bytes = 2,
	};
	pthread_mutex_init(&c->lock, NULL);
	c->ram[REG_B] = B_24H;
	c->last_update_s = (uint64_t)time(NULL);
	cmos_reset(&c->dev);
	*ret_dev = &c->dev;
	return 0;
}
