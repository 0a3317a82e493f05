// SPDX-License-Identifier: GPL-2.0

//! Originals that are sent on, as they are or as clones.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)
//!
//! A stacking driver submits clones of the bios it is given to other devices and ends the
//! originals when the clones end. The pieces can be lost in many ways: an original that is ended
//! twice or never, a device closed under a clone in flight, a bio set freed before its clones.
//! Here
//!
//! * a [`Clone`] owns its original, whoever drops the one ends the other,
//! * a clone in flight owns its target, so the device cannot be closed under it,
//! * a clone's [`BioSet`] is there as long as the clone: each is counted on it, and the destructor waits
//!   for the last; but for a bio that is sent at once ([`Clone::send`]), whose target keeps the set.
//!
//! Making a second bio costs as much as all the rest, so it is not made where the original itself can
//! be sent: [`record`] keeps what the original was, and when it comes back it is that again, whatever
//! became of it below. To who uses a [`Clone`] it is all the same.
//!
//! # Examples
//!
//! ```ignore
//! impl CloneOps for HeadIo {
//!     type Target = LiveRef<HeadPath>;
//!     fn succeeded(&self, path: &Self::Target) {
//!         path.note_success();
//!     }
//!     fn failed(clone: Clone<Self>, path: Self::Target, status: BlkStatus) {
//!         clone.finish(status);
//!     }
//! }
//! // in submit_bio
//! match path {
//!     Some(path) => Clone::send(bio, HeadIo::new, path, Flags::default()),
//!     None => match head.bios.clone_bio(bio, HeadIo::new()) {
//!         Ok(clone) => head.parked.park(clone),
//!         Err((bio, status)) => bio.end(status),
//!     },
//! }
//! ```

use super::{
    cache::BioCache,
    list::Listed,
    poll,
    record,
    status::BlkStatus,
    trace,
    Accounted,
    Bio, //
};
use crate::{
    abstractions::{
        block_device::Bdev,
        gendisk::limits::same_profile,
        percpu_ref::PercpuRef, //
    },
    bindings,
};
use core::{
    marker::PhantomData,
    mem::{
        align_of,
        offset_of,
        ManuallyDrop,
        MaybeUninit, //
    },
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::Arc,
    types::Opaque, //
};

/// What a driver keeps with each clone, and what it does when the clone has come back.
pub(crate) trait CloneOps: Send + Sized + 'static {
    /// What a clone in flight owns: it keeps the device open, and the set there, for as long as it is
    /// there.
    type Target: AsRef<Bdev> + AsRef<BioSet<Self>> + Send + 'static;

    /// The clone has come back well from `target`, and its original is about to end. Any context,
    /// interrupts included.
    fn succeeded(&self, target: &Self::Target);

    /// The clone has come back from `target` with an error. Any context, interrupts included.
    fn failed(clone: Clone<Self>, target: Self::Target, status: BlkStatus);
}

/// What the bio of a [`Frame`] is, and whose memory that frame lies in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// None yet. From the cache.
    None,
    /// Where what the original was is kept while that is in flight itself, which has been so before.
    /// From the cache.
    Record,
    /// The same of one that is not counted: in flight, and its target has the set.
    Sent,
    /// A clone of the original. From the cache.
    Clone,
    /// The same, from the reserve.
    Reserve,
}

/// A clone and what stands before it in memory (the front pad of the bio set).
///
/// # Invariants
///
/// While a [`Clone`] points here, or the clone is in flight, `orig` is a bio that belongs to us,
/// `private` is initialised, and `bio` is a valid bio if `form` is [`Form::Clone`] or
/// [`Form::Reserve`]. If it is [`Form::Record`] or [`Form::Sent`], the original is plain. `target` is
/// initialised exactly while the clone, or in its place the original, is in flight, and is not borrowed
/// mutably meanwhile. The clone is counted on `set`, unless `form` is [`Form::Sent`]: then `set` is that
/// of `target`. The memory comes from the cache of `set`, or its reserve.
#[repr(C)]
pub(super) struct Frame<P: CloneOps> {
    set: NonNull<BioSet<P>>,
    orig: NonNull<bindings::bio>,
    /// How the original counts in the statistics of our disk.
    accounted: Accounted,
    target: MaybeUninit<P::Target>,
    form: Form,
    /// Makes it a size that no other set's bios have: the slab would be shared with them, whose bios
    /// begin elsewhere in its objects, and a late poller of one of theirs find half of one of ours.
    _odd: MaybeUninit<u64>,
    private: P,
    bio: Opaque<bindings::bio>,
}

