// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu.h>

__rust_helper u32 rmpath_this_cpu_inc_return_4(u32 __percpu *pcp)
{
	return this_cpu_inc_return(*pcp);
}

__rust_helper void rmpath_this_cpu_add_4(u32 __percpu *pcp, u32 val)
{
	this_cpu_add(*pcp, val);
}

__rust_helper u32 rmpath_per_cpu_sum_4(u32 __percpu *pcp)
{
	u32 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += *per_cpu_ptr(pcp, cpu);
	return sum;
}

__rust_helper void rmpath_this_cpu_write_4(u32 __percpu *pcp, u32 val)
{
	this_cpu_write(*pcp, val);
}

__rust_helper void *rmpath_this_cpu_take_ptr(void *__percpu *pcp)
{
	return this_cpu_xchg(*pcp, NULL);
}

__rust_helper bool rmpath_this_cpu_put_ptr(void *__percpu *pcp, void *ptr)
{
	return !this_cpu_cmpxchg(*pcp, NULL, ptr);
}

__rust_helper void *rmpath_per_cpu_take_ptr(void *__percpu *pcp, unsigned int cpu)
{
	return cpu_possible(cpu) ? xchg(per_cpu_ptr(pcp, cpu), NULL) : NULL;
}
