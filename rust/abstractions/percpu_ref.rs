// SPDX-License-Identifier: GPL-2.0

//! Objects whose users are counted per CPU: taking and putting a reference writes no shared memory.
//!
//! C header: [`include/linux/percpu-refcount.h`](srctree/include/linux/percpu-refcount.h)
//!
//! A [`Live<T>`] hands out [`LiveRef`]s until it is shut. [`Live::shut`] refuses new ones and waits
//! for the last one to go, so what follows it (closing a device, say) meets no user. Dropping a
//! [`Live`] shuts it too: no reference outlives its object, however the object comes to its end.
//!
//! # Examples
//!
//! ```
//! let path = Arc::pin_init(Live::pin_init(Path::open(name)), GFP_KERNEL)?;
//!
//! // Per I/O: no shared cache line is written, and nothing is kept but one pointer.
//! let user = path.try_get().ok_or(ENXIO)?;
//! user.submit(bio);
//! drop(user);
//!
//! // Detach: no user from here on.
//! path.shut();
//! ```
//!
//! # Why nothing here is used after it is freed
//!
//! The count reaches zero in exactly one call of `percpu_ref_put()`, after `percpu_ref_kill()`. That
//! call runs [`PercpuRef::release`], whose only act is to complete [`PercpuRef::zero`], and returns
//! without touching the `percpu_ref` again; every other put has finished with it once it has
//! decremented. The RCU callback that switches to one counter ends in such a put, and frees the
//! per-CPU counters before it. `complete_all()` and `wait_for_completion()` go through the same
//! lock, so the waiter goes on only when the completer has left the completion. Therefore whoever
//! returns from [`PercpuRef::shut`] may free the counter at once, as nvmet_ns_disable() and others
//! do.
//!
//! What may still run is code: the last instructions of the callback. It is not an object that
//! protects those, but [`rcu_barrier`](super::rcu::rcu_barrier) before the module goes.

use crate::bindings;
use core::{
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            AtomicFlag,
            Full,
            Relaxed, //
        },
        rcu,
        Completion, //
    },
    types::Opaque, //
};

/// A counter of users that starts open and is shut once, for good.
///
/// # Invariants
///
/// - `raw` was initialised by percpu_ref_init() with [`PercpuRef::release`], not to be revived, and
///   is exited by the destructor only. Its pointer is to the `raw` of a `PercpuRef`.
/// - The initial reference is put by the first [`PercpuRef::shut`], which set `killed`.
/// - `zero` is completed by `release`, that is once no reference is left.
#[pin_data(PinnedDrop)]
pub(super) struct PercpuRef {
    #[pin]
    raw: Opaque<bindings::percpu_ref>,
    killed: AtomicFlag,
    #[pin]
    zero: Completion,
}

// SAFETY: A `percpu_ref` belongs to no thread: any of them may count, kill or exit it.
unsafe impl Send for PercpuRef {}

// SAFETY: All that `&self` allows may be done by many threads at once.
unsafe impl Sync for PercpuRef {}

