/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/virtqueue_fixture.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct vq_fixture *vq_fixture_new(uint16_t size, uint64_t features)
{
	struct guest_memory_params params = {.size_bytes = MEMORY_BYTES};
	struct vq_fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;

	assert_non_null(f);
	assert_int_equal(guest_memory_new(&params, NULL, &f->memory, &err), 0);
	vring_driver_init(&f->driver, f->memory, RINGS, size);
	f->chain = (struct virtqueue_chain){.iov = f->iov, .max_iov = MAX_IOV};
	assert_int_equal(virtqueue_start(&f->vq, f->memory, &f->driver.config, features, &err), 0);
	return f;
}

void vq_fixture_free(struct vq_fixture *f)
{
	virtqueue_reset(&f->vq);
	guest_memory_free(f->memory);
	free(f);
}

int vq_pop(struct vq_fixture *f)
{
	return virtqueue_pop(&f->vq, &f->chain);
}

void *vq_host(struct vq_fixture *f, uint64_t addr)
{
	void *p;

	assert_int_equal(guest_memory_map(f->memory, gpa(addr), 1, GUEST_READ, &p), 0);
	return p;
}

uint16_t vq_add_one(struct vq_fixture *f)
{
	struct vring_buffer buffer = {.addr = DATA, .len = 16, .write = true};

	return vring_add(&f->driver, &buffer, 1);
}
