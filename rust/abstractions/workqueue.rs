// SPDX-License-Identifier: GPL-2.0

//! Work items that own a token while they are pending.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)
//!
//! The kernel crate can queue an `Arc`, but not cancel it: whoever cancels has to know what the
//! pending item holds and put it by hand, and forgetting that is how nvme leaked its module
//! reference (3f150f0f010f). Here a pending item owns a [`Token`], to schedule is to give one
//! away, and to cancel is to get it back:
//!
//! * [`arm`] takes a token, and hands one back if the item was pending already,
//! * `run` receives the token,
//! * [`disarm`] returns the token exactly when it won against `run`.
//!
//! All tokens of one item are the same (the object's `Arc` and zero-sized extras), so the item
//! needs no slot for it: it is rebuilt from the item's address. A slot beside the item would race,
//! for the pending bit is cleared before `run`, and `run` may start before `arm` returns.
//!
//! # Examples
//!
//! ```ignore
//! const REMOVAL: u64 = 0;
//!
//! impl WorkItem<REMOVAL> for Head {
//!     type Pointer = Token<Self, ModuleRef>;
//!     fn run(token: Self::Pointer) { /* decide everything anew, under the lock */ }
//! }
//!
//! impl_runs_on! {
//!     impl RunsOn<REMOVAL> for Head { self.shared.removal }
//! }
//!
//! let superseded = arm::<REMOVAL, _, _>(Token::new(head.clone(), module.clone()), delay);
//! let cancelled = disarm::<REMOVAL, _, _>(&*head); // the token, if `run` will not have it
//! ```

use crate::{
    abstractions::module::ModuleRef,
    bindings, //
};
use core::{
    convert::Infallible,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    time::{
        msecs_to_jiffies,
        Jiffies, //
    },
    workqueue::{
        HasDelayedWork,
        HasWork,
        RawWorkItem,
        Work,
        WorkItem,
        WorkItemPointer, //
    },
};

/// What a token holds besides its object. Zero-sized, and any two are interchangeable.
///
/// # Safety
///
/// Implementers must be zero-sized, and every `rebuild` that follows a `give_up` must yield a
/// value equivalent to the one given up.
pub(crate) unsafe trait Holds: Send + Sync + 'static {
    /// Gives up the value, but not what it stands for.
    fn give_up(self);

    /// Makes the value again.
    ///
    /// # Safety
    ///
    /// Must be called at most once for each `give_up`.
    unsafe fn rebuild() -> Self;
}

// SAFETY: Nothing is held, so there is nothing that could differ.
unsafe impl Holds for () {
    fn give_up(self) {}

    unsafe fn rebuild() -> Self {}
}

// SAFETY: `ModuleRef` is zero-sized (checked in `leak`), and all references on one module are the
// same.
unsafe impl Holds for ModuleRef {
    fn give_up(self) {
        self.leak();
    }

    unsafe fn rebuild() -> Self {
        // SAFETY: The caller promises that a `ModuleRef` was given up for this one.
        unsafe { ModuleRef::from_leaked() }
    }
}

/// What a pending work item of `T` owns: one `Arc<T>`, and `H`.
///
/// Dropping it puts both, the object first: what the object's destructor does is still covered by
/// a module reference in `H`. Never drop one under a lock that `T`'s destructor may need.
#[must_use = "a token that is not kept puts what it holds at once"]
pub(crate) struct Token<T, H: Holds = ()> {
    // Dropped in this order.
    object: Arc<T>,
    holds: H,
}

impl<T> Token<T> {
    /// A token that holds nothing but the object.
    pub(crate) fn of(object: Arc<T>) -> Self {
        Self { object, holds: () }
    }
}

impl<T, H: Holds> Token<T, H> {
    /// A token that holds the object and `holds`.
    pub(crate) fn new(object: Arc<T>, holds: H) -> Self {
        Self { object, holds }
    }

    /// The object.
    pub(crate) fn object(&self) -> &Arc<T> {
        &self.object
    }

