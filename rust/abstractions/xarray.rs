// SPDX-License-Identifier: GPL-2.0

//! A table of IDs in which an ID is reserved first, published when its object is complete, and free
//! again only when the object's owner says so.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)
//!
//! The state of an ID is the type of the token that owns it:
//!
//! ```text
//!   reserve() -> Reservation -> publish(object) -> Published -> retire() -> Retired
//!                     |                                |                       |
//!                     +------------------------------ drop: the ID is free <---+
//! ```
//!
//! [`Reservation`] and [`Retired`] hold a placeholder that no lookup sees. So an object that is not
//! built cannot be found (there is no object to publish before), one that is being freed cannot be
//! found (the table owns a reference to all that it shows), and an ID is not given out twice.
//!
//! The tokens own an `Arc` of the table: it lives as long as one of them, and code that has an ID
//! needs to prove nothing about lifetimes. The table in turn owns an `Arc` of each visible object.
//! An object that keeps its own [`Published`] therefore is part of a cycle, which is broken by
//! taking the token out and retiring or dropping it, and must be: else neither is ever freed.
//!
//! # Examples
//!
//! ```
//! let table = IdTable::<Head>::new(GFP_KERNEL)?;
//!
//! let reservation = table.reserve(256, GFP_KERNEL)?;
//! let head = Head::new(reservation.id())?; // A failure frees the ID.
//! let published = reservation.publish(head.clone());
//! assert!(table.get(published.id()).is_some());
//!
//! let (retired, reference) = published.retire();
//! assert!(table.get(retired.id()).is_none()); // Nor is the ID given to another.
//! drop(reference);
//! drop(retired);
//! ```

use super::gfp;
use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::{
        null_mut,
        NonNull, //
    },
};
use kernel::{
    alloc::Flags,
    build_assert::build_assert,
    error::to_result,
    ffi::{
        c_ulong,
        c_void, //
    },
    prelude::*,
    sync::Arc,
    types::{
        ForeignOwnable,
        NotThreadSafe,
        Opaque, //
    },
};

/// A table from `u32` IDs to `Arc<T>`; see the [module](self).
///
/// All but [`IdTable::reserve`] may be called in any context that can drop what is returned: the lock
/// is taken with interrupts off, and nothing is allocated or dropped under it.
///
/// # Invariants
///
/// - `xa` is an initialised xarray with `XA_FLAGS_ALLOC`, whose lock is irq-safe. IDs are indices.
/// - Each entry is owned by exactly one [`Slot`]. It is either the zero entry, which lookups do not
///   see, or an `Arc<T>` from [`ForeignOwnable::into_foreign`].
#[pin_data(PinnedDrop)]
pub(crate) struct IdTable<T: 'static> {
    #[pin]
    xa: Opaque<bindings::xarray>,
    // Invariant in `T`: objects go in and come out.
    _objects: PhantomData<fn(Arc<T>) -> Arc<T>>,
}

// SAFETY: The table holds `Arc<T>`, and belongs to no thread.
unsafe impl<T: Send + Sync> Send for IdTable<T> {}

// SAFETY: The lock of `xa` serialises all that `&self` allows, which gives out `Arc<T>`.
unsafe impl<T: Send + Sync> Sync for IdTable<T> {}

/// The held lock of a table.
struct Locked<'a> {
    xa: &'a Opaque<bindings::xarray>,
    flags: c_ulong,
    _not_send: NotThreadSafe,
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // SAFETY: The lock was taken when `self` was made, with these flags as the result.
        unsafe { bindings::rmpath_xa_unlock_irqrestore(self.xa.get(), self.flags) };
    }
}

impl<T> IdTable<T> {
    /// Creates an empty table. Fails with [`ENOMEM`]; may sleep if `gfp` allows.
    pub(crate) fn new(gfp: Flags) -> Result<Arc<Self>> {
        // The two low bits of an entry are the xarray's.
        build_assert!(<Arc<T> as ForeignOwnable>::FOREIGN_ALIGN >= 4);

        const FLAGS: bindings::gfp_t =
            bindings::XA_FLAGS_ALLOC | bindings::xa_lock_type_XA_LOCK_IRQ;
        Arc::pin_init(
            pin_init!(Self {
                // INVARIANT: There are no entries, so none without an owner.
                // SAFETY: `slot` is valid for writes and, being pinned, stays where it is.
                xa <- Opaque::ffi_init(|slot| unsafe { bindings::xa_init_flags(slot, FLAGS) }),
                _objects: PhantomData,
            }),
            gfp,
        )
    }

