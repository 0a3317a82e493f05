// SPDX-License-Identifier: GPL-2.0

//! A table of reference-counted objects by small ID.
//!
//! C header: [`include/linux/idr.h`](srctree/include/linux/idr.h)
//!
//! An ID is there with its object or not at all. Where an object must know its ID before it is
//! complete, or an ID must stay taken after its object is gone, [`IdTable`] is the one to use.
//!
//! # Examples
//!
//! ```
//! let paths = KBox::pin_init(Idr::<Path>::new(), GFP_KERNEL)?;
//!
//! let id = paths.alloc(0..u32::MAX, path, GFP_KERNEL)?;
//! assert!(paths.get(id).is_some());
//!
//! let old = paths.replace(id, other)?;
//! assert!(paths.replace(id + 1, old).is_err_and(|refused| refused.error == ENOENT));
//! drop(paths.remove(id));
//! ```
//!
//! [`IdTable`]: super::xarray::IdTable

use super::{
    gfp,
    spinlock::{
        new_spinlock_irq,
        SpinLockIrq, //
    }, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    ops::Range,
    ptr::NonNull, //
};
use kernel::{
    alloc::Flags,
    build_assert::build_assert,
    error::{
        from_err_ptr,
        to_result, //
    },
    ffi::{
        c_ulong,
        c_void, //
    },
    prelude::*,
    sync::Arc,
    types::{
        ForeignOwnable,
        Opaque, //
    },
    xarray::StoreError, //
};

/// A table from `u32` IDs to `Arc<T>`.
///
/// All but [`Idr::alloc`] may be called in any context that can drop what is returned: the lock is
/// irq-safe, and nothing is allocated or dropped under it.
///
/// # Invariants
///
/// Under the lock, the `idr` is initialised and owns its entries, which come from
/// [`ForeignOwnable::into_foreign`] of an `Arc<T>`. None is null.
#[pin_data(PinnedDrop)]
pub(crate) struct Idr<T: 'static> {
    #[pin]
    idr: SpinLockIrq<Opaque<bindings::idr>>,
    // Invariant in `T`: objects go in and come out.
    _objects: PhantomData<fn(Arc<T>) -> Arc<T>>,
}

// SAFETY: The table holds `Arc<T>`, and belongs to no thread.
unsafe impl<T: Send + Sync> Send for Idr<T> {}

// SAFETY: The lock serialises all that `&self` allows, which gives out `Arc<T>`.
unsafe impl<T: Send + Sync> Sync for Idr<T> {}

/// A section with nodes in store, for allocations that must not sleep.
struct Preload;

impl Preload {
    /// Fills the store, as far as there is memory, and stays on this CPU. May sleep if `gfp` allows.
    fn begin(gfp: Flags) -> Self {
        // SAFETY: The destructor ends the section.
        unsafe { bindings::idr_preload(gfp::as_raw(gfp)) };
        Self
    }
}

impl Drop for Preload {
    fn drop(&mut self) {
        // SAFETY: `begin` began the section, on this CPU, which it does not let us leave.
        unsafe { bindings::rmpath_idr_preload_end() };
    }
}

impl<T> Idr<T> {
    /// Returns an initialiser of an empty table.
    pub(crate) fn new() -> impl PinInit<Self> {
        // The two low bits of an entry are the radix tree's.
        build_assert!(<Arc<T> as ForeignOwnable>::FOREIGN_ALIGN >= 4);

        let idr = Opaque::ffi_init(|slot| {
            // SAFETY: `slot` is valid for writes and, being pinned, stays where it is.
            unsafe { bindings::rmpath_idr_init(slot) }
        });
        pin_init!(Self {
            // INVARIANT: The table is initialised and has no entries.
            idr <- new_spinlock_irq!(idr, "Idr::idr"),
            _objects: PhantomData,
        })
    }

