// SPDX-License-Identifier: GPL-2.0

#include <linux/percpu-refcount.h>

bool rmpath_percpu_ref_tryget_live(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live(ref);
}

void rmpath_percpu_ref_put(struct percpu_ref *ref)
{
	percpu_ref_put(ref);
}

void rmpath_percpu_ref_kill(struct percpu_ref *ref)
{
	percpu_ref_kill(ref);
}
