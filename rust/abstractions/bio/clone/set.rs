// SPDX-License-Identifier: GPL-2.0

//! Sets of clones: where they come from, and what waits for them.

use super::{
    frame::{
        frame_of,
        front_pad,
        Form,
        Frame, //
    },
    Clone,
    CloneOps, //
};
use crate::{
    abstractions::{
        bio::{
            cache::BioCache,
            status::BlkStatus,
            Bio, //
        },
        percpu_ref::PercpuRef, //
    },
    bindings, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// A set of clones, with a reserve that lets one be made whatever memory there is.
///
/// Dropping it waits for all its clones to finish; may sleep.
///
/// # Invariants
///
/// `raw` was set up by `bioset_init` with a front pad that makes its bios the `bio` field of a
/// `Frame<P>`. `clones` counts those that exist.
#[pin_data(PinnedDrop)]
pub(crate) struct BioSet<P: CloneOps> {
    #[pin]
    pub(super) clones: PercpuRef,
    /// The reserve, when the cache has no memory.
    #[pin]
    raw: Opaque<bindings::bio_set>,
    // Dropped last: clones are in its memory until `clones` is 0.
    pub(super) cache: Arc<BioCache<P>>,
}

// SAFETY: A bio set is used from any thread, and owns nothing but memory.
unsafe impl<P: CloneOps> Send for BioSet<P> {}
// SAFETY: The C functions that take a bio set do their own locking.
unsafe impl<P: CloneOps> Sync for BioSet<P> {}

/// Clones that can always be made, per set: what `BIO_POOL_SIZE` is to the kernel's own sets.
const RESERVE: u32 = 2;

impl<P: CloneOps> BioSet<P> {
    /// An initialiser of a set without clones. Fails with `ENOMEM`; may sleep.
    pub(crate) fn new(cache: Arc<BioCache<P>>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // First: should the other fail, this one's destructor undoes it; `raw` has none.
            clones <- PercpuRef::new(),
            raw <- Opaque::try_ffi_init(|slot: *mut bindings::bio_set| {
                // SAFETY: All zeroes is what `bioset_init` expects of a new set.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: `slot` is valid and pinned. The set is exited in `drop`.
                to_result(unsafe {
                    bindings::bioset_init(slot, RESERVE, front_pad::<P>(), 0)
                })
            }),
            cache,
        })
    }

    /// Makes a clone that owns `orig`, bound for no device yet.
    ///
    /// Never fails for want of memory, but may sleep, unless the bio is `REQ_NOWAIT`: then it fails
    /// with [`BlkStatus::AGAIN`]. With integrity or encryption, cloning these can fail
    /// ([`BlkStatus::RESOURCE`]). After [`BioSet::shut`]: [`BlkStatus::IOERR`]. What was given is then
    /// given back.
    #[inline(never)]
    pub(crate) fn clone_bio(&self, orig: Bio, private: P) -> Result<Clone<P>, (Bio, P, BlkStatus)> {
        if !self.clones.try_get() {
            return Err((orig, private, BlkStatus::IOERR));
        }
        let (frame, form) = match self.cache.take() {
            Some(frame) => (frame, Form::None),
            None => match self.clone_from_reserve(&orig) {
                Ok(frame) => (frame, Form::Reserve),
                Err(status) => {
                    // SAFETY: The reference was taken above and is given up.
                    unsafe { PercpuRef::put(NonNull::from(&self.clones)) };
                    return Err((orig, private, status));
                }
            },
        };
        // SAFETY: The frame is ours, and its memory is the set's.
        let bio = unsafe { Frame::fill(frame, self, orig, form, || private) };
        // INVARIANT: All fields of the frame are set, and the clone was counted.
        Ok(Clone(bio, PhantomData))
    }

    /// A clone of a bio for which the cache has no memory. May sleep, unless it is `REQ_NOWAIT`.
    #[cold]
    fn clone_from_reserve(&self, orig: &Bio) -> Result<NonNull<Frame<P>>, BlkStatus> {
        if orig.is_nowait() {
            return Err(BlkStatus::AGAIN);
        }
        // SAFETY: The original is valid and ours; the set is initialised by the type invariant.
        let bio = unsafe {
            bindings::bio_alloc_clone(
                core::ptr::null_mut(),
                orig.as_ptr(),
                bindings::RMPATH_GFP_NOIO,
                self.raw.get(),
            )
        };
        let bio = NonNull::new(bio).ok_or(BlkStatus::RESOURCE)?;
        // SAFETY: By the type invariant the bio lies in a `Frame<P>`.
        Ok(unsafe { frame_of::<P>(bio) })
    }

    /// Refuses new clones and waits until there is none. May sleep.
    pub(crate) fn shut(&self) {
        self.clones.shut();
    }
}

#[pinned_drop]
impl<P: CloneOps> PinnedDrop for BioSet<P> {
    fn drop(self: Pin<&mut Self>) {
        self.shut();
        // SAFETY: By the type invariant the set was initialised. No clone is left: each is
        // counted until after its memory was given back.
        unsafe { bindings::bioset_exit(self.raw.get()) };
    }
}