impl<P: CloneOps> Frame<P> {
    /// Sets all fields of a frame but `target` and `bio`; returns the latter. The original counts as under
    /// way from here on.
    ///
    /// # Safety
    ///
    /// The memory must be the caller's, and that of a frame of `set`.
    #[inline(always)]
    unsafe fn fill(
        frame: NonNull<Self>,
        set: &BioSet<P>,
        orig: Bio,
        form: Form,
        private: P,
    ) -> NonNull<bindings::bio> {
        let accounted = orig.start_accounting();
        let frame = frame.as_ptr();
        // SAFETY: The caller promises that it is ours to write.
        unsafe {
            core::ptr::addr_of_mut!((*frame).set).write(NonNull::from(set));
            core::ptr::addr_of_mut!((*frame).orig).write(orig.into_raw());
            core::ptr::addr_of_mut!((*frame).accounted).write(accounted);
            core::ptr::addr_of_mut!((*frame).form).write(form);
            core::ptr::addr_of_mut!((*frame).private).write(private);
        }
        // SAFETY: It is a field of an object.
        unsafe { NonNull::new_unchecked(Opaque::cast_into(&raw const (*frame).bio)) }
    }
}

/// How much memory a bio of ours has before it.
const fn front_pad<P: CloneOps>() -> u32 {
    // The allocator aligns the front pad no better.
    const { assert!(align_of::<Frame<P>>() <= align_of::<u64>()) };
    offset_of!(Frame<P>, bio) as u32
}

/// A set of clones, with a reserve that lets one be made whatever memory there is.
///
/// Dropping it waits for all its clones to finish; may sleep.
///
/// # Invariants
///
/// `raw` was set up by `bioset_init` with a front pad that makes its bios the `bio` field of a
/// `Frame<P>`. `clones` counts those that exist.
#[pin_data(PinnedDrop)]
pub(crate) struct BioSet<P: CloneOps> {
    #[pin]
    clones: PercpuRef,
    /// The reserve, when the cache has no memory.
    #[pin]
    raw: Opaque<bindings::bio_set>,
    // Dropped last: clones are in its memory until `clones` is 0.
    cache: Arc<BioCache<P>>,
}

// SAFETY: A bio set is used from any thread, and owns nothing but memory.
unsafe impl<P: CloneOps> Send for BioSet<P> {}
// SAFETY: The C functions that take a bio set do their own locking.
unsafe impl<P: CloneOps> Sync for BioSet<P> {}

/// Clones that can always be made, per set: what `BIO_POOL_SIZE` is to the kernel's own sets.
const RESERVE: u32 = 2;

