/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * vCPU threads access the registers, the main thread brings input; one lock guards it all. After
 * every change update_irq() derives the interrupt line from the registers, and tells the IOAPIC
 * when it changed.
 *
 * The transmitter is always empty, so writing the holding register raises "holding register empty"
 * at once. The receive buffer is deeper than the chip's 16 bytes, which no software can tell, and
 * the character time-out is due immediately: whatever is below the trigger level is announced as
 * timed out. When the buffer is full the host's bytes stay with the chardev; uart tells it when the
 * guest has made room, so the receiver never overruns.
 */
#include "vmm/legacy/uart_16550.h"

#include "base/state.h"
#include "chardev/chardev.h"
#include "vmm/bus/bus.h"
#include "vmm/bus/irq.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR, NUM_REGS };

#define IER_RX	  0x01
#define IER_THRE  0x02
#define IER_LINE  0x04
#define IER_MODEM 0x08
#define IER_MASK  0x0f

#define IIR_NONE       0x01
#define IIR_MODEM      0x00
#define IIR_THRE       0x02
#define IIR_RX	       0x04
#define IIR_LINE       0x06
#define IIR_RX_TIMEOUT 0x0c
#define IIR_FIFO       0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_KEPT     0xc9 /* enable, DMA mode, trigger level */

#define LCR_DLAB 0x80

#define MCR_DTR	 0x01
#define MCR_RTS	 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10
#define MCR_MASK 0x1f

#define LSR_DATA_READY 0x01
#define LSR_OVERRUN    0x02
#define LSR_BREAK      0x10
#define LSR_THRE       0x20
#define LSR_IDLE       0x40
#define LSR_ERRORS     0x1e

#define MSR_DELTA_CTS 0x01
#define MSR_DELTA_RI  0x04 /* trailing edge only */
#define MSR_CTS	      0x10
#define MSR_DSR	      0x20
#define MSR_RI	      0x40
#define MSR_DCD	      0x80
#define MSR_DELTAS    0x0f

#define RX_SIZE 64
/* Room is announced when this much is free, so that bulk input does not cost a wake-up a byte. */
#define RX_KICK (RX_SIZE / 2)

struct uart_16550 {
	struct device dev;
	struct chardev *chardev;
	struct bus_range range;
	pthread_mutex_t lock; /* all below */
	bool line;	      /* of the interrupt */
	bool starved;	      /* the chardev was told that there is no room */
	/* saved */
	uint8_t ier, fcr, lcr, mcr, lsr_errors, msr_deltas, scratch, dll, dlm;
	bool thre_pending;
	uint8_t rx[RX_SIZE];
	uint8_t rx_head, rx_count;
};

static struct uart_16550 *from_device(struct device *dev)
{
	return container_of(dev, struct uart_16550, dev);
}

static unsigned rx_capacity(const struct uart_16550 *u)
{
	return u->fcr & FCR_ENABLE ? RX_SIZE : 1;
}

