// SPDX-License-Identifier: GPL-2.0

void rmpath_disk_set_state(struct gendisk *disk, unsigned int bit)
{
	set_bit(bit, &disk->state);
}

void rmpath_disk_clear_state(struct gendisk *disk, unsigned int bit)
{
	clear_bit(bit, &disk->state);
}

/* The limits themselves are computed anew, so the old ones are of no use. */
void rmpath_queue_limits_lock(struct request_queue *q)
{
	(void)queue_limits_start_update(q);
}

unsigned int rmpath_bdev_max_discard_sectors(struct block_device *bdev)
{
	return bdev_max_discard_sectors(bdev);
}

void rmpath_mutex_lock(struct mutex *lock)
{
	mutex_lock(lock);
}
