// SPDX-License-Identifier: GPL-2.0

//! The clones that dm core makes for a target.
//!
//! dm core waits for each of them, so each type here is the duty to answer for one, and while there
//! is one the target and its devices stay.

use super::{
    info::{
        DeviceId,
        TargetInfo, //
    },
    record::Record,
    Target, //
};
use crate::{
    abstractions::bio::{
        flags::Flags,
        list::Listed,
        status::BlkStatus, //
    },
    bindings, //
};
use core::{
    marker::PhantomData,
    mem::{
        align_of,
        size_of,
        ManuallyDrop, //
    },
    ptr::{
        addr_of_mut,
        null_mut,
        NonNull, //
    },
};
use kernel::{
    ffi::c_int,
    prelude::*, //
};

/// What lies before each clone.
pub(super) struct PerBio<D> {
    /// The target, or null if we have ended the clone ourselves.
    ti: *mut bindings::dm_target,
    record: Record,
    data: D,
}

impl<D> PerBio<D> {
    /// The size that dm core has to provide for.
    pub(super) const SIZE: usize = {
        // dm core puts it that many bytes before a structure that is aligned to this.
        assert!(align_of::<Self>() <= align_of::<u64>());
        size_of::<Self>()
    };

    /// Whether we have ended the clone ourselves: then its end is not the target's business.
    #[inline]
    pub(super) fn ended(&self) -> bool {
        self.ti.is_null()
    }

    /// The data before `clone`.
    ///
    /// # Safety
    ///
    /// `clone` must be one that dm core made for a target with this type of data.
    #[inline]
    pub(super) unsafe fn of(clone: *mut bindings::bio) -> *mut Self {
        // SAFETY: The caller promises it, and `ctr` has set this size.
        unsafe { bindings::dm_per_bio_data(clone, Self::SIZE) }.cast()
    }
}

/// A clone that a target has got, however it came to it: what [`MapBio`], [`FailedBio`] and
/// [`KeptBio`] have in common.
///
/// # Invariants
///
/// `bio` is a clone of dm core's for a target of type `T` that has not ended and is nobody else's;
/// `per_bio` is its data, initialised, with its target. So dm core waits for it: the target, its table
/// and its devices stay.
struct Owned<T: Target> {
    bio: NonNull<bindings::bio>,
    per_bio: NonNull<PerBio<T::BioData>>,
}

impl<T: Target> Owned<T> {
    #[inline]
    fn per_bio(&self) -> &PerBio<T::BioData> {
        // SAFETY: By the type invariant it is initialised, and nobody else's.
        unsafe { self.per_bio.as_ref() }
    }

    #[inline]
    fn data_mut(&mut self) -> &mut T::BioData {
        // SAFETY: By the type invariant it is initialised, and nobody else's.
        unsafe { &mut self.per_bio.as_mut().data }
    }

    #[inline]
    fn info(&self) -> &TargetInfo {
        // SAFETY: By the type invariant the target stays as long as the clone does.
        unsafe { TargetInfo::from_raw(self.per_bio().ti) }
    }

    #[inline]
    fn bytes(&self) -> u32 {
        self.per_bio().record.bytes()
    }

    fn is_nowait(&self) -> bool {
        self.per_bio().record.opf & bindings::RMPATH_REQ_NOWAIT != 0
    }

    /// Directs the clone to a device of the target it was made for.
    #[inline]
    fn set_device(&mut self, device: DeviceId) -> Result {
        let bdev = self
            .info()
            .common()
            .device(device)
            .ok_or(ENODEV)?
            .bdev_ptr();
        let bio = self.bio.as_ptr();
        // Follows `bio_set_dev()`, as if it came from another device: the flags are then those with
        // which it came.
        // The cgroup is left to dm core, which takes that of the bio it has cloned before it submits
        // the clone.
        const DROPPED: u16 = 1 << bindings::BIO_REMAPPED | 1 << bindings::BIO_BPS_THROTTLED;
        // SAFETY: By the type invariant it is ours to write. The device stays open as long as the
        // clone has not ended.
        unsafe {
            (*bio).bi_flags &= !DROPPED;
            (*bio).bi_bdev = bdev;
        }
        Ok(())
    }