    fn into_raw(self) -> *mut T {
        self.holds.give_up();
        Arc::into_raw(self.object).cast_mut()
    }

    /// # Safety
    ///
    /// `ptr` must come from [`Token::into_raw`], and may be used once for each such call.
    unsafe fn from_raw(ptr: *const T) -> Self {
        Self {
            // SAFETY: `into_raw` leaked one `Arc`, and the caller promises to take it once.
            object: unsafe { Arc::from_raw(ptr) },
            // SAFETY: `into_raw` gave up one `H`, and the caller promises to take it once.
            holds: unsafe { H::rebuild() },
        }
    }
}

impl<T, H: Holds> Deref for Token<T, H> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

// SAFETY: What is queued is the `work_struct` of the `Work<T, ID>` field, as `raw_get_work` gets it
// (`enqueue_on`, `arm`), and `Work::new` initialised that with `T::Pointer::run`, which is this `run`.
unsafe impl<T, H: Holds, const ID: u64> WorkItemPointer<ID> for Token<T, H>
where
    T: WorkItem<ID, Pointer = Self> + HasWork<T, ID>,
{
    unsafe extern "C" fn run(ptr: *mut bindings::work_struct) {
        let ptr = ptr.cast::<Work<T, ID>>();
        // SAFETY: Only items that were queued run, and those lie in the `Work<T, ID>` of a `T`.
        let ptr = unsafe { T::work_container_of(ptr) };
        // SAFETY: A pending item owns one token, and the workqueue has just made it not pending
        // in favour of this call alone.
        T::run(unsafe { Self::from_raw(ptr) });
    }
}

// SAFETY: `__enqueue` queues nothing.
unsafe impl<T, H: Holds, const ID: u64> RawWorkItem<ID> for Token<T, H>
where
    T: WorkItem<ID, Pointer = Self> + HasWork<T, ID>,
{
    type EnqueueOutput = Infallible;

    /// The kernel crate's queues do not compile with a token ([`WorkItemPointer`] wants it to have
    /// this): unload waits for our own queues alone, and cancelling takes what these have queued.
    unsafe fn __enqueue<F>(self, _queue_work_on: F) -> Self::EnqueueOutput
    where
        F: FnOnce(*mut bindings::work_struct) -> bool,
    {
        const { panic!("a token is queued by `Queue` only") }
    }
}

/// Marks a [`HasWork`] whose item is a plain one, not the inner item of a delayed one: cancelling
/// the latter as if it were plain does not see its timer.
///
/// # Safety
///
/// `Self` must not implement [`HasDelayedWork`] with this `ID`. Use [`impl_has_token_work!`].
pub(crate) unsafe trait HasPlainWork<const ID: u64>:
    HasWork<Self, ID> + Sized
{
}

/// Implements [`HasWork`] and [`HasPlainWork`] for the fields named.
macro_rules! impl_has_token_work {
    ($(impl HasPlainWork<$id:tt> for $self:ty { self.$field:ident })*) => {$(
        kernel::workqueue::impl_has_work! {
            impl HasWork<$self, $id> for $self { self.$field }
        }

        #[allow(unsafe_code)]
        // SAFETY: `impl_has_work!` compiles only if the field is a `Work`, not a `DelayedWork`.
        unsafe impl $crate::abstractions::workqueue::HasPlainWork<$id> for $self {}
    )*};
}
pub(crate) use impl_has_token_work;

/// Properties of a [`Queue`]. Each has a rescuer (`WQ_MEM_RECLAIM`), so that its items run even when
/// memory for a worker cannot be had: I/O may be waiting for any of them.
#[derive(Clone, Copy)]
pub(crate) enum QueueKind {
    /// Its items run on the CPU that queues them, in that order if they do not sleep, and are soon done.
    Reclaim,
    /// For items that may sleep for long; not bound to a CPU (`WQ_UNBOUND`).
    Unbound,
}

