// SPDX-License-Identifier: GPL-2.0

//! Memory for clones that all sets of one kind share.
//!
//! A set that is to be fast keeps the bios that were freed, some hundred of them per CPU. With a
//! thousand sets that would be a lot of memory which nobody uses. So there is one such cache for
//! all of them.
//!
//! What they must not share is the reserve, from which a clone is made when there is no memory: of
//! two sets of which one stands on the other, the upper one could hold all of it while it waits for
//! the lower one. So each [`BioSet`](super::clone::BioSet) has a reserve of its own, and asks the
//! cache first, without waiting.

use super::{
    clone::{
        front_pad,
        CloneOps, //
    },
    Bio, //
};
use crate::bindings;
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

/// A cache of memory for clones. Clones made of it keep it, by their set.
///
/// # Invariants
///
/// `raw` was set up by `bioset_init` with the front pad of clones with a `P`.
#[pin_data(PinnedDrop)]
pub(crate) struct BioCache<P: CloneOps> {
    #[pin]
    raw: Opaque<bindings::bio_set>,
    _private: PhantomData<P>,
}

// SAFETY: A bio set is used from any thread, and owns nothing but memory.
unsafe impl<P: CloneOps> Send for BioCache<P> {}
// SAFETY: The C functions that take a bio set do their own locking.
unsafe impl<P: CloneOps> Sync for BioCache<P> {}

impl<P: CloneOps> BioCache<P> {
    /// An empty cache. `ENOMEM`; may sleep.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                raw <- Opaque::try_ffi_init(|slot: *mut bindings::bio_set| {
                    // SAFETY: All zeroes is what `bioset_init` expects of a new set.
                    unsafe { slot.write_bytes(0, 1) };
                    // SAFETY: `slot` is valid and pinned. The set is exited in `drop`.
                    to_result(unsafe {
                        bindings::bioset_init(
                            slot,
                            0,
                            front_pad::<P>(),
                            bindings::RMPATH_BIOSET_PERCPU_CACHE as c_int,
                        )
                    })
                }),
                _private: PhantomData,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// A clone of `orig`, if that takes no waiting. Any context.
    ///
    /// # Safety
    ///
    /// The cache must outlive the clone.
    #[inline]
    pub(super) unsafe fn clone_bio(&self, orig: &Bio) -> Option<NonNull<bindings::bio>> {
        // SAFETY: The original is valid and ours; the set is initialised by the type invariant.
        let bio = unsafe {
            bindings::bio_alloc_clone(
                core::ptr::null_mut(),
                orig.as_ptr(),
                bindings::RMPATH_GFP_TRY,
                self.raw.get(),
            )
        };
        NonNull::new(bio)
    }
}

#[pinned_drop]
impl<P: CloneOps> PinnedDrop for BioCache<P> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant the set was initialised. No clone is left: each is counted
        // on a set that has an `Arc` of us.
        unsafe { bindings::bioset_exit(self.raw.get()) };
    }
}
