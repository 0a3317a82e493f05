// SPDX-License-Identifier: GPL-2.0

//! A pointer that is read inside RCU read sections and replaced from outside.
//!
//! Readers write nothing and wait for nobody; a writer that has replaced the value gets the old one
//! back after a grace period, when no reader can hold it any more.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)
//!
//! # Examples
//!
//! ```
//! let paths = RcuCell::new(KBox::new(PathSet::empty(), GFP_KERNEL)?);
//!
//! // Per I/O: take a reference inside the section, use it after.
//! let path = paths.read(|set| set.first().and_then(|path| path.try_get()));
//!
//! // Attach: publish, wait for the readers of the old set, then drop that.
//! let old = {
//!     let state = head.lock();
//!     paths.replace(state.build_set()?)
//! };
//! head.settled(old.elapse());
//! ```

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        rcu, //
    },
};

/// Evidence that a grace period has gone by. Who needs one to have gone by between what he has
/// published and what he does next asks for this, and uses it up.
#[must_use = "nothing was waited for in vain"]
pub(crate) struct Elapsed(());

/// Waits until every RCU read section that has begun by now is over.
///
/// May sleep. Never in an RCU read section or under a spin lock: where those only disable preemption,
/// sleeping ends the section, and what it was to protect is gone when the caller goes on. As for all
/// that sleeps, it is not the compiler who checks this, but lockdep.
pub(crate) fn synchronize() -> Elapsed {
    // SAFETY: Not an unsafe operation, as far as memory goes.
    unsafe { bindings::synchronize_rcu() };
    Elapsed(())
}

/// Waits until every RCU callback that has been queued by now has run to its end.
///
/// May sleep. The module's exit calls it when all its objects are gone: a `percpu_ref` that switches
/// to one counter calls module code from an RCU callback, and freeing the counter does not wait for
/// the end of that code. It waits for callbacks, not for readers: that is [`synchronize`].
pub(crate) fn rcu_barrier() {
    // SAFETY: Not an unsafe operation, as far as memory goes.
    unsafe { bindings::rcu_barrier() };
}

/// An owned value that is read under RCU and replaced as a whole.
///
/// # Invariants
///
/// `ptr` comes from [`KBox::into_raw`], is not null and is owned by `self`. A value that was in
/// `ptr` is dropped or handed out only when every read section that may have loaded it is over.
pub(crate) struct RcuCell<T> {
    ptr: Atomic<*mut T>,
    _owns: PhantomData<KBox<T>>,
}

// SAFETY: Moving the cell moves the value, and no reader is left behind (`read` borrows the cell).
unsafe impl<T: Send> Send for RcuCell<T> {}

// SAFETY: Many threads read the value (`T: Sync`), and any of them may take it out (`T: Send`).
unsafe impl<T: Send + Sync> Sync for RcuCell<T> {}

impl<T> RcuCell<T> {
    /// Creates a cell that holds `value`.
    pub(crate) fn new(value: KBox<T>) -> Self {
        // INVARIANT: The pointer comes from `into_raw`; nobody has read it.
        Self {
            ptr: Atomic::new(KBox::into_raw(value)),
            _owns: PhantomData,
        }
    }

    /// Runs `f` on the current value in an RCU read section.
    ///
    /// Any context. `f` must not sleep. What it returns cannot borrow from the value: whatever is to
    /// be kept past the section needs a reference of its own, which is taken inside.
    #[inline]
    pub(crate) fn read<R>(&self, f: impl for<'a> FnOnce(&'a T) -> R) -> R {
        self.read_in_section(|value, _| f(value))
    }

    /// The same, and `f` gets evidence that it runs in such a section.
    #[inline]
    pub(crate) fn read_in_section<R>(
        &self,
        f: impl for<'a> FnOnce(&'a T, &'a rcu::Guard) -> R,
    ) -> R {
        let section = rcu::read_lock();
        // rcu_dereference() is READ_ONCE() plus the order of dependent loads, which every CPU that
        // Rust runs on keeps. READ_ONCE() is a volatile load; `Atomic::load` is one too, but inside
        // a C function, and this is the hot path.
        //
        // SAFETY: `as_ptr` is valid while `self` is borrowed; all stores are those of `xchg`.
        let value = unsafe { self.ptr.as_ptr().read_volatile() };
        // SAFETY: By the type invariant the value lives until this read section ends, which is when
        // `section` is dropped, after `f`. It is only referred to as shared by then.
        f(unsafe { &*value }, &section)
    }

    /// Replaces the value; the old one is to be had after a grace period.
    ///
    /// Any context. It is one atomic exchange with full order: what was written before is seen by
    /// who sees the new value. Concurrent calls get different old values. The [`Retired`] may be
    /// carried out of a spin lock's section, and has to be.
    pub(crate) fn replace(&self, new: KBox<T>) -> Retired<T> {
        let old = self.ptr.xchg(KBox::into_raw(new), Full);
        // INVARIANT: `old` was in the cell, is not any more, and goes to nobody else.
        // SAFETY: By the type invariant it is not null.
        Retired(unsafe { NonNull::new_unchecked(old) })
    }
}

impl<T> Drop for RcuCell<T> {
    /// Drops the value at once: a reader borrows the cell, so there is none now.
    fn drop(&mut self) {
        // SAFETY: By the type invariant the pointer comes from `into_raw` and is ours.
        drop(unsafe { KBox::from_raw(*self.ptr.get_mut()) });
    }
}

