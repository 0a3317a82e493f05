// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>

u32 rmpath_this_cpu_inc_return_4(u32 __percpu *pcp)
{
	return this_cpu_inc_return(*pcp);
}

void rmpath_this_cpu_write_4(u32 __percpu *pcp, u32 val)
{
	this_cpu_write(*pcp, val);
}
