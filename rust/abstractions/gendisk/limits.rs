// SPDX-License-Identifier: GPL-2.0

//! The limits of a disk that stands on others.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use crate::{
    abstractions::block_device::Bdev,
    bindings, //
};
use kernel::prelude::*;

/// Limits that hold for each of the devices stacked on so far.
///
/// Sizes and counts only get narrower. NOWAIT and discard hold where all devices have them; a
/// write cache and FUA where any has them, for otherwise flushes would be stripped on their way to
/// the one that needs them.
pub(crate) struct Limits(bindings::queue_limits);

impl Limits {
    /// Those of a disk on no device yet. Follows `blk_set_stacking_limits()`.
    pub(crate) fn stacking() -> Self {
        let mut limits = pin_init::zeroed();
        // SAFETY: `limits` is valid for writes.
        unsafe { bindings::blk_set_stacking_limits(&mut limits) };
        // Cleared again by the first device without it.
        limits.features |= bindings::RMPATH_BLK_FEAT_NOWAIT | bindings::RMPATH_BLK_FEAT_IO_STAT;
        Self(limits)
    }

    /// Narrows them to what `bdev` can do. Follows `queue_limits_stack_bdev()`.
    pub(crate) fn stack(&mut self, bdev: &Bdev) {
        // SAFETY: The limits are valid, and the device is open.
        unsafe {
            bindings::queue_limits_stack_bdev(
                &mut self.0,
                bdev.as_ptr(),
                0,
                c"rmpath".as_char_ptr(),
            )
        };
        // Stacking leaves these alone for a device that cannot discard.
        // SAFETY: The device is open.
        if unsafe { bindings::rmpath_bdev_max_discard_sectors(bdev.as_ptr()) } == 0 {
            self.0.max_hw_discard_sectors = 0;
            self.0.max_discard_sectors = 0;
            self.0.discard_granularity = 0;
        }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut bindings::queue_limits {
        &mut self.0
    }
}
