// SPDX-License-Identifier: GPL-2.0

#include <linux/idr.h>

__rust_helper void rmpath_idr_init(struct idr *idr)
{
	idr_init(idr);
}

__rust_helper void rmpath_idr_preload_end(void)
{
	idr_preload_end();
}
