// SPDX-License-Identifier: GPL-2.0

__rust_helper void rmpath_disk_set_state(struct gendisk *disk, unsigned int bit)
{
	set_bit(bit, &disk->state);
}

__rust_helper void rmpath_disk_clear_state(struct gendisk *disk, unsigned int bit)
{
	clear_bit(bit, &disk->state);
}

/* queue_limits_start_update(), without waiting for whoever is changing them. */
__rust_helper bool rmpath_queue_limits_trylock(struct request_queue *q)
{
	return mutex_trylock(&q->limits_lock);
}

__rust_helper struct queue_limits rmpath_bdev_limits(struct block_device *bdev)
{
	return *bdev_limits(bdev);
}

__rust_helper void rmpath_disk_set_stable_writes(struct gendisk *disk)
{
	mapping_set_stable_writes(disk->part0->bd_mapping);
}

__rust_helper bool rmpath_queue_limits_equal(const struct queue_limits *a,
					     const struct queue_limits *b)
{
	return !memcmp(a, b, sizeof(*a));
}

__rust_helper void rmpath_mutex_lock(struct mutex *lock)
{
	mutex_lock(lock);
}

__rust_helper void rmpath_set_geometry(struct hd_geometry *geo, unsigned char heads,
				       unsigned char sectors, unsigned short cylinders)
{
	*geo = (struct hd_geometry){ heads, sectors, cylinders, geo->start };
}

__rust_helper bool rmpath_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}
