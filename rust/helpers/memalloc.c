// SPDX-License-Identifier: GPL-2.0

__rust_helper unsigned int rmpath_memalloc_noio_save(void)
{
	return memalloc_noio_save();
}

__rust_helper void rmpath_memalloc_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}
