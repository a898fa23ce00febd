/* SPDX-License-Identifier: Apache-2.0 */
/* Configuration space, window, BARs and vectors of a virtio function in the hands of a guest that
 * means harm, with another function beside it. */
#include "tests/unit/hostile_rig.h"
#include "tests/unit/pci_guest.h"

#include "base/endian.h"
#include "vmm/legacy/pvpanic_pci.h"
#include "vmm/memory/layout.h"
#include "vmm/pci/pci.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define CONFIG_BYTES 256
#define FUNCTION     (LAYOUT_ECAM_START + SLOT * 0x8000ULL)
#define COMMAND	     4
#define BAR_REGISTER 0x10

/* --- configuration space -------------------------------------------------------------------- */

static void read_config(struct pci_guest *t, uint8_t image[CONFIG_BYTES])
{
	for (unsigned i = 0; i < CONFIG_BYTES; i++)
		image[i] = (uint8_t)guest_config(t, i, 1);
}

/* What a driver goes by: identity, the list of capabilities and what they point to. */
static void assert_layout_is(struct pci_guest *t, const uint8_t before[CONFIG_BYTES])
{
	unsigned window = guest_find_capability(t, VIRTIO_PCI_CAP_PCI_CFG);
	uint8_t now[CONFIG_BYTES];

	read_config(t, now);
	for (unsigned i = 0; i < CONFIG_BYTES; i++) {
		bool writable = ranges_overlap(i, 1, COMMAND, 2) || i == 0x0c || i == 0x3c ||
				ranges_overlap(i, 1, BAR_REGISTER, 8) ||
				ranges_overlap(i, 1, window + 4, 16) ||
				i == guest_find_capability(t, 0) + 3;

		if (!writable && now[i] != before[i])
			fail_msg("byte %#x is %#x and was %#x", i, now[i], before[i]);
	}
}

static void power_cycle(struct pci_guest *t)
{
	device_fixture_quiesce(&t->f, &t->vdev->dev);
	t->vdev->dev.ops->reset(&t->vdev->dev);
	t->node->ops->reset(t->node);
	pci_segment_reset(t->f.segment);
	t->vdev->dev.ops->resume(&t->vdev->dev);
}

static void every_write_to_configuration_space_leaves_the_function_what_it_is(void **state)
{
	static const uint32_t values[] = {0, UINT32_MAX, 0x55aa55aa, 0x80000001};
	struct pci_guest *t = guest_new(false);
	uint8_t before[CONFIG_BYTES];

	read_config(t, before);
	for (uint64_t offset = 0; offset < 0x1000; offset += offset < CONFIG_BYTES + 8 ? 1 : 61) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
				uint8_t data[8];

				le_store(data, values[v] | (uint64_t)values[v] << 32, 8);
				bus_write(t->f.host.mmio, FUNCTION + offset, data, len);
				bus_read(t->f.host.mmio, FUNCTION + offset, data, len);
			}
			assert_layout_is(t, before);
		}
	}
	power_cycle(t);
	guest_bring_up(t);
	guest_assert_works(t);
	guest_free(t);
}

static void every_window_that_a_guest_can_set_stays_within_the_bar(void **state)
{
	static const uint32_t offsets[] = {0,	       VIRTIO_PCI_COMMON_STATUS,
					   0x37,       0x38,
					   ISR,	       DEVICE,
					   NOTIFY,     NOTIFY + 0xffc,
					   TABLE,      TABLE + 16 * (QUEUES + 1) - 4,
					   PBA,	       SIZE - 4,
					   SIZE,       0x7fffffff,
					   (1u << 31), UINT32_MAX};
	struct pci_guest *t = guest_new(false);
	unsigned cap = guest_find_capability(t, VIRTIO_PCI_CAP_PCI_CFG);

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		for (uint32_t len = 0; len <= 17; len++) {
			for (unsigned bar = 0; bar < 8; bar++) {
				guest_set_config(t, cap + 4, bar, 1);
				guest_set_config(t, cap + 8, offsets[i], 4);
				guest_set_config(t, cap + 12, len == 17 ? UINT32_MAX : len, 4);
				for (unsigned at = 16; at < 20; at++) {
					guest_set_config(t, cap + at, 0xff, 1);
					guest_config(t, cap + at, 1);
				}
				guest_set_config(t, cap + 16, UINT32_MAX, 4);
				guest_config(t, cap + 16, 4);
			}
		}
	}
	guest_reset(t);
	guest_bring_up(t);
	guest_assert_works(t);
	guest_free(t);
}

