// SPDX-License-Identifier: GPL-2.0
/*
 * One-line wrappers of static inlines and macros, for Rust: nothing else.
 * One unit of many files, as the helpers of the kernel crate are.
 */
#include "../bindings/rmpath_helper.h"

/*
 * With CONFIG_RUST_INLINE_HELPERS they become part of what calls them. LLVM
 * would not do so of itself, for the two languages do not name the target's
 * features alike; the kernel's own helpers have it said in the same way.
 */
#ifdef CONFIG_RUST_INLINE_HELPERS
#define __rust_helper __always_inline
#else
#define __rust_helper
#endif

#include "bio.c"
#include "block_device.c"
#include "cpumask.c"
#include "debugfs.c"
#include "device_mapper.c"
#include "gendisk.c"
#include "idr.c"
#include "kunit.c"
#include "memalloc.c"
#include "numa.c"
#include "percpu.c"
#include "percpu_ref.c"
#include "spinlock.c"
#include "workqueue.c"
#include "xarray.c"