/// A workqueue of our own, destroyed when dropped.
///
/// Destroying it waits for what is queued. What is armed keeps it ([`RunsOn`]); so an item that does
/// not hold a [`ModuleRef`] has to be cancelled before the module exits. Not to be dropped by an item
/// that it runs, which would wait for itself: who holds the last reference on what has a queue is to
/// know where that goes.
///
/// # Invariants
///
/// `wq` points to a valid workqueue that only we destroy.
pub(crate) struct Queue {
    wq: NonNull<bindings::workqueue_struct>,
}

// SAFETY: The C functions that take a workqueue may be called from any thread.
unsafe impl Send for Queue {}
// SAFETY: The C functions that take a workqueue do their own locking.
unsafe impl Sync for Queue {}

impl Queue {
    /// Creates a queue called `name`. Fails with `ENOMEM`. May sleep.
    pub(crate) fn new(name: &CStr, kind: QueueKind) -> Result<Self> {
        let flags = match kind {
            QueueKind::Reclaim => bindings::wq_flags_WQ_MEM_RECLAIM | bindings::wq_flags_WQ_PERCPU,
            QueueKind::Unbound => bindings::wq_flags_WQ_MEM_RECLAIM | bindings::wq_flags_WQ_UNBOUND,
        };
        // SAFETY: `name` is a valid string for the duration of the call, which copies it.
        let wq = unsafe { bindings::rmpath_alloc_workqueue(name.as_char_ptr(), flags) };
        // INVARIANT: `wq` was just created and is not destroyed before `drop`.
        Ok(Self {
            wq: NonNull::new(wq).ok_or(ENOMEM)?,
        })
    }

    /// Queues a plain item. Returns the token when the item was pending already: it will run, and
    /// owns the token it had. Any context.
    pub(crate) fn enqueue<const ID: u64, T, H: Holds>(
        &self,
        token: Token<T, H>,
    ) -> Result<(), Token<T, H>>
    where
        T: WorkItem<ID, Pointer = Token<T, H>> + HasPlainWork<ID> + Send + Sync + 'static,
    {
        // SAFETY: By the type invariant the queue is valid until `self` goes, which waits for the item.
        unsafe { enqueue_on(self.wq, token) }
    }

    /// As [`Queue::enqueue`], on a queue that `pick` finds in the object itself. For a token with
    /// which everything may go that the object keeps, this queue's owner included.
    pub(crate) fn enqueue_on_own<const ID: u64, T, H: Holds>(
        token: Token<T, H>,
        pick: impl FnOnce(&T) -> &Queue,
    ) -> Result<(), Token<T, H>>
    where
        T: WorkItem<ID, Pointer = Token<T, H>> + HasPlainWork<ID> + Send + Sync + 'static,
    {
        let wq = pick(&token).wq;
        // SAFETY: The token keeps the queue until the item is queued, and destroying a queue waits for
        // the item.
        unsafe { enqueue_on(wq, token) }
    }

    /// Waits until everything that was queued by now has run to its end. Delayed items whose timer
    /// still runs are not waited for. May sleep; not from an item of this queue.
    pub(crate) fn flush(&self) {
        // SAFETY: By the type invariant the queue is valid.
        unsafe { bindings::__flush_workqueue(self.wq.as_ptr()) };
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the queue is valid, and nobody else destroys it.
        unsafe { bindings::destroy_workqueue(self.wq.as_ptr()) };
    }
}

/// Queues a plain item, as [`Queue::enqueue`] does.
///
/// # Safety
///
/// `wq` must be the queue of a [`Queue`] that is not dropped before the item is queued.
unsafe fn enqueue_on<const ID: u64, T, H: Holds>(
    wq: NonNull<bindings::workqueue_struct>,
    token: Token<T, H>,
) -> Result<(), Token<T, H>>
where
    T: WorkItem<ID, Pointer = Token<T, H>> + HasPlainWork<ID> + Send + Sync + 'static,
{
    let work = plain_work_of::<ID, T>(&token);
    // Given up before the call: from then on `run` may take it at any time.
    let ptr = token.into_raw();
    // SAFETY: The caller promises that the queue is valid. The item was initialised with its object,
    // which stays until the token that was just given up is made again, by `run` or below. Neither
    // token nor item is tied to a lifetime (`'static`) or a thread (`Send`).
    let queued = unsafe {
        bindings::queue_work_on(
            bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
            wq.as_ptr(),
            work,
        )
    };
    match queued {
        true => Ok(()),
        // SAFETY: The item was pending already and keeps the token it has; ours is given back.
        false => Err(unsafe { Token::from_raw(ptr) }),
    }
}

