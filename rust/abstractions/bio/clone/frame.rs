// SPDX-License-Identifier: GPL-2.0

//! The memory of a clone, and what stands before it.

use super::{
    BioSet,
    CloneOps, //
};
use crate::{
    abstractions::bio::{
        Accounted,
        Bio, //
    },
    bindings, //
};
use core::{
    mem::{
        align_of,
        offset_of,
        MaybeUninit, //
    },
    ptr::NonNull, //
};
use kernel::types::Opaque;

/// What the bio of a [`Frame`] is, and whose memory that frame lies in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// None yet. From the cache.
    None,
    /// Where what the original was is kept while that is in flight itself, which has been so before.
    /// From the cache.
    Record,
    /// The same of one that is not counted: in flight, and its target has the set.
    Sent,
    /// A clone of the original. From the cache.
    Clone,
    /// The same, from the reserve.
    Reserve,
}

/// A clone and what stands before it in memory (the front pad of the bio set).
///
/// # Invariants
///
/// While a [`Clone`] points here, or the clone is in flight, `orig` is a bio that belongs to us,
/// `private` is initialised, and `bio` is a valid bio if `form` is [`Form::Clone`] or
/// [`Form::Reserve`]. If it is [`Form::Record`] or [`Form::Sent`], the original is plain. `target` is
/// initialised exactly while the clone, or in its place the original, is in flight, and is not borrowed
/// mutably meanwhile. The clone is counted on `set`, unless `form` is [`Form::Sent`]: then `set` is that
/// of `target`. The memory comes from the cache of `set`, or its reserve.
#[repr(C)]
pub(in crate::abstractions::bio) struct Frame<P: CloneOps> {
    pub(super) set: NonNull<BioSet<P>>,
    pub(super) orig: NonNull<bindings::bio>,
    /// How the original counts in the statistics of our disk.
    pub(super) accounted: Accounted,
    pub(super) target: MaybeUninit<P::Target>,
    pub(super) form: Form,
    /// Makes it a size that no other set's bios have: the slab would be shared with them, whose bios
    /// begin elsewhere in its objects, and a late poller of one of theirs find half of one of ours.
    _odd: MaybeUninit<[u64; 2]>,
    pub(super) private: P,
    pub(super) bio: Opaque<bindings::bio>,
}

impl<P: CloneOps> Frame<P> {
    /// Sets all fields of a frame but `target` and `bio`; returns the latter. The original counts as under
    /// way from here on. `private` is made where it is to be: made before, it would come by way of the
    /// stack.
    ///
    /// # Safety
    ///
    /// The memory must be the caller's, and that of a frame of `set`.
    #[inline(always)]
    pub(super) unsafe fn fill(
        frame: NonNull<Self>,
        set: &BioSet<P>,
        orig: Bio,
        form: Form,
        private: impl FnOnce() -> P,
    ) -> NonNull<bindings::bio> {
        let accounted = orig.start_accounting();
        let frame = frame.as_ptr();
        // SAFETY: The caller promises that it is ours to write.
        unsafe {
            core::ptr::addr_of_mut!((*frame).set).write(NonNull::from(set));
            core::ptr::addr_of_mut!((*frame).orig).write(orig.into_raw());
            core::ptr::addr_of_mut!((*frame).accounted).write(accounted);
            core::ptr::addr_of_mut!((*frame).form).write(form);
            core::ptr::addr_of_mut!((*frame).private).write(private());
        }
        // SAFETY: It is a field of an object.
        unsafe { NonNull::new_unchecked(Opaque::cast_into(&raw const (*frame).bio)) }
    }
}

/// How much memory a bio of ours has before it.
pub(super) const fn front_pad<P: CloneOps>() -> u32 {
    // The allocator aligns the front pad no better.
    const { assert!(align_of::<Frame<P>>() <= align_of::<u64>()) };
    offset_of!(Frame<P>, bio) as u32
}

/// The frame around a clone.
///
/// # Safety
///
/// `bio` must be the field of a [`Frame<P>`].
#[inline]
pub(super) unsafe fn frame_of<P: CloneOps>(bio: NonNull<bindings::bio>) -> NonNull<Frame<P>> {
    // SAFETY: The caller promises that the bio is the field of a frame.
    let frame = unsafe { bio.as_ptr().byte_sub(offset_of!(Frame<P>, bio)) };
    // SAFETY: It lies in an allocation, so it is not null.
    unsafe { NonNull::new_unchecked(frame.cast()) }
}