impl<P: CloneOps> BioSet<P> {
    /// An initialiser of a set without clones. Fails with `ENOMEM`; may sleep.
    pub(crate) fn new(cache: Arc<BioCache<P>>) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            // First: should the other fail, this one's destructor undoes it; `raw` has none.
            clones <- PercpuRef::new(),
            raw <- Opaque::try_ffi_init(|slot: *mut bindings::bio_set| {
                // SAFETY: All zeroes is what `bioset_init` expects of a new set.
                unsafe { slot.write_bytes(0, 1) };
                // SAFETY: `slot` is valid and pinned. The set is exited in `drop`.
                to_result(unsafe {
                    bindings::bioset_init(slot, RESERVE, front_pad::<P>(), 0)
                })
            }),
            cache,
        })
    }

    /// Makes a clone that owns `orig`, bound for no device yet.
    ///
    /// Never fails for want of memory, but may sleep, unless the bio is `REQ_NOWAIT`: then it is
    /// given back with [`BlkStatus::AGAIN`]. With integrity or encryption, cloning these can fail
    /// ([`BlkStatus::RESOURCE`]). After [`BioSet::shut`]: [`BlkStatus::IOERR`].
    #[inline(never)]
    pub(crate) fn clone_bio(&self, orig: Bio, private: P) -> Result<Clone<P>, (Bio, BlkStatus)> {
        if !self.clones.try_get() {
            return Err((orig, BlkStatus::IOERR));
        }
        let (frame, form) = match self.cache.take() {
            Some(frame) => (frame, Form::None),
            None => match self.clone_from_reserve(&orig) {
                Ok(frame) => (frame, Form::Reserve),
                Err(status) => {
                    // SAFETY: The reference was taken above and is given up.
                    unsafe { PercpuRef::put(NonNull::from(&self.clones)) };
                    return Err((orig, status));
                }
            },
        };
        // SAFETY: The frame is ours, and its memory is the set's.
        let bio = unsafe { Frame::fill(frame, self, orig, form, private) };
        // INVARIANT: All fields of the frame are set, and the clone was counted.
        Ok(Clone(bio, PhantomData))
    }

    /// A clone of a bio for which the cache has no memory. May sleep, unless it is `REQ_NOWAIT`.
    #[cold]
    fn clone_from_reserve(&self, orig: &Bio) -> Result<NonNull<Frame<P>>, BlkStatus> {
        if orig.is_nowait() {
            return Err(BlkStatus::AGAIN);
        }
        // SAFETY: The original is valid and ours; the set is initialised by the type invariant.
        let bio = unsafe {
            bindings::bio_alloc_clone(
                core::ptr::null_mut(),
                orig.as_ptr(),
                bindings::RMPATH_GFP_NOIO,
                self.raw.get(),
            )
        };
        let bio = NonNull::new(bio).ok_or(BlkStatus::RESOURCE)?;
        // SAFETY: By the type invariant the bio lies in a `Frame<P>`.
        Ok(unsafe { frame_of::<P>(bio) })
    }

    /// Refuses new clones and waits until there is none. May sleep.
    pub(crate) fn shut(&self) {
        self.clones.shut();
    }
}

#[pinned_drop]
impl<P: CloneOps> PinnedDrop for BioSet<P> {
    fn drop(self: Pin<&mut Self>) {
        self.shut();
        // SAFETY: By the type invariant the set was initialised. No clone is left: each is
        // counted until after its memory was given back.
        unsafe { bindings::bioset_exit(self.raw.get()) };
    }
}

/// The frame around a clone.
///
/// # Safety
///
/// `bio` must be the field of a [`Frame<P>`].
#[inline]
unsafe fn frame_of<P: CloneOps>(bio: NonNull<bindings::bio>) -> NonNull<Frame<P>> {
    // SAFETY: The caller promises that the bio is the field of a frame.
    let frame = unsafe { bio.as_ptr().byte_sub(offset_of!(Frame<P>, bio)) };
    // SAFETY: It lies in an allocation, so it is not null.
    unsafe { NonNull::new_unchecked(frame.cast()) }
}

/// How a clone is to be submitted: what is added to the flags of the bio.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags(bindings::blk_opf_t);

impl Flags {
    /// There is another way: the device shall not retry for long (`REQ_FAILFAST_TRANSPORT`).
    pub(crate) const FAILFAST: Self = Self(bindings::RMPATH_REQ_FAILFAST_TRANSPORT);
}

/// A clone that is not in flight; it owns its original. Dropping it ends the original with
/// [`BlkStatus::IOERR`].
///
/// # Invariants
///
/// Points to the `bio` of a valid [`Frame<P>`] that nobody else points to, with a reference on the
/// `clones` of its [`BioSet<P>`]. The original is as it was when it came, but for what
/// [`Clone::stop_polling`] has changed.
#[repr(transparent)]
pub(crate) struct Clone<P: CloneOps>(NonNull<bindings::bio>, PhantomData<P>);

// SAFETY: It owns a bio, which any thread may end, and a `P`, which is `Send`.
unsafe impl<P: CloneOps> Send for Clone<P> {}

impl<P: CloneOps> Clone<P> {
    #[inline]
    fn frame(&self) -> NonNull<Frame<P>> {
        // SAFETY: By the type invariant the bio lies in a frame.
        unsafe { frame_of::<P>(self.0) }
    }

    /// The original, which is valid and ours.
    #[inline]
    fn orig(&self) -> *mut bindings::bio {
        // SAFETY: By the type invariants the frame is valid.
        unsafe { (*self.frame().as_ptr()).orig.as_ptr() }
    }

