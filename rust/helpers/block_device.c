// SPDX-License-Identifier: GPL-2.0

__rust_helper struct file *rmpath_get_file(struct file *file)
{
	return get_file(file);
}

__rust_helper u64 rmpath_bdev_nr_sectors(struct block_device *bdev)
{
	return bdev_nr_sectors(bdev);
}

__rust_helper unsigned int rmpath_bdev_logical_block_size(struct block_device *bdev)
{
	return bdev_logical_block_size(bdev);
}

__rust_helper bool rmpath_bdev_is_partition(struct block_device *bdev)
{
	return bdev_is_partition(bdev);
}

__rust_helper bool rmpath_bdev_is_zoned(struct block_device *bdev)
{
	return bdev_is_zoned(bdev);
}

__rust_helper bool rmpath_bdev_write_cache(struct block_device *bdev)
{
	return bdev_write_cache(bdev);
}

__rust_helper bool rmpath_bdev_read_only(struct block_device *bdev)
{
	return bdev_read_only(bdev);
}

__rust_helper bool rmpath_disk_has_slaves(struct gendisk *disk)
{
#ifdef CONFIG_BLOCK_HOLDER_DEPRECATED
	return !list_empty(&disk->slave_bdevs);
#else
	return false;
#endif
}

__rust_helper bool rmpath_disk_live(struct gendisk *disk)
{
	return disk_live(disk) && !test_bit(GD_DEAD, &disk->state);
}