impl PercpuRef {
    /// Returns an initialiser of an open counter without users.
    ///
    /// Initialising may sleep; it fails with [`ENOMEM`].
    pub(super) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            zero <- Completion::new(),
            killed: AtomicFlag::new(false),
            // INVARIANT: Initialised with `release` and without flags, so never to be revived.
            raw <- Opaque::try_ffi_init(|slot| {
                // SAFETY: `slot` is valid for writes and, being pinned, stays where it is.
                to_result(unsafe {
                    bindings::percpu_ref_init(slot, Some(Self::release), 0, bindings::GFP_KERNEL)
                })
            }),
        })
    }

    /// Called once the last reference is put, in that caller's context: any, softirq included.
    ///
    /// It completes and does no more. Were it to drop anything, an `Arc` or a module reference, that
    /// could be the last one, in a context that cannot run the destructor and that nobody pins.
    ///
    /// # Safety
    ///
    /// `raw` must be the field of a [`PercpuRef`].
    unsafe extern "C" fn release(raw: *mut bindings::percpu_ref) {
        // SAFETY: By this function's requirements; `Opaque` is transparent.
        let this = unsafe { container_of!(Opaque::cast_from(raw).cast_mut(), PercpuRef, raw) };
        // SAFETY: The counter outlives this: its destructor waits for the completion, and is not
        // let go before `complete_all` has left it (see the module's documentation). Only `zero`
        // is referred to, so that no reference to the rest is left when the waiter frees it.
        let zero = unsafe { &(*this).zero };
        zero.complete_all();
    }

    /// Takes a reference, unless the counter has been shut. Any context.
    ///
    /// A concurrent [`PercpuRef::shut`] either waits for the reference or makes this return `false`.
    #[inline]
    #[must_use = "the reference has to be put"]
    pub(super) fn try_get(&self) -> bool {
        // SAFETY: By the type invariant `raw` is between init and exit.
        unsafe { bindings::rmpath_percpu_ref_tryget_live(self.raw.get()) }
    }

    /// [`PercpuRef::try_get`] for who is in an RCU read section anyway.
    #[inline]
    #[must_use = "the reference has to be put"]
    fn try_get_in_section(&self, _section: &rcu::Guard) -> bool {
        // SAFETY: By the type invariant `raw` is between init and exit; the caller is in a section.
        unsafe { bindings::rmpath_percpu_ref_tryget_live_rcu(self.raw.get()) }
    }

    /// Puts a reference. Any context.
    ///
    /// # Safety
    ///
    /// - `this` must point to a counter on which the caller owns a reference from
    ///   [`PercpuRef::try_get`], which it gives up.
    /// - `this` may be freed before this function returns.
    #[inline]
    pub(super) unsafe fn put(this: NonNull<Self>) {
        // SAFETY: The caller's reference keeps `this` from being freed before it is put.
        let raw = unsafe { &raw const (*this.as_ptr()).raw };
        // SAFETY: By the type invariant `raw` is initialised; the reference is the caller's.
        unsafe { bindings::rmpath_percpu_ref_put(Opaque::cast_into(raw)) };
    }

    /// Refuses new references and waits until there is none.
    ///
    /// May sleep, for one RCU grace period at least, so not in an RCU read section or under a spin
    /// lock. It can be called again and by many threads at once; each returns when the count is
    /// zero. A caller that owns a reference itself waits for ever, as does one that waits for a
    /// reference that was forgotten: late, but never too early.
    pub(super) fn shut(&self) {
        if !self.killed.xchg(true, Full) {
            // SAFETY: By the type invariant `raw` is between init and exit, and nobody killed it.
            unsafe { bindings::rmpath_percpu_ref_kill(self.raw.get()) };
        }
        self.zero.wait_for_completion();
    }

    /// Whether [`PercpuRef::shut`] has begun. It may still be waiting.
    #[inline]
    pub(super) fn is_shut(&self) -> bool {
        self.killed.load(Relaxed)
    }
}

#[pinned_drop]
impl PinnedDrop for PercpuRef {
    fn drop(self: Pin<&mut Self>) {
        self.shut();
        // SAFETY: The count is zero, and the put that made it so does not touch `raw` any more.
        unsafe { bindings::percpu_ref_exit(self.raw.get()) };
    }
}

/// An object that is used through [`LiveRef`]s until it is shut.
///
/// Whoever has a `&Live<T>` (by an `Arc`, or inside an RCU read section that keeps it) can use the
/// object directly too; the references are for those who keep it past that borrow.
///
/// Dropping it shuts it, and so may sleep. The object must not own a [`LiveRef`] to itself, not even
/// indirectly: its destructor would wait for it.
#[pin_data]
pub(crate) struct Live<T> {
    // Dropped first: it waits for the last reference to `inner`.
    #[pin]
    refs: PercpuRef,
    #[pin]
    inner: T,
}

// SAFETY: Moving the object to a thread moves the right to drop it there (`T: Send`), while a
// `LiveRef` may stay behind, which is a shared reference (`T: Sync`).
unsafe impl<T: Send + Sync> Send for Live<T> {}

// SAFETY: A `&Live<T>` gives `&T` and references that act like it (`T: Sync`).
unsafe impl<T: Sync> Sync for Live<T> {}

impl<T> Live<T> {
    /// Returns an initialiser of an object that is open for users.
    ///
    /// Initialising may sleep; it fails as `inner` does, or with [`ENOMEM`].
    pub(crate) fn pin_init<E>(inner: impl PinInit<T, E>) -> impl PinInit<Self, Error>
    where
        Error: From<E>,
    {
        // The object first: it fails more often, and failing after the counter costs a grace period.
        try_pin_init!(Self {
            inner <- inner,
            refs <- PercpuRef::new(),
        })
    }

    /// Takes a reference that needs no borrow, unless [`Live::shut`] has begun. Any context.
    #[inline]
    pub(crate) fn try_get(&self) -> Option<LiveRef<T>> {
        // INVARIANT: The reference was taken on `self.refs`, which the new object owns.
        self.refs.try_get().then(|| LiveRef(NonNull::from(self)))
    }

    /// [`Live::try_get`] for who is in an RCU read section anyway, and need not begin another one.
    #[inline]
    pub(crate) fn try_get_in_section(&self, section: &rcu::Guard) -> Option<LiveRef<T>> {
        // INVARIANT: The reference was taken on `self.refs`, which the new object owns.
        let got = self.refs.try_get_in_section(section);
        got.then(|| LiveRef(NonNull::from(self)))
    }

