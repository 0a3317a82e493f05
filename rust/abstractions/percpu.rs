// SPDX-License-Identifier: GPL-2.0

//! What each CPU has its own of: a round-robin cursor, a counter, and a pointer.
//!
//! A cursor that all CPUs share is a cache line that all of them write for every I/O. It need not be
//! shared for each of `n` choices to get its turn.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)
//!
//! # Examples
//!
//! ```
//! let cursor = PerCpuCursor::new()?;
//! let path = &paths[cursor.next(paths.len() as u32) as usize];
//! ```

use super::{
    cpumask::cpus,
    gfp, //
};
use crate::bindings;
use core::{
    mem::{
        align_of,
        size_of, //
    },
    ptr::NonNull, //
};
use kernel::{
    ffi::c_void,
    prelude::*, //
};

/// A number per CPU that goes round.
///
/// # Invariants
///
/// `cursors` is a per-CPU allocation of a `u32`, and owned by `self`. It is accessed by the
/// operations on this CPU's copy only, which are single instructions or made to look like one.
pub(crate) struct PerCpuCursor {
    cursors: NonNull<u32>,
}

// SAFETY: Per-CPU memory belongs to no thread.
unsafe impl Send for PerCpuCursor {}

// SAFETY: By the type invariant threads that share a CPU, or change it, do not disturb each other.
unsafe impl Sync for PerCpuCursor {}

impl PerCpuCursor {
    /// Creates a cursor. May sleep. Fails with [`ENOMEM`].
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: The allocation is new.
        Ok(Self { cursors: alloc()? })
    }

    /// Steps this CPU's cursor and returns it, a number below `n`; 0 when `n` is 0.
    ///
    /// Any context. Callers that stay on a CPU get 0..n in turn. One that is preempted or moved
    /// between the step and the wrap may let a number come twice or be left out, as may a change of
    /// `n`, but never one that is not below it.
    #[inline]
    pub(crate) fn next(&self, n: u32) -> u32 {
        if n <= 1 {
            return 0;
        }
        // SAFETY: By the type invariant it is a per-CPU pointer to a `u32`.
        let cursor = unsafe { bindings::rmpath_this_cpu_inc_return_4(self.cursors.as_ptr()) };
        if cursor < n {
            return cursor;
        }
        // SAFETY: As above.
        unsafe { bindings::rmpath_this_cpu_write_4(self.cursors.as_ptr(), 0) };
        0
    }
}

impl PerCpuCursor {
    /// Sets this CPU's cursor: `next` goes on behind that. Any context.
    #[inline]
    pub(crate) fn set(&self, to: u32) {
        // SAFETY: By the type invariant it is a per-CPU pointer to a `u32`.
        unsafe { bindings::rmpath_this_cpu_write_4(self.cursors.as_ptr(), to) };
    }
}

impl Drop for PerCpuCursor {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the allocation is ours, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.cursors.as_ptr().cast::<c_void>()) };
    }
}

/// A count to which each CPU adds at a place of its own.
///
/// # Invariants
///
/// `counts` is a per-CPU allocation of a `u32`, and owned by `self`. It is changed by single
/// instructions on this CPU's copy only.
pub(crate) struct PerCpuCounter {
    counts: NonNull<u32>,
}

// SAFETY: Per-CPU memory belongs to no thread.
unsafe impl Send for PerCpuCounter {}

// SAFETY: By the type invariant threads that share a CPU, or change it, do not disturb each other.
unsafe impl Sync for PerCpuCounter {}

impl PerCpuCounter {
    /// Creates a counter at 0. May sleep. Fails with [`ENOMEM`].
    pub(crate) fn new() -> Result<Self> {
        // INVARIANT: The allocation is new, and zeroed.
        Ok(Self { counts: alloc()? })
    }

    /// Adds one. Any context.
    #[inline]
    pub(crate) fn inc(&self) {
        // SAFETY: By the type invariant it is a per-CPU pointer to a `u32`.
        unsafe { bindings::rmpath_this_cpu_add_4(self.counts.as_ptr(), 1) };
    }

    /// Adds one, and returns this CPU's share of the count. Any context.
    #[inline]
    pub(crate) fn step(&self) -> u32 {
        // SAFETY: By the type invariant it is a per-CPU pointer to a `u32`.
        unsafe { bindings::rmpath_this_cpu_inc_return_4(self.counts.as_ptr()) }
    }

    /// Takes one away, on whatever CPU it was added. Any context.
    #[inline]
    pub(crate) fn dec(&self) {
        // SAFETY: By the type invariant it is a per-CPU pointer to a `u32`.
        unsafe { bindings::rmpath_this_cpu_add_4(self.counts.as_ptr(), u32::MAX) };
    }

    /// The sum over all CPUs. Exact when nobody changes it meanwhile; never below 0. Any context.
    pub(crate) fn sum(&self) -> u32 {
        // One that was added behind our back and taken away before our eyes.
        (self.wrapping_sum() as i32).max(0) as u32
    }

    /// As [`PerCpuCounter::sum`], for a count that only ever grows, and wraps.
    pub(crate) fn wrapping_sum(&self) -> u32 {
        // SAFETY: By the type invariant it is a per-CPU pointer to a `u32`.
        unsafe { bindings::rmpath_per_cpu_sum_4(self.counts.as_ptr()) }
    }
}

impl Drop for PerCpuCounter {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the allocation is ours, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.counts.as_ptr().cast::<c_void>()) };
    }
}

/// A pointer per CPU, null at first.
///
/// # Invariants
///
/// `pointers` is a per-CPU allocation of a pointer, and owned by `self`. It is changed by single
/// instructions on this CPU's copy only, or made to look like one.
pub(super) struct PerCpuPtr<T> {
    pointers: NonNull<*mut T>,
}