    /// What the original is: its operation and flags.
    #[inline]
    fn opf(&self) -> bindings::blk_opf_t {
        // SAFETY: By the invariant of the frame the original is valid and ours.
        unsafe { (*self.orig()).bi_opf }
    }

    /// Whether the original's submitter would rather not wait (`REQ_NOWAIT`).
    pub(crate) fn is_nowait(&self) -> bool {
        self.opf() & bindings::RMPATH_REQ_NOWAIT != 0
    }

    /// How many sectors of 512 bytes the original is about.
    pub(crate) fn original_sectors(&self) -> u32 {
        // SAFETY: By the invariant of the frame the original is valid and ours.
        (unsafe { (*self.orig()).bi_iter.bi_size }) >> 9
    }

    /// Whether the original empties the write cache before anything else (`REQ_PREFLUSH`).
    pub(crate) fn flushes(&self) -> bool {
        self.opf() & bindings::RMPATH_REQ_PREFLUSH != 0
    }

    /// Whether the original changes data: a write, discard, write of zeroes and their like, and a
    /// flush.
    pub(crate) fn is_write(&self) -> bool {
        // SAFETY: By the invariant of the frame the original is valid and ours.
        unsafe { bindings::rmpath_bio_is_write(self.orig()) }
    }

    /// Whether the submitter polls for it (`REQ_POLLED`), which it need not be told any more: from now
    /// on clones of the original are sent without the flag.
    pub(crate) fn stop_polling(&mut self) -> bool {
        let opf = self.opf();
        // SAFETY: By the invariant of the frame the original is valid and ours.
        unsafe { (*self.orig()).bi_opf = opf & !bindings::RMPATH_REQ_POLLED };
        opf & bindings::RMPATH_REQ_POLLED != 0
    }

    /// Sends `orig`, which has just come, to `target`, which has to be a whole disk: as
    /// [`BioSet::clone_bio`] and [`Clone::submit`] do, for which it is short where all is as usual. Then
    /// the clone is not counted on its set: the target has that.
    ///
    /// Context: may sleep, as `submit_bio_noacct()` may.
    #[inline(always)]
    pub(crate) fn send(orig: Bio, private: impl FnOnce() -> P, target: P::Target, flags: Flags) {
        let set: &BioSet<P> = target.as_ref();
        // SAFETY: The bio is valid and ours.
        let plain = unsafe { record::is_plain(NonNull::new_unchecked(orig.as_ptr())) };
        let frame = match plain {
            true => set.cache.take(),
            false => None,
        };
        let Some(frame) = frame else {
            return Self::clone_and_submit(orig, private(), target, flags);
        };
        // SAFETY: The memory is ours, from the cache of the set.
        // INVARIANT: The original is plain. The set is that of the target, which is about to be there;
        // it does not move with that, since it is pinned.
        let bio = unsafe { Frame::fill(frame, set, orig, Form::Sent, private()) };
        // SAFETY: All is set but the target. The original is plain.
        unsafe { Self::divert(bio, target, flags) };
    }

    /// The same for what is not as usual.
    #[cold]
    #[inline(never)]
    fn clone_and_submit(orig: Bio, private: P, target: P::Target, flags: Flags) {
        let set: &BioSet<P> = target.as_ref();
        match set.clone_bio(orig, private) {
            Ok(clone) => clone.submit(target, flags),
            Err((orig, status)) => {
                drop(target);
                orig.end(status);
            }
        }
    }

    /// Sends the original to `target`, or a clone of it; it has to be a whole disk. It comes back
    /// through [`CloneOps`], perhaps before this returns.
    ///
    /// Context: may sleep, as `submit_bio_noacct()` may.
    pub(crate) fn submit(self, target: P::Target, flags: Flags) {
        let frame = self.frame().as_ptr();
        // SAFETY: By the type invariant the frame is valid and ours alone.
        let (form, orig) = unsafe { ((*frame).form, (*frame).orig) };
        let plain = match form {
            // SAFETY: By the invariant of the frame the original is valid and ours.
            Form::None => unsafe { record::is_plain(orig) },
            Form::Record => true,
            Form::Sent | Form::Clone | Form::Reserve => false,
        };
        if !plain {
            return self.submit_clone(target, flags);
        }
        let bio = ManuallyDrop::new(self).0;
        // SAFETY: By the type invariant the frame is valid and ours alone.
        // INVARIANT: The original is plain.
        unsafe { (*frame).form = Form::Record };
        // SAFETY: As above.
        unsafe { Self::divert(bio, target, flags) };
    }

