// SPDX-License-Identifier: GPL-2.0

//! What the KUnit suites share: objects that tell of their end, a second thread to race with, and
//! allocations that fail.
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
    kunit::in_kunit_test,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion, //
    },
    time::{
        delay::udelay,
        Delta, //
    },
    types::NotThreadSafe, //
};

/// A number that counts drops, and knows whether it has been dropped itself.
pub(crate) struct Canary {
    pub(crate) value: u32,
    alive: Atomic<bool>,
    drops: Arc<Atomic<u32>>,
}

impl Canary {
    /// Returns a counter of drops, for any number of canaries.
    pub(crate) fn counter() -> Result<Arc<Atomic<u32>>> {
        Ok(Arc::new(Atomic::new(0), GFP_KERNEL)?)
    }

    /// One that lives, and adds one to `drops` when it is dropped. Any context.
    pub(crate) fn new(value: u32, drops: &Arc<Atomic<u32>>) -> Self {
        Self {
            value,
            alive: Atomic::new(true),
            drops: drops.clone(),
        }
    }

    /// Whether it has not been dropped: always, for those who may ask.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Relaxed)
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.alive.store(false, Relaxed);
        self.drops.fetch_add(1, Relaxed);
    }
}

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

/// Looks something up again and again in a thread of its own, until it is stopped or dropped.
pub(crate) struct Finder {
    findings: Arc<Findings>,
    _thread: Thread,
}

struct Findings {
    stop: Atomic<bool>,
    found: Atomic<u32>,
    dead: Atomic<u32>,
}

impl Finder {
    /// Begins to look, by `get`. `ENOMEM`. May sleep.
    pub(crate) fn spawn(get: impl Fn() -> Option<Arc<Canary>> + Send + 'static) -> Result<Self> {
        let findings = Findings {
            stop: Atomic::new(false),
            found: Atomic::new(0),
            dead: Atomic::new(0),
        };
        let findings = Arc::new(findings, GFP_KERNEL)?;
        let theirs = findings.clone();
        let thread = Thread::spawn(move || {
            while !theirs.stop.load(Relaxed) {
                for _ in 0..100 {
                    if let Some(canary) = get() {
                        theirs.found.fetch_add(1, Relaxed);
                        theirs
                            .dead
                            .fetch_add(u32::from(!canary.is_alive()), Relaxed);
                    }
                }
                resched();
            }
        })?;
        Ok(Self {
            findings,
            _thread: thread,
        })
    }

    /// How often it has found something. Any context.
    pub(crate) fn found(&self) -> u32 {
        self.findings.found.load(Relaxed)
    }

    /// Stops it. How often it has found something, and how often that was dead. May sleep.
    pub(crate) fn stop(self) -> (u32, u32) {
        let findings = self.findings.clone();
        drop(self);
        (findings.found.load(Relaxed), findings.dead.load(Relaxed))
    }
}

impl Drop for Finder {
    fn drop(&mut self) {
        // The thread, which is waited for next.
        self.findings.stop.store(true, Relaxed);
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

/// Marks the running test as skipped, which it still has to leave by returning.
pub(crate) fn skip(why: &'static CStr) {
    if in_kunit_test() {
        // SAFETY: A test runs in this thread; `why` is a string and is copied.
        unsafe { bindings::rmpath_kunit_mark_skipped(why.as_char_ptr()) };
    }
}

/// While it exists, what this thread allocates without sleeping (`GFP_NOWAIT`) fails.
///
/// The kernel must have `CONFIG_FAILSLAB`, and in `/sys/kernel/debug/failslab` whoever loads the
/// module must have set `task-filter` to Y, `probability` to 100, `times` to -1 and, for the sake of
/// the log, `verbose` to 0. The Nth-allocation kind of fault injection needs no such thing, but fails
/// one allocation only, and both the xarray and the IDR try twice.
///
/// It must be dropped before an assertion, which needs memory to be reported.
pub(crate) struct FailingAllocations(NotThreadSafe);

impl FailingAllocations {
    /// Lets allocations fail from here on. Marks the test as skipped if the kernel cannot do it.
    pub(crate) fn begin() -> Option<Self> {
        set_make_it_fail(true);
        let failing = Self(NotThreadSafe);
        if (0..10).all(|_| KBox::new(0u64, GFP_NOWAIT).is_err()) {
            return Some(failing);
        }
        drop(failing);
        skip(c"failslab is not set up");
        None
    }
}

impl Drop for FailingAllocations {
    fn drop(&mut self) {
        set_make_it_fail(false);
    }
}

fn set_make_it_fail(on: bool) {
    // SAFETY: It writes a number that only fault injection reads.
    unsafe { bindings::rmpath_set_make_it_fail(on.into()) };
}