    /// Ends it. dm core's `clone_endio()` comes back to our `end_io`, which sees that it was us.
    fn end(mut self, status: u8) {
        // SAFETY: By the type invariant it is initialised, and nobody else's.
        unsafe { self.per_bio.as_mut().ti = null_mut() };
        let bio = self.bio.as_ptr();
        // SAFETY: By the type invariant it is ours to write.
        unsafe { (*bio).bi_status = status };
        // SAFETY: By the type invariant it has not ended; it is given up.
        unsafe { bindings::bio_endio(bio) };
    }

    /// Drops the data: dm core takes the clone back.
    fn give_back(self) {
        // SAFETY: By the type invariant it is initialised; nobody looks at it again.
        unsafe { core::ptr::drop_in_place(self.per_bio.as_ptr()) };
    }
}

/// A clone in [`Target::succeeded`].
pub(crate) struct SucceededBio<'a, T: Target>(*mut bindings::bio, PhantomData<&'a T>);

impl<'a, T: Target> SucceededBio<'a, T> {
    /// # Safety
    ///
    /// `bio` must be a clone that dm core gives to `end_io` of a target of type `T`.
    #[inline]
    pub(super) unsafe fn new(bio: *mut bindings::bio) -> Self {
        Self(bio, PhantomData)
    }

    /// The target's data; `None` if the target has ended the clone itself.
    #[inline]
    pub(crate) fn data(&self) -> Option<&T::BioData> {
        // SAFETY: `new` was promised that it is such a clone; `map` has initialised its data.
        let per_bio = unsafe { &*PerBio::<T::BioData>::of(self.0) };
        (!per_bio.ended()).then_some(&per_bio.data)
    }
}

/// Ties a value to one call: it can be neither kept for nor taken from another.
type Brand<'a> = PhantomData<fn(&'a ()) -> &'a ()>;

/// What became of the clone that `map` got.
#[must_use]
pub(crate) struct Mapped<'a>(u32, Brand<'a>);

impl Mapped<'_> {
    pub(super) fn into_raw(self) -> c_int {
        self.0 as c_int
    }
}

/// A clone in [`Target::map`].
///
/// There is no `Drop`: `map` cannot return without having answered for it.
pub(crate) struct MapBio<'a, T: Target>(Owned<T>, Brand<'a>);

impl<'a, T: Target> MapBio<'a, T> {
    /// # Safety
    ///
    /// `bio` must be a clone that dm core gives to `map` of `ti`, which is of type `T`.
    #[inline]
    pub(super) unsafe fn new(ti: *mut bindings::dm_target, bio: NonNull<bindings::bio>) -> Self {
        // SAFETY: The caller promises it.
        let per_bio = unsafe { PerBio::<T::BioData>::of(bio.as_ptr()) };
        // SAFETY: dm core has set apart so many bytes, and aligned them; what is there is left over
        // from another clone. The clone is given to us.
        unsafe {
            addr_of_mut!((*per_bio).ti).write(ti);
            // Transport errors come back without the device trying again: that is for the target to do.
            Record::write(
                addr_of_mut!((*per_bio).record),
                bio.as_ptr(),
                Flags::FAILFAST,
            );
            addr_of_mut!((*per_bio).data).write(T::BioData::default());
        }
        // SAFETY: It has just been written to.
        let per_bio = unsafe { NonNull::new_unchecked(per_bio) };
        // INVARIANT: The data was just initialised, and the caller promises the rest.
        Self(Owned { bio, per_bio }, PhantomData)
    }

    /// The target's data.
    #[inline]
    pub(crate) fn data_mut(&mut self) -> &mut T::BioData {
        self.0.data_mut()
    }

