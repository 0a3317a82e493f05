// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>

u32 rmpath_this_cpu_inc_return_4(u32 __percpu *pcp)
{
	return this_cpu_inc_return(*pcp);
}

void rmpath_this_cpu_add_4(u32 __percpu *pcp, u32 val)
{
	this_cpu_add(*pcp, val);
}

u32 rmpath_per_cpu_sum_4(u32 __percpu *pcp)
{
	u32 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += *per_cpu_ptr(pcp, cpu);
	return sum;
}

void rmpath_this_cpu_write_4(u32 __percpu *pcp, u32 val)
{
	this_cpu_write(*pcp, val);
}