    /// Refuses new references and waits until the last one is gone.
    ///
    /// May sleep, for one RCU grace period at least. It can be called again and by many threads at
    /// once. Never call it while owning a [`LiveRef`] to the same object: it waits for that one too.
    pub(crate) fn shut(&self) {
        self.refs.shut();
    }

    /// Whether [`Live::shut`] has begun. It may still be waiting.
    #[inline]
    pub(crate) fn is_shut(&self) -> bool {
        self.refs.is_shut()
    }
}

impl<T> Deref for Live<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner
    }
}

/// A reference to an object in a [`Live`], which lives at least as long.
///
/// It is one word, as is `Option<LiveRef<T>>`. Dropping it is allowed in any context, for it never
/// drops the object: whoever owns the [`Live`] does, and waits for this.
///
/// # Invariants
///
/// `self` owns a reference on the counter of the [`Live`] it points to. That one is pinned, so its
/// destructor runs before its memory is used for anything else, and waits for the reference.
#[must_use = "the reference is put when it is dropped"]
pub(crate) struct LiveRef<T>(NonNull<Live<T>>);

// SAFETY: It is a shared reference, which needs `T: Sync`, and putting it drops no `T`.
unsafe impl<T: Sync> Send for LiveRef<T> {}

// SAFETY: It gives out `&T` and nothing else.
unsafe impl<T: Sync> Sync for LiveRef<T> {}

impl<T> LiveRef<T> {
    /// Gives the reference up as a pointer, for a field of a C structure.
    #[inline]
    pub(super) fn into_raw(self) -> NonNull<Live<T>> {
        core::mem::ManuallyDrop::new(self).0
    }

    /// Takes back what [`LiveRef::into_raw`] gave up.
    ///
    /// # Safety
    ///
    /// `ptr` must come from [`LiveRef::into_raw`], and must not be used again.
    #[inline]
    pub(super) unsafe fn from_raw(ptr: NonNull<Live<T>>) -> Self {
        // INVARIANT: The reference that `into_raw` gave up is the new object's.
        Self(ptr)
    }
}

impl<T> Deref for LiveRef<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariant the object cannot be dropped while `self` is there.
        unsafe { &(*self.0.as_ptr()).inner }
    }
}