    fn lock(&self) -> Locked<'_> {
        Locked {
            xa: &self.xa,
            // SAFETY: By the type invariant `xa` is initialised.
            flags: unsafe { bindings::rmpath_xa_lock_irqsave(self.xa.get()) },
            _not_send: NotThreadSafe,
        }
    }

    /// Reserves the lowest free ID below `limit`.
    ///
    /// Nothing can be found under it until [`Reservation::publish`]. May sleep if `gfp` allows (the
    /// lock is not held then). Fails with [`EBUSY`] when all those IDs are taken, with [`ENOMEM`]
    /// when there is no memory; either way the table is as before.
    pub(crate) fn reserve(self: &Arc<Self>, limit: u32, gfp: Flags) -> Result<Reservation<T>> {
        if limit == 0 {
            return Err(EBUSY);
        }
        let range = bindings::xa_limit {
            min: 0,
            max: limit - 1,
        };
        let mut id = 0;
        let locked = self.lock();
        // SAFETY: By the type invariant `xa` is initialised; its lock is held, and is retaken if
        // the call drops it. Null is stored as the zero entry.
        let ret = unsafe {
            bindings::__xa_alloc(self.xa.get(), &mut id, null_mut(), range, gfp::as_raw(gfp))
        };
        drop(locked);
        to_result(ret)?;
        // INVARIANT: The ID was free before; the zero entry there is the new slot's.
        Ok(Reservation(Slot {
            table: self.clone(),
            id,
        }))
    }

    /// Finds the object with this ID, if it is published and not retired.
    ///
    /// The reference is taken under the lock, when the table has one: it is never a last one's copy.
    pub(crate) fn get(&self, id: u32) -> Option<Arc<T>> {
        let locked = self.lock();
        // SAFETY: By the type invariant `xa` is initialised.
        let entry = unsafe { bindings::xa_load(self.xa.get(), id as c_ulong) };
        // SAFETY: xa_load() shows the zero entry as null; it was read under this lock.
        unsafe { Self::clone_entry(&locked, entry) }
    }

    /// Finds the first published object whose ID is not below `id`, and its ID.
    pub(crate) fn next_from(&self, id: u32) -> Option<(u32, Arc<T>)> {
        let mut index = id as c_ulong;
        let locked = self.lock();
        // SAFETY: By the type invariant `xa` is initialised; `index` is valid for writes.
        let entry = unsafe {
            bindings::xa_find(
                self.xa.get(),
                &mut index,
                c_ulong::MAX,
                bindings::XA_PRESENT,
            )
        };
        // SAFETY: xa_find() passes over zero entries; it was read under this lock.
        let object = unsafe { Self::clone_entry(&locked, entry) }?;
        // All IDs are `u32`, so this does not truncate.
        Some((index as u32, object))
    }

    /// Goes through the published objects by rising ID.
    ///
    /// The lock is not held between two of them: it sees each object that is published all the time,
    /// and may or may not see the others.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Arc<T>)> + '_ {
        let mut next = Some(0u32);
        core::iter::from_fn(move || {
            let (id, object) = self.next_from(next?)?;
            next = id.checked_add(1);
            Some((id, object))
        })
    }

    /// Takes a reference to the object of an entry.
    ///
    /// # Safety
    ///
    /// `entry` must be null or a visible entry, read under the table's lock that is held here.
    unsafe fn clone_entry(_: &Locked<'_>, entry: *mut c_void) -> Option<Arc<T>> {
        let entry = NonNull::new(entry)?;
        // SAFETY: By the type invariant a visible entry is from `into_foreign`, and the `Arc` stays
        // in the table as long as the lock is held.
        let object = unsafe { Arc::<T>::borrow(entry.as_ptr()) };
        Some(object.into())
    }
}