/* --- vCPUs that program one function at a time ---------------------------------------------- */

/* Where the BAR is sent: its home, the neighbour's BAR, RAM, ECAM, the edges of the windows, and
 * nowhere. */
static uint64_t places(struct pci_guest *t, struct device *neighbour, uint32_t random)
{
	switch (random % 8) {
	case 0:
	case 1: return t->bar;
	case 2: return pvpanic_pci_function(neighbour)->bars[0].home;
	case 3: return 0x100000;
	case 4: return LAYOUT_ECAM_START;
	case 5: return LAYOUT_MMIO32_START + LAYOUT_MMIO32_SIZE - SIZE;
	case 6: return UINT64_MAX & ~(SIZE - 1ULL);
	default: return (uint64_t)random << 12;
	}
}

struct vcpu {
	struct pci_guest *t;
	struct device *neighbour;
	uint32_t random;
	pthread_t thread;
};

static void access_mmio(struct vcpu *v, uint64_t addr, uint64_t value)
{
	uint32_t random = hostile_random(&v->random);
	unsigned len = 1u << (random & 3);
	uint8_t data[8];

	le_store(data, value, 8);
	if (random & 4)
		bus_write(v->t->f.host.mmio, addr, data, len);
	else
		bus_read(v->t->f.host.mmio, addr, data, len);
}

static void move_bar(struct vcpu *v)
{
	uint64_t base = places(v->t, v->neighbour, hostile_random(&v->random));

	guest_set_config(v->t, BAR_REGISTER, (uint32_t)base, 4);
	guest_set_config(v->t, BAR_REGISTER + 4, (uint32_t)(base >> 32), 4);
}

static void window(struct vcpu *v)
{
	unsigned cap = guest_find_capability(v->t, VIRTIO_PCI_CAP_PCI_CFG);

	guest_set_config(v->t, cap + 8, hostile_random(&v->random) % 0x40, 4);
	guest_set_config(v->t, cap + 12, 1u << hostile_random(&v->random) % 3, 4);
	guest_set_config(v->t, cap + 16, hostile_random(&v->random), 4);
	guest_config(v->t, cap + 16, 4);
}

static void port(struct vcpu *v)
{
	uint8_t data[4];

	le_store(data, 0x80000000 | SLOT << 11 | (hostile_random(&v->random) & 0xfc), 4);
	bus_write(v->t->f.host.pio, 0xcf8, data, 4);
	bus_read(v->t->f.host.pio, 0xcfc, data, 4);
}

static void set_address(struct vcpu *v, unsigned field, gpa_t addr)
{
	guest_set(v->t, field, addr.v, 4);
	guest_set(v->t, field + 4, addr.v >> 32, 4);
}

