/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/legacy/uart_16550.h"

#include "tests/unit/device_rig.h"

#include "base/cursor.h"
#include "chardev/chardev.h"
#include "vmm/memory/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#define COM1 LAYOUT_PORT_COM1

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define FCR IIR

/* A UART whose line is a pseudo-terminal; `line` is its other end. */
struct fixture {
	struct device_rig rig;
	struct loop *loop;
	struct chardev *chardev;
	struct device *dev;
	int line;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const struct chardev_params params = {.mode = CHARDEV_PTY, .input = true};

	*state = f;
	if (!f || !device_rig_init(&f->rig) || loop_new(&f->loop) < 0 ||
	    chardev_new(f->loop, &params, &f->chardev, NULL) < 0)
		return -1;
	f->line = open(chardev_path(f->chardev), O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (f->line < 0 || uart_16550_new(&f->rig.host, f->chardev, &f->dev, NULL) < 0 ||
	    f->dev->ops->realize(f->dev, NULL) < 0)
		return -1;
	f->dev->ops->resume(f->dev);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->dev->ops->quiesce(f->dev, NULL);
	f->dev->ops->unrealize(f->dev);
	f->dev->ops->free(f->dev);
	close(f->line);
	chardev_free(f->chardev);
	loop_free(f->loop);
	device_rig_fini(&f->rig);
	free(f);
	return 0;
}

static void stop_loop(struct loop_timer *t, void *arg)
{
	loop_stop(arg);
}

static void run_loop(struct fixture *f, unsigned ms)
{
	struct loop_timer *t = NULL;

	assert_int_equal(loop_timer_new(f->loop, stop_loop, f->loop, &t), 0);
	loop_timer_start(t, ms, 0);
	loop_run(f->loop);
	loop_timer_free(t);
}

static uint8_t in(struct fixture *f, unsigned reg)
{
	return (uint8_t)rig_in(f->rig.host.pio, COM1 + reg, 1);
}

static void out(struct fixture *f, unsigned reg, uint8_t value)
{
	rig_out(f->rig.host.pio, COM1 + reg, value, 1);
}

static void start(struct fixture *f)
{
	char buf[4096];

	f->dev->ops->reset(f->dev);
	while (read(f->line, buf, sizeof(buf)) > 0)
		;
}

static void linux_finds_a_16550a(void **state)
{
	struct fixture *f = *state;

	/* The steps of the kernel's autoconfig(). */
	start(f);
	out(f, IER, 0);
	assert_int_equal(in(f, IER), 0);
	out(f, IER, 0x0f);
	assert_int_equal(in(f, IER), 0x0f);
	out(f, IER, 0xff);
	assert_int_equal(in(f, IER), 0x0f); /* no UUE bit: not an XScale */
	out(f, IER, 0);
	out(f, MCR, 0x1a);
	assert_int_equal(in(f, MSR) & 0xf0, 0x90);
	out(f, MCR, 0);
	out(f, FCR, 1);
	assert_int_equal(in(f, IIR) & 0xc0, 0xc0);
	out(f, LCR, 0x80);
	out(f, FCR, 0x21);
	assert_int_equal(in(f, IIR) >> 5, 6); /* no 64-byte FIFO: not a 16750 */
	out(f, LCR, 0);
	out(f, FCR, 0);
	assert_int_equal(in(f, IIR), 1);
	/* The scratch register tells it from an 8250. */
	out(f, SCR, 0xa5);
	assert_int_equal(in(f, SCR), 0xa5);
	out(f, SCR, 0x5a);
	assert_int_equal(in(f, SCR), 0x5a);
}

static void divisor_latch_hides_data_and_interrupt_enable(void **state)
{
	struct fixture *f = *state;

	start(f);
	out(f, IER, 2);
	out(f, LCR, 0x83);
	out(f, DATA, 0x01);
	out(f, IER, 0x02);
	assert_int_equal(in(f, DATA), 1);
	assert_int_equal(in(f, IER), 2);
	out(f, IER, 0x7f);
	out(f, LCR, 0x03);
	assert_int_equal(in(f, IER), 2);
	run_loop(f, 5);
	assert_int_equal(read(f->line, &(char){0}, 1), -1); /* nothing was sent */
}

static void transmitted_bytes_appear_on_the_line_in_order(void **state)
{
	struct fixture *f = *state;
	const char text[] = "Linux version 6.1\r\n";
	char got[64] = {0};

	start(f);
	for (unsigned i = 0; text[i]; i++) {
		assert_int_equal(in(f, LSR) & 0x60, 0x60);
		out(f, DATA, (uint8_t)text[i]);
	}
	run_loop(f, 10);
	assert_int_equal(read(f->line, got, sizeof(got)), sizeof(text) - 1);
	assert_string_equal(got, text);
}

static void empty_transmitter_interrupts_when_enabled_and_after_each_byte(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_int_equal(in(f, IIR), 1);
	out(f, IER, 2);
	assert_int_equal(in(f, IIR), 2);
	assert_int_equal(in(f, IIR), 1); /* reading it cleared it */
	/* The kernel's test for a missing THRE interrupt: off and on again. */
	out(f, IER, 0);
	out(f, IER, 2);
	assert_int_equal(in(f, IIR), 2);
	out(f, DATA, 'x');
	assert_int_equal(in(f, IIR), 2);
	out(f, IER, 0);
	assert_int_equal(in(f, IIR), 1);
}

static void received_bytes_are_announced_and_read_in_order(void **state)
{
	struct fixture *f = *state;

	start(f);
	out(f, FCR, 0xc1); /* FIFO, trigger at 14 */
	out(f, IER, 1);
	assert_int_equal(write(f->line, "abc", 3), 3);
	run_loop(f, 10);
	assert_int_equal(in(f, LSR) & 1, 1);
	assert_int_equal(in(f, IIR) & 0x0f, 0x0c); /* below the trigger: time-out */
	assert_int_equal(write(f->line, "0123456789ABC", 13), 13);
	run_loop(f, 10);
	assert_int_equal(in(f, IIR) & 0x0f, 0x04);
	assert_int_equal(in(f, DATA), 'a');
	assert_int_equal(in(f, DATA), 'b');
	assert_int_equal(in(f, DATA), 'c');
	for (unsigned i = 0; i < 13; i++)
		assert_int_equal(in(f, DATA), "0123456789ABC"[i]);
	assert_int_equal(in(f, LSR) & 1, 0);
	assert_int_equal(in(f, IIR) & 0x0f, 1);
	assert_int_equal(in(f, DATA), 0);
}

static void input_beyond_the_buffer_waits_and_nothing_is_lost(void **state)
{
	struct fixture *f = *state;
	char sent[1000], got[1000];
	size_t n = 0;

	start(f);
	out(f, FCR, 1);
	for (unsigned i = 0; i < sizeof(sent); i++)
		sent[i] = (char)('a' + i % 23);
	assert_int_equal(write(f->line, sent, sizeof(sent)), sizeof(sent));
	for (unsigned round = 0; round < 200 && n < sizeof(got); round++) {
		run_loop(f, 2);
		while (n < sizeof(got) && in(f, LSR) & 1)
			got[n++] = (char)in(f, DATA);
		assert_int_equal(in(f, LSR) & 2, 0); /* never an overrun */
	}
	assert_int_equal(n, sizeof(got));
	assert_memory_equal(got, sent, n);
}

static void without_fifo_one_byte_at_a_time(void **state)
{
	struct fixture *f = *state;

	start(f);
	out(f, IER, 1);
	assert_int_equal(write(f->line, "xy", 2), 2);
	run_loop(f, 10);
	assert_int_equal(in(f, IIR), 4);
	assert_int_equal(in(f, DATA), 'x');
	assert_int_equal(in(f, LSR) & 1, 0);
	run_loop(f, 10);
	assert_int_equal(in(f, DATA), 'y');
}

static void loopback_receives_what_it_sends_and_isolates_the_line(void **state)
{
	struct fixture *f = *state;

	start(f);
	out(f, FCR, 1);
	out(f, MCR, 0x10);
	out(f, DATA, 'L');
	assert_int_equal(write(f->line, "z", 1), 1);
	run_loop(f, 10);
	assert_int_equal(in(f, DATA), 'L');
	assert_int_equal(in(f, LSR) & 1, 0);
	assert_int_equal(read(f->line, &(char){0}, 1), -1);
	/* What waited outside comes in once the loop is open again. */
	out(f, MCR, 0);
	run_loop(f, 10);
	assert_int_equal(in(f, DATA), 'z');
	/* Overrun inside the loop is a line status interrupt. */
	out(f, FCR, 0);
	out(f, IER, 4);
	out(f, MCR, 0x10);
	out(f, DATA, 1);
	out(f, DATA, 2);
	assert_int_equal(in(f, IIR), 6);
	assert_int_equal(in(f, LSR) & 2, 2);
	assert_int_equal(in(f, LSR) & 2, 0);
	assert_int_equal(in(f, IIR), 1);
}

static void modem_status_reports_changes_once(void **state)
{
	struct fixture *f = *state;

	start(f);
	assert_int_equal(in(f, MSR), 0xb0);
	out(f, IER, 8);
	out(f, MCR, 0x10);
	assert_int_equal(in(f, IIR), 0);
	assert_int_equal(in(f, MSR), 0x0b);
	assert_int_equal(in(f, MSR), 0);
	assert_int_equal(in(f, IIR), 1);
	out(f, MCR, 0x14); /* RI rises: no report */
	assert_int_equal(in(f, MSR), 0x40);
	out(f, MCR, 0x10); /* falls: report */
	assert_int_equal(in(f, MSR), 0x04);
}

static void interrupt_arrives_at_the_vcpu(void **state)
{
	struct fixture *f = *state;
	struct bus *mmio = f->rig.host.mmio;

	start(f);
	DEVICE_RIG_NEEDS_KVM(&f->rig);
	device_rig_clear_irr(&f->rig);
	rig_out(mmio, LAYOUT_IOAPIC, 0x10 + 4 * 2, 4);
	rig_out(mmio, LAYOUT_IOAPIC + 0x10, 0x34, 4);
	out(f, IER, 2);
	assert_true(device_rig_irr(&f->rig, 0x34));
	/* Handled to the end, the next one is a new edge. */
	device_rig_clear_irr(&f->rig);
	assert_int_equal(in(f, IIR), 2);
	out(f, DATA, 'x');
	assert_true(device_rig_irr(&f->rig, 0x34));
	rig_out(mmio, LAYOUT_IOAPIC + 0x10, 0x10000, 4);
}

static void every_register_width_and_value_is_survived(void **state)
{
	struct fixture *f = *state;

	start(f);
	for (unsigned value = 0; value < 256; value++)
		for (unsigned reg = 0; reg < 9; reg++)
			for (unsigned len = 1; len <= 8; len++) {
				rig_out(f->rig.host.pio, COM1 + reg, value * 0x0101010101010101ULL,
					len);
				rig_in(f->rig.host.pio, COM1 + reg, len);
			}
	run_loop(f, 10);
	start(f);
}

static void state_survives_save_and_load(void **state)
{
	struct fixture *f = *state;
	AUTO_BUF struct buf saved = {0};
	struct err err = ERR_INIT;
	struct cursor c;

	start(f);
	out(f, FCR, 0x81);
	out(f, IER, 3);
	out(f, SCR, 0x99);
	assert_int_equal(write(f->line, "keep", 4), 4);
	run_loop(f, 10);
	assert_int_equal(f->dev->ops->save(f->dev, &saved), 0);
	f->dev->ops->reset(f->dev);
	c = cursor_init(saved.data, saved.len);
	assert_int_equal(f->dev->ops->load(f->dev, &c, &err), 0);
	assert_int_equal(in(f, SCR), 0x99);
	assert_int_equal(in(f, IER), 3);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(in(f, DATA), "keep"[i]);
	/* Any bytes in the body give a UART that works within its bounds. */
	for (unsigned i = 0; i < 256; i++) {
		memset(saved.data + saved.len - 76, (int)i, 76);
		saved.data[saved.len - 76 + 9] = i & 1;
		c = cursor_init(saved.data, saved.len);
		assert_int_equal(f->dev->ops->load(f->dev, &c, &err), 0);
		out(f, LCR, 0);
		for (unsigned k = 0; k < 300; k++)
			in(f, DATA);
		assert_int_equal(in(f, LSR) & 1, 0);
		run_loop(f, 1);
	}
	start(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(linux_finds_a_16550a),
		cmocka_unit_test(divisor_latch_hides_data_and_interrupt_enable),
		cmocka_unit_test(transmitted_bytes_appear_on_the_line_in_order),
		cmocka_unit_test(empty_transmitter_interrupts_when_enabled_and_after_each_byte),
		cmocka_unit_test(received_bytes_are_announced_and_read_in_order),
		cmocka_unit_test(input_beyond_the_buffer_waits_and_nothing_is_lost),
		cmocka_unit_test(without_fifo_one_byte_at_a_time),
		cmocka_unit_test(loopback_receives_what_it_sends_and_isolates_the_line),
		cmocka_unit_test(modem_status_reports_changes_once),
		cmocka_unit_test(interrupt_arrives_at_the_vcpu),
		cmocka_unit_test(every_register_width_and_value_is_survived),
		cmocka_unit_test(state_survives_save_and_load),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