/// A value that was taken out of an [`RcuCell`] and may still be read.
///
/// Dropping it waits, as [`Retired::elapse`] does: it may sleep, so never under a
/// spin lock or in an RCU read section.
///
/// # Invariants
///
/// The pointer comes from [`KBox::into_raw`], is owned by `self` and is no longer in the cell.
#[must_use = "dropping it sleeps for a grace period"]
pub(crate) struct Retired<T>(NonNull<T>);

// SAFETY: The value may go to another thread (`T: Send`), and does so after its readers have gone.
unsafe impl<T: Send> Send for Retired<T> {}

impl<T> Retired<T> {
    /// Waits until no reader can have the value, and drops it. May sleep.
    pub(crate) fn elapse(self) -> Elapsed {
        drop(self);
        // That has waited.
        Elapsed(())
    }
}

impl<T> Drop for Retired<T> {
    fn drop(&mut self) {
        let _ = synchronize();
        // SAFETY: By the type invariant the pointer is ours. Who read it did so in a section that
        // began before it left the cell, and that is over.
        drop(unsafe { KBox::from_raw(self.0.as_ptr()) });
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_rcu)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::{
        spin_ms,
        Canary,
        Thread, //
    };
    use core::mem::ManuallyDrop;
    use kernel::sync::{
        atomic::{
            Acquire,
            Relaxed,
            Release, //
        },
        Arc,
        Completion, //
    };

    fn canary(value: u32, drops: &Arc<Atomic<u32>>) -> Result<KBox<Canary>> {
        Ok(KBox::new(Canary::new(value, drops), GFP_KERNEL)?)
    }

    #[test]
    fn replace_retires_the_old_value() -> Result {
        let drops = Canary::counter()?;
        let cell = RcuCell::new(canary(1, &drops)?);
        let first = cell.read(|canary| canary.value);
        let old = cell.replace(canary(2, &drops)?);
        let second = cell.read(|canary| canary.value);
        let before = drops.load(Relaxed);
        let _ = old.elapse();
        let one = drops.load(Relaxed);
        drop(cell.replace(canary(3, &drops)?));
        let two = drops.load(Relaxed);
        drop(cell);
        let three = drops.load(Relaxed);

        assert_eq!((first, second), (1, 2));
        assert_eq!((before, one, two, three), (0, 1, 2, 3));
        Ok(())
    }

    /// What the reader of a value that is being replaced sees.
    #[pin_data]
    struct Race {
        cell: RcuCell<Canary>,
        #[pin]
        inside: Completion,
        left: Atomic<bool>,
        intact: Atomic<bool>,
    }

    /// Retires a value while a reader is in its section, and returns whether `end` waited for it.
    fn waits_for_the_reader(end: fn(Retired<Canary>)) -> Result<bool> {
        let drops = Canary::counter()?;
        let first = canary(1, &drops)?;
        let race = Arc::pin_init(
            pin_init!(Race {
                cell: RcuCell::new(first),
                inside <- Completion::new(),
                left: Atomic::new(false),
                intact: Atomic::new(false),
            }),
            GFP_KERNEL,
        )?;
        let second = canary(2, &drops)?;
        let reader = race.clone();
        let thread = Thread::spawn(move || {
            reader.cell.read(|canary| {
                reader.inside.complete_all();
                // Longer than a grace period takes that does not wait for this.
                spin_ms(400);
                reader
                    .intact
                    .store(canary.value == 1 && canary.is_alive(), Relaxed);
                reader.left.store(true, Release);
            });
        })?;
        race.inside.wait_for_completion();
        end(race.cell.replace(second));
        let waited = race.left.load(Acquire);
        thread.join();
        Ok(waited && race.intact.load(Relaxed) && drops.load(Relaxed) == 1)
    }

    #[test]
    fn elapse_waits_for_readers() -> Result {
        assert!(waits_for_the_reader(|retired| {
            let _ = retired.elapse();
        })?);
        Ok(())
    }

    #[test]
    fn drop_waits_for_readers() -> Result {
        assert!(waits_for_the_reader(drop)?);
        Ok(())
    }

    /// Puts `mine` in the cell for what is there, over and over; returns what it has at last.
    fn swap(cell: &RcuCell<Canary>, mut mine: KBox<Canary>) -> KBox<Canary> {
        for _ in 0..20_000 {
            let old = ManuallyDrop::new(cell.replace(mine));
            // SAFETY: The old value is ours. Nobody reads the cell, so there is nothing to wait for.
            mine = unsafe { KBox::from_raw(old.0.as_ptr()) };
        }
        mine
    }

    #[test]
    fn concurrent_replacements_lose_nothing() -> Result {
        let drops = Canary::counter()?;
        let cell = Arc::new(RcuCell::new(canary(1, &drops)?), GFP_KERNEL)?;
        let left = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
        let (mine, other) = (canary(2, &drops)?, canary(4, &drops)?);
        let theirs = (cell.clone(), left.clone());
        let thread = Thread::spawn(move || {
            let other = swap(&theirs.0, other);
            theirs.1.store(other.value, Relaxed);
        })?;
        let mine = swap(&cell, mine);
        thread.join();
        // Each of the three is in one place, and there is only one of each.
        let values = mine.value + left.load(Relaxed) + cell.read(|canary| canary.value);
        drop((mine, cell));
        let dropped = drops.load(Relaxed);

        assert_eq!(values, 7);
        assert_eq!(dropped, 3);
        Ok(())
    }
}
