// SPDX-License-Identifier: GPL-2.0

//! Bios as values: whoever has one must end it or pass it on.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)
//!
//! A C driver that loses a bio hangs whoever waits for it, and one that ends it twice corrupts
//! memory. Here a [`Bio`] is neither `Clone` nor `Copy`, its `end` consumes it, and one that is
//! dropped ends with an error.
//!
//! [`clone`] makes clones that own their original; [`list`] keeps bios in lists without
//! allocating; [`poll`] finds the clone of a polled bio; [`read`] asks a device whether it answers.

pub(crate) mod cache;
pub(crate) mod clone;
pub(crate) mod flags;
pub(crate) mod list;
pub(crate) mod poll;
pub(crate) mod read;
mod record;
pub(crate) mod status;
mod trace;

use crate::bindings;
use core::{
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::ffi::c_ulong;
use list::Listed;
use status::BlkStatus;

/// A bio that was submitted to us, and that we have to end.
///
/// Dropping it ends it with [`BlkStatus::IOERR`].
///
/// # Invariants
///
/// Points to a valid bio that has not ended, and that nobody else will end.
#[repr(transparent)]
pub(crate) struct Bio(NonNull<bindings::bio>);

// SAFETY: A bio may be ended by any thread.
unsafe impl Send for Bio {}

impl Bio {
    /// # Safety
    ///
    /// `bio` must be valid, must not have ended, and the caller gives up the right to end it.
    pub(super) unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: The caller promises it.
        Self(bio)
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::bio {
        self.0.as_ptr()
    }

    pub(super) fn into_raw(self) -> NonNull<bindings::bio> {
        ManuallyDrop::new(self).0
    }

    /// Whether the submitter would rather have [`BlkStatus::AGAIN`] than wait (`REQ_NOWAIT`).
    pub(crate) fn is_nowait(&self) -> bool {
        // SAFETY: By the type invariant the bio is valid; nobody else changes `bi_opf` of a
        // bio that belongs to us.
        let opf = unsafe { (*self.as_ptr()).bi_opf };
        opf & bindings::RMPATH_REQ_NOWAIT != 0
    }

    /// How many sectors of 512 bytes it is about.
    #[inline]
    pub(crate) fn sectors(&self) -> u32 {
        // SAFETY: By the type invariant the bio is valid and ours.
        (unsafe { (*self.as_ptr()).bi_iter.bi_size }) >> 9
    }

    /// Whether it flushes the cache and does nothing else.
    #[inline]
    fn is_empty_flush(&self) -> bool {
        // SAFETY: By the type invariant the bio is valid; nobody else changes `bi_opf` of a
        // bio that belongs to us.
        let opf = unsafe { (*self.as_ptr()).bi_opf };
        // SAFETY: As above.
        opf & bindings::RMPATH_REQ_PREFLUSH != 0 && unsafe { (*self.as_ptr()).bi_iter.bi_size } == 0
    }

    /// Counts the bio in its disk's statistics as under way, if the disk keeps any. Follows
    /// `bio_start_io_acct()`.
    #[inline]
    fn start_accounting(&self) -> Accounted {
        // SAFETY: By the type invariant the bio is valid, and was submitted to a disk.
        let (bdev, opf) = unsafe { ((*self.as_ptr()).bi_bdev, (*self.as_ptr()).bi_opf) };
        // SAFETY: As above: the disk has a queue. Its limits may be changed meanwhile, which no reader
        // of a word minds.
        let features = unsafe { (&raw const (*(*bdev).bd_queue).limits.features).read_volatile() };
        if features & bindings::RMPATH_BLK_FEAT_IO_STAT == 0 {
            return Accounted::NOT;
        }
        if self.is_empty_flush() {
            return Accounted::flush();
        }
        // SAFETY: It is always there, and read as the kernel reads it.
        let now = unsafe { (&raw const bindings::jiffies).read_volatile() };
        // SAFETY: The disk is there for as long as the bio has not ended.
        let start = unsafe { bindings::bdev_start_io_acct(bdev, opf & OP_MASK, now) };
        Accounted::io(start)
    }

    /// Counts the bio, which was of so many sectors, as done. Before it is ended. Follows
    /// `bio_end_io_acct()`.
    #[inline]
    fn end_accounting(&self, accounted: Accounted, sectors: u32) {
        let bio = self.as_ptr();
        match accounted.0 {
            0 => (),
            // SAFETY: By the type invariant the bio is valid, and was submitted to a disk.
            start if start & Accounted::FLUSH == 0 => unsafe {
                let op = (*bio).bi_opf & OP_MASK;
                bindings::bdev_end_io_acct((*bio).bi_bdev, op, sectors, start as c_ulong);
            },
            start => {
                let nsecs = nanoseconds().wrapping_sub(start & !Accounted::FLUSH);
                // SAFETY: As above.
                unsafe { bindings::rmpath_bio_account_flush(bio, nsecs as c_ulong) };
            }
        }
    }

    /// Ends the bio. Follows `bio_endio()`. Any context.
    pub(crate) fn end(self, status: BlkStatus) {
        let bio = self.into_raw().as_ptr();
        // SAFETY: By the type invariant the bio is valid, and ours to write.
        unsafe { (*bio).bi_status = status.as_raw() };
        // SAFETY: By the type invariant it has not ended; it is given up.
        unsafe { bindings::bio_endio(bio) };
    }
}

/// How a bio counts in the statistics of its disk, and since when. In one word, for it is kept with each:
/// 0 if the disk keeps none; the time in jiffies; or [`Accounted::FLUSH`] and the time in nanoseconds.
#[derive(Clone, Copy)]
struct Accounted(u64);

impl Accounted {
    /// The disk keeps none.
    const NOT: Self = Self(0);
    /// It counts as a flush, which is neither a read nor a write and not in flight as those are.
    const FLUSH: u64 = 1 << 63;

    /// As in flight, from that time in jiffies.
    #[inline]
    fn io(start: c_ulong) -> Self {
        // They begin above 0, and with 64 bits never come there.
        const { assert!(c_ulong::BITS == u64::BITS) };
        Self(start as u64)
    }

    /// As a flush, from now on.
    fn flush() -> Self {
        Self(nanoseconds() | Self::FLUSH)
    }
}

/// The bits of a bio's flags that are its operation (`REQ_OP_MASK`).
const OP_MASK: u32 = (1 << bindings::REQ_OP_BITS) - 1;

/// The time for which a flush is accounted, in nanoseconds since the machine booted.
fn nanoseconds() -> u64 {
    // SAFETY: It may be called at any time once the clocks run.
    let now: i64 = unsafe { bindings::ktime_get() };
    now as u64
}

impl Drop for Bio {
    fn drop(&mut self) {
        // SAFETY: `self` is not used again, so the value is given up to the new one.
        unsafe { Self::from_raw(self.0) }.end(BlkStatus::IOERR);
    }
}

// SAFETY: The two are inverses, and `bi_next` of a bio that was submitted to us is ours to use.
unsafe impl Listed for Bio {
    fn into_raw(self) -> NonNull<bindings::bio> {
        Bio::into_raw(self)
    }

    unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // SAFETY: The caller promises that `bio` came from `into_raw`, once.
        unsafe { Bio::from_raw(bio) }
    }
}
