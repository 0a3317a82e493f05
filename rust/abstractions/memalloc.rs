// SPDX-License-Identifier: GPL-2.0

//! Allocations that do not wait for I/O.
//!
//! C header: [`include/linux/sched/mm.h`](srctree/include/linux/sched/mm.h)
//!
//! # Examples
//!
//! ```ignore
//! let _no_io = NoIo::enter();
//! let path = KBox::new(path, GFP_KERNEL)?; // as if GFP_NOIO, in all that is called too
//! ```

use crate::bindings;
use kernel::types::NotThreadSafe;

/// While it is there, no allocation of this thread starts or waits for I/O.
///
/// For what I/O may be waiting for: memory that is freed by writing to a disk without a path does
/// not come before the path. Several may be nested; they end in the reverse order.
///
/// # Invariants
///
/// `flags` is what `memalloc_noio_save` returned to this thread.
#[must_use]
pub(crate) struct NoIo {
    flags: u32,
    _thread: NotThreadSafe,
}

impl NoIo {
    /// Begins the section.
    pub(crate) fn enter() -> Self {
        // INVARIANT: Just returned.
        Self {
            // SAFETY: It sets a flag of the current thread.
            flags: unsafe { bindings::rmpath_memalloc_noio_save() },
            _thread: NotThreadSafe,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: By the type invariant they are the flags that this section has set for the thread.
        unsafe { bindings::rmpath_memalloc_noio_restore(self.flags) };
    }
}