    /// Stores `object` under the lowest free ID in `ids`, and returns that.
    ///
    /// From a thread only. May sleep if `gfp` allows; the lock is not held then. Fails with [`ENOSPC`]
    /// when all those IDs are taken, with [`ENOMEM`] when there is no memory. The object is handed
    /// back then, and the table is as before.
    pub(crate) fn alloc(
        &self,
        ids: Range<u32>,
        object: Arc<T>,
        gfp: Flags,
    ) -> Result<u32, StoreError<Arc<T>>> {
        if ids.is_empty() {
            return Err(StoreError {
                error: ENOSPC,
                value: object,
            });
        }
        let mut id = ids.start;
        let last = (ids.end - 1) as c_ulong;
        let entry = object.into_foreign();
        let ret = {
            let _preload = Preload::begin(gfp);
            let idr = self.idr.lock();
            // SAFETY: By the type invariant the table is initialised, and its lock is held. On
            // success it owns `entry`, which is from `into_foreign`.
            unsafe {
                bindings::idr_alloc_u32(idr.get(), entry, &mut id, last, gfp::as_raw(GFP_NOWAIT))
            }
        };
        match to_result(ret) {
            Ok(()) => Ok(id),
            Err(error) => Err(StoreError {
                error,
                // SAFETY: The entry is from `into_foreign` and the table did not take it.
                value: unsafe { Arc::from_foreign(entry) },
            }),
        }
    }

    /// Finds the object with this ID.
    ///
    /// The reference is taken under the lock, when the table has one: it is never a last one's copy.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<T>> {
        let idr = self.idr.lock();
        // SAFETY: By the type invariant the table is initialised, and its lock is held.
        let entry = unsafe { bindings::idr_find(idr.get(), id as c_ulong) };
        // SAFETY: The entry was just found, and the lock is held.
        unsafe { Self::clone_entry(entry) }
    }

    /// Finds the first object whose ID is not below `id`, and its ID.
    pub(crate) fn next_from(&self, id: u32) -> Option<(u32, Arc<T>)> {
        let mut next = id as c_ulong;
        let idr = self.idr.lock();
        // SAFETY: By the type invariant the table is initialised, and its lock is held.
        let entry = unsafe { bindings::idr_get_next_ul(idr.get(), &mut next) };
        // SAFETY: The entry was just found, and the lock is held.
        let object = unsafe { Self::clone_entry(entry) }?;
        // All IDs are `u32`, so this does not truncate.
        Some((next as u32, object))
    }

    /// Stores `object` in place of the one with this ID, which is returned. Does not allocate.
    ///
    /// Fails with [`ENOENT`] when there is none; `object` is handed back then.
    pub(crate) fn replace(&self, id: u32, object: Arc<T>) -> Result<Arc<T>, StoreError<Arc<T>>> {
        let entry = object.into_foreign();
        let idr = self.idr.lock();
        // SAFETY: By the type invariant the table is initialised, and its lock is held. On success
        // it owns `entry`, which is from `into_foreign`.
        let old = unsafe { bindings::idr_replace(idr.get(), entry, id as c_ulong) };
        drop(idr);
        match from_err_ptr(old) {
            // SAFETY: It was an entry of the table, so from `into_foreign`, and is not any more.
            Ok(old) => Ok(unsafe { Arc::from_foreign(old) }),
            Err(error) => Err(StoreError {
                error,
                // SAFETY: The entry is from `into_foreign` and the table did not take it.
                value: unsafe { Arc::from_foreign(entry) },
            }),
        }
    }

    /// Frees this ID and returns its object, if there is one.
    pub(crate) fn remove(&self, id: u32) -> Option<Arc<T>> {
        let idr = self.idr.lock();
        // SAFETY: By the type invariant the table is initialised, and its lock is held.
        let old = unsafe { bindings::idr_remove(idr.get(), id as c_ulong) };
        drop(idr);
        // SAFETY: It is null or was an entry of the table, so from `into_foreign`.
        unsafe { Arc::try_from_foreign(old) }
    }

    /// Takes a reference to the object of an entry.
    ///
    /// # Safety
    ///
    /// `entry` must be null or an entry, and the lock must have been held since it was found.
    unsafe fn clone_entry(entry: *mut c_void) -> Option<Arc<T>> {
        let entry = NonNull::new(entry)?;
        // SAFETY: By the type invariant an entry is from `into_foreign`, and the `Arc` stays in the
        // table as long as the lock is held.
        let object = unsafe { Arc::<T>::borrow(entry.as_ptr()) };
        Some(object.into())
    }
}

