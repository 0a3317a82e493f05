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

void *rmpath_this_cpu_take_ptr(void *__percpu *pcp)
{
	return this_cpu_xchg(*pcp, NULL);
}

bool rmpath_this_cpu_put_ptr(void *__percpu *pcp, void *ptr)
{
	return !this_cpu_cmpxchg(*pcp, NULL, ptr);
}

void *rmpath_per_cpu_take_ptr(void *__percpu *pcp, unsigned int cpu)
{
	return cpu_possible(cpu) ? xchg(per_cpu_ptr(pcp, cpu), NULL) : NULL;
}