static unsigned rx_trigger(const struct uart_16550 *u)
{
	static const uint8_t levels[] = {1, 4, 8, 14};

	return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

/* Interrupt identification without the FIFO bits, by priority (data sheet, table III). */
static uint8_t pending_irq(const struct uart_16550 *u)
{
	if (u->ier & IER_LINE && u->lsr_errors)
		return IIR_LINE;
	if (u->ier & IER_RX && u->rx_count)
		return u->rx_count >= rx_trigger(u) ? IIR_RX : IIR_RX_TIMEOUT;
	if (u->ier & IER_THRE && u->thre_pending)
		return IIR_THRE;
	if (u->ier & IER_MODEM && u->msr_deltas)
		return IIR_MODEM;
	return IIR_NONE;
}

static void update_irq(struct uart_16550 *u)
{
	bool line = pending_irq(u) != IIR_NONE;

	if (line == u->line)
		return;
	u->line = line;
	ioapic_set(u->dev.host->ioapic, LAYOUT_IRQ_SERIAL, line);
}

/* Modem status lines: the outputs in loop-back, otherwise a peer that is always ready. */
static uint8_t modem_lines(uint8_t mcr)
{
	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
	       (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void rx_push(struct uart_16550 *u, uint8_t byte)
{
	if (u->rx_count >= rx_capacity(u)) {
		u->lsr_errors |= LSR_OVERRUN;
		return;
	}
	u->rx[(u->rx_head + u->rx_count) % RX_SIZE] = byte;
	u->rx_count++;
}

static uint8_t rx_pop(struct uart_16550 *u)
{
	uint8_t byte;

	if (!u->rx_count)
		return 0;
	byte = u->rx[u->rx_head];
	u->rx_head = (u->rx_head + 1) % RX_SIZE;
	u->rx_count--;
	return byte;
}

/* Whether the chardev is to be told of room, once the lock is released. */
static bool take_kick(struct uart_16550 *u)
{
	unsigned left = rx_capacity(u) - MIN((unsigned)u->rx_count, rx_capacity(u));

	if (!u->starved || (left < RX_KICK && u->rx_count) || u->mcr & MCR_LOOP)
		return false;
	u->starved = false;
	return true;
}

static uint8_t read_register(struct uart_16550 *u, unsigned reg)
{
	bool dlab = u->lcr & LCR_DLAB;
	uint8_t value = 0;

	switch (reg) {
	case REG_DATA: return dlab ? u->dll : rx_pop(u);
	case REG_IER: return dlab ? u->dlm : u->ier;
	case REG_IIR_FCR:
		value = pending_irq(u);
		if (value == IIR_THRE)
			u->thre_pending = false;
		return value | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
	case REG_LCR: return u->lcr;
	case REG_MCR: return u->mcr;
	case REG_LSR:
		value = LSR_THRE | LSR_IDLE | u->lsr_errors | (u->rx_count ? LSR_DATA_READY : 0);
		u->lsr_errors = 0;
		return value;
	case REG_MSR:
		value = modem_lines(u->mcr) | u->msr_deltas;
		u->msr_deltas = 0;
		return value;
	case REG_SCR: return u->scratch;
	default: return 0;
	}
}

static void write_fcr(struct uart_16550 *u, uint8_t value)
{
	/* Switching FIFO mode empties the FIFOs; other bits count only with the enable bit. */
	if ((value ^ u->fcr) & FCR_ENABLE || (value & FCR_ENABLE && value & FCR_CLEAR_RX)) {
		u->rx_count = 0;
		u->rx_head = 0;
	}
	u->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
}

static void write_mcr(struct uart_16550 *u, uint8_t value)
{
	uint8_t before = modem_lines(u->mcr);
	uint8_t after, changed;

	u->mcr = value & MCR_MASK;
	after = modem_lines(u->mcr);
	changed = (before ^ after) >> 4;
	if (after & MSR_RI) /* rising: not reported */
		changed &= ~MSR_DELTA_RI;
	u->msr_deltas |= changed & MSR_DELTAS;
}

/* Returns whether the byte goes out on the line. */
static bool write_register(struct uart_16550 *u, unsigned reg, uint8_t value)
{
	bool dlab = u->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		if (dlab) {
			u->dll = value;
			return false;
		}
		u->thre_pending = true;
		if (!(u->mcr & MCR_LOOP))
			return true;
		rx_push(u, value);
		return false;
	case REG_IER:
		if (dlab) {
			u->dlm = value;
			return false;
		}
		/* Enabling it while the register is empty raises it at once. */
		if (value & ~u->ier & IER_THRE)
			u->thre_pending = true;
		u->ier = value & IER_MASK;
		return false;
	case REG_IIR_FCR: write_fcr(u, value); return false;
	case REG_LCR: u->lcr = value; return false;
	case REG_MCR: write_mcr(u, value); return false;
	case REG_SCR: u->scratch = value; return false;
	default: return false; /* LSR and MSR are read only */
	}
}

/* Wider accesses are consecutive byte accesses, as on the ISA bus. */
static void uart_read(void *arg, uint64_t offset, void *data, unsigned len)
{
	struct uart_16550 *u = arg;
	uint8_t *p = data;
	bool kick;

	pthread_mutex_lock(&u->lock);
	for (unsigned i = 0; i < len; i++)
		p[i] = read_register(u, (unsigned)offset + i);
	update_irq(u);
	kick = take_kick(u);
	pthread_mutex_unlock(&u->lock);
	if (kick)
		chardev_kick(u->chardev);
}

static void uart_write(void *arg, uint64_t offset, const void *data, unsigned len)
{
	struct uart_16550 *u = arg;
	const uint8_t *p = data;
	bool kick;

	pthread_mutex_lock(&u->lock);
	/* Output happens under the lock so that bytes of two vCPUs leave in the order in which the
	 * registers saw them. */
	for (unsigned i = 0; i < len; i++)
		if (write_register(u, (unsigned)offset + i, p[i]) && u->chardev)
			chardev_write(u->chardev, &p[i], 1);
	update_irq(u);
	kick = take_kick(u);
	pthread_mutex_unlock(&u->lock);
	if (kick)
		chardev_kick(u->chardev);
}

static const struct bus_ops uart_bus_ops = {
	.read = uart_read,
	.write = uart_write,
};

/* --- input --- */

static size_t uart_can_receive(void *arg)
{
	struct uart_16550 *u = arg;
	size_t room = 0;

	pthread_mutex_lock(&u->lock);
	if (!(u->mcr & MCR_LOOP) && u->rx_count < rx_capacity(u))
		room = rx_capacity(u) - u->rx_count;
	u->starved = room == 0;
	pthread_mutex_unlock(&u->lock);
	return room;
}

static void uart_receive(void *arg, const uint8_t *data, size_t len)
{
	struct uart_16550 *u = arg;

	pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i < len; i++)
		rx_push(u, data[i]);
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

static const struct chardev_client uart_client = {
	.can_receive = uart_can_receive,
	.receive = uart_receive,
};

/* --- life --- */

static int uart_realize(struct device *dev, struct err *err)
{
	struct uart_16550 *u = from_device(dev);

	return bus_add(dev->host->pio, &u->range, err);
}

static void uart_unrealize(struct device *dev)
{
	struct uart_16550 *u = from_device(dev);

	bus_remove(dev->host->pio, &u->range);
}

static void uart_reset(struct device *dev)
{
	struct uart_16550 *u = from_device(dev);

	pthread_mutex_lock(&u->lock);
	u->ier = u->fcr = u->lcr = u->mcr = u->scratch = 0;
	u->lsr_errors = u->msr_deltas = 0;
	u->dll = 12; /* 9600 baud; undefined in the data sheet */
	u->dlm = 0;
	u->thre_pending = false;
	u->rx_head = u->rx_count = 0;
	update_irq(u);
	pthread_mutex_unlock(&u->lock);
}

/* Pause and resume happen on the main thread, where the chardev's client is set. */
static void uart_quiesce(struct device *dev, struct quiesce *q)
{
	struct uart_16550 *u = from_device(dev);

	if (u->chardev)
		chardev_attach(u->chardev, NULL, NULL);
}

static void uart_resume(struct device *dev)
{
	struct uart_16550 *u = from_device(dev);

	if (u->chardev)
		chardev_attach(u->chardev, &uart_client, u);
}

static const struct state_field uart_fields[] = {
	STATE_FIELD(STATE_U8, struct uart_16550, ier),
	STATE_FIELD(STATE_U8, struct uart_16550, fcr),
	STATE_FIELD(STATE_U8, struct uart_16550, lcr),
	STATE_FIELD(STATE_U8, struct uart_16550, mcr),
	STATE_FIELD(STATE_U8, struct uart_16550, lsr_errors),
	STATE_FIELD(STATE_U8, struct uart_16550, msr_deltas),
	STATE_FIELD(STATE_U8, struct uart_16550, scratch),
	STATE_FIELD(STATE_U8, struct uart_16550, dll),
	STATE_FIELD(STATE_U8, struct uart_16550, dlm),
	STATE_FIELD(STATE_BOOL, struct uart_16550, thre_pending),
	STATE_ARRAY(STATE_U8, struct uart_16550, rx),
	STATE_FIELD(STATE_U8, struct uart_16550, rx_head),
	STATE_FIELD(STATE_U8, struct uart_16550, rx_count),
};

static const struct state_layout uart_layout = {
	.name = "uart_16550",
	.version = 1,
	.fields = uart_fields,
	.num_fields = ARRAY_SIZE(uart_fields),
	.struct_size = sizeof(struct uart_16550),
};

static int uart_save(struct device *dev, struct buf *out)
{
	return state_save(out, &uart_layout, from_device(dev));
}

static int uart_load(struct device *dev, struct cursor *in, struct err *err)
{
	struct uart_16550 *u = from_device(dev);
	int rc;

	pthread_mutex_lock(&u->lock);
	rc = state_load(in, &uart_layout, u, err);
	if (rc >= 0) {
		u->ier &= IER_MASK;
		u->mcr &= MCR_MASK;
		u->lsr_errors &= LSR_ERRORS;
		u->msr_deltas &= MSR_DELTAS;
		u->rx_head %= RX_SIZE;
		u->rx_count = (uint8_t)MIN((unsigned)u->rx_count, rx_capacity(u));
		/* The IOAPIC's state has the line's level already: no new edge. */
		u->line = pending_irq(u) != IIR_NONE;
	}
	pthread_mutex_unlock(&u->lock);
	return rc;
}

static void uart_free(struct device *dev)
{
	struct uart_16550 *u = from_device(dev);

	pthread_mutex_destroy(&u->lock);
	free(u);
}

static const struct device_ops uart_ops = {
	.kind = "uart_16550",
	.realize = uart_realize,
	.unrealize = uart_unrealize,
	.reset = uart_reset,
	.quiesce = uart_quiesce,
	.resume = uart_resume,
	.save = uart_save,
	.load = uart_load,
	.free = uart_free,
};

int uart_16550_new(const struct device_host *host, struct chardev *chardev, struct device **ret_dev,
		   struct err *err)
{
	struct uart_16550 *u = calloc(1, sizeof(*u));

	if (!u)
		return err_set_errno(err, -ENOMEM, "Cannot create the serial port");
	device_init(&u->dev, &uart_ops, host, "__serial", NULL);
	u->chardev = chardev;
	u->range = (struct bus_range){
		.name = "uart_16550",
		.ops = &uart_bus_ops,
		.arg = u,
		.base = LAYOUT_PORT_COM1,
		.size_bytes = NUM_REGS,
	};
	pthread_mutex_init(&u->lock, NULL);
	uart_reset(&u->dev);
	*ret_dev = &u->dev;
	return 0;
}
