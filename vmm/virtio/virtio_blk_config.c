/* SPDX-License-Identifier: Apache-2.0 */
/* What the driver sees of the device: features and configuration space (virtio 1.2, 5.2.3
 * to 5.2.5).
 */
#include "base/state.h"
#include "vmm/virtio/virtio_blk_private.h"

#include <endian.h>
#include <errno.h>
#include <linux/virtio_config.h>
#include <string.h>

/* 5.2.5.2: what the driver has set; before that, a cache is there if it can be flushed. */
bool virtio_blk_writes_through(const struct virtio_blk *blk)
{
	uint8_t mode = __atomic_load_n(&blk->cache.mode, __ATOMIC_RELAXED);

	if (mode != CACHE_DEFAULT && virtio_has_feature(&blk->vdev, VIRTIO_BLK_F_CONFIG_WCE))
		return mode == CACHE_WRITE_THROUGH;
	return !virtio_has_feature(&blk->vdev, VIRTIO_BLK_F_FLUSH);
}

uint64_t virtio_blk_features(struct virtio_device *vdev)
{
	const struct virtio_blk *blk = virtio_blk_from(vdev);
	uint64_t f = 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
		     1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_TOPOLOGY |
		     1ULL << VIRTIO_BLK_F_CONFIG_WCE;

	if (blk->info.readonly)
		f |= 1ULL << VIRTIO_BLK_F_RO;
	if (blk->num_queues > 1)
		f |= 1ULL << VIRTIO_BLK_F_MQ;
	if (blk->info.can_discard)
		f |= 1ULL << VIRTIO_BLK_F_DISCARD;
	if (blk->info.can_write_zeroes)
		f |= 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	return f;
}

void virtio_blk_config_read(struct virtio_device *vdev, uint32_t offset, void *data, unsigned len)
{
	const struct virtio_blk *blk = virtio_blk_from(vdev);
	struct virtio_blk_config config = blk->config;

	if (vdev->status & VIRTIO_CONFIG_S_FEATURES_OK)
		config.wce = !virtio_blk_writes_through(blk);
	memset(data, 0, len);
	if (offset < sizeof(config))
		memcpy(data, (const uint8_t *)&config + offset,
		       MIN((size_t)len, sizeof(config) - offset));
}

/* Only the cache mode can be written (5.2.5). */
void virtio_blk_config_write(struct virtio_device *vdev, uint32_t offset, const void *data,
			     unsigned len)
{
	struct virtio_blk *blk = virtio_blk_from(vdev);
	uint8_t mode = *(const uint8_t *)data & 1 ? CACHE_WRITE_BACK : CACHE_WRITE_THROUGH;

	if (offset == offsetof(struct virtio_blk_config, wce) && len == 1 &&
	    virtio_has_feature(vdev, VIRTIO_BLK_F_CONFIG_WCE))
		__atomic_store_n(&blk->cache.mode, mode, __ATOMIC_RELAXED);
}

void virtio_blk_reset(struct virtio_device *vdev)
{
	virtio_blk_from(vdev)->cache.mode = CACHE_DEFAULT;
}

void virtio_blk_config_init(struct virtio_blk *blk)
{
	const struct block_info *info = &blk->info;
	struct virtio_blk_config *c = &blk->config;
	unsigned exp =
		(unsigned)__builtin_ctz(info->physical_block_size / info->logical_block_size);

	c->capacity = htole64(info->size_bytes >> SECTOR_SHIFT);
	c->seg_max = htole32(blk->seg_max);
	c->blk_size = htole32(info->logical_block_size);
	c->physical_block_exp = (uint8_t)exp;
	c->min_io_size = htole16((uint16_t)(1u << exp));
	c->wce = 1;
	c->num_queues = htole16((uint16_t)blk->num_queues);
	c->max_discard_sectors = htole32(MAX_DISCARD);
	c->max_discard_seg = htole32(1);
	c->discard_sector_alignment = htole32(info->logical_block_size >> SECTOR_SHIFT);
	c->max_write_zeroes_sectors = htole32(MAX_ZEROES);
	c->max_write_zeroes_seg = htole32(1);
	c->write_zeroes_may_unmap = info->can_discard;
}

static const struct state_field state_fields[] = {
	STATE_FIELD(STATE_U8, struct virtio_blk_cache, mode),
};
static const struct state_layout state_layout = {
	.name = "virtio-blk",
	.version = 1,
	.fields = state_fields,
	.num_fields = ARRAY_SIZE(state_fields),
	.struct_size = sizeof(struct virtio_blk_cache),
};

int virtio_blk_save(struct virtio_device *vdev, struct buf *out)
{
	return state_save(out, &state_layout, &virtio_blk_from(vdev)->cache);
}

int virtio_blk_load(struct virtio_device *vdev, struct cursor *in, struct err *err)
{
	struct virtio_blk *blk = virtio_blk_from(vdev);
	struct virtio_blk_cache cache = blk->cache;
	int r = state_load(in, &state_layout, &cache, err);

	if (r < 0)
		return r;
	if (cache.mode > CACHE_WRITE_BACK)
		return err_set(err, -EBADMSG, "%s: no cache mode %u", vdev->dev.id, cache.mode);
	blk->cache = cache;
	return 0;
}