#[pinned_drop]
impl<T> PinnedDrop for Idr<T> {
    fn drop(self: Pin<&mut Self>) {
        while let Some((id, _)) = self.next_from(0) {
            drop(self.remove(id));
        }
        let idr = self.idr.lock();
        // SAFETY: By the type invariant the table is initialised. There are no entries to be lost.
        unsafe { bindings::idr_destroy(idr.get()) };
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_idr)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::{
        resched,
        Canary,
        FailingAllocations,
        Finder, //
    };
    use kernel::sync::atomic::{
        Atomic,
        Relaxed, //
    };

    const ANY: Range<u32> = 0..u32::MAX;

    type Table = Arc<Idr<Canary>>;

    struct Fixture {
        idr: Table,
        drops: Arc<Atomic<u32>>,
    }

    impl Fixture {
        fn new() -> Result<Self> {
            Ok(Self {
                idr: Arc::pin_init(Idr::new(), GFP_KERNEL)?,
                drops: Canary::counter()?,
            })
        }

        fn canary(&self, value: u32) -> Result<Arc<Canary>> {
            Ok(Arc::new(Canary::new(value, &self.drops), GFP_KERNEL)?)
        }

        fn alloc(&self, value: u32) -> Result<u32> {
            Ok(self.idr.alloc(ANY, self.canary(value)?, GFP_KERNEL)?)
        }
    }

    #[test]
    fn ids_are_the_lowest_free_ones() -> Result {
        let fixture = Fixture::new()?;
        let ids = (fixture.alloc(10)?, fixture.alloc(11)?, fixture.alloc(12)?);
        let value = fixture.idr.get(1).map(|canary| canary.value);
        let none = fixture.idr.get(3).is_none();
        let removed = fixture.idr.remove(1).map(|canary| canary.value);
        let dropped = fixture.drops.load(Relaxed);
        let gone = fixture.idr.get(1).is_none() && fixture.idr.remove(1).is_none();
        let next = fixture
            .idr
            .next_from(1)
            .map(|(id, canary)| (id, canary.value));
        let again = fixture.alloc(13)?;
        drop(fixture.idr);
        let all = fixture.drops.load(Relaxed);

        assert_eq!(ids, (0, 1, 2));
        assert_eq!(value, Some(11));
        assert!(none);
        assert_eq!(removed, Some(11));
        assert_eq!(dropped, 1);
        assert!(gone);
        assert_eq!(next, Some((2, 12)));
        assert_eq!(again, 1);
        assert_eq!(all, 4);
        Ok(())
    }

    #[test]
    fn replace_needs_an_object_to_replace() -> Result {
        let fixture = Fixture::new()?;
        // In an empty table, beside an object, and far from it: three ways through the tree.
        let empty = fixture.idr.replace(0, fixture.canary(1)?).err();
        let id = fixture.alloc(2)?;
        let old = fixture.idr.replace(id, fixture.canary(3)?).ok();
        let beside = fixture.idr.replace(id + 1, fixture.canary(4)?).err();
        let far = fixture.idr.replace(1 << 30, fixture.canary(5)?).err();
        let removed = fixture.idr.remove(id);
        let after = fixture.idr.replace(id, fixture.canary(6)?).err();
        let refused = [&empty, &beside, &far, &after].map(|refused| {
            refused
                .as_ref()
                .map(|refused| (refused.error, refused.value.value))
        });
        let values = (
            old.as_ref().map(|old| old.value),
            removed.as_ref().map(|removed| removed.value),
        );
        let none = fixture.idr.next_from(0).is_none();
        let early = fixture.drops.load(Relaxed);
        drop((empty, old, beside, far, removed, after));
        let late = fixture.drops.load(Relaxed);

        assert!(refused == [1, 4, 5, 6].map(|value| Some((ENOENT, value))));
        assert_eq!(values, (Some(2), Some(3)));
        assert!(none);
        assert_eq!((early, late), (0, 6));
        Ok(())
    }