/// Which queue the delayed item number `ID` runs on. The object keeps it: the timer of an item that
/// is armed leads to the queue, and destroying that does not wait for timers.
pub(crate) trait RunsOn<const ID: u64> {
    /// The queue. Any context.
    fn queue(&self) -> &Queue;
}

/// Implements [`RunsOn`] by the fields named.
macro_rules! impl_runs_on {
    ($(impl RunsOn<$id:tt> for $self:ty { self.$($queue:ident).+ })*) => {$(
        impl $crate::abstractions::workqueue::RunsOn<$id> for $self {
            fn queue(&self) -> &$crate::abstractions::workqueue::Queue {
                &self.$($queue).+
            }
        }
    )*};
}
pub(crate) use impl_runs_on;

/// Makes a delayed item run `delay` jiffies from now, whether or not it is pending.
///
/// Returns a token if the item was pending: its deadline has moved and it owns one token as
/// before, the other one comes back. `None` if it was idle or has begun to run (then it runs
/// once more). `run` may have started before this returns.
///
/// Follows `mod_delayed_work_on()`. Any context.
#[must_use = "drop the superseded token only after the locks are released"]
pub(crate) fn arm<const ID: u64, T, H: Holds>(
    token: Token<T, H>,
    delay: Jiffies,
) -> Option<Token<T, H>>
where
    T: WorkItem<ID, Pointer = Token<T, H>> + HasDelayedWork<T, ID> + RunsOn<ID>,
    T: Send + Sync + 'static,
{
    let wq = token.queue().wq;
    let dwork = delayed_work_of::<ID, T>(&token);
    // Given up before the call: from then on `run` may take it at any time.
    let ptr = token.into_raw();
    // SAFETY: The object has the queue (`RunsOn`) and the delayed work, which was initialised with it,
    // and stays until the token that was just given up is made again: by `run`, by who cancels the
    // item, or below. Until then the item may be pending.
    let was_pending = unsafe {
        bindings::mod_delayed_work_on(
            bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int,
            wq.as_ptr(),
            dwork,
            delay,
        )
    };
    // SAFETY: The item was pending, so it owned a token when we gave it a second; it consumes
    // one of the two. (Nothing here disables items, which would lose what is armed.)
    was_pending.then(|| unsafe { Token::from_raw(ptr) })
}

/// The delayed work number `ID` in `object`.
fn delayed_work_of<const ID: u64, T: HasDelayedWork<T, ID>>(
    object: &T,
) -> *mut bindings::delayed_work {
    // SAFETY: A reference points at a valid `T`.
    let work = unsafe { T::raw_get_work(core::ptr::from_ref(object).cast_mut()) };
    // SAFETY: `raw_get_work` returns a pointer to the field of that valid `T`.
    let work = unsafe { Work::raw_get(work) };
    // SAFETY: By `HasDelayedWork` the item is the `work` field of a `delayed_work`.
    unsafe { kernel::container_of!(work, bindings::delayed_work, work) }
}

/// Cancels a delayed item and returns its token, if it was pending.
///
/// `None` means that it is idle, or that it runs right now and perhaps waits for a lock that the
/// caller holds: `run` has to look again at everything once it has the lock.
///
/// Follows `cancel_delayed_work()`. Any context.
#[must_use = "drop the token only after the locks are released"]
pub(crate) fn disarm<const ID: u64, T, H: Holds>(object: &T) -> Option<Token<T, H>>
where
    T: WorkItem<ID, Pointer = Token<T, H>> + HasDelayedWork<T, ID>,
{
    // SAFETY: The delayed work is valid as long as `object` is borrowed, and was initialised.
    let cancelled = unsafe { bindings::cancel_delayed_work(delayed_work_of::<ID, T>(object)) };
    // SAFETY: A pending item owns one token that came from `into_raw` of this object's `Arc`, and
    // it was made not pending in favour of this call alone.
    cancelled.then(|| unsafe { Token::from_raw(object) })
}