// SAFETY: Per-CPU memory belongs to no thread. The pointers are only passed on.
unsafe impl<T> Send for PerCpuPtr<T> {}

// SAFETY: By the type invariant threads that share a CPU, or change it, do not disturb each other.
unsafe impl<T> Sync for PerCpuPtr<T> {}

impl<T> PerCpuPtr<T> {
    /// Creates null pointers. May sleep. Fails with [`ENOMEM`].
    pub(super) fn new() -> Result<Self> {
        // INVARIANT: The allocation is new, and zeroed: null.
        Ok(Self { pointers: alloc()? })
    }

    /// Takes this CPU's, leaving null. Any context.
    #[inline]
    pub(super) fn take(&self) -> *mut T {
        // SAFETY: By the type invariant it is a per-CPU pointer to a pointer.
        let was = unsafe { bindings::rmpath_this_cpu_take_ptr(self.pointers.as_ptr().cast()) };
        was.cast()
    }

    /// Puts one in this CPU's place if that is null; says whether it was. Any context.
    #[inline]
    pub(super) fn put(&self, pointer: *mut T) -> bool {
        let place = self.pointers.as_ptr().cast();
        // SAFETY: By the type invariant it is a per-CPU pointer to a pointer.
        unsafe { bindings::rmpath_this_cpu_put_ptr(place, pointer.cast()) }
    }

    /// Takes all of them. The caller has the only reference: no CPU uses its own meanwhile.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = *mut T> + '_ {
        let pointers = self.pointers;
        cpus().map(move |cpu| {
            let cpu = u32::from(cpu);
            // SAFETY: By the type invariant it is a per-CPU pointer to a pointer.
            let was = unsafe { bindings::rmpath_per_cpu_take_ptr(pointers.as_ptr().cast(), cpu) };
            was.cast()
        })
    }
}

impl<T> Drop for PerCpuPtr<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the allocation is ours, and nobody uses it any more.
        unsafe { bindings::free_percpu(self.pointers.as_ptr().cast::<c_void>()) };
    }
}

/// Zeroes for a per-CPU `T`. May sleep. Fails with [`ENOMEM`].
fn alloc<T>() -> Result<NonNull<T>> {
    // SAFETY: It has no requirements; the memory is zeroed.
    let ptr = unsafe {
        bindings::pcpu_alloc_noprof(
            size_of::<T>(),
            align_of::<T>(),
            false,
            gfp::as_raw(GFP_KERNEL),
        )
    };
    NonNull::new(ptr.cast()).ok_or(ENOMEM)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_percpu)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::Thread;
    use kernel::sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    };

    #[test]
    fn one_choice_or_none_is_zero() -> Result {
        let cursor = PerCpuCursor::new()?;
        let all_zero = (0..10).all(|_| cursor.next(0) == 0 && cursor.next(1) == 0);
        drop(cursor);

        assert!(all_zero);
        Ok(())
    }

    #[test]
    fn each_gets_its_turn() -> Result {
        const N: usize = 7;
        const ROUNDS: u32 = 10_000;
        let cursor = PerCpuCursor::new()?;
        let mut turns = [0u32; N];
        let mut repeated = 0;
        let mut last = N as u32;
        for _ in 0..ROUNDS * N as u32 {
            let next = cursor.next(N as u32);
            repeated += u32::from(next == last);
            last = next;
            if let Some(turns) = turns.get_mut(next as usize) {
                *turns += 1;
            }
        }
        drop(cursor);
        let sum: u32 = turns.iter().sum();
        let even = turns
            .iter()
            .all(|&turns| turns.abs_diff(ROUNDS) <= ROUNDS / 100);

        assert_eq!(sum, ROUNDS * N as u32);
        assert!(even);
        // Changing the CPU may cost a turn, but is rare.
        assert!(repeated <= ROUNDS / 100);
        Ok(())
    }

    #[test]
    fn never_out_of_range() -> Result {
        fn out_of_range(cursor: &PerCpuCursor, sizes: &[u32]) -> u32 {
            let mut wrong = 0;
            for _ in 0..5000 {
                for &n in sizes {
                    wrong += u32::from(cursor.next(n) >= n);
                }
            }
            wrong
        }
        let cursor = Arc::new(PerCpuCursor::new()?, GFP_KERNEL)?;
        let wrong = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
        let theirs = (cursor.clone(), wrong.clone());
        let thread = Thread::spawn(move || {
            theirs
                .1
                .fetch_add(out_of_range(&theirs.0, &[2, 9, 3]), Relaxed);
        })?;
        let ours = out_of_range(&cursor, &[5, 1, 4, 100, 2]);
        thread.join();

        assert_eq!(ours, 0);
        assert_eq!(wrong.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn counts_add_up_wherever_they_are_made() -> Result {
        const EACH: u32 = 5_000;
        let counter = Arc::new(PerCpuCounter::new()?, GFP_KERNEL)?;
        let other = counter.clone();
        let thread = Thread::spawn(move || {
            for _ in 0..EACH {
                other.inc();
            }
        })?;
        for _ in 0..EACH {
            counter.inc();
        }
        thread.join();
        let all = counter.sum();
        for _ in 0..2 * EACH {
            counter.dec();
        }
        let none = counter.sum();
        counter.dec();
        let (below, wrapped) = (counter.sum(), counter.wrapping_sum());

        assert_eq!(all, 2 * EACH);
        assert_eq!(none, 0);
        assert_eq!(below, 0);
        assert_eq!(wrapped, u32::MAX);
        Ok(())
    }
}
