// SPDX-License-Identifier: GPL-2.0

//! Memory for clones that all sets of one kind share.
//!
//! Each CPU keeps some that were given back, so that it is fast; were there a cache for each of a
//! thousand sets, that would be a lot of memory which nobody uses. So there is one for all of them.
//!
//! What they must not share is the reserve, from which a clone is made when there is no memory: of
//! two sets of which one stands on the other, the upper one could hold all of it while it waits for
//! the lower one. So each [`BioSet`](super::clone::BioSet) has a reserve of its own, and asks the
//! cache first, without waiting.
//!
//! C header: [`include/linux/slab.h`](srctree/include/linux/slab.h)

use super::{
    clone::{
        CloneOps,
        Frame, //
    },
    record::ChildEnd, //
};
use crate::{
    abstractions::percpu_spare::{
        PerCpuSpare,
        Room,
        Spill, //
    },
    bindings, //
};
use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of, //
    },
    ptr::NonNull, //
};
use kernel::{
    ffi::c_uint,
    prelude::*,
    str::CStr,
    sync::Arc, //
};

/// A cache of memory for clones. Clones made of it keep it, by their set.
///
/// # Invariants
///
/// `slab` is a cache of objects as large as a `Frame<P>`, aligned as one or better, and is destroyed
/// by the destructor only. What is spare comes from it.
pub(crate) struct BioCache<P: CloneOps> {
    spare: PerCpuSpare,
    slab: NonNull<bindings::kmem_cache>,
    /// What ends an original that was sent itself.
    pub(super) child_end: ChildEnd,
    _private: PhantomData<P>,
}

// SAFETY: A slab cache is used from any thread, and owns nothing but memory.
unsafe impl<P: CloneOps> Send for BioCache<P> {}
// SAFETY: The C functions that take a slab cache do their own locking.
unsafe impl<P: CloneOps> Sync for BioCache<P> {}

impl<P: CloneOps> BioCache<P> {
    /// An empty cache; no other may have its name. `ENOMEM`; may sleep.
    pub(crate) fn new(name: &'static CStr) -> Result<Arc<Self>> {
        let spare = PerCpuSpare::new()?;
        let mut args = bindings::kmem_cache_args {
            align: align_of::<Frame<P>>() as c_uint,
            ..Default::default()
        };
        // SAFETY: The name is static; the arguments are only read, and ask for no constructor.
        let slab = unsafe {
            bindings::__kmem_cache_create_args(
                name.as_char_ptr(),
                size_of::<Frame<P>>() as c_uint,
                &mut args,
                bindings::RMPATH_SLAB_HWCACHE_ALIGN,
            )
        };
        let slab = NonNull::new(slab).ok_or(ENOMEM)?;
        // INVARIANT: It was just created with that size and alignment.
        let cache = Self {
            spare,
            slab,
            child_end: ChildEnd::new(),
            _private: PhantomData,
        };
        Ok(Arc::new(cache, GFP_KERNEL)?)
    }

    /// Memory for a frame, if that takes no waiting. Any context.
    #[inline]
    pub(super) fn take(&self) -> Option<NonNull<Frame<P>>> {
        let (spare, spill) = self.spare.pop();
        self.free(spill);
        match spare {
            Some(spare) => Some(spare.cast()),
            None => self.alloc(),
        }
    }

    #[inline(never)]
    fn alloc(&self) -> Option<NonNull<Frame<P>>> {
        // SAFETY: By the type invariant the slab is there.
        let object = unsafe {
            bindings::kmem_cache_alloc_noprof(self.slab.as_ptr(), bindings::RMPATH_GFP_TRY)
        };
        NonNull::new(object.cast())
    }

    /// Gives back what [`BioCache::take`] returned. Any context.
    ///
    /// # Safety
    ///
    /// `frame` must come from `take` of this cache, and nothing in it is used or dropped any more.
    #[inline]
    pub(super) unsafe fn give(&self, frame: NonNull<Frame<P>>) {
        const { assert!(size_of::<Frame<P>>() >= size_of::<Room>()) };
        const { assert!(align_of::<Frame<P>>() >= align_of::<Room>()) };
        // SAFETY: It is large enough, and the caller gives it up.
        let spill = unsafe { self.spare.push(frame.cast()) };
        self.free(spill);
    }

    #[inline]
    fn free(&self, spill: Spill) {
        for object in spill {
            // SAFETY: By the type invariant it comes from the slab.
            unsafe { bindings::kmem_cache_free(self.slab.as_ptr(), object.as_ptr().cast()) };
        }
    }
}

impl<P: CloneOps> Drop for BioCache<P> {
    fn drop(&mut self) {
        for object in self.spare.drain() {
            // SAFETY: By the type invariant it comes from the slab.
            unsafe { bindings::kmem_cache_free(self.slab.as_ptr(), object.as_ptr().cast()) };
        }
        // SAFETY: By the type invariant the slab is there. Nothing of it is in use: each clone is
        // counted on a set that has an `Arc` of us.
        unsafe { bindings::kmem_cache_destroy(self.slab.as_ptr()) };
    }
}
