/* SPDX-License-Identifier: Apache-2.0 */
/* The device: features, configuration space, state, life. Its threads: virtio_net_pair.c. */
#include "vmm/virtio/virtio_net_private.h"

#include "base/json.h"
#include "base/state.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>

#define BIT(n) (1ull << (n))

static struct virtio_net *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct virtio_net, vdev);
}

static struct virtio_net *from_dev(struct device *dev)
{
	return container_of(dev, struct virtio_net, vdev.dev);
}

/* --- virtio_ops ----------------------------------------------------------------------------- */

static void start(struct virtio_device *vdev)
{
	struct virtio_net *net = from_vdev(vdev);

	net->running_pairs = virtio_has_feature(vdev, VIRTIO_NET_F_MQ) ? net->num_pairs : 1;
	if (net->fresh)
		net->guest_offloads = vdev->features & NET_GUEST_OFFLOADS;
	atomic_store(&net->tap_ready, false);
	for (unsigned i = 0; i < net->running_pairs; i++)
		loop_post(net->pairs[i]->io.loop, &net->pairs[i]->start_task);
}

static void stop(struct virtio_device *vdev, struct quiesce *q)
{
	struct virtio_net *net = from_vdev(vdev);

	net->at_rest = q;
	for (unsigned i = 0; i < net->running_pairs; i++) {
		quiesce_hold(q);
		loop_post(net->pairs[i]->io.loop, &net->pairs[i]->stop_task);
	}
}

static void reset(struct virtio_device *vdev)
{
	struct virtio_net *net = from_vdev(vdev);

	net->fresh = true;
	net->guest_offloads = 0;
	atomic_store(&net->active_pairs, 1);
	for (unsigned i = 0; i < net->num_pairs; i++)
		net->pairs[i]->rx.pending = 0;
}

static uint64_t features(struct virtio_device *vdev)
{
	return from_vdev(vdev)->device_features;
}

/* 5.1.4 */
struct config_space {
	uint8_t mac[6];
	le16_t status;
	le16_t max_virtqueue_pairs;
	le16_t mtu;
};
static_assert(sizeof(struct config_space) == 12, "5.1.4");

static void config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len)
{
	const struct virtio_net *net = from_vdev(vdev);
	struct config_space space = {
		.status = le16(VIRTIO_NET_S_LINK_UP),
		.max_virtqueue_pairs = le16((uint16_t)net->num_pairs),
		.mtu = le16(net->mtu),
	};

	memcpy(space.mac, net->mac, sizeof(space.mac));
	if (offset < sizeof(space))
		memcpy(data, (const uint8_t *)&space + offset,
		       MIN((size_t)len, sizeof(space) - offset));
}

struct net_state {
	uint64_t guest_offloads;
	uint32_t active_pairs;
	bool fresh;
};

static const struct state_field state_fields[] = {
	STATE_FIELD(STATE_U64, struct net_state, guest_offloads),
	STATE_FIELD(STATE_U32, struct net_state, active_pairs),
	STATE_FIELD(STATE_BOOL, struct net_state, fresh),
};

static const struct state_layout state_layout = {
	.name = "virtio-net",
	.version = 1,
	.fields = state_fields,
	.num_fields = ARRAY_SIZE(state_fields),
	.struct_size = sizeof(struct net_state),
};

static int save(struct virtio_device *vdev, struct buf *out)
{
	struct virtio_net *net = from_vdev(vdev);
	struct net_state state = {
		.guest_offloads = net->guest_offloads,
		.active_pairs = atomic_load(&net->active_pairs),
		.fresh = net->fresh,
	};

	return state_save(out, &state_layout, &state);
}

static int load(struct virtio_device *vdev, struct cursor *in, struct err *err)
{
	struct virtio_net *net = from_vdev(vdev);
	unsigned max_pairs = virtio_has_feature(vdev, VIRTIO_NET_F_MQ) ? net->num_pairs : 1;
	struct net_state state = {.fresh = true};
	int rc = state_load(in, &state_layout, &state, err);

	if (rc < 0)
		return rc;
	if (state.guest_offloads & ~(vdev->features & NET_GUEST_OFFLOADS))
		return err_set(err, -EBADMSG, "offloads were not negotiated");
	if (!state.active_pairs || state.active_pairs > max_pairs)
		return err_set(err, -EBADMSG, "there are no %u queue pairs", state.active_pairs);
	net->guest_offloads = state.guest_offloads;
	net->fresh = state.fresh;
	atomic_store(&net->active_pairs, state.active_pairs);
	return 0;
}

static const struct virtio_ops virtio_ops = {
	.device_id = VIRTIO_ID_NET,
	.features = features,
	.config_read = config_read,
	.start = start,
	.stop = stop,
	.reset = reset,
	.save = save,
	.load = load,
};

/* --- the device ------------------------------------------------------------------------------ */

static int realize(struct device *dev, struct err *err)
{
	struct virtio_net *net = from_dev(dev);

	for (unsigned i = 0; i < net->num_pairs; i++) {
		char name[IOTHREAD_NAME_MAX];
		int rc;

		iothread_queue_name(dev->id, "net", "qp", i, name);
		rc = iothread_start(&net->pairs[i]->io, name, THREAD_NET, NULL, 0);
		if (rc < 0)
			return err_set_errno(err, rc, "%s: cannot start thread %s", dev->id, name);
	}
	return 0;
}

static void unrealize(struct device *dev)
{
	struct virtio_net *net = from_dev(dev);

	for (unsigned i = 0; i < net->num_pairs; i++)
		iothread_stop(&net->pairs[i]->io);
}

