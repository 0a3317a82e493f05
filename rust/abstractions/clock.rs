// SPDX-License-Identifier: GPL-2.0

//! The monotonic clock as a number, for what is computed with by the million.
//!
//! The kernel crate's `Instant` gives a difference, but not its value, and so cannot be kept in an
//! atomic.
//!
//! C header: [`include/linux/timekeeping.h`](srctree/include/linux/timekeeping.h)

use crate::bindings;

/// Nanoseconds since boot, without the time in suspend. Any context but NMI. Follows
/// `ktime_get_ns()`.
#[inline]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: It has no requirements.
    (unsafe { bindings::ktime_get() }) as u64
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_clock)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward() {
        let before = now_ns();
        let after = now_ns();
        assert!(before > 0);
        assert!(after >= before);
    }
}
