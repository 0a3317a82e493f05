// SPDX-License-Identifier: GPL-2.0

__rust_helper struct workqueue_struct *rmpath_alloc_workqueue(const char *name, unsigned int flags)
{
	return alloc_workqueue("%s", flags, 0, name);
}
