// SPDX-License-Identifier: GPL-2.0

#if IS_BUILTIN(CONFIG_KUNIT)

#include <kunit/test-bug.h>
#include <kunit/test.h>

__rust_helper void rmpath_kunit_mark_skipped(const char *why)
{
	kunit_mark_skipped(kunit_get_current_test(), "%s", why);
}

/* The kernel crate's task_struct has other offsets without SCHEDSTATS. */
__rust_helper void rmpath_set_make_it_fail(int value)
{
#ifdef CONFIG_FAULT_INJECTION
	current->make_it_fail = value;
#endif
}

#endif
