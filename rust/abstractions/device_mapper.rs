// SPDX-License-Identifier: GPL-2.0

//! Device-mapper targets.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)
//!
//! A target implements [`Target`], is described by a static [`TargetType`] and known to dm core as
//! long as there is a [`Registration`]. What the C interface leaves to the author's care is in the
//! types here:
//!
//! * Devices belong to the wrapper, not to the target: [`Setup::get_device`] hands out a
//!   [`DeviceId`], which is looked up in the target (or the target of the bio) it is used with. So
//!   a device can neither be put twice nor outlive its table, and one of another table cannot be
//!   used by mistake.
//! * Each clone has to be answered for: `map` and `failed` must return a token that only the clone
//!   in hand can be turned into, and a [`KeptBio`], a clone that was kept, ends with an error when
//!   it is dropped.
//! * Data per bio is initialised before `map` and dropped when dm core takes the clone back.
//! * `self` lives to the end of every callback, even if a callback gives the last clone away and
//!   another CPU ends it: `map` runs in dm core's SRCU read section, `failed` in an RCU one, and the
//!   destructor waits for both.
//!
//! # Examples
//!
//! ```ignore
//! static ZERO: TargetType<Zero> = TargetType::new();
//!
//! #[vtable]
//! impl Target for Zero {
//!     type Context = ();
//!     type BioData = ();
//!     const NAME: &'static CStr = c"my-zero";
//!     const VERSION: [u32; 3] = [1, 0, 0];
//!     const FEATURES: Features = Features::SINGLETON;
//!
//!     fn ctr(setup: &mut Setup<'_>, args: &[Arg<'_>], _: ArcBorrow<'_, ()>) -> Result<Arc<Self>> {
//!         match args {
//!             [] => Ok(Arc::new(Zero, GFP_KERNEL)?),
//!             _ => Err(setup.fail(c"no arguments expected", EINVAL)),
//!         }
//!     }
//!
//!     fn map<'a>(_: ArcBorrow<'_, Self>, bio: MapBio<'a, Self>) -> Mapped<'a> {
//!         bio.end(BlkStatus::OK)
//!     }
//! }
//!
//! let registration = Registration::new(&ZERO, Arc::new((), GFP_KERNEL)?)?;
//! ```

mod bio;
mod hold;
mod info;
mod read;
mod record;
mod setup;
mod status;
mod vtable;

pub(crate) use self::{
    bio::{
        Ended,
        FailedBio,
        KeptBio,
        MapBio,
        Mapped,
        SucceededBio, //
    },
    hold::{
        Hold,
        Holdable, //
    },
    info::{
        devt_from_path,
        DeviceId,
        DeviceName,
        PathEvent,
        TableEvents,
        TargetInfo, //
    },
    setup::{
        Arg,
        Setup, //
    },
    status::{
        StatusKind,
        StatusWriter, //
    },
};

#[cfg(CONFIG_KUNIT = "y")]
pub(crate) use self::status::TestBuffer;

use crate::{
    abstractions::bio::status::BlkStatus,
    bindings, //
};
use core::{
    ops::BitOr,
    ptr::null_mut, //
};
use kernel::{
    error::{
        to_result,
        VTABLE_DEFAULT_ERROR, //
    },
    prelude::*,
    str::as_char_ptr_in_const_context,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        rcu,
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// Properties of a target type, `DM_TARGET_*`.
#[derive(Clone, Copy)]
pub(crate) struct Features(u64);

impl Features {
    /// The only target of its table. [`TargetType::new`] says why it must be among them.
    pub(crate) const SINGLETON: Self = Self(bindings::DM_TARGET_SINGLETON as u64);
    /// Integrity data goes to the devices with the data.
    pub(crate) const PASSES_INTEGRITY: Self = Self(bindings::DM_TARGET_PASSES_INTEGRITY as u64);
    /// `map` does not wait for anything.
    pub(crate) const NOWAIT: Self = Self(bindings::DM_TARGET_NOWAIT as u64);
    /// Writes stay in one piece.
    pub(crate) const ATOMIC_WRITES: Self = Self(bindings::DM_TARGET_ATOMIC_WRITES as u64);

    /// These and those.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.and(other)
    }
}

/// Where an ioctl on the mapped device goes.
pub(crate) enum Ioctl {
    /// To this device.
    Forward(DeviceId),
    /// Nowhere yet: dm core asks again after 10 ms, until the caller is killed.
    Wait,
}

