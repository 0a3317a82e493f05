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
#[derive(Clone)]
pub(crate) struct Limits {
    raw: bindings::queue_limits,
    // Stacking leaves these alone for a device that cannot do it.
    discard: bool,
    secure_erase: bool,
}

impl Limits {
    /// Those of a disk on no device yet. Follows `blk_set_stacking_limits()`.
    pub(crate) fn stacking() -> Self {
        let mut limits = pin_init::zeroed();
        // SAFETY: `limits` is valid for writes.
        unsafe { bindings::blk_set_stacking_limits(&mut limits) };
        // Cleared again by the first device without it.
        limits.features |= bindings::RMPATH_BLK_FEAT_NOWAIT | bindings::RMPATH_BLK_FEAT_IO_STAT;
        Self {
            raw: limits,
            discard: true,
            secure_erase: true,
        }
    }

    /// Narrows them to what `bdev` can do. Follows `queue_limits_stack_bdev()`.
    pub(crate) fn stack(&mut self, bdev: &Bdev) {
        // SAFETY: The limits are valid, and the device is open.
        unsafe {
            bindings::queue_limits_stack_bdev(
                &mut self.raw,
                bdev.as_ptr(),
                0,
                c"rmpath".as_char_ptr(),
            )
        };
        // SAFETY: The device is open.
        self.discard &= unsafe { bindings::rmpath_bdev_max_discard_sectors(bdev.as_ptr()) } != 0;
        // SAFETY: As above.
        let secure_erase = unsafe { bindings::rmpath_bdev_max_secure_erase_sectors(bdev.as_ptr()) };
        self.secure_erase &= secure_erase != 0;
        if !self.discard {
            self.raw.max_hw_discard_sectors = 0;
            self.raw.max_discard_sectors = 0;
            self.raw.discard_granularity = 0;
        }
        if !self.secure_erase {
            self.raw.max_secure_erase_sectors = 0;
        }
    }

    /// Whether these limits and those are the same, made in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // SAFETY: Both are valid.
        unsafe { bindings::rmpath_queue_limits_equal(&self.raw, &other.raw) }
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut bindings::queue_limits {
        &mut self.raw
    }
}
