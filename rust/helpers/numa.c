// SPDX-License-Identifier: GPL-2.0

#include <linux/topology.h>

__rust_helper int rmpath_numa_node_id(void)
{
	return numa_node_id();
}

__rust_helper int rmpath_node_distance(int from, int to)
{
	return node_distance(from, to);
}

__rust_helper bool rmpath_node_online(int node)
{
	return node_online(node);
}

__rust_helper unsigned int rmpath_nr_node_ids(void)
{
	return nr_node_ids;
}

/* A device has the node of the bus it is on; a disk that is on none may know better itself. */
__rust_helper int rmpath_bdev_node(struct block_device *bdev)
{
	int node = dev_to_node(disk_to_dev(bdev->bd_disk));

	return node == NUMA_NO_NODE ? bdev->bd_disk->node_id : node;
}