    /// Sends the original itself.
    ///
    /// # Safety
    ///
    /// `bio` must be that of a frame whose fields but the target are set, and which is given up. The
    /// original must be plain, and `form` say so.
    #[inline(always)]
    unsafe fn divert(bio: NonNull<bindings::bio>, target: P::Target, flags: Flags) {
        // SAFETY: The caller promises that the bio is that of a frame.
        let frame = unsafe { frame_of::<P>(bio).as_ptr() };
        // SAFETY: The caller promises that the frame is valid and ours alone.
        // INVARIANT: It is in flight from here on.
        let target = unsafe { (*frame).target.write(target) };
        // SAFETY: As above.
        let orig = unsafe { (*frame).orig };
        // The device stays open for as long as `target` is there and is not borrowed mutably: until
        // the bio has come back.
        let bdev: &Bdev = (*target).as_ref();
        // SAFETY: The original is plain and ours, and so is the bio of the frame, which is none.
        unsafe { record::divert(orig, bio, bdev.as_ptr(), end_original::<P>, flags.0) };
        // SAFETY: Both are valid and ours; the record has the disk that the original came to.
        unsafe { trace::bio_remap(orig.as_ptr(), bio.as_ptr()) };
        // SAFETY: The original is given up to the block layer until `end_original`.
        unsafe { bindings::submit_bio_noacct(orig.as_ptr()) };
    }

    /// Makes a clone, if there is none, and sends that.
    #[cold]
    #[inline(never)]
    fn submit_clone(self, target: P::Target, flags: Flags) {
        // SAFETY: By the type invariant the frame is valid and ours alone.
        if unsafe { (*self.frame().as_ptr()).form } == Form::None && !self.make(Form::Clone) {
            drop(target);
            return self.finish(BlkStatus::RESOURCE);
        }
        let this = ManuallyDrop::new(self);
        let frame = this.frame().as_ptr();
        let bio = this.0.as_ptr();
        // SAFETY: By the type invariant the frame is valid and ours alone.
        // INVARIANT: The clone is in flight from here on.
        let target = unsafe { (*frame).target.write(target) };
        let bdev: &Bdev = (*target).as_ref();
        // SAFETY: By the type invariant the frame is valid.
        let orig = unsafe { (*frame).orig.as_ptr() };
        // SAFETY: The bio is valid and ours.
        unsafe {
            // The device stays open as in `submit`.
            (*bio).bi_bdev = bdev.as_ptr();
            // A whole disk of at least our size, so that the checks the original has passed hold.
            (*bio).bi_flags |= 1 << bindings::BIO_REMAPPED;
            (*bio).bi_end_io = Some(end_clone::<P>);
            // What the driver above means by REQ_DRV is not what the one below would.
            (*bio).bi_opf = (*bio).bi_opf & !bindings::RMPATH_REQ_DRV | flags.0;
        }
        // SAFETY: Both are valid and ours, and the clone has its device.
        unsafe { bindings::rmpath_bio_clone_blkg_association(bio, orig) };
        // SAFETY: The bio is valid and ours.
        let opf = unsafe { (*bio).bi_opf };
        // SAFETY: Both are ours, the original came to our disk, and the clone is complete.
        if opf & record::UNUSUAL != 0 && !unsafe { prepare((*frame).orig, this.0) } {
            // SAFETY: As at the end of this function.
            unsafe { bindings::bio_endio(bio) };
            return;
        }
        // SAFETY: Both are valid and ours, and the clone has its device and its sector.
        unsafe { trace::bio_remap(bio, orig) };
        // SAFETY: The bio is complete, and given up to the block layer until `end_clone`.
        unsafe { bindings::submit_bio_noacct(bio) };
    }

