// SPDX-License-Identifier: GPL-2.0

#include <linux/cpumask.h>
#include <linux/topology.h>

__rust_helper int rmpath_cpumask_parse(const char *buf, struct cpumask *mask)
{
	return cpumask_parse(buf, mask);
}

__rust_helper int rmpath_cpumask_print(char *buf, size_t size, const struct cpumask *mask)
{
	return scnprintf(buf, size, "%*pb", cpumask_pr_args(mask));
}

__rust_helper int rmpath_cpu_to_node(unsigned int cpu)
{
	return cpu_possible(cpu) ? cpu_to_node(cpu) : NUMA_NO_NODE;
}