/// As [`disarm`], and waits until the item does not run any more. May sleep.
///
/// Not from `run` itself, and not under a lock that `run` takes: it would wait for ever. Nobody
/// may arm the item any more, `run` included: what it arms with a delay is seen only if it still
/// runs.
///
/// `cancel_delayed_work_sync()` would disable the item while it waits, and what is armed then is
/// neither queued nor given back.
#[must_use = "the token puts what it holds when it is dropped"]
pub(crate) fn disarm_sync<const ID: u64, T, H: Holds>(object: &T) -> Option<Token<T, H>>
where
    T: WorkItem<ID, Pointer = Token<T, H>> + HasDelayedWork<T, ID>,
{
    loop {
        let token = disarm::<ID, _, _>(object);
        let dwork = delayed_work_of::<ID, T>(object);
        // SAFETY: The delayed work is valid as long as `object` is borrowed, and was initialised.
        let work = unsafe { core::ptr::addr_of_mut!((*dwork).work) };
        // SAFETY: As above.
        if !unsafe { bindings::flush_work(work) } {
            return token;
        }
        // It ran, and may have armed itself; a token from before that has been put.
    }
}

/// The plain work number `ID` in `object`.
fn plain_work_of<const ID: u64, T: HasPlainWork<ID>>(object: &T) -> *mut bindings::work_struct {
    // SAFETY: A reference points at a valid `T`.
    let work = unsafe { T::raw_get_work(core::ptr::from_ref(object).cast_mut()) };
    // SAFETY: `raw_get_work` returns a pointer to the field of that valid `T`.
    unsafe { Work::raw_get(work) }
}

/// Cancels a plain item, returns its token if it was pending, and waits until the item does not
/// run any more. May sleep; with the same restrictions as [`disarm_sync`], and for its reason by
/// `cancel_work()` and `flush_work()`.
#[must_use = "the token puts what it holds when it is dropped"]
pub(crate) fn cancel_sync<const ID: u64, T, H: Holds>(object: &T) -> Option<Token<T, H>>
where
    T: WorkItem<ID, Pointer = Token<T, H>> + HasPlainWork<ID>,
{
    let work = plain_work_of::<ID, T>(object);
    loop {
        // SAFETY: The item is valid as long as `object` is borrowed, and was initialised.
        let cancelled = unsafe { bindings::cancel_work(work) };
        // SAFETY: As in `disarm`.
        let token = cancelled.then(|| unsafe { Token::from_raw(object) });
        // SAFETY: As above.
        if !unsafe { bindings::flush_work(work) } {
            return token;
        }
    }
}

/// Waits until a plain item that was pending or running by now has run. May sleep; not from `run`
/// itself, and not under a lock that `run` takes. Follows `flush_work()`.
pub(crate) fn flush<const ID: u64, T: HasPlainWork<ID>>(object: &T) {
    // SAFETY: The item is valid as long as `object` is borrowed, and was initialised.
    unsafe { bindings::flush_work(plain_work_of::<ID, T>(object)) };
}

/// So many seconds in jiffies. Does not wrap.
pub(crate) fn secs_to_jiffies(secs: u32) -> Jiffies {
    secs as Jiffies * msecs_to_jiffies(1000)
}

/// About so many seconds in jiffies, so that what waits like this wakes a CPU together. Follows
/// `round_jiffies_relative()`.
pub(crate) fn about_secs(secs: u32) -> Jiffies {
    // SAFETY: It may be called in any context.
    unsafe { bindings::round_jiffies_relative(secs_to_jiffies(secs)) }
}

#[cfg(CONFIG_KUNIT = "y")]
mod suite;
