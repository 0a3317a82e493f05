// SPDX-License-Identifier: GPL-2.0

//! What the KUnit suites share: a second thread to race with, and ways to spend time.
//!
//! C header: [`include/linux/kthread.h`](srctree/include/linux/kthread.h)
//!
//! # Examples
//!
//! ```
//! let seen = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
//! let theirs = seen.clone();
//! let thread = Thread::spawn(move || theirs.store(1, Relaxed))?;
//! thread.join();
//! assert_eq!(seen.load(Relaxed), 1);
//! ```

use crate::bindings;
use core::ptr::NonNull;
use kernel::{
    error::from_err_ptr,
    prelude::*,
    sync::{
        Arc,
        Completion, //
    },
    time::{
        delay::udelay,
        Delta, //
    }, //
};

/// A kernel thread that runs one closure.
///
/// Dropping it waits for the closure, as [`Thread::join`] does, so that none is left behind when a
/// test ends or the module goes.
///
/// # Invariants
///
/// - `self` owns one reference on `task`, a thread that runs [`Thread::main`].
/// - `done` is completed when that thread's closure has run and is dropped.
pub(crate) struct Thread {
    task: NonNull<bindings::task_struct>,
    done: Arc<Completion>,
}

/// What the new thread is handed.
struct Start<F> {
    run: F,
    done: Arc<Completion>,
}

impl Thread {
    /// Runs `run` in a new kernel thread. May sleep.
    pub(crate) fn spawn<F: FnOnce() + Send + 'static>(run: F) -> Result<Self> {
        let done = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let start = KBox::new(
            Start {
                run,
                done: done.clone(),
            },
            GFP_KERNEL,
        )?;
        let data = KBox::into_raw(start);

        // SAFETY: The format has no conversions; `main::<F>` is called at most once, with `data`.
        let task = from_err_ptr(unsafe {
            bindings::kthread_create_on_node(
                Some(Self::main::<F>),
                data.cast(),
                bindings::NUMA_NO_NODE,
                c"rmpath_kunit".as_char_ptr(),
            )
        })
        .inspect_err(|_| {
            // SAFETY: `data` comes from `into_raw` above, and no thread was made that takes it.
            drop(unsafe { KBox::from_raw(data) });
        })?;

        // SAFETY: The thread sleeps until it is woken for the first time, so `task` is valid.
        unsafe { bindings::get_task_struct(task) };
        // SAFETY: As above; our own reference keeps `task` valid from here on.
        unsafe { bindings::wake_up_process(task) };
        Ok(Self {
            // INVARIANT: The reference was taken above, and the thread runs `main`.
            // SAFETY: `from_err_ptr` let no null through: kthread_create_on_node() returns none.
            task: unsafe { NonNull::new_unchecked(task) },
            done,
        })
    }

    /// The thread's function.
    extern "C" fn main<F: FnOnce()>(data: *mut kernel::ffi::c_void) -> kernel::ffi::c_int {
        // SAFETY: `data` comes from `KBox::into_raw` in `spawn`, which gave it up to this call.
        let start = unsafe { KBox::from_raw(data.cast::<Start<F>>()) };
        let Start { run, done } = KBox::into_inner(start);
        run();
        done.complete_all();
        0
    }

    /// Waits until the closure has run and the thread is gone. May sleep.
    pub(crate) fn join(self) {}
}

impl Drop for Thread {
    fn drop(&mut self) {
        // A thread that is stopped before it began would not run its function at all.
        self.done.wait_for_completion();
        // SAFETY: By the type invariant we own a reference on the thread; this call takes it.
        unsafe { bindings::kthread_stop_put(self.task.as_ptr()) };
    }
}

/// Spins for `msecs` milliseconds, in any context.
pub(crate) fn spin_ms(msecs: u32) {
    for _ in 0..msecs {
        udelay(Delta::from_millis(1));
    }
}

/// Lets other threads run, and RCU pass. May sleep.
pub(crate) fn resched() {
    // SAFETY: The thread is running, so this does not put it to sleep for good.
    unsafe { bindings::schedule() };
}
