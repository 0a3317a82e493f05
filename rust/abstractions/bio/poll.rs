// SPDX-License-Identifier: GPL-2.0

//! Polled I/O through a clone.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)
//!
//! Whoever submits a polled bio calls `bio_poll()` on it until it has ended. The disk below knows
//! only the clone, so that this is what has to be polled, and nobody who polls may come too late
//! for it. It is dangerous ground: `iocb_bio_iopoll()` may poll a bio that has just ended and been
//! allocated anew (it takes for granted that what was a bio's memory is a bio's for a grace period:
//! `SLAB_TYPESAFE_BY_RCU`), and the clone may come back at any time, in any context, by somebody
//! else's poll, a time limit or an error.
//!
//! So `bi_next` of the original, which is ours as long as the original is, holds the clone's address
//! and in its two lowest bits, which are 0 in whatever others keep there, a lock that is handed over:
//!
//! ```text
//!   null --offer--> OFFERED --poll--> BUSY --the clone has not come back--> OFFERED
//!                      |                |
//!             the clone comes back   the clone comes back
//!                      v                v
//!                    null             DONE --who polls carries on--> null
//! ```
//!
//! Who has made it BUSY may follow the address: neither original nor clone can go, for a clone that
//! comes back meanwhile is left to the one who polls. Who finds another state than OFFERED touches
//! nothing else. And unlike with device-mapper, a clone that comes back while nobody polls ends its
//! original there and then: a bio that is not polled to its end does not hang.
//!
//! (`bi_cookie`, by which a disk that has requests finds the queue to poll, is no place for this: a
//! late poller may carry what it has read there to the disk that the memory is used for by then.)

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    },
};

/// The bits of the state.
const STATE: usize = 3;
const OFFERED: usize = 1;
const BUSY: usize = 2;
const DONE: usize = 3;

/// A number of a hardware queue that every disk has; any but `BLK_QC_T_NONE` would do.
const SOME_QUEUE: u32 = 0;

/// The word of a bio that is the state and the clone's address.
///
/// # Safety
///
/// `bio` must point into memory of bios that stays that for `'a`. (It is also initialised by who
/// allocates a bio, and written by who has it in a list, with accesses of one word that may race
/// with this.)
unsafe fn word<'a>(bio: NonNull<bindings::bio>) -> &'a Atomic<usize> {
    // SAFETY: The caller promises that the field is there.
    let next = unsafe { core::ptr::addr_of_mut!((*bio.as_ptr()).bi_next) };
    // SAFETY: A valid and aligned word, as the caller promises; a pointer is one.
    unsafe { Atomic::from_ptr(next.cast::<usize>()) }
}

/// A clone of `orig` is about to be submitted: lets it be polled, or clears its flag if the device
/// below cannot, or is itself made of others. Such a disk may only be polled when it has been
/// submitted to for good, and here that is not known: another thread may be sending the clone again.
///
/// # Safety
///
/// `orig` must be a bio of ours that was submitted to a disk of ours with `REQ_POLLED`, and `clone`
/// its clone, not in flight, with its device set and a `bi_end_io` that begins with [`came_back`].
#[cold]
pub(super) unsafe fn offer(orig: NonNull<bindings::bio>, clone: NonNull<bindings::bio>) {
    // SAFETY: The caller promises that the clone has its device, and that is open.
    let queue = unsafe { (*(*clone.as_ptr()).bi_bdev).bd_queue };
    // SAFETY: As above. The limits may be changed meanwhile, which no reader of a word minds; a
    // device that cannot poll any more says so (`BLK_STS_NOTSUPP`).
    let features = unsafe { core::ptr::addr_of!((*queue).limits.features).read_volatile() };
    // SAFETY: As above; it does not change.
    let has_requests = unsafe { !(*queue).mq_ops.is_null() };
    if features & bindings::RMPATH_BLK_FEAT_POLL == 0 || !has_requests {
        // SAFETY: The clone is ours.
        unsafe { (*clone.as_ptr()).bi_opf &= !bindings::RMPATH_REQ_POLLED };
        return;
    }
    // SAFETY: As the caller promises.
    unsafe { expose(orig, clone) };
}