    /// How many bytes it had when it came to the target.
    #[inline]
    pub(crate) fn bytes(&self) -> u32 {
        self.0.bytes()
    }

    /// The target.
    pub(crate) fn info(&self) -> &TargetInfo {
        self.0.info()
    }

    /// Whether the submitter would rather have [`BlkStatus::AGAIN`] than wait.
    pub(crate) fn is_nowait(&self) -> bool {
        self.0.is_nowait()
    }

    /// Sends it to a device.
    #[inline]
    pub(crate) fn remap(mut self, device: DeviceId) -> Mapped<'a> {
        match self.0.set_device(device) {
            Ok(()) => Mapped(bindings::DM_MAPIO_REMAPPED, PhantomData),
            Err(_) => self.kill(),
        }
    }

    /// Fails it with [`BlkStatus::IOERR`].
    pub(crate) fn kill(self) -> Mapped<'a> {
        self.0.give_back();
        Mapped(bindings::DM_MAPIO_KILL, PhantomData)
    }

    /// Gives it back to dm core to be mapped again after the suspend, if one is under way that
    /// takes bios back. At any other time dm core would fail it.
    pub(crate) fn push_back(self) -> Result<Mapped<'a>, Self> {
        if !self.info().noflush_suspending() {
            return Err(self);
        }
        self.0.give_back();
        Ok(Mapped(bindings::DM_MAPIO_REQUEUE, PhantomData))
    }

    /// Ends it.
    pub(crate) fn end(self, status: BlkStatus) -> Mapped<'a> {
        self.0.end(status.as_raw());
        Mapped(bindings::DM_MAPIO_SUBMITTED, PhantomData)
    }

    /// Keeps it, to be submitted later.
    pub(crate) fn keep(self) -> (KeptBio<T>, Mapped<'a>) {
        self.info().common().note_kept();
        // INVARIANT: It is in the state in which it came.
        let kept = KeptBio(self.0);
        (kept, Mapped(bindings::DM_MAPIO_SUBMITTED, PhantomData))
    }
}

/// What became of the clone that `failed` got.
#[must_use]
pub(crate) struct Ended<'a> {
    pub(super) answer: u32,
    pub(super) status: BlkStatus,
    _brand: Brand<'a>,
}

/// A clone in [`Target::failed`].
///
/// There is no `Drop`: `failed` cannot return without having answered for it.
pub(crate) struct FailedBio<'a, T: Target>(Owned<T>, Brand<'a>);

impl<'a, T: Target> FailedBio<'a, T> {
    /// # Safety
    ///
    /// `bio` must be a clone that dm core gives to `end_io` of a target of type `T`, `per_bio` its
    /// data.
    pub(super) unsafe fn new(
        bio: NonNull<bindings::bio>,
        per_bio: NonNull<PerBio<T::BioData>>,
    ) -> Self {
        // INVARIANT: The caller promises it; `map` has initialised the data.
        Self(Owned { bio, per_bio }, PhantomData)
    }

    /// The target's data.
    pub(crate) fn data_mut(&mut self) -> &mut T::BioData {
        self.0.data_mut()
    }

    /// The target.
    pub(crate) fn info(&self) -> &TargetInfo {
        self.0.info()
    }

    /// Whether the submitter would rather have [`BlkStatus::AGAIN`] than wait.
    pub(crate) fn is_nowait(&self) -> bool {
        self.0.is_nowait()
    }

