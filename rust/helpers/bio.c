// SPDX-License-Identifier: GPL-2.0

bool rmpath_bio_io_stat(struct bio *bio)
{
	return blk_queue_io_stat(bdev_get_queue(bio->bi_bdev));
}

void rmpath_bio_clone_blkg_association(struct bio *dst, struct bio *src)
{
	bio_clone_blkg_association(dst, src);
}
