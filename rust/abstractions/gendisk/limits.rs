// SPDX-License-Identifier: GPL-2.0

//! The limits of a disk that stands on others, any of which may get any bio.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use crate::{
    abstractions::block_device::Bdev,
    bindings, //
};
use kernel::{
    error::to_result,
    prelude::*, //
};

/// What must be known to those above before a bio goes to a device that has it: without the first
/// two, flushes are stripped before they reach us, and without the third, data changes while its
/// checksum is made.
const DEMANDS: bindings::blk_features_t = bindings::RMPATH_BLK_FEAT_WRITE_CACHE
    | bindings::RMPATH_BLK_FEAT_FUA
    | bindings::RMPATH_BLK_FEAT_STABLE_WRITES;

/// What the disk's user can set in `queue/`.
const USER_FEATURES: bindings::blk_features_t = bindings::RMPATH_BLK_FEAT_IO_STAT
    | bindings::RMPATH_BLK_FEAT_ADD_RANDOM
    | bindings::RMPATH_BLK_FEAT_ROTATIONAL
    | bindings::RMPATH_BLK_FEAT_STABLE_WRITES;
const USER_FLAGS: bindings::blk_flags_t =
    bindings::RMPATH_BLK_FLAG_WRITE_CACHE_DISABLED | bindings::RMPATH_BLK_FLAG_IOSTATS_PASSTHROUGH;

/// What is the same for two devices of which one takes the protection information that was made for
/// the other.
fn profile(of: &bindings::blk_integrity) -> impl PartialEq {
    (
        of.csum_type,
        of.metadata_size,
        of.pi_offset,
        of.interval_exp,
        of.tag_size,
        of.pi_tuple_size,
    )
}

/// Whether two devices take the same protection information at present. Any context.
pub(in crate::abstractions) fn same_profile(a: &Bdev, b: &Bdev) -> bool {
    let [a, b] = [a, b].map(|bdev| {
        // SAFETY: The device is open, so it has a queue.
        let queue = unsafe { (*bdev.as_ptr()).bd_queue };
        // SAFETY: As above. The limits may be changed meanwhile: then this is what they were or are,
        // field by field.
        unsafe { core::ptr::addr_of!((*queue).limits.integrity).read_volatile() }
    });
    profile(&a) == profile(&b)
}

/// Limits that hold for each of the devices stacked on so far.
///
/// Sizes and counts only get narrower. NOWAIT, polling, atomic writes, discard, write
/// zeroes and secure erase hold where all devices have them, an integrity profile where all have the same. A
/// write cache, FUA and stable writes hold where any has them, for otherwise flushes would be
/// stripped on their way to the one that needs them.
#[derive(Clone)]
pub(crate) struct Limits {
    raw: bindings::queue_limits,
    // Stacking leaves these alone for a device that cannot do it.
    discard: bool,
    secure_erase: bool,
    // Stacking forgets that it has seen two that differ.
    integrity: bool,
    // Stacking does not see that the user has said that there is none.
    write_cache: bool,
}

impl Limits {
    /// Those of a disk on no device yet. Follows `blk_set_stacking_limits()`.
    pub(crate) fn stacking() -> Self {
        let mut limits = pin_init::zeroed();
        // SAFETY: `limits` is valid for writes.
        unsafe { bindings::blk_set_stacking_limits(&mut limits) };
        // Cleared again by the first device without it.
        limits.features |= bindings::RMPATH_BLK_FEAT_NOWAIT
            | bindings::RMPATH_BLK_FEAT_POLL
            | bindings::RMPATH_BLK_FEAT_ATOMIC_WRITES
            | bindings::RMPATH_BLK_FEAT_IO_STAT;
        Self {
            raw: limits,
            discard: true,
            secure_erase: true,
            integrity: true,
            write_cache: false,
        }
    }

    /// Narrows them to what `bdev` can do at present. Follows `queue_limits_stack_bdev()`, for a
    /// whole disk. Any context.
    pub(crate) fn stack(&mut self, bdev: &Bdev) {
        // SAFETY: The device is open, so it has a queue.
        let mut bottom = unsafe { bindings::rmpath_bdev_limits(bdev.as_ptr()) };
        self.stack_on(&mut bottom);
    }

