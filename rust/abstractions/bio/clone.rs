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
//!     fn not_sent(&self, path: &Self::Target) {
//!         path.count_out();
//!     }
//! }
//! // in submit_bio
//! match path {
//!     Some(path) => Clone::send(bio, HeadIo::new, path, Flags::default()),
//!     None => match head.bios.clone_bio(bio, HeadIo::new()) {
//!         Ok(clone) => head.parked.park(clone),
//!         Err((bio, _, status)) => bio.end(status),
//!     },
//! }
//! ```

mod end;
mod frame;
mod set;
#[cfg(CONFIG_KUNIT = "y")]
mod suite;

pub(super) use frame::Frame;
pub(crate) use set::BioSet;

use end::{
    end_clone,
    end_original, //
};
use frame::{
    frame_of,
    Form, //
};

use super::{
    flags::Flags,
    list::Listed,
    poll,
    record,
    status::BlkStatus,
    trace,
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
    mem::ManuallyDrop,
    ops::{
        Deref,
        DerefMut, //
    },
    ptr::NonNull, //
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

    /// It could not be sent to `target` after all, and its original is about to end. In the context in
    /// which it was to be sent.
    fn not_sent(&self, target: &Self::Target);
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

    /// Whether the original goes beyond so many sectors of 512 bytes, if there are any. Any context.
    pub(crate) fn ends_behind(&self, sectors: u64) -> bool {
        // SAFETY: By the invariant of the frame the original is valid and ours.
        let first = unsafe { (*self.orig()).bi_iter.bi_sector };
        sectors != 0 && first + u64::from(self.original_sectors()) > sectors
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
        let usual = unsafe { record::is_usual(NonNull::new_unchecked(orig.as_ptr())) };
        let frame = match usual {
            true => set.cache.take(),
            false => None,
        };
        let Some(frame) = frame else {
            return Self::clone_and_submit(orig, private(), target, flags);
        };
        // SAFETY: The memory is ours, from the cache of the set.
        // INVARIANT: The original is plain. The set is that of the target, which is about to be there;
        // it does not move with that, since it is pinned.
        let bio = unsafe { Frame::fill(frame, set, orig, Form::Sent, private) };
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
            Err((orig, private, status)) => {
                private.not_sent(&target);
                drop(target);
                orig.end(status);
            }
        }
    }

    /// Sends the original to `target`, or a clone of it; it has to be a whole disk. It comes back
    /// through [`CloneOps`], perhaps before this returns, and can be sent again: nothing of what a
    /// device did to it is left.
    ///
    /// Ends the original with [`BlkStatus::RESOURCE`] if its integrity or encryption context cannot be
    /// cloned.
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
        // SAFETY: By the invariant of the frame the original is valid and ours.
        let flags = flags.fit_for(unsafe { (*orig.as_ptr()).bi_opf });
        // SAFETY: As above.
        unsafe { Self::divert(bio, target, flags) };
    }

    /// Sends the original itself; `flags` fit it.
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
        unsafe { record::divert(orig, bio, bdev.as_ptr(), end_original::<P>, flags.bits()) };
        // SAFETY: Both are valid and ours; the record has the disk that the original came to.
        unsafe { trace::bio_remap(orig.as_ptr(), bio.as_ptr()) };
        // SAFETY: The original is given up to the block layer until `end_original`.
        unsafe { bindings::submit_bio_noacct(orig.as_ptr()) };
    }

    /// Makes a clone and sends that.
    #[cold]
    #[inline(never)]
    fn submit_clone(self, target: P::Target, flags: Flags) {
        if !self.renew() {
            self.not_sent(&target);
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
            // Another disk, which may be smaller: some drivers rely on the block layer to look.
            (*bio).bi_flags &= !(1 << bindings::BIO_REMAPPED);
            (*bio).bi_end_io = Some(end_clone::<P>);
            let flags = flags.fit_for((*bio).bi_opf).bits();
            // What the driver above means by REQ_DRV is not what the one below would.
            (*bio).bi_opf = (*bio).bi_opf & !bindings::RMPATH_REQ_DRV | flags;
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

    /// Makes the frame's bio a clone of the original as it is, whatever it was before: a driver that had
    /// it has moved its iterator and may have changed anything else. May sleep. `false` if the
    /// original's integrity or encryption context cannot be cloned.
    fn renew(&self) -> bool {
        let bio = self.0.as_ptr();
        // SAFETY: By the type invariant the frame is valid and ours alone.
        let form = unsafe { (*self.frame().as_ptr()).form };
        if form == Form::None {
            return self.make(Form::Clone);
        }
        // SAFETY: By the invariant of the frame the bio is valid.
        let pool = unsafe { (*bio).bi_pool };
        // SAFETY: The clone is not in flight, and nobody else has it.
        unsafe { bindings::bio_uninit(bio) };
        let made = self.make(form);
        // SAFETY: The bio is valid and ours: it comes from where it came from before.
        unsafe { (*bio).bi_pool = pool };
        made
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
