// SPDX-License-Identifier: GPL-2.0

//! A spin lock that keeps interrupts off while it is held, for data that completions touch.
//!
//! The kernel crate's [`SpinLock`] leaves interrupts as they are, so it must not protect anything
//! that an interrupt handler (a `bi_end_io`, a timer) needs too: the handler would spin for ever on
//! the CPU that it interrupted. This is the same [`Lock`] with `spin_lock_irqsave()` below it.
//!
//! C header: [`include/linux/spinlock.h`](srctree/include/linux/spinlock.h)
//!
//! # Examples
//!
//! ```
//! #[pin_data]
//! struct Parked {
//!     #[pin]
//!     bios: SpinLockIrq<u32>,
//! }
//!
//! let parked = Arc::pin_init(
//!     pin_init!(Parked { bios <- new_spinlock_irq!(0, "Parked::bios") }),
//!     GFP_KERNEL,
//! )?;
//! *parked.bios.lock() += 1;
//! ```
//!
//! [`SpinLock`]: kernel::sync::SpinLock

use crate::bindings;
use kernel::{
    ffi::{
        c_char,
        c_ulong, //
    },
    sync::lock::{
        Backend,
        Lock, //
    }, //
};

/// Creates a [`SpinLockIrq`] initialiser with the given name and a lock class of its own.
///
/// Without a name it is called after the file and line, as [`kernel::new_spinlock`] does.
macro_rules! new_spinlock_irq {
    ($inner:expr $(, $name:literal)? $(,)?) => {
        $crate::abstractions::spinlock::SpinLockIrq::new(
            $inner, ::kernel::optional_name!($($name)?), ::kernel::static_lock_class!())
    };
}
pub(crate) use new_spinlock_irq;

/// A spin lock that saves the interrupt flag, disables interrupts, and restores it on unlock.
///
/// It may be taken in any context but NMI; what runs under it is atomic. Guards are not `Send`, for
/// the flag is the CPU's. They restore the flag that they found, so two locks must be released in the
/// reverse order of taking: the other way round interrupts come on while one is still held, which
/// lockdep reports for a lock that it has seen in an interrupt.
pub(crate) type SpinLockIrq<T> = Lock<T, SpinLockIrqBackend>;

/// `spinlock_t` with the `_irqsave` family of functions.
pub(crate) struct SpinLockIrqBackend;

// SAFETY: `spinlock_t` is mutually exclusive however the interrupt flag is handled. `relock` is the
// default, which takes the lock by `lock` again and keeps the flags that it returns.
unsafe impl Backend for SpinLockIrqBackend {
    type State = bindings::spinlock_t;
    type GuardState = c_ulong;

    #[inline]
    unsafe fn init(ptr: *mut Self::State, name: *const c_char, key: *mut bindings::lock_class_key) {
        // SAFETY: By this function's requirements `ptr` is valid for writes, and `name` and `key`
        // live for ever.
        unsafe { bindings::__spin_lock_init(ptr, name, key) }
    }

    #[inline]
    unsafe fn lock(ptr: *mut Self::State) -> Self::GuardState {
        // SAFETY: By this function's requirements `ptr` was initialised.
        unsafe { bindings::rmpath_spin_lock_irqsave(ptr) }
    }

    #[inline]
    unsafe fn try_lock(ptr: *mut Self::State) -> Option<Self::GuardState> {
        let mut flags = 0;
        // SAFETY: By this function's requirements `ptr` was initialised; `flags` is valid for writes.
        unsafe { bindings::rmpath_spin_trylock_irqsave(ptr, &mut flags) }.then_some(flags)
    }

    #[inline]
    unsafe fn unlock(ptr: *mut Self::State, guard_state: &Self::GuardState) {
        // SAFETY: By this function's requirements the caller owns the lock, and `guard_state` is
        // what taking it returned.
        unsafe { bindings::rmpath_spin_unlock_irqrestore(ptr, *guard_state) }
    }

    #[inline]
    unsafe fn assert_is_held(_ptr: *mut Self::State) {
        // Each `lock` comes here; without lockdep it would be a call of an empty function.
        #[cfg(CONFIG_LOCKDEP)]
        // SAFETY: By this function's requirements the lock was initialised.
        unsafe {
            bindings::spin_assert_is_held(_ptr)
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_spinlock)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::Thread;
    use kernel::{
        prelude::*,
        sync::Arc, //
    };

    const ROUNDS: u64 = 20_000;

    fn irqs_disabled() -> bool {
        // SAFETY: It reads a flag of the CPU and has no requirements.
        unsafe { bindings::rmpath_irqs_disabled() }
    }

    #[test]
    fn interrupts_are_off_only_while_held() -> Result {
        let lock = KBox::pin_init(new_spinlock_irq!(7u32, "tests::lock"), GFP_KERNEL)?;
        let before = irqs_disabled();
        let guard = lock.lock();
        let during = irqs_disabled();
        let value = *guard;
        drop(guard);
        let after = irqs_disabled();

        assert_eq!(value, 7);
        assert!(!before);
        assert!(during);
        assert!(!after);
        Ok(())
    }

    #[test]
    fn the_inner_lock_leaves_interrupts_off() -> Result {
        let outer = KBox::pin_init(new_spinlock_irq!((), "tests::outer"), GFP_KERNEL)?;
        let inner = KBox::pin_init(new_spinlock_irq!((), "tests::inner"), GFP_KERNEL)?;
        let first = outer.lock();
        drop(inner.lock());
        let between = irqs_disabled();
        drop(first);
        let after = irqs_disabled();

        assert!(between);
        assert!(!after);
        Ok(())
    }

    #[test]
    fn try_lock_fails_while_held_and_restores_interrupts() -> Result {
        let lock = Arc::pin_init(new_spinlock_irq!(false, "tests::tried"), GFP_KERNEL)?;
        let seen = Arc::pin_init(new_spinlock_irq!((false, true), "tests::seen"), GFP_KERNEL)?;

        let guard = lock.try_lock();
        let got = guard.is_some();
        let off = irqs_disabled();
        // Another thread may not even start on this CPU while interrupts are off: ask from here.
        let again = lock.try_lock().is_some();
        let still_off = irqs_disabled();
        drop(guard);

        let (theirs, result) = (lock.clone(), seen.clone());
        Thread::spawn(move || {
            let got = theirs.try_lock().is_some();
            *result.lock() = (got, irqs_disabled());
        })?
        .join();
        let (free_again, left_off) = *seen.lock();

        assert!(got);
        assert!(off);
        assert!(!again);
        assert!(still_off);
        assert!(free_again);
        assert!(!left_off);
        Ok(())
    }

    #[test]
    fn threads_exclude_each_other() -> Result {
        let lock = Arc::pin_init(new_spinlock_irq!(0u64, "tests::counter"), GFP_KERNEL)?;
        let count = |lock: &SpinLockIrq<u64>| {
            for _ in 0..ROUNDS {
                let mut guard = lock.lock();
                let value = *guard;
                // Without exclusion the other thread's step gets lost here.
                core::hint::black_box(&value);
                *guard = value + 1;
            }
        };
        let theirs = lock.clone();
        let thread = Thread::spawn(move || count(&theirs))?;
        count(&lock);
        thread.join();
        let total = *lock.lock();

        assert_eq!(total, 2 * ROUNDS);
        Ok(())
    }
}