    fn stack_on(&mut self, bottom: &mut bindings::queue_limits) {
        // That the devices are not aligned alike is shown by the disk (`alignment_offset`).
        // SAFETY: Both are valid.
        let _ = unsafe { bindings::blk_stack_limits(&mut self.raw, bottom, 0) };

        self.discard &= bottom.max_discard_sectors != 0;
        self.secure_erase &= bottom.max_secure_erase_sectors != 0;
        if !self.discard {
            self.raw.max_hw_discard_sectors = 0;
            self.raw.max_discard_sectors = 0;
            self.raw.discard_granularity = 0;
        }
        if !self.secure_erase {
            self.raw.max_secure_erase_sectors = 0;
        }

        // Another profile makes it forget the one it had, and the next would be taken for the first.
        self.integrity = self.integrity
            // SAFETY: Both are valid.
            && unsafe { bindings::queue_limits_stack_integrity(&mut self.raw, bottom) };

        if self.raw.atomic_write_hw_max == 0 {
            self.raw.features &= !bindings::RMPATH_BLK_FEAT_ATOMIC_WRITES;
        }

        self.write_cache |= bottom.features & bindings::RMPATH_BLK_FEAT_WRITE_CACHE != 0
            && bottom.flags & bindings::RMPATH_BLK_FLAG_WRITE_CACHE_DISABLED == 0;
        if !self.write_cache {
            self.raw.features &=
                !(bindings::RMPATH_BLK_FEAT_WRITE_CACHE | bindings::RMPATH_BLK_FEAT_FUA);
        }
    }

    /// Whether these limits and those are the same, made in the same way.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        // SAFETY: Both are valid.
        unsafe { bindings::rmpath_queue_limits_equal(&self.raw, &other.raw) }
    }

    /// Whether a device of these limits must not be used by a disk that has those.
    pub(crate) fn demand_more_than(&self, other: &Self) -> bool {
        // Protection information of another profile is refused.
        self.raw.features & !other.raw.features & DEMANDS != 0
            || profile(&self.raw.integrity) != profile(&other.raw.integrity)
    }

    /// Adds those demands that the others have.
    pub(crate) fn keep_demands(&mut self, other: &Self) {
        self.raw.features |= other.raw.features & DEMANDS;
        self.write_cache |= other.write_cache;
    }

    /// Keeps polling, once there was any: a bio that is polled may be in flight, which nobody would
    /// poll any more. What goes to a device that cannot be polled is not.
    pub(crate) fn keep_polling(&mut self, other: &Self) {
        self.raw.features |= other.raw.features & bindings::RMPATH_BLK_FEAT_POLL;
    }

    /// Whether a disk can have them: `EINVAL` if they contradict each other.
    pub(crate) fn check(&self) -> Result {
        let mut copy = self.raw;
        // SAFETY: The copy is valid.
        to_result(unsafe { bindings::blk_validate_limits(&mut copy) })
    }

    /// Takes over what the user has set in `now`, a disk's limits that were `before` when we set
    /// them.
    pub(super) fn keep_users(&mut self, now: &bindings::queue_limits, before: &Self) {
        let before = &before.raw;
        let changed = (now.features ^ before.features) & USER_FEATURES;
        self.raw.features = (self.raw.features & !changed) | (now.features & changed);
        self.raw.flags = (self.raw.flags & !USER_FLAGS) | (now.flags & USER_FLAGS);
        if now.max_user_sectors != before.max_user_sectors {
            self.raw.max_user_sectors = now.max_user_sectors;
        }
        if now.max_user_discard_sectors != before.max_user_discard_sectors {
            self.raw.max_user_discard_sectors = now.max_user_discard_sectors;
        }
        if now.max_user_wzeroes_unmap_sectors != before.max_user_wzeroes_unmap_sectors {
            self.raw.max_user_wzeroes_unmap_sectors = now.max_user_wzeroes_unmap_sectors;
        }
    }

    pub(super) fn has_stable_writes(&self) -> bool {
        self.raw.features & bindings::RMPATH_BLK_FEAT_STABLE_WRITES != 0
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut bindings::queue_limits {
        &mut self.raw
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_limits)]
mod tests {
    use super::*;