/* The driver's steps, none of which need succeed. */
static void start(struct vcpu *v)
{
	struct pci_guest *t = v->t;

	guest_set_status(t, ACK | DRIVER);
	guest_set(t, VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	guest_set(t, VIRTIO_PCI_COMMON_GF, 1, 4);
	guest_set_status(t, ACK | DRIVER | FEATURES_OK);
	for (unsigned queue = 0; queue < QUEUES; queue++) {
		const struct virtqueue_config *config = &t->rings[queue].config;

		guest_set(t, VIRTIO_PCI_COMMON_Q_SELECT, queue, 2);
		guest_set(t, VIRTIO_PCI_COMMON_Q_SIZE, config->size, 2);
		guest_set(t, VIRTIO_PCI_COMMON_Q_MSIX, queue, 2);
		set_address(v, VIRTIO_PCI_COMMON_Q_DESCLO, config->desc);
		set_address(v, VIRTIO_PCI_COMMON_Q_AVAILLO, config->avail);
		set_address(v, VIRTIO_PCI_COMMON_Q_USEDLO, config->used);
		guest_set(t, VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
	}
	guest_set_status(t, ACK | DRIVER | FEATURES_OK | DRIVER_OK);
	guest_set(t, NOTIFY + 4 * TX, TX, 2);
}

static void *run_vcpu(void *arg)
{
	struct vcpu *v = arg;

	for (unsigned i = 0; i < 2000; i++) {
		uint32_t random = hostile_random(&v->random), value = hostile_random(&v->random);
		uint64_t bar = v->t->bar;

		switch (random % 10) {
		case 0: (random >> 8 & 3 ? start : move_bar)(v); break;
		case 1: guest_set_config(v->t, COMMAND, value & 7, 2); break;
		case 2: guest_set_config(v->t, guest_find_capability(v->t, 0), value, 4); break;
		case 3: window(v); break;
		case 4: access_mmio(v, bar + TABLE + (value >> 8) % 0x40, value); break;
		case 5: access_mmio(v, bar + NOTIFY + (value >> 8) % 16, value); break;
		case 6: port(v); break;
		case 7: guest_set_status(v->t, value & 1 ? 0 : (uint8_t)(value >> 8)); break;
		default: access_mmio(v, bar + (random >> 8) % 0x40, value >> value % 32); break;
		}
	}
	return NULL;
}

static bool is_over(void *arg)
{
	return atomic_load((atomic_bool *)arg);
}

struct crowd {
	struct vcpu vcpus[3];
	atomic_bool over;
};

static void *run_crowd(void *arg)
{
	struct crowd *crowd = arg;

	for (size_t i = 0; i < ARRAY_SIZE(crowd->vcpus); i++)
		pthread_create(&crowd->vcpus[i].thread, NULL, run_vcpu, &crowd->vcpus[i]);
	for (size_t i = 0; i < ARRAY_SIZE(crowd->vcpus); i++)
		pthread_join(crowd->vcpus[i].thread, NULL);
	atomic_store(&crowd->over, true);
	return NULL;
}

static void ignore_request(void *arg, enum guest_request request) {}

static void vcpus_that_program_one_function_at_once_harm_themselves_only(void **state)
{
	struct pci_guest *t = guest_new(false);
	struct crowd crowd = {.over = false};
	struct device *neighbour;
	uint8_t before[CONFIG_BYTES];
	pthread_t thread;

	t->f.host.guest_request = ignore_request;
	assert_int_equal(pvpanic_pci_new(&t->f.host, t->f.segment, SLOT + 1, &neighbour, NULL), 0);
	assert_int_equal(neighbour->ops->realize(neighbour, NULL), 0);
	guest_bring_up(t);
	for (unsigned i = 0; i < 4; i++)
		guest_offer_output(t);
	read_config(t, before);
	for (uint32_t i = 0; i < ARRAY_SIZE(crowd.vcpus); i++)
		crowd.vcpus[i] = (struct vcpu){.t = t, .neighbour = neighbour, .random = 77777 + i};
	assert_int_equal(pthread_create(&thread, NULL, run_crowd, &crowd), 0);
	while (!device_fixture_run(&t->f, is_over, &crowd.over))
		;
	pthread_join(thread, NULL);
	/* They got somewhere. */
	assert_true(t->f.activated > 1 && t->f.resets > 1);
	assert_layout_is(t, before);
	power_cycle(t);
	neighbour->ops->reset(neighbour);
	guest_bring_up(t);
	guest_assert_works(t);
	neighbour->ops->unrealize(neighbour);
	neighbour->ops->free(neighbour);
	guest_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_write_to_configuration_space_leaves_the_function_what_it_is),
		cmocka_unit_test(every_window_that_a_guest_can_set_stays_within_the_bar),
		cmocka_unit_test(vcpus_that_program_one_function_at_once_harm_themselves_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
