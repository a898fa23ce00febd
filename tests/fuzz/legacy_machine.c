/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fuzz/legacy_machine.h"

#include "base/log.h"
#include "vmm/kvm/kvm.h"

#include <stdlib.h>

static void on_request(void *arg, enum guest_request request) {}

static void on_event(void *arg, const char *source, const char *event, const char *id) {}

void legacy_machine_init(struct legacy_machine *m)
{
	static struct kvm_vm no_kvm = {.dev_fd = -1, .fd = -1, .caps.max_irq_routes = 64};
	struct device_host *host = &m->host;

	log_set_level(LOG_ERROR);
	host->kvm = &no_kvm;
	host->guest_request = on_request;
	host->device_event = on_event;
	if (loop_new(&host->main_loop) < 0 || bus_new("pio", &host->pio) < 0 ||
	    bus_new("mmio", &host->mmio) < 0 || irq_router_new(&no_kvm, &host->irq) < 0 ||
	    ioapic_new(host->irq, host->mmio, &host->ioapic, NULL) < 0)
		abort();
}

void legacy_machine_access(struct legacy_machine *m, uint16_t base, uint8_t what, uint8_t value)
{
	unsigned len = value & 0xf ? 1 : value & 0x10 ? 2 : 4;
	uint8_t data[8] = {value, what, value, what};

	if (what & 8)
		bus_write(m->host.pio, base + (what & 7), data, len);
	else
		bus_read(m->host.pio, base + (what & 7), data, len);
}

static void quiesce(struct legacy_machine *m)
{
	/* None of them takes its time, so nobody is asked to wait. */
	if (m->dev->ops->quiesce)
		m->dev->ops->quiesce(m->dev, NULL);
}

static void resume(struct legacy_machine *m)
{
	if (m->dev->ops->resume)
		m->dev->ops->resume(m->dev);
}

void legacy_machine_save_and_load(struct legacy_machine *m)
{
	struct buf state = {0};
	struct cursor in;

	quiesce(m);
	if (m->dev->ops->save(m->dev, &state) < 0)
		abort();
	in = cursor_init(state.data, state.len);
	if (m->dev->ops->load(m->dev, &in, NULL) < 0 || cursor_left(&in))
		abort();
	buf_fini(&state);
	resume(m);
}

void legacy_machine_load_any(struct legacy_machine *m, struct cursor *c, size_t len)
{
	struct cursor in;
	struct err err = ERR_INIT;

	len = MIN(len, cursor_left(c));
	in = cursor_init(cursor_slice(c, len), len);
	quiesce(m);
	if (m->dev->ops->load(m->dev, &in, &err) < 0) {
		if (!err_count(&err))
			abort();
		m->dev->ops->reset(m->dev);
	}
	resume(m);
}