    /// Lets it end with `status`.
    pub(crate) fn done(self, status: BlkStatus) -> Ended<'a> {
        self.0.give_back();
        Ended {
            answer: bindings::DM_ENDIO_DONE,
            status,
            _brand: PhantomData,
        }
    }

    /// Gives it back to dm core to be mapped again after the suspend, if one is under way that
    /// takes bios back. At any other time dm core would fail it.
    pub(crate) fn push_back(self) -> Result<Ended<'a>, Self> {
        if !self.info().noflush_suspending() {
            return Err(self);
        }
        self.0.give_back();
        Ok(Ended {
            answer: bindings::DM_ENDIO_REQUEUE,
            status: BlkStatus::OK,
            _brand: PhantomData,
        })
    }

    /// Keeps it, to be submitted again later.
    pub(crate) fn keep(mut self) -> (KeptBio<T>, Ended<'a>) {
        self.info().common().note_kept();
        let bio = self.0.bio.as_ptr();
        // SAFETY: By the type invariant it is initialised, and nobody else's.
        let record = unsafe { &mut self.0.per_bio.as_mut().record };
        // SAFETY: It is the clone of which the record was made, and ours to write.
        unsafe { record.restore(bio) };
        // INVARIANT: It is in the state in which it came, but for its device.
        let kept = KeptBio(self.0);
        let ended = Ended {
            answer: bindings::DM_ENDIO_INCOMPLETE,
            status: BlkStatus::OK,
            _brand: PhantomData,
        };
        (kept, ended)
    }
}

/// A clone that a target has kept: to be submitted, or ended. Dropping it ends it with
/// [`BlkStatus::IOERR`].
///
/// # Invariants
///
/// The clone is in the state in which it came to `map`, but for its device.
pub(crate) struct KeptBio<T: Target>(Owned<T>);

// SAFETY: A clone may be submitted and ended by any thread, and so may its data.
unsafe impl<T: Target> Send for KeptBio<T> {}

impl<T: Target> KeptBio<T> {
    /// The target's data.
    pub(crate) fn data_mut(&mut self) -> &mut T::BioData {
        self.0.data_mut()
    }

    /// How many bytes it had when it came to the target.
    #[inline]
    pub(crate) fn bytes(&self) -> u32 {
        self.0.bytes()
    }

    /// The target.
    pub(crate) fn info(&self) -> &TargetInfo {
        self.0.info()
    }

    fn into_inner(self) -> Owned<T> {
        // SAFETY: `self` is not used or dropped again.
        unsafe { core::ptr::read(&ManuallyDrop::new(self).0) }
    }

    /// Submits it to a device of its target. May sleep.
    pub(crate) fn submit(self, device: DeviceId) {
        let mut clone = self.into_inner();
        if clone.set_device(device).is_err() {
            clone.end(BlkStatus::IOERR.as_raw());
            return;
        }
        // Accounted to the cgroup that submitted the original, not to the worker's.
        // SAFETY: By the type invariant it is a clone that may be submitted, of a target that leaves
        // accounting to this; it is given up.
        unsafe { bindings::dm_submit_bio_remap(clone.bio.as_ptr(), core::ptr::null_mut()) };
    }

    /// Ends it. The target is not asked again. Any context.
    pub(crate) fn end(self, status: BlkStatus) {
        self.into_inner().end(status.as_raw());
    }

    /// Gives it back to dm core to be mapped again after the suspend, if one is under way that
    /// takes bios back. At any other time dm core would fail it.
    pub(crate) fn push_back(self) -> Result<(), Self> {
        if !self.info().noflush_suspending() {
            return Err(self);
        }
        self.into_inner().end(bindings::RMPATH_BLK_STS_DM_REQUEUE);
        Ok(())
    }
}

impl<T: Target> Drop for KeptBio<T> {
    fn drop(&mut self) {
        // SAFETY: It is not used again after its `Drop`.
        unsafe { core::ptr::read(&self.0) }.end(BlkStatus::IOERR.as_raw());
    }
}

// SAFETY: The two are inverses. Between being kept and being submitted or ended `bi_next` is ours.
unsafe impl<T: Target> Listed for KeptBio<T> {
    fn into_raw(self) -> NonNull<bindings::bio> {
        self.into_inner().bio
    }

    unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // SAFETY: The caller promises that it was a `KeptBio<T>`, so that it has such data.
        let per_bio = unsafe { NonNull::new_unchecked(PerBio::of(bio.as_ptr())) };
        // INVARIANT: The caller promises that it was a `KeptBio<T>`.
        Self(Owned { bio, per_bio })
    }
}