    const CACHE: bindings::blk_features_t = bindings::RMPATH_BLK_FEAT_WRITE_CACHE;
    const FUA: bindings::blk_features_t = bindings::RMPATH_BLK_FEAT_FUA;
    const NOWAIT: bindings::blk_features_t = bindings::RMPATH_BLK_FEAT_NOWAIT;
    const ATOMIC: bindings::blk_features_t = bindings::RMPATH_BLK_FEAT_ATOMIC_WRITES;
    const STABLE: bindings::blk_features_t = bindings::RMPATH_BLK_FEAT_STABLE_WRITES;

    /// A disk's limits, as its driver might have made them.
    fn disk(change: impl FnOnce(&mut bindings::queue_limits)) -> Result<bindings::queue_limits> {
        let mut limits: bindings::queue_limits = pin_init::zeroed();
        limits.max_user_discard_sectors = u32::MAX;
        limits.max_user_wzeroes_unmap_sectors = u32::MAX;
        change(&mut limits);
        // SAFETY: They are valid.
        to_result(unsafe { bindings::blk_validate_limits(&mut limits) })?;
        Ok(limits)
    }

    fn stacked(disks: &mut [bindings::queue_limits]) -> Limits {
        let mut limits = Limits::stacking();
        for disk in disks {
            limits.stack_on(disk);
        }
        limits
    }

    /// Three disks of which one is changed, each in turn: the order must not matter.
    fn odd_one(
        all: impl Fn(&mut bindings::queue_limits),
        odd: impl Fn(&mut bindings::queue_limits),
        holds: impl Fn(&Limits) -> bool,
    ) -> Result<bool> {
        let mut right = true;
        for which in 0..3 {
            let mut disks = [disk(&all)?, disk(&all)?, disk(&all)?];
            disks[which] = disk(&odd)?;
            let limits = stacked(&mut disks);
            limits.check()?;
            right &= holds(&limits);
        }
        Ok(right)
    }

    fn has(limits: &Limits, feature: bindings::blk_features_t) -> bool {
        limits.raw.features & feature != 0
    }

    #[test]
    fn no_disk_is_valid() -> Result {
        Limits::stacking().check()
    }

    #[test]
    fn some_hold_where_all_have_them() -> Result {
        let full = |limits: &mut bindings::queue_limits| {
            limits.features = NOWAIT;
            limits.max_hw_discard_sectors = 1024;
            limits.discard_granularity = 4096;
            limits.max_write_zeroes_sectors = 2048;
            limits.max_secure_erase_sectors = 512;
        };
        let limits = stacked(&mut [disk(full)?, disk(full)?]);
        limits.check()?;
        assert!(has(&limits, NOWAIT));
        assert_eq!(limits.raw.max_discard_sectors, 1024);
        assert_eq!(limits.raw.max_write_zeroes_sectors, 2048);
        assert_eq!(limits.raw.max_secure_erase_sectors, 512);

        let none = odd_one(
            full,
            |_| (),
            |limits| {
                !has(limits, NOWAIT)
                    && limits.raw.max_discard_sectors == 0
                    && limits.raw.max_hw_discard_sectors == 0
                    && limits.raw.max_write_zeroes_sectors == 0
                    && limits.raw.max_secure_erase_sectors == 0
            },
        )?;
        assert!(none);
        Ok(())
    }

    #[test]
    fn some_hold_where_any_has_them() -> Result {
        let any = odd_one(
            |_| (),
            |limits| limits.features = CACHE | FUA | STABLE,
            |limits| has(limits, CACHE) && has(limits, FUA) && has(limits, STABLE),
        )?;
        assert!(any);
        Ok(())
    }

    #[test]
    fn a_cache_that_is_switched_off_is_none() -> Result {
        let off = |limits: &mut bindings::queue_limits| {
            limits.features = CACHE | FUA;
            limits.flags = bindings::RMPATH_BLK_FLAG_WRITE_CACHE_DISABLED;
        };
        let limits = stacked(&mut [disk(off)?, disk(off)?]);
        assert!(!has(&limits, CACHE) && !has(&limits, FUA));
        let one = odd_one(
            off,
            |limits| limits.features = CACHE,
            |limits| has(limits, CACHE),
        )?;
        assert!(one);
        Ok(())
    }

