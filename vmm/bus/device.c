/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/bus/device.h"

#include <errno.h>
#include <string.h>

void quiesce_init(struct quiesce *q, struct loop *loop, void (*done)(struct loop_task *task),
		  void *arg)
{
	memset(q, 0, sizeof(*q));
	atomic_init(&q->holders, 1);
	q->loop = loop;
	q->done.fn = done;
	q->done.arg = arg;
}

void quiesce_hold(struct quiesce *q)
{
	atomic_fetch_add(&q->holders, 1);
}

void quiesce_release(struct quiesce *q)
{
	/* Read before the decrement: after it, whoever waits may have gone on and freed q. */
	struct loop *loop = q->loop;

	if (atomic_fetch_sub(&q->holders, 1) == 1)
		loop_post(loop, &q->done);
}

int device_init(struct device *dev, const struct device_ops *ops, const struct device_host *host,
		const char *id, struct err *err)
{
	size_t len = strlen(id);

	if (len >= sizeof(dev->id))
		return err_set_kind(err, ERR_BAD_REQUEST, -ENAMETOOLONG,
				    "The device id \"%s\" is longer than %zu bytes", id,
				    sizeof(dev->id) - 1);
	dev->ops = ops;
	dev->host = host;
	memcpy(dev->id, id, len + 1);
	dev->parent[0] = '\0';
	list_init(&dev->node);
	dev->realized = false;
	return 0;
}