/// # Safety
///
/// As [`offer`], but for the device.
unsafe fn expose(orig: NonNull<bindings::bio>, clone: NonNull<bindings::bio>) {
    // SAFETY: The original is valid.
    let word = unsafe { word(orig) };
    word.xchg(clone.as_ptr().expose_provenance() | OFFERED, Full);
    // Last: who polls looks at it first.
    // SAFETY: The original is ours, and so is this field until it ends.
    unsafe {
        core::ptr::addr_of_mut!((*orig.as_ptr()).__bindgen_anon_1.bi_cookie)
            .write_volatile(SOME_QUEUE)
    };
}

/// The first thing to do with a clone that comes back, if its original is `REQ_POLLED`. `false` if
/// everything else is to be left to the one who is polling it, who calls the clone's `bi_end_io`
/// again.
///
/// # Safety
///
/// `orig` must be the original of the clone, and that have come back.
#[cold]
pub(super) unsafe fn came_back(orig: NonNull<bindings::bio>) -> bool {
    // SAFETY: The caller promises that the original is valid.
    let word = unsafe { word(orig) };
    // Only we offer, and only then others write it.
    let now = word.load(Relaxed);
    if now & STATE == 0 {
        return true;
    }
    if word.xchg((now & !STATE) | DONE, Full) & STATE == BUSY {
        return false;
    }
    // Nobody can make it BUSY any more.
    word.store(0, Relaxed);
    true
}

/// A request to poll a bio that was submitted to a disk of ours; it may have ended since.
///
/// # Invariants
///
/// `bio` points into memory of bios that stays that for `'a`, `iob` is null or valid.
pub(crate) struct Poll<'a> {
    bio: NonNull<bindings::bio>,
    iob: *mut bindings::io_comp_batch,
    flags: u32,
    _lifetime: PhantomData<&'a ()>,
}

impl<'a> Poll<'a> {
    /// # Safety
    ///
    /// `bio` must point into memory of bios that stays that for `'a`: as the block layer polls.
    /// `iob` must be null or valid for `'a`.
    pub(in crate::abstractions) unsafe fn new(
        bio: NonNull<bindings::bio>,
        iob: *mut bindings::io_comp_batch,
        flags: u32,
    ) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            bio,
            iob,
            flags,
            _lifetime: PhantomData,
        }
    }

    /// Polls the clone, if there is one in flight that nobody else is polling: once, for as long as
    /// it is polled here it cannot end. Returns what `bio_poll()` returned: above 0 if something was
    /// found. Follows `poll_bio` of `block_device_operations`.
    ///
    /// Context: does not sleep. A clone that has come back may be ended here.
    pub(crate) fn run(self) -> c_int {
        // SAFETY: By the type invariant the word is there.
        let word = unsafe { word(self.bio) };
        let offered = word.load(Relaxed);
        let address = offered & !STATE;
        if offered & STATE != OFFERED || word.cmpxchg(offered, address | BUSY, Full).is_err() {
            return 0;
        }
        // It was OFFERED and is BUSY: from here on the original and its clone stay.
        let clone = core::ptr::with_exposed_provenance_mut::<bindings::bio>(address);
        let flags = self.flags | bindings::BLK_POLL_ONESHOT;
        // SAFETY: The clone is valid, and its device is kept open until it has come back.
        let found = unsafe { bindings::bio_poll(clone, self.iob, flags) };
        if word
            .cmpxchg(address | BUSY, address | OFFERED, Full)
            .is_ok()
        {
            return found;
        }
        // It is DONE: the clone has come back, and was left to us. A compare-and-exchange that fails
        // orders nothing; what the clone came back with was written before this.
        word.load(Acquire);
        // SAFETY: The clone is valid, and was ended by this function, as `offer` demands.
        if let Some(end_io) = unsafe { (*clone).bi_end_io } {
            // SAFETY: As the block layer called it, which had no effect but DONE.
            unsafe { end_io(clone) };
        }
        found.max(1)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_poll)]
mod tests {
    use super::*;

    /// A bio that has no device: `bio_poll()` returns 0 at once.
    fn bio() -> Result<KBox<bindings::bio>> {
        Ok(KBox::new(bindings::bio::default(), GFP_KERNEL)?)
    }