    /// Makes the frame's bio, which has no contents, a clone of the original. May sleep. `false` if
    /// its integrity or encryption context cannot be cloned.
    fn make(&self, form: Form) -> bool {
        let (frame, bio) = (self.frame().as_ptr(), self.0.as_ptr());
        // SAFETY: The bio is without contents, and ours; the original is valid and ours.
        let error = unsafe {
            bindings::bio_init_clone(
                core::ptr::null_mut(),
                bio,
                (*frame).orig.as_ptr(),
                bindings::RMPATH_GFP_NOIO,
            )
        };
        // How the original's memory is to be freed is not how ours is.
        // SAFETY: The bio is valid and ours; where that failed it is one without contents.
        unsafe { (*bio).bi_opf &= !bindings::RMPATH_REQ_ALLOC_CACHE };
        // SAFETY: By the type invariant the frame is valid and ours alone.
        // INVARIANT: The bio is valid.
        unsafe { (*frame).form = form };
        error == 0
    }

    /// Ends the original with `status`, and the clone with it. Any context.
    pub(crate) fn finish(self, status: BlkStatus) {
        let sectors = self.original_sectors();
        let this = ManuallyDrop::new(self);
        let frame = this.frame().as_ptr();
        // SAFETY: By the type invariant the frame is valid and ours alone.
        let (form, orig) = unsafe { ((*frame).form, (*frame).orig) };
        // SAFETY: As above; it is given up.
        let set = unsafe { Self::end(this.0, form, orig, sectors, status) };
        // Last, so that whoever waits for the set waits for the end of the original too.
        // SAFETY: The set is there until the count allows it to go; the field's address is not null.
        let clones = unsafe { NonNull::new_unchecked(&raw mut (*set.as_ptr()).clones) };
        // SAFETY: By the type invariant there is a reference, which is given up.
        unsafe { PercpuRef::put(clones) };
    }

    /// Ends the original, which was of so many sectors, and gives back the memory of the frame. Returns
    /// the set.
    ///
    /// # Safety
    ///
    /// `bio` must be that of a valid frame that is given up, without a target, and `form` and `orig` its
    /// fields. Its set must be there. The original must have been restored, if it was diverted.
    #[inline(always)]
    unsafe fn end(
        bio: NonNull<bindings::bio>,
        form: Form,
        orig: NonNull<bindings::bio>,
        sectors: u32,
        status: BlkStatus,
    ) -> NonNull<BioSet<P>> {
        // SAFETY: The caller promises that the bio is that of a frame.
        let frame = unsafe { frame_of::<P>(bio) };
        // SAFETY: The caller promises that the frame is valid and ours alone.
        let (set, accounted) = unsafe { ((*frame.as_ptr()).set, (*frame.as_ptr()).accounted) };
        // SAFETY: `private` is initialised and not used again. (`target` is not.)
        unsafe { core::ptr::addr_of_mut!((*frame.as_ptr()).private).drop_in_place() };
        match form {
            // SAFETY: The frame is given up, and came from the cache of its set, which is there.
            Form::None | Form::Record | Form::Sent => unsafe { (*set.as_ptr()).cache.give(frame) },
            // SAFETY: As above; the clone is valid, not in flight, and given up.
            Form::Clone => unsafe {
                bindings::bio_uninit(bio.as_ptr());
                (*set.as_ptr()).cache.give(frame);
            },
            // SAFETY: The clone is not in flight, and given up.
            Form::Reserve => unsafe { bindings::bio_put(bio.as_ptr()) },
        }
        // SAFETY: By the invariant of the frame the original is ours to end; it is taken once.
        let orig = unsafe { Bio::from_raw(orig) };
        orig.end_accounting(accounted, sectors);
        match form {
            // SAFETY: By the invariant of the frame it is plain, and is as it was restored. The set is
            // there.
            Form::Record | Form::Sent => unsafe {
                (*set.as_ptr()).cache.child_end.end(orig, status)
            },
            _ => orig.end(status),
        }
        set
    }

    /// Makes it fit to be sent again, in the same memory and with the same private data: what is done
    /// with one that has been in flight before it is submitted again, for the driver below has moved
    /// the clone's iterator and may have changed anything else.
    ///
    /// May sleep. Ends the original with [`BlkStatus::RESOURCE`] and returns `None` if its
    /// integrity or encryption context cannot be cloned.
    pub(crate) fn refresh(self) -> Option<Self> {
        let bio = self.0.as_ptr();
        // SAFETY: By the type invariant the frame is valid and ours alone.
        let form = unsafe { (*self.frame().as_ptr()).form };
        if matches!(form, Form::None | Form::Record) {
            // The original is as it was.
            return Some(self);
        }
        // SAFETY: The bio is valid.
        let pool = unsafe { (*bio).bi_pool };
        // SAFETY: The clone is not in flight, and nobody else has it.
        unsafe { bindings::bio_uninit(bio) };
        let made = self.make(form);
        // SAFETY: The bio is valid and ours: it comes from where it came from before.
        unsafe { (*bio).bi_pool = pool };
        if made {
            Some(self)
        } else {
            self.finish(BlkStatus::RESOURCE);
            None
        }
    }
}

