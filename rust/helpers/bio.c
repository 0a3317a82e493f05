// SPDX-License-Identifier: GPL-2.0

#include <trace/events/block.h>

/* blk_account_io_flush(), which the block layer keeps for itself. */
__rust_helper void rmpath_bio_account_flush(struct bio *bio, unsigned long nsecs)
{
	part_stat_lock();
	part_stat_inc(bio->bi_bdev, ios[STAT_FLUSH]);
	part_stat_add(bio->bi_bdev, nsecs[STAT_FLUSH], nsecs);
	part_stat_unlock();
}

__rust_helper bool rmpath_bio_is_write(struct bio *bio)
{
	return op_is_write(bio_op(bio)) || op_is_flush(bio->bi_opf);
}

__rust_helper void rmpath_bio_clone_blkg_association(struct bio *dst, struct bio *src)
{
	bio_clone_blkg_association(dst, src);
}

__rust_helper void rmpath_trace_block_bio_remap(struct bio *bio, struct bio *orig)
{
	trace_block_bio_remap(bio, disk_devt(orig->bi_bdev->bd_disk), bio->bi_iter.bi_sector);
}
