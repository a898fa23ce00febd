/* SPDX-License-Identifier: Apache-2.0 */
/* What a chain asks for (virtio 1.2, 5.2.6). */
#include "base/endian.h"
#include "vmm/virtio/virtio_blk_private.h"

#define SECTOR	     512
#define HEADER_BYTES 16

/* 5.2.6 */
struct request_header {
	le32_t type;
	le32_t reserved;
	le64_t sector;
};
static_assert(sizeof(struct request_header) == HEADER_BYTES, "5.2.6");

/* 5.2.6.1 */
struct range_segment {
	le64_t sector;
	le32_t num_sectors;
	le32_t flags;
};
static_assert(sizeof(struct range_segment) == 16, "5.2.6.1");

/* Gives `len` bytes of the n iovecs, behind the first `skip`, to the request as its data. The
 * caller has checked that there are so many. */
static void take_data(struct blk_request *req, const struct iovec *iov, unsigned n, size_t skip,
		      size_t len)
{
	req->io.iov = req->data;
	req->io.iovcnt = 0;
	for (unsigned i = 0; i < n && len; i++) {
		size_t part;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		part = MIN(iov[i].iov_len - skip, len);
		req->data[req->io.iovcnt++] = (struct iovec){
			.iov_base = (uint8_t *)iov[i].iov_base + skip, .iov_len = part};
		skip = 0;
		len -= part;
	}
}

/* Whether [sector, sector + bytes) is on the disk; sets the request's byte range. */
static bool set_range(struct blk_request *req, uint64_t sector, uint64_t bytes)
{
	uint64_t capacity = req->queue->blk->info.size_bytes;

	if (sector > capacity >> SECTOR_SHIFT ||
	    !range_within(sector << SECTOR_SHIFT, bytes, 0, capacity))
		return false;
	req->io.offset = sector << SECTOR_SHIFT;
	req->io.len = bytes;
	return true;
}

static int prepare_read(struct blk_request *req, uint64_t sector)
{
	uint32_t bytes = req->chain.in_bytes - 1;

	if (!bytes || bytes % SECTOR || !set_range(req, sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	take_data(req, req->chain.iov + req->chain.num_out, req->chain.num_in, 0, bytes);
	req->io.op = BLOCK_READ;
	req->filled = true;
	return -1;
}

static int prepare_write(struct blk_request *req, uint64_t sector)
{
	uint32_t bytes = req->chain.out_bytes - HEADER_BYTES;

	if (req->queue->blk->info.readonly || !bytes || bytes % SECTOR ||
	    !set_range(req, sector, bytes))
		return VIRTIO_BLK_S_IOERR;
	take_data(req, req->chain.iov, req->chain.num_out, HEADER_BYTES, bytes);
	req->io.op = BLOCK_WRITE;
	req->flush_after = virtio_blk_writes_through(req->queue->blk);
	return -1;
}

static int prepare_range(struct blk_request *req, uint32_t type)
{
	bool discard = type == VIRTIO_BLK_T_DISCARD;
	const struct virtio_blk *blk = req->queue->blk;
	struct range_segment segment;
	uint32_t flags, sectors;

	if (!virtio_has_feature(&blk->vdev,
				discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	/* One segment is what the configuration offers. */
	if (req->chain.out_bytes != HEADER_BYTES + sizeof(segment))
		return VIRTIO_BLK_S_IOERR;
	virtqueue_chain_read(&req->chain, HEADER_BYTES, &segment, sizeof(segment));
	flags = le32_get(segment.flags);
	sectors = le32_get(segment.num_sectors);
	if (flags & ~(discard ? 0u : (unsigned)VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		return VIRTIO_BLK_S_UNSUPP;
	if (!sectors || sectors > (discard ? MAX_DISCARD : MAX_ZEROES) ||
	    !set_range(req, le64_get(segment.sector), (uint64_t)sectors << SECTOR_SHIFT))
		return VIRTIO_BLK_S_IOERR;
	req->io.op = discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
	req->io.unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	req->flush_after = !discard && virtio_blk_writes_through(blk);
	return -1;
}

/* 5.2.6.3: 20 bytes; a driver with more room gets zeroes behind them. */
static int get_id(struct blk_request *req)
{
	static const uint8_t zeroes[512];
	const char *serial = req->queue->blk->serial;
	size_t room = req->chain.in_bytes - 1;

	virtqueue_chain_write(&req->chain, 0, zeroes, MIN(room, sizeof(zeroes)));
	virtqueue_chain_write(&req->chain, 0, serial, MIN(room, (size_t)ID_BYTES));
	req->filled = room <= sizeof(zeroes);
	return VIRTIO_BLK_S_OK;
}

int virtio_blk_prepare(struct blk_request *req)
{
	struct request_header header;
	uint32_t type;

	virtqueue_chain_read(&req->chain, 0, &header, sizeof(header));
	type = le32_get(header.type);
	switch (type) {
	case VIRTIO_BLK_T_IN: return prepare_read(req, le64_get(header.sector));
	case VIRTIO_BLK_T_OUT: return prepare_write(req, le64_get(header.sector));
	case VIRTIO_BLK_T_FLUSH: req->io.op = BLOCK_FLUSH; return -1;
	case VIRTIO_BLK_T_GET_ID: return get_id(req);
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (req->queue->blk->info.readonly)
			return VIRTIO_BLK_S_IOERR;
		return prepare_range(req, type);
	default: return VIRTIO_BLK_S_UNSUPP;
	}
}

uint8_t *virtio_blk_status_byte(const struct virtqueue_chain *chain)
{
	if (chain->out_bytes < HEADER_BYTES || !chain->in_bytes)
		return NULL;
	for (unsigned i = chain->num_out + chain->num_in; i-- > chain->num_out;) {
		if (chain->iov[i].iov_len)
			return (uint8_t *)chain->iov[i].iov_base + chain->iov[i].iov_len - 1;
	}
	return NULL;
}
