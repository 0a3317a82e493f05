// SPDX-License-Identifier: GPL-2.0

__rust_helper struct dentry *rmpath_debugfs_create_dir(const char *name, struct dentry *parent)
{
	return debugfs_create_dir(name, parent);
}

__rust_helper struct dentry *rmpath_debugfs_create_file(const char *name, umode_t mode,
							struct dentry *parent, void *data,
							const struct file_operations *fops)
{
	return debugfs_create_file(name, mode, parent, data, fops);
}

__rust_helper void rmpath_debugfs_remove(struct dentry *dentry)
{
	debugfs_remove(dentry);
}
