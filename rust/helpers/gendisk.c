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

unsigned int rmpath_bdev_max_secure_erase_sectors(struct block_device *bdev)
{
	return bdev_max_secure_erase_sectors(bdev);
}

bool rmpath_queue_limits_equal(const struct queue_limits *a, const struct queue_limits *b)
{
	return !memcmp(a, b, sizeof(*a));
}

void rmpath_mutex_lock(struct mutex *lock)
{
	mutex_lock(lock);
}