impl<P: CloneOps> Deref for Clone<P> {
    type Target = P;

    fn deref(&self) -> &P {
        // SAFETY: By the type invariant the frame is valid and `private` initialised.
        unsafe { &(*self.frame().as_ptr()).private }
    }
}

impl<P: CloneOps> DerefMut for Clone<P> {
    fn deref_mut(&mut self) -> &mut P {
        // SAFETY: As in `deref`; nobody else points to the frame.
        unsafe { &mut (*self.frame().as_ptr()).private }
    }
}

impl<P: CloneOps> Drop for Clone<P> {
    fn drop(&mut self) {
        // `self` is not used again.
        Self(self.0, PhantomData).finish(BlkStatus::IOERR);
    }
}

// SAFETY: The two are inverses, and `bi_next` of a clone that is not in flight is ours to use.
unsafe impl<P: CloneOps> Listed for Clone<P> {
    fn into_raw(self) -> NonNull<bindings::bio> {
        ManuallyDrop::new(self).0
    }

    unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: The caller promises that `bio` came from `into_raw`, once.
        Self(bio, PhantomData)
    }
}

/// What is to be done before a clone is sent that is [`record::UNUSUAL`]. `false` if its device does
/// not take it; its status says so.
///
/// # Safety
///
/// `orig` must be a bio of ours that was submitted to a disk of ours, and `clone` its clone as it is
/// about to be submitted, with [`end_clone`].
#[cold]
unsafe fn prepare(orig: NonNull<bindings::bio>, clone: NonNull<bindings::bio>) -> bool {
    // SAFETY: The caller promises that the clone is ours.
    let opf = unsafe { (*clone.as_ptr()).bi_opf };
    if opf & bindings::RMPATH_REQ_INTEGRITY != 0 {
        // SAFETY: The disk that the original came to is there until that has ended.
        let above = unsafe { Bdev::from_raw((*orig.as_ptr()).bi_bdev) };
        // SAFETY: The caller promises that the clone has its device.
        let below = unsafe { Bdev::from_raw((*clone.as_ptr()).bi_bdev) };
        // The device has changed since it was last looked at, or the disk since the bio was checked.
        if !same_profile(above, below) {
            // SAFETY: The clone is ours.
            unsafe { (*clone.as_ptr()).bi_status = BlkStatus::PROTECTION.as_raw() };
            return false;
        }
    }
    if opf & bindings::RMPATH_REQ_POLLED != 0 {
        // SAFETY: As the caller promises; `end_clone` begins with `came_back`.
        unsafe { poll::offer(orig, clone) };
    }
    true
}

/// The `bi_end_io` of a clone. It is called again by who polls the clone at the time, if anybody does.
///
/// # Safety
///
/// `bio` must have been submitted by [`Clone::submit_clone`].
unsafe extern "C" fn end_clone<P: CloneOps>(bio: *mut bindings::bio) {
    // SAFETY: The block layer ends what was submitted, which is not null.
    let bio = unsafe { NonNull::new_unchecked(bio) };
    // SAFETY: `submit_clone` gave up the clone, so that its frame is valid.
    let orig = unsafe { (*frame_of::<P>(bio).as_ptr()).orig };
    // SAFETY: By the invariant of the frame the original is valid.
    let polled = unsafe { (*orig.as_ptr()).bi_opf } & bindings::RMPATH_REQ_POLLED != 0;
    // SAFETY: The clone has come back.
    if polled && !unsafe { poll::came_back(orig) } {
        return;
    }
    // SAFETY: The bio has come back, and is ours again.
    let status = BlkStatus::from_raw(unsafe { (*bio.as_ptr()).bi_status });
    // SAFETY: `submit_clone` gave up the clone, which is counted.
    unsafe { came_back::<P>(bio, status) };
}