/// A kind of mapping.
///
/// `this` is the value that [`Target::ctr`] returned; all callbacks may run at the same time, but
/// for `ctr` and `dtr`, which come before and after the others.
#[vtable]
pub(crate) trait Target: Send + Sync + Sized + 'static {
    /// What all targets of the type share; given to [`Registration::new`].
    type Context: Send + Sync + 'static;

    /// What is kept with each clone, for as long as the target answers for it.
    type BioData: Default + Send;

    /// The name in tables.
    const NAME: &'static CStr;

    /// The version, as `dmsetup targets` shows it.
    const VERSION: [u32; 3];

    /// The features.
    const FEATURES: Features;

    /// Makes a target from the words of a table line. May sleep.
    ///
    /// The reason of an error is set by [`Setup::fail`]; dm core logs it, in one line.
    fn ctr(
        setup: &mut Setup<'_>,
        args: &[Arg<'_>],
        context: ArcBorrow<'_, Self::Context>,
    ) -> Result<Arc<Self>>;

    /// Stops whatever still runs for the target. May sleep. No clone is left, no other callback
    /// runs or will; the devices are put afterwards.
    fn dtr(_this: ArcBorrow<'_, Self>) {}

    /// Decides where a clone goes.
    ///
    /// The submitter's context: may sleep unless the bio is a `REQ_NOWAIT` one.
    fn map<'a>(this: ArcBorrow<'_, Self>, bio: MapBio<'a, Self>) -> Mapped<'a>;

    /// A clone that was mapped or submitted has succeeded. Any context.
    fn succeeded(_this: ArcBorrow<'_, Self>, _bio: SucceededBio<'_, Self>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// A clone that was mapped or submitted has failed: pass the error on, or keep the clone.
    ///
    /// Any context, in an RCU read section: must not sleep.
    fn failed<'a>(
        _this: ArcBorrow<'_, Self>,
        _bio: FailedBio<'a, Self>,
        _status: BlkStatus,
    ) -> Ended<'a> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// A suspend begins. Clones must not be kept for long any more, or it will never end. May
    /// sleep.
    fn presuspend(_this: ArcBorrow<'_, Self>, _ti: &TargetInfo) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The suspend that had begun has failed. May sleep.
    fn presuspend_undo(_this: ArcBorrow<'_, Self>, _ti: &TargetInfo) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The mapped device is suspended, no clone is left. May sleep.
    fn postsuspend(_this: ArcBorrow<'_, Self>, _ti: &TargetInfo) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// The mapped device is about to resume. May sleep.
    fn resume(_this: ArcBorrow<'_, Self>, _ti: &TargetInfo) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Writes the status. May sleep. What does not fit is cut off, and dm core asks again with
    /// more room.
    fn status(
        _this: ArcBorrow<'_, Self>,
        _ti: &TargetInfo,
        _kind: StatusKind,
        _out: &mut StatusWriter<'_>,
    ) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Handles a message of at least one word.
    ///
    /// There is no reply: dm core's buffer for it is where the words are.
    ///
    /// May sleep, but must not wait for memory that I/O has to free (`GFP_NOIO`): a message may be
    /// what makes I/O go on. May run while the device is suspended, see [`TargetInfo::suspended`].
    fn message(_this: ArcBorrow<'_, Self>, _ti: &TargetInfo, _words: &[Arg<'_>]) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Says where an ioctl goes (and `PR_CLEAR`). May sleep.
    ///
    /// A device that is not as long as the target gets it only from who may do raw I/O. The ioctls
    /// of device-mapper itself do not come here: they fail with `ENOTTY`, but for
    /// [`Target::probe_paths`].
    fn prepare_ioctl(_this: ArcBorrow<'_, Self>, _ti: &TargetInfo) -> Result<Ioctl> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Finds out which devices work (`DM_MPATH_PROBE_PATHS`). May sleep. Needs
    /// [`Target::prepare_ioctl`], by which it comes.
    fn probe_paths(_this: ArcBorrow<'_, Self>, _ti: &TargetInfo) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}

/// A target type, for a static: dm core refers to it as long as a target of it exists, which may
/// be longer than it is registered.
///
/// # Invariants
///
/// `context` is null, or comes from [`Arc::into_raw`] and owns that reference.
#[repr(C)]
pub(crate) struct TargetType<T: Target> {
    raw: Opaque<bindings::target_type>,
    context: Atomic<*mut T::Context>,
}

// SAFETY: dm core guards what it changes in `raw` by a lock of its own, we only read it; `context`
// is atomic, and shared among threads as an `Arc<T::Context>` may be.
unsafe impl<T: Target> Sync for TargetType<T> {}

impl<T: Target> TargetType<T> {
    /// The description of `T`.
    pub(crate) const fn new() -> Self {
        Self::named(T::NAME)
    }

    /// The same under another name.
    pub(crate) const fn named(name: &'static CStr) -> Self {
        // When `map` has kept or ended a clone, dm core still looks at it, which is right only if
        // the clone lies in dm core's own structure for the whole I/O: if it is the only one.
        const { assert!(T::FEATURES.contains(Features::SINGLETON)) };
        // INVARIANT: Not registered yet.
        Self {
            raw: Opaque::new(bindings::target_type {
                name: as_char_ptr_in_const_context(name),
                ..vtable::VTable::<T>::TYPE
            }),
            context: Atomic::new(null_mut()),
        }
    }

    /// What was given to [`Registration::new`], or `None` if there is none (any more).
    fn context(&self) -> Option<Arc<T::Context>> {
        let _section = rcu::read_lock();
        let context = self.context.load(Acquire);
        if context.is_null() {
            return None;
        }
        // SAFETY: By the type invariant it came from `Arc::into_raw`, and that reference is put
        // only after a grace period, which cannot end before `_section` is dropped.
        let context = unsafe { ArcBorrow::from_raw(context) };
        Some(context.into())
    }
}

/// A target type that dm core knows. Dropping it makes it unknown.
///
/// Targets that exist go on; each holds a reference on the module, so when the module exits there
/// are none.
///
/// # Invariants
///
/// `target_type` is registered, and its context is the one given to [`Registration::new`].
pub(crate) struct Registration<T: Target> {
    target_type: &'static TargetType<T>,
}

impl<T: Target> Registration<T> {
    /// Makes `target_type` known. May sleep.
    ///
    /// Fails with `EBUSY` if there is a target of that name. Tables can be loaded from the moment
    /// that the module's init has succeeded; make this its last step.
    pub(crate) fn new(
        target_type: &'static TargetType<T>,
        context: Arc<T::Context>,
    ) -> Result<Self> {
        let context = Arc::into_raw(context).cast_mut();
        // INVARIANT: The context came from `Arc::into_raw` and is given up.
        if target_type
            .context
            .cmpxchg(null_mut(), context, Full)
            .is_err()
        {
            // SAFETY: It came from `into_raw` and was not stored.
            drop(unsafe { Arc::from_raw(context) });
            return Err(EBUSY);
        }
        // INVARIANT: Dropped if the registration fails, which leaves nothing behind but this.
        let this = RegisteredContext(target_type);
        // SAFETY: It lives for ever, and its callbacks are what dm core expects.
        to_result(unsafe { bindings::dm_register_target(target_type.raw.get()) })?;
        core::mem::forget(this);
        // INVARIANT: It has just been registered.
        Ok(Self { target_type })
    }
}

impl<T: Target> Drop for Registration<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is registered.
        unsafe { bindings::dm_unregister_target(self.target_type.raw.get()) };
        drop(RegisteredContext(self.target_type));
    }
}

/// Takes the context out of a target type when dropped.
struct RegisteredContext<T: Target>(&'static TargetType<T>);

impl<T: Target> Drop for RegisteredContext<T> {
    fn drop(&mut self) {
        let context = self.0.context.load(Relaxed);
        self.0
            .context
            .store(null_mut(), kernel::sync::atomic::Release);
        // SAFETY: Not an unsafe operation, as far as memory goes.
        unsafe { bindings::synchronize_rcu() };
        // SAFETY: By the invariant of `TargetType` it came from `Arc::into_raw`. Nobody finds it
        // any more, and who had found it has got a reference of his own by now.
        drop(unsafe { Arc::from_raw(context) });
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_device_mapper)]
mod tests {
    use super::*;

    /// A target that fails all I/O.
    struct Nothing;

    #[vtable]
    impl Target for Nothing {
        type Context = ();
        type BioData = ();

        const NAME: &'static CStr = c"rmpath-kunit";
        const VERSION: [u32; 3] = [0, 0, 0];
        const FEATURES: Features = Features::SINGLETON;

        fn ctr(
            setup: &mut Setup<'_>,
            _args: &[Arg<'_>],
            _context: ArcBorrow<'_, ()>,
        ) -> Result<Arc<Self>> {
            Err(setup.fail(c"only a test", EINVAL))
        }

        fn map<'a>(_this: ArcBorrow<'_, Self>, bio: MapBio<'a, Self>) -> Mapped<'a> {
            bio.kill()
        }
    }

    static NOTHING: TargetType<Nothing> = TargetType::new();

    #[test]
    fn registering_again_is_refused_until_it_is_undone() -> Result {
        let first = Registration::new(&NOTHING, Arc::new((), GFP_KERNEL)?);
        let second = Registration::new(&NOTHING, Arc::new((), GFP_KERNEL)?);
        let refused = second.err();
        let registered = first.is_ok();
        let found = NOTHING.context().is_some();
        drop(first);
        let gone = NOTHING.context().is_none();
        let third = Registration::new(&NOTHING, Arc::new((), GFP_KERNEL)?).is_ok();

        assert!(registered);
        assert_eq!(refused, Some(EBUSY));
        assert!(found);
        assert!(gone);
        assert!(third);
        Ok(())
    }

    #[test]
    fn the_context_goes_with_the_registration() -> Result {
        let context = Arc::new((), GFP_KERNEL)?;
        let registration = Registration::new(&NOTHING, context.clone())?;
        let held = NOTHING.context();
        drop(registration);
        drop(held);

        // Ours is the only reference left.
        assert!(Arc::into_unique_or_drop(context).is_some());
        Ok(())
    }
}