    #[test]
    fn a_full_range_hands_the_object_back() -> Result {
        let Fixture { idr, drops } = Fixture::new()?;
        let canary = |value| Arc::new(Canary::new(value, &drops), GFP_KERNEL);
        let mut refused = [None; 3];
        let first = idr.alloc(5..6, canary(1)?, GFP_KERNEL).ok();
        for (seen, ids) in refused.iter_mut().zip([5..6, 5..5, 0..0]) {
            *seen = idr
                .alloc(ids, canary(2)?, GFP_KERNEL)
                .err()
                .map(|refused| (refused.error, refused.value.value));
        }
        let last = idr
            .alloc(u32::MAX - 1..u32::MAX, canary(3)?, GFP_KERNEL)
            .ok();
        let found = idr.next_from(6).map(|(id, canary)| (id, canary.value));
        drop(idr);
        let all = drops.load(Relaxed);

        assert_eq!(first, Some(5));
        assert!(refused == [Some((ENOSPC, 2)); 3]);
        assert_eq!(last, Some(u32::MAX - 1));
        assert_eq!(found, Some((u32::MAX - 1, 3)));
        assert_eq!(all, 5);
        Ok(())
    }

    /// As in the xarray's suite: whoever finds an object finds it alive.
    #[test]
    fn get_races_the_last_put() -> Result {
        const ROUNDS: u32 = 300;
        let fixture = Fixture::new()?;
        let theirs = fixture.idr.clone();
        let finder = Finder::spawn(move || theirs.get(0))?;
        let mut wrong_id = 0;
        for round in 0..ROUNDS {
            wrong_id += u32::from(fixture.alloc(round)? != 0);
            drop(fixture.idr.replace(0, fixture.canary(round)?));
            drop(fixture.idr.remove(0));
            resched();
        }
        let (found, dead) = finder.stop();
        let dropped = fixture.drops.load(Relaxed);

        assert_eq!(dead, 0);
        assert!(found > 0);
        assert_eq!(wrong_id, 0);
        assert_eq!(dropped, 2 * ROUNDS);
        Ok(())
    }

    #[test]
    fn allocation_failure_leaves_no_entry() -> Result {
        // Each needs several nodes, of which the CPU may have some in store from before.
        const TABLES: u32 = 100;
        const HIGH: Range<u32> = 1 << 30..u32::MAX;
        let drops = Canary::counter()?;
        let mut tables = KVec::new();
        for value in 0..TABLES {
            let idr = KBox::pin_init(Idr::<Canary>::new(), GFP_KERNEL)?;
            let canary = Arc::new(Canary::new(value, &drops), GFP_KERNEL)?;
            tables.push((idr, canary), GFP_KERNEL)?;
        }
        let Some(failing) = FailingAllocations::begin() else {
            return Ok(());
        };
        let (mut failed, mut wrong) = (0, 0);
        for (idr, canary) in &tables {
            match idr.alloc(HIGH, canary.clone(), GFP_NOWAIT) {
                Ok(id) => wrong += u32::from(id != HIGH.start),
                Err(refused) => {
                    failed += 1;
                    wrong += u32::from(refused.error != ENOMEM);
                    wrong += u32::from(!Arc::ptr_eq(&refused.value, canary));
                    wrong += u32::from(idr.next_from(0).is_some());
                }
            }
        }
        drop(failing);
        // With memory all is as if nothing had happened.
        for (idr, canary) in &tables {
            drop(idr.remove(HIGH.start));
            let id = idr.alloc(HIGH, canary.clone(), GFP_KERNEL).ok();
            wrong += u32::from(id != Some(HIGH.start));
        }
        drop(tables);
        let dropped = drops.load(Relaxed);

        assert!(failed > 0);
        assert_eq!(wrong, 0);
        assert_eq!(dropped, TABLES);
        Ok(())
    }
}