/// The `bi_end_io` of an original that was sent itself.
///
/// # Safety
///
/// `orig` must have been submitted by [`Clone::divert`].
unsafe extern "C" fn end_original<P: CloneOps>(orig: *mut bindings::bio) {
    // SAFETY: The block layer ends what was submitted, which is not null.
    let orig = unsafe { NonNull::new_unchecked(orig) };
    // SAFETY: It was diverted, and has come back.
    let bio = unsafe { record::of(orig) };
    // SAFETY: The bio of a record is that of a frame, which was given up to us.
    let frame = unsafe { frame_of::<P>(bio).as_ptr() };
    // SAFETY: The original has come back, and is ours again; the frame is valid.
    let (status, form) = unsafe { ((*orig.as_ptr()).bi_status, (*frame).form) };
    if status != BlkStatus::OK.as_raw() || form != Form::Sent {
        // SAFETY: As above.
        return unsafe { end_unusually::<P>(orig, bio) };
    }
    // SAFETY: By the invariant of the frame `target` is initialised; it is not used again.
    // INVARIANT: Nothing is in flight any more.
    let target = unsafe { (*frame).target.assume_init_read() };
    // SAFETY: By the invariant of the frame `private` is initialised.
    unsafe { (*frame).private.succeeded(&target) };
    // SAFETY: The original has come back.
    unsafe { record::restore_ended(orig, bio) };
    // SAFETY: It was diverted.
    let sectors = unsafe { record::sectors(bio) };
    // SAFETY: Nobody else has the frame; the target has the set. `orig` is its original.
    unsafe { Clone::<P>::end(bio, form, orig, sectors, BlkStatus::OK) };
    // Last, so that whoever waits for it waits for the end of the original too.
    drop(target);
}

/// The same for what has failed, or was sent before.
///
/// # Safety
///
/// As for [`end_original`]; `bio` must be the record of the original.
#[cold]
#[inline(never)]
unsafe fn end_unusually<P: CloneOps>(orig: NonNull<bindings::bio>, bio: NonNull<bindings::bio>) {
    // SAFETY: The bio is that of a frame, as the caller promises.
    let frame = unsafe { frame_of::<P>(bio).as_ptr() };
    // SAFETY: The original has come back.
    let status = BlkStatus::from_raw(unsafe { (*orig.as_ptr()).bi_status });
    // SAFETY: As above.
    unsafe { record::restore(orig, bio) };
    // SAFETY: The frame is valid.
    if unsafe { (*frame).form } == Form::Sent {
        // From here on the clone may live longer than its target.
        // SAFETY: The set is there, as the target is.
        if !unsafe { (*frame).set.as_ref() }.clones.try_get() {
            // SAFETY: By the invariant of the frame `target` is initialised; it is not used again.
            let target = unsafe { (*frame).target.assume_init_read() };
            // SAFETY: It was diverted.
            let sectors = unsafe { record::sectors(bio) };
            // SAFETY: Nobody else has the frame; the target has the set.
            unsafe { Clone::<P>::end(bio, Form::Sent, orig, sectors, status) };
            return drop(target);
        }
        // SAFETY: As above.
        // INVARIANT: The clone was counted.
        unsafe { (*frame).form = Form::Record };
    }
    // SAFETY: It was given up when the original was diverted, and is counted.
    unsafe { came_back::<P>(bio, status) };
}

/// What was in flight, and is counted on its set, has come back.
///
/// # Safety
///
/// `bio` must be that of a frame whose [`Clone`] was given up when it, or its original, was sent, and
/// which is counted.
unsafe fn came_back<P: CloneOps>(bio: NonNull<bindings::bio>, status: BlkStatus) {
    // INVARIANT: The caller promises that nobody else points to the frame.
    let clone = Clone::<P>(bio, PhantomData);
    // SAFETY: By the invariant of the frame `target` is initialised; it is not used again.
    // INVARIANT: Nothing is in flight any more.
    let target = unsafe { (*clone.frame().as_ptr()).target.assume_init_read() };
    if status == BlkStatus::OK {
        clone.succeeded(&target);
        drop(target);
        clone.finish(status);
    } else {
        P::failed(clone, target, status);
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod suite;