    /// # Safety
    ///
    /// As the end of a clone that [`with_pair`] made.
    unsafe extern "C" fn end_io(clone: *mut bindings::bio) {
        // SAFETY: The test's clone has its original there.
        let orig = unsafe { NonNull::new_unchecked((*clone).bi_private.cast()) };
        // SAFETY: The clone comes back, and that is its original.
        if unsafe { came_back(orig) } {
            // SAFETY: The test's clone counts there.
            unsafe { (*clone).bi_vcnt += 1 };
        }
    }

    /// A pair, and what is tried with it: the state and whether the original's word is null, and how
    /// often the clone has come back to somebody.
    fn with_pair(
        run: impl FnOnce(NonNull<bindings::bio>, NonNull<bindings::bio>),
    ) -> Result<(usize, bool, u16)> {
        let (mut orig, mut clone) = (bio()?, bio()?);
        let orig_ptr = NonNull::from(&mut *orig);
        clone.bi_private = orig_ptr.as_ptr().cast();
        clone.bi_end_io = Some(end_io);
        let clone_ptr = NonNull::from(&mut *clone);
        run(orig_ptr, clone_ptr);
        // SAFETY: The test's original is there.
        let end = unsafe { word(orig_ptr) }.load(Relaxed);
        Ok((end & STATE, end == 0, clone.bi_vcnt))
    }

    fn poll(bio: NonNull<bindings::bio>) -> c_int {
        // SAFETY: The test's bio is there.
        unsafe { Poll::new(bio, core::ptr::null_mut(), 0) }.run()
    }

    fn come_back(clone: NonNull<bindings::bio>) {
        // SAFETY: The test's clone is there.
        unsafe { end_io(clone.as_ptr()) };
    }

    /// Makes an offered one BUSY. Whether it was offered.
    fn occupy(orig: NonNull<bindings::bio>) -> bool {
        // SAFETY: The test's original is there.
        let word = unsafe { word(orig) };
        let offered = word.load(Relaxed);
        word.xchg((offered & !STATE) | BUSY, Full) & STATE == OFFERED
    }

    #[test]
    fn what_is_not_offered_is_not_polled() -> Result {
        let mut found = 1;
        let end = with_pair(|orig, clone| {
            found = poll(orig);
            come_back(clone);
        })?;
        assert_eq!(found, 0);
        assert!(end == (0, true, 1));
        Ok(())
    }

    #[test]
    fn what_is_in_a_list_is_not_polled() -> Result {
        let mut found = 1;
        let mut right = false;
        with_pair(|orig, clone| {
            // SAFETY: The test's original is there.
            let word = unsafe { word(orig) };
            let next = clone.as_ptr().expose_provenance();
            word.xchg(next, Full);
            found = poll(orig);
            right = word.load(Relaxed) == next;
        })?;
        assert_eq!(found, 0);
        assert!(right);
        Ok(())
    }

    #[test]
    fn a_clone_comes_back_while_nobody_polls() -> Result {
        let mut found = [1; 2];
        let end = with_pair(|orig, clone| {
            // SAFETY: Both are the test's.
            unsafe { expose(orig, clone) };
            found[0] = poll(orig);
            come_back(clone);
            found[1] = poll(orig);
        })?;
        assert_eq!(found, [0, 0]);
        assert!(end == (0, true, 1));
        Ok(())
    }

    #[test]
    fn a_clone_that_is_being_polled_is_left_to_the_poller() -> Result {
        let mut offered = false;
        let mut found = 1;
        let end = with_pair(|orig, clone| {
            // SAFETY: Both are the test's.
            unsafe { expose(orig, clone) };
            offered = occupy(orig);
            // Another poller does nothing, and neither does the clone.
            found = poll(orig);
            come_back(clone);
        })?;
        assert!(offered);
        assert_eq!(found, 0);
        assert!(end == (DONE, false, 0));
        Ok(())
    }

    #[test]
    fn the_poller_ends_what_was_left_to_it() -> Result {
        let end = with_pair(|orig, clone| {
            // SAFETY: Both are the test's.
            unsafe { expose(orig, clone) };
            occupy(orig);
            come_back(clone);
            // As at the end of `run`.
            come_back(clone);
        })?;
        assert!(end == (0, true, 1));
        Ok(())
    }
}
