// SPDX-License-Identifier: GPL-2.0

//! What happens when a clone, or the original in its place, has come back from its device.

use super::{
    frame::{
        frame_of,
        Form, //
    },
    Clone,
    CloneOps, //
};
use crate::{
    abstractions::bio::{
        poll,
        record,
        status::BlkStatus, //
    },
    bindings, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// The `bi_end_io` of a clone. It is called again by who polls the clone at the time, if anybody does.
///
/// # Safety
///
/// `bio` must have been submitted by [`Clone::submit_clone`].
pub(super) unsafe extern "C" fn end_clone<P: CloneOps>(bio: *mut bindings::bio) {
    // SAFETY: The block layer ends what was submitted, which is not null.
    let bio = unsafe { NonNull::new_unchecked(bio) };
    // SAFETY: `submit_clone` gave up the clone, so that its frame is valid.
    let orig = unsafe { (*frame_of::<P>(bio).as_ptr()).orig };
    // SAFETY: By the invariant of the frame the original is valid.
    let polled = unsafe { (*orig.as_ptr()).bi_opf } & bindings::RMPATH_REQ_POLLED != 0;
    // SAFETY: The clone has come back.
    if polled && !unsafe { poll::came_back(orig) } {
        return;
    }
    // SAFETY: The bio has come back, and is ours again.
    let status = BlkStatus::from_raw(unsafe { (*bio.as_ptr()).bi_status });
    // SAFETY: `submit_clone` gave up the clone, which is counted.
    unsafe { came_back::<P>(bio, status) };
}

/// The `bi_end_io` of an original that was sent itself.
///
/// # Safety
///
/// `orig` must have been submitted by [`Clone::divert`].
pub(super) unsafe extern "C" fn end_original<P: CloneOps>(orig: *mut bindings::bio) {
    // SAFETY: The block layer ends what was submitted, which is not null.
    let orig = unsafe { NonNull::new_unchecked(orig) };
    // SAFETY: It was diverted, and has come back.
    let bio = unsafe { record::of(orig) };
    // SAFETY: The bio of a record is that of a frame, which was given up to us.
    let frame = unsafe { frame_of::<P>(bio).as_ptr() };
    // SAFETY: The original has come back, and is ours again; the frame is valid.
    let (status, form) = unsafe { ((*orig.as_ptr()).bi_status, (*frame).form) };
    if status != BlkStatus::OK.as_raw() || form != Form::Sent {
        // SAFETY: As above.
        return unsafe { end_unusually::<P>(orig, bio) };
    }
    // SAFETY: By the invariant of the frame `target` is initialised; it is not used again.
    // INVARIANT: Nothing is in flight any more.
    let target = unsafe { (*frame).target.assume_init_read() };
    // SAFETY: By the invariant of the frame `private` is initialised.
    unsafe { (*frame).private.succeeded(&target) };
    // SAFETY: The original has come back.
    unsafe { record::restore_ended(orig, bio) };
    // SAFETY: It was diverted.
    let sectors = unsafe { record::sectors(bio) };
    // SAFETY: Nobody else has the frame; the target has the set. `orig` is its original.
    unsafe { Clone::<P>::end(bio, form, orig, sectors, BlkStatus::OK) };
    // Last, so that whoever waits for it waits for the end of the original too.
    drop(target);
}

/// The same for what has failed, or was sent before.
///
/// # Safety
///
/// As for [`end_original`]; `bio` must be the record of the original.
#[cold]
#[inline(never)]
unsafe fn end_unusually<P: CloneOps>(orig: NonNull<bindings::bio>, bio: NonNull<bindings::bio>) {
    // SAFETY: The bio is that of a frame, as the caller promises.
    let frame = unsafe { frame_of::<P>(bio).as_ptr() };
    // SAFETY: The original has come back.
    let status = BlkStatus::from_raw(unsafe { (*orig.as_ptr()).bi_status });
    // SAFETY: As above.
    unsafe { record::restore(orig, bio) };
    // SAFETY: The frame is valid.
    if unsafe { (*frame).form } == Form::Sent {
        // From here on the clone may live longer than its target.
        // SAFETY: The set is there, as the target is.
        if !unsafe { (*frame).set.as_ref() }.clones.try_get() {
            // SAFETY: By the invariant of the frame `target` is initialised; it is not used again.
            let target = unsafe { (*frame).target.assume_init_read() };
            // SAFETY: It was diverted.
            let sectors = unsafe { record::sectors(bio) };
            // SAFETY: Nobody else has the frame; the target has the set.
            unsafe { Clone::<P>::end(bio, Form::Sent, orig, sectors, status) };
            return drop(target);
        }
        // SAFETY: As above.
        // INVARIANT: The clone was counted.
        unsafe { (*frame).form = Form::Record };
    }
    // SAFETY: It was given up when the original was diverted, and is counted.
    unsafe { came_back::<P>(bio, status) };
}

/// What was in flight, and is counted on its set, has come back.
///
/// # Safety
///
/// `bio` must be that of a frame whose [`Clone`] was given up when it, or its original, was sent, and
/// which is counted.
unsafe fn came_back<P: CloneOps>(bio: NonNull<bindings::bio>, status: BlkStatus) {
    // INVARIANT: The caller promises that nobody else points to the frame.
    let clone = Clone::<P>(bio, PhantomData);
    // SAFETY: By the invariant of the frame `target` is initialised; it is not used again.
    // INVARIANT: Nothing is in flight any more.
    let target = unsafe { (*clone.frame().as_ptr()).target.assume_init_read() };
    if status == BlkStatus::OK {
        clone.succeeded(&target);
        drop(target);
        clone.finish(status);
    } else {
        P::failed(clone, target, status);
    }
}