#[pinned_drop]
impl<T> PinnedDrop for IdTable<T> {
    fn drop(self: Pin<&mut Self>) {
        // Each entry is owned by a slot, which owns an `Arc` of the table: there are none left.
        //
        // SAFETY: By the type invariant `xa` is initialised, and nobody else uses it.
        unsafe { bindings::xa_destroy(self.xa.get()) };
    }
}

/// An entry of the table, whatever is in it; dropping it frees the ID.
///
/// # Invariants
///
/// There is an entry at `id`, and only `self` replaces or removes it.
struct Slot<T: 'static> {
    table: Arc<IdTable<T>>,
    id: u32,
}

impl<T> Slot<T> {
    /// Puts `entry`, or the zero entry if it is null, in place of what is there and returns that, or
    /// null if it was the zero entry.
    ///
    /// # Safety
    ///
    /// `entry` must be null or come from `Arc::<T>::into_foreign`, and is the table's afterwards.
    unsafe fn store(&self, entry: *mut c_void) -> *mut c_void {
        let _locked = self.table.lock();
        // This cannot fail. It would for an entry that is not aligned, which `IdTable::new` checks,
        // or for want of memory; but to put one entry in place of another takes no new node.
        //
        // SAFETY: `xa` is initialised and its lock is held. By our invariant the entry is ours.
        unsafe { bindings::__xa_store(self.table.xa.get(), self.id as c_ulong, entry, 0) }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let locked = self.table.lock();
        // SAFETY: By the table's invariant `xa` is initialised; its lock is held. By our invariant
        // the entry is ours, so nobody misses it.
        let old = unsafe { bindings::__xa_erase(self.table.xa.get(), self.id as c_ulong) };
        drop(locked);
        // SAFETY: __xa_erase() shows the zero entry as null; anything else is from `into_foreign`,
        // and is no longer in the table. The lock is released, so the object may do what it wants.
        drop(unsafe { Arc::<T>::try_from_foreign(old) });
    }
}

/// A reserved ID without an object. Dropping it frees the ID.
///
/// # Invariants
///
/// The slot holds the zero entry.
#[must_use = "the ID is free again when this is dropped"]
pub(crate) struct Reservation<T: 'static>(Slot<T>);

impl<T> Reservation<T> {
    /// The ID, which is nobody else's until it is freed.
    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }

    /// Makes `object` visible under the ID. Cannot fail and does not allocate; any context.
    pub(crate) fn publish(self, object: Arc<T>) -> Published<T> {
        // SAFETY: The entry is from `into_foreign`, and ownership of it goes to the table. By the
        // type invariant there is no object to be had from there.
        unsafe { self.0.store(object.into_foreign().cast()) };
        // INVARIANT: The slot holds the object now.
        Published(self.0)
    }
}

/// An ID with an object that can be found by it. Dropping it hides the object, drops the table's
/// reference to it and frees the ID.
///
/// # Invariants
///
/// The slot holds an `Arc<T>`.
#[must_use = "the object is hidden when this is dropped"]
pub(crate) struct Published<T: 'static>(Slot<T>);

impl<T> Published<T> {
    /// The ID.
    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }

    /// Hides the object but keeps the ID. Cannot fail and does not allocate; any context.
    ///
    /// Lookups that come later find nothing. The table's reference is returned, so that the caller
    /// decides where it is dropped: it may be the last one. Those who found the object before keep
    /// theirs.
    pub(crate) fn retire(self) -> (Retired<T>, Arc<T>) {
        // SAFETY: Null stands for the zero entry.
        let old = unsafe { self.0.store(null_mut()) };
        // SAFETY: By the type invariant this is an `Arc<T>` from `into_foreign`. It was taken out of
        // the table under the lock, so no lookup can take a reference through it any more.
        let object = unsafe { Arc::<T>::from_foreign(old) };
        // INVARIANT: The slot holds the zero entry now.
        (Retired(self.0), object)
    }
}

/// An ID whose object cannot be found any more. Dropping it frees the ID.
///
/// # Invariants
///
/// The slot holds the zero entry.
#[must_use = "the ID is free again when this is dropped"]
pub(crate) struct Retired<T: 'static>(Slot<T>);

impl<T> Retired<T> {
    /// The ID.
    pub(crate) fn id(&self) -> u32 {
        self.0.id
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod suite;