impl<T> Drop for LiveRef<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariant the object is valid until the reference is put.
        let refs = unsafe { &raw mut (*self.0.as_ptr()).refs };
        // SAFETY: A field's address is not null.
        let refs = unsafe { NonNull::new_unchecked(refs) };
        // SAFETY: By the type invariant the reference is ours, and this is the end of it.
        unsafe { PercpuRef::put(refs) };
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_percpu_ref)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::{
        resched,
        Canary,
        Thread, //
    };
    use core::{
        convert::Infallible,
        mem::size_of, //
    };
    use kernel::{
        sync::{
            atomic::{
                Acquire,
                Atomic,
                Release, //
            },
            Arc, //
        },
        time::{
            delay::fsleep,
            Delta, //
        },
    };

    struct Fixture {
        live: Arc<Live<Canary>>,
        drops: Arc<Atomic<u32>>,
    }

    fn fixture() -> Result<Fixture> {
        let drops = Canary::counter()?;
        let canary = Canary::new(0, &drops);
        let live = Arc::pin_init(Live::pin_init::<Infallible>(canary), GFP_KERNEL)?;
        Ok(Fixture { live, drops })
    }

    #[test]
    fn a_reference_is_one_word() {
        assert_eq!(size_of::<LiveRef<u8>>(), size_of::<usize>());
        assert_eq!(size_of::<Option<LiveRef<u8>>>(), size_of::<usize>());
    }

    #[test]
    fn shut_refuses_new_references() -> Result {
        let Fixture { live, drops } = fixture()?;
        let got = live.try_get().is_some();
        let got_in_section = live.try_get_in_section(&rcu::read_lock()).is_some();
        let open = !live.is_shut();
        live.shut();
        let refused = live.try_get().is_none();
        let refused_in_section = live.try_get_in_section(&rcu::read_lock()).is_none();
        let shut = live.is_shut();
        // The second one returns at once, and drop comes to a third.
        live.shut();
        let early = drops.load(Relaxed);
        drop(live);
        let dropped = drops.load(Relaxed);

        assert!(got);
        assert!(got_in_section);
        assert!(open);
        assert!(refused);
        assert!(refused_in_section);
        assert!(shut);
        assert_eq!(early, 0);
        assert_eq!(dropped, 1);
        Ok(())
    }

    /// Runs `end` in another thread while a reference is held; returns whether it waited for it, and
    /// whether none was to be had from `other` by then.
    fn waits_for_a_reference(
        live: Arc<Live<Canary>>,
        end: fn(Arc<Live<Canary>>),
        other: Option<&Live<Canary>>,
    ) -> Result<bool> {
        let over = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let Some(held) = live.try_get() else {
            return Ok(false);
        };
        let signal = over.clone();
        let thread = Thread::spawn(move || {
            end(live);
            signal.store(true, Release);
        })?;
        // Longer than a grace period takes, so that the switch to one counter is over.
        fsleep(Delta::from_millis(200));
        let waited = !over.load(Acquire);
        let refused = other.is_none_or(|other| other.try_get().is_none());
        let alive = held.is_alive();
        drop(held);
        thread.join();
        Ok(waited && refused && alive)
    }

    #[test]
    fn shut_waits_for_the_last_reference() -> Result {
        let Fixture { live, drops } = fixture()?;
        let waited = waits_for_a_reference(live.clone(), |live| live.shut(), Some(&live));
        let early = drops.load(Relaxed);
        drop(live);
        let dropped = drops.load(Relaxed);

        assert!(waited?);
        assert_eq!(early, 0);
        assert_eq!(dropped, 1);
        Ok(())
    }

    #[test]
    fn drop_waits_for_the_last_reference() -> Result {
        let Fixture { live, drops } = fixture()?;
        let waited = waits_for_a_reference(live, drop, None);
        let dropped = drops.load(Relaxed);

        assert!(waited?);
        assert_eq!(dropped, 1);
        Ok(())
    }

    #[test]
    fn many_may_shut_at_once() -> Result {
        let Fixture { live, drops } = fixture()?;
        let (first, second) = (live.clone(), live.clone());
        let first = Thread::spawn(move || first.shut())?;
        let second = Thread::spawn(move || second.shut())?;
        live.shut();
        first.join();
        second.join();
        drop(live);
        let dropped = drops.load(Relaxed);

        assert_eq!(dropped, 1);
        Ok(())
    }

    #[test]
    fn a_reference_survives_the_trip_through_c() -> Result {
        let Fixture { live, drops } = fixture()?;
        let raw = live.try_get().map(LiveRef::into_raw);
        // SAFETY: The pointer comes from `into_raw` and is not used again.
        let held = raw.map(|raw| unsafe { LiveRef::from_raw(raw) });
        let same = held
            .as_ref()
            .is_some_and(|held| core::ptr::eq::<Canary>(&**held, &**live));
        drop(held);
        // It would wait for ever, had the trip lost the reference.
        drop(live);
        let dropped = drops.load(Relaxed);

        assert!(same);
        assert_eq!(dropped, 1);
        Ok(())
    }

    /// What a thread that takes and puts references finds out.
    #[pin_data]
    struct Race {
        #[pin]
        started: Completion,
        shut: Atomic<bool>,
        got: Atomic<u32>,
        got_late: Atomic<u32>,
        saw_dropped: Atomic<u32>,
    }

    impl Race {
        fn new() -> impl PinInit<Self> {
            pin_init!(Self {
                started <- Completion::new(),
                shut: Atomic::new(false),
                got: Atomic::new(0),
                got_late: Atomic::new(0),
                saw_dropped: Atomic::new(0),
            })
        }

        fn run(&self, live: &Live<Canary>) {
            loop {
                let shut = self.shut.load(Acquire);
                if let Some(held) = live.try_get() {
                    self.got.fetch_add(1, Relaxed);
                    self.got_late.fetch_add(u32::from(shut), Relaxed);
                    self.saw_dropped
                        .fetch_add(u32::from(!held.is_alive()), Relaxed);
                }
                self.started.complete_all();
                if shut {
                    break;
                }
                resched();
            }
        }
    }

    /// No reference is got once `shut` has returned. KASAN watches the memory.
    #[test]
    fn getting_races_shutting() -> Result {
        const ROUNDS: u32 = 20;
        let (mut got, mut got_late, mut saw_dropped, mut dropped) = (0, 0, 0, 0);
        for _ in 0..ROUNDS {
            let Fixture { live, drops } = fixture()?;
            let race = Arc::pin_init(Race::new(), GFP_KERNEL)?;
            let theirs = (race.clone(), live.clone());
            let thread = Thread::spawn(move || theirs.0.run(&theirs.1))?;
            race.started.wait_for_completion();
            live.shut();
            race.shut.store(true, Release);
            drop(live);
            thread.join();
            got += race.got.load(Relaxed);
            got_late += race.got_late.load(Relaxed);
            saw_dropped += race.saw_dropped.load(Relaxed);
            dropped += drops.load(Relaxed);
        }

        assert!(got >= ROUNDS);
        assert_eq!(got_late, 0);
        assert_eq!(saw_dropped, 0);
        assert_eq!(dropped, ROUNDS);
        Ok(())
    }
}
