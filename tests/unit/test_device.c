/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus/device.h"

#include "base/thread.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct pause {
	struct quiesce q;
	struct loop *loop;
	unsigned done;
};

static void on_done(struct loop_task *task)
{
	struct pause *p = task->arg;

	p->done++;
	loop_stop(p->loop);
}

static void *release_later(void *arg)
{
	struct pause *p = arg;

	usleep(2000);
	quiesce_release(&p->q);
	return NULL;
}

static void done_comes_once_after_the_last_release(void **state)
{
	struct pause p = {0};
	struct thread threads[4] = {0};

	assert_int_equal(loop_new(&p.loop), 0);
	for (unsigned round = 1; round <= 50; round++) {
		quiesce_init(&p.q, p.loop, on_done, &p);
		for (unsigned i = 0; i < ARRAY_SIZE(threads); i++) {
			quiesce_hold(&p.q);
			assert_int_equal(thread_start(&threads[i], "holder", THREAD_VIRTIO,
						      release_later, &p),
					 0);
		}
		for (unsigned i = 0; i < ARRAY_SIZE(threads); i++)
			thread_join(&threads[i]);
		assert_int_equal(p.done, round - 1);
		quiesce_release(&p.q);
		loop_run(p.loop);
		assert_int_equal(p.done, round);
	}
	loop_free(p.loop);
}

static void id_of_legal_length_is_kept(void **state)
{
	char id[DEVICE_ID_MAX];
	struct device dev;

	memset(id, 'x', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	assert_int_equal(device_init(&dev, NULL, NULL, id, NULL), 0);
	assert_string_equal(dev.id, id);
	assert_string_equal(dev.parent, "");
}

static void id_that_is_too_long_is_refused_by_name(void **state)
{
	char id[DEVICE_ID_MAX + 1];
	struct err err = ERR_INIT;
	struct device dev;

	memset(id, 'x', sizeof(id));
	id[sizeof(id) - 1] = '\0';
	assert_int_equal(device_init(&dev, NULL, NULL, id, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err_message(&err, 0), id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(done_comes_once_after_the_last_release),
		cmocka_unit_test(id_of_legal_length_is_kept),
		cmocka_unit_test(id_that_is_too_long_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
