// SPDX-License-Identifier: GPL-2.0

unsigned int rmpath_memalloc_noio_save(void)
{
	return memalloc_noio_save();
}

void rmpath_memalloc_noio_restore(unsigned int flags)
{
	memalloc_noio_restore(flags);
}