    #[test]
    fn atomic_writes_fit_all() -> Result {
        let unit = |max: u32| {
            move |limits: &mut bindings::queue_limits| {
                limits.features = ATOMIC;
                limits.max_hw_sectors = 2048;
                limits.atomic_write_hw_max = max;
                limits.atomic_write_hw_unit_min = 512;
                limits.atomic_write_hw_unit_max = max;
            }
        };
        let mut limits = stacked(&mut [disk(unit(65536))?, disk(unit(16384))?]);
        // SAFETY: They are valid.
        to_result(unsafe { bindings::blk_validate_limits(&mut limits.raw) })?;
        assert!(has(&limits, ATOMIC));
        assert_eq!(limits.raw.atomic_write_unit_max, 16384);
        let none = odd_one(
            unit(65536),
            |limits| limits.max_hw_sectors = 2048,
            |limits| !has(limits, ATOMIC) && limits.raw.atomic_write_hw_unit_max == 0,
        )?;
        assert!(none);
        Ok(())
    }

    #[test]
    fn integrity_is_the_same_everywhere() -> Result {
        let profile = |tag: u8| {
            move |limits: &mut bindings::queue_limits| {
                limits.integrity.metadata_size = 8;
                limits.integrity.pi_tuple_size = 8;
                limits.integrity.csum_type =
                    bindings::blk_integrity_checksum_BLK_INTEGRITY_CSUM_CRC;
                limits.integrity.tag_size = tag;
            }
        };
        if disk(profile(2)).is_err() {
            return Ok(()); // This kernel has no integrity.
        }
        let limits = stacked(&mut [disk(profile(2))?, disk(profile(2))?]);
        limits.check()?;
        assert_eq!(limits.raw.integrity.metadata_size, 8);
        let other = odd_one(profile(2), profile(0), |limits| {
            limits.raw.integrity.metadata_size == 0
        })?;
        let none = odd_one(
            profile(2),
            |_| (),
            |limits| limits.raw.integrity.metadata_size == 0,
        )?;
        assert!(other);
        assert!(none);
        Ok(())
    }

    #[test]
    fn blocks_are_the_largest() -> Result {
        let large = odd_one(
            |_| (),
            |limits| limits.physical_block_size = 4096,
            |limits| limits.raw.physical_block_size == 4096 && limits.raw.logical_block_size == 512,
        )?;
        assert!(large);
        Ok(())
    }

    #[test]
    fn demands_are_known_and_kept() -> Result {
        let plain = stacked(&mut [disk(|_| ())?]);
        let mut cached = stacked(&mut [disk(|limits| limits.features = CACHE)?]);
        assert!(cached.demand_more_than(&plain));
        assert!(!plain.demand_more_than(&cached));
        let mut kept = plain.clone();
        kept.keep_demands(&cached);
        assert!(!cached.demand_more_than(&kept));
        cached.raw.max_hw_sectors = 64;
        assert!(!cached.is_same(&kept));
        Ok(())
    }

    #[test]
    fn what_the_user_has_set_stays() -> Result {
        let before = stacked(&mut [disk(|limits| limits.features = CACHE)?]);
        let mut now = before.raw;
        now.max_user_sectors = 128;
        now.features &= !bindings::RMPATH_BLK_FEAT_IO_STAT;
        now.flags |= bindings::RMPATH_BLK_FLAG_WRITE_CACHE_DISABLED;
        let mut next = stacked(&mut [disk(|_| ())?]);
        next.keep_users(&now, &before);
        assert_eq!(next.raw.max_user_sectors, 128);
        assert!(!has(&next, bindings::RMPATH_BLK_FEAT_IO_STAT));
        assert!(next.raw.flags & bindings::RMPATH_BLK_FLAG_WRITE_CACHE_DISABLED != 0);
        // And nothing else.
        assert!(!has(&next, CACHE));
        assert_eq!(next.raw.max_user_discard_sectors, u32::MAX);
        Ok(())
    }
}