static void free_net(struct virtio_net *net)
{
	virtio_device_fini(&net->vdev);
	for (unsigned i = 0; i < net->num_pairs; i++)
		free(net->pairs[i]);
	free(net);
}

static void free_device(struct device *dev)
{
	free_net(from_dev(dev));
}

static uint64_t total(struct virtio_net *net, size_t offset)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < net->num_pairs; i++) {
		atomic_uint_fast64_t *counter = (void *)((char *)&net->pairs[i]->counters + offset);

		sum += atomic_load_explicit(counter, memory_order_relaxed);
	}
	return sum;
}

static struct json *counters(struct device *dev)
{
#define COUNTER(name_)                                                         \
	{                                                                      \
		.name = #name_, .offset = offsetof(struct net_counters, name_) \
	}
	static const struct {
		const char *name;
		size_t offset;
	} list[] = {
		COUNTER(rx_bytes), COUNTER(rx_frames), COUNTER(rx_dropped),
		COUNTER(tx_bytes), COUNTER(tx_frames), COUNTER(tx_dropped),
	};
#undef COUNTER
	AUTO_JSON struct json *object = json_new_object();

	for (size_t i = 0; object && i < ARRAY_SIZE(list); i++) {
		uint64_t value = total(from_dev(dev), list[i].offset);

		if (json_set(object, list[i].name, json_new_uint(value)) < 0)
			return NULL;
	}
	return TAKE(object);
}

static const struct device_ops device_ops = {
	.kind = "virtio-net",
	.realize = realize,
	.unrealize = unrealize,
	.reset = virtio_device_reset,
	.quiesce = virtio_device_quiesce,
	.resume = virtio_device_resume,
	.save = virtio_device_save,
	.load = virtio_device_load,
	.free = free_device,
	.counters = counters,
};

/* --- construction ---------------------------------------------------------------------------- */

/* Whether the kernel's tap can hand out such frames; leaves it without offloads. */
static bool tap_takes(struct tap *tap, unsigned flags)
{
	bool taken = tap_set_offload(tap, flags) == 0;

	tap_set_offload(tap, 0);
	return taken;
}

static uint64_t choose_features(const struct virtio_net_params *params, unsigned num_pairs)
{
	uint64_t f = BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_CTRL_VQ) |
		     BIT(VIRTIO_NET_F_MRG_RXBUF);
	const unsigned tso = TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

	if (params->mtu)
		f |= BIT(VIRTIO_NET_F_MTU);
	if (num_pairs > 1)
		f |= BIT(VIRTIO_NET_F_MQ);
	if (!params->offload_csum || !tap_takes(params->tap, TUN_F_CSUM))
		return f;
	f |= BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) |
	     BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS);
	if (params->offload_tso && tap_takes(params->tap, TUN_F_CSUM | tso))
		f |= BIT(VIRTIO_NET_F_HOST_TSO4) | BIT(VIRTIO_NET_F_HOST_TSO6) |
		     BIT(VIRTIO_NET_F_HOST_ECN) | BIT(VIRTIO_NET_F_GUEST_TSO4) |
		     BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN);
	if (params->offload_ufo && tap_takes(params->tap, TUN_F_CSUM | TUN_F_UFO))
		f |= BIT(VIRTIO_NET_F_HOST_UFO) | BIT(VIRTIO_NET_F_GUEST_UFO);
	return f;
}

static int new_pair(struct virtio_net *net, unsigned index)
{
	struct net_pair *pair = calloc(1, sizeof(*pair));

	if (!pair)
		return -ENOMEM;
	pair->net = net;
	pair->index = index;
	pair->start_task = (struct loop_task){.fn = net_pair_start, .arg = pair};
	pair->stop_task = (struct loop_task){.fn = net_pair_stop, .arg = pair};
	pair->refresh_task = (struct loop_task){.fn = net_pair_refresh, .arg = pair};
	net->pairs[index] = pair;
	net->num_pairs = index + 1;
	return 0;
}

static int check_params(const struct virtio_net_params *params, struct err *err)
{
	unsigned num_pairs = params->num_queues / 2;

	if (params->num_queues % 2 || !num_pairs || num_pairs > params->tap->num_queues)
		return err_set_kind(err, ERR_BAD_REQUEST, -EINVAL,
				    "%s: %u queues are not two for each of 1 to %u of the tap",
				    params->id, params->num_queues, params->tap->num_queues);
	return 0;
}

int virtio_net_new(const struct device_host *host, const struct virtio_net_params *params,
		   struct virtio_device **ret_vdev, struct err *err)
{
	unsigned num_pairs = params->num_queues / 2;
	struct virtio_net *net;
	int rc = check_params(params, err);

	if (rc < 0)
		return rc;
	net = calloc(1, sizeof(*net));
	if (!net)
		return err_set(err, -ENOMEM, "out of memory");
	net->tap = params->tap;
	memcpy(net->mac, params->mac, sizeof(net->mac));
	net->mtu = params->mtu;
	net->fresh = true;
	atomic_init(&net->active_pairs, 1);
	atomic_init(&net->tap_ready, false);
	net->device_features = choose_features(params, num_pairs);
	for (unsigned i = 0; rc == 0 && i < num_pairs; i++)
		rc = new_pair(net, i);
	if (rc < 0)
		err_set(err, rc, "out of memory");
	else
		rc = virtio_device_init(&net->vdev, &device_ops, &virtio_ops, host, params->id,
					2 * num_pairs + 1, params->queue_size, err);
	if (rc < 0) {
		free_net(net);
		return rc;
	}
	*ret_vdev = &net->vdev;
	return 0;
}
