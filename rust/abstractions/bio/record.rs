// SPDX-License-Identifier: GPL-2.0

//! What a bio was before it was sent on, so that it can be that again.
//!
//! The owner of a bio may send it to another device and have it come back to itself: it puts its own
//! `bi_end_io` in, as bcache does with what goes past its cache (`detached_dev_do_request()`), and
//! as dm-multipath does with device-mapper's clones (`dm-bio-record.h`). Here all that whoever is
//! below may have changed is put back, so that a bio that has failed can be sent again, and one that
//! ends is to its submitter, to the tracer and to the cgroup what it would be had a clone been sent.
//!
//! A bio is sent on so only if it is plain. It is not if
//!
//! * it has children (`BIO_CHAIN`): their errors would be taken for the device's, and once it is sent
//!   again there would be no telling them apart;
//! * it is polled: who polls looks for its device in it;
//! * it carries integrity or an encryption context, which the driver below uses up.

use super::{
    status::BlkStatus,
    trace,
    Bio, //
};
use crate::bindings;
use core::ptr::{
    null_mut,
    NonNull, //
};

/// The flags of what is not just sent.
pub(super) const UNUSUAL: u32 = bindings::RMPATH_REQ_POLLED | bindings::RMPATH_REQ_INTEGRITY;

/// Whether a bio may be sent itself.
///
/// # Safety
///
/// `bio` must be valid and the caller's.
#[inline]
pub(super) unsafe fn is_plain(bio: NonNull<bindings::bio>) -> bool {
    let bio = bio.as_ptr();
    // SAFETY: The caller promises that the bio is valid. Of its flags only BIO_CHAIN is changed by
    // others, and only from 1 to 0, by the last of its children.
    let (opf, flags) = unsafe { ((*bio).bi_opf, (*bio).bi_flags) };
    #[cfg(CONFIG_BLK_INLINE_ENCRYPTION)]
    // SAFETY: As above.
    if unsafe { !(*bio).bi_crypt_context.is_null() } {
        return false;
    }
    opf & UNUSUAL == 0 && flags & (1 << bindings::BIO_CHAIN) == 0
}

/// Whether a bio may be sent itself, and all of [`Flags`](super::flags::Flags) fits it: it is not read
/// ahead.
///
/// # Safety
///
/// `bio` must be valid and the caller's.
#[inline]
pub(super) unsafe fn is_usual(bio: NonNull<bindings::bio>) -> bool {
    // SAFETY: The caller promises that the bio is valid.
    unsafe { (*bio.as_ptr()).bi_opf & bindings::RMPATH_REQ_RAHEAD == 0 && is_plain(bio) }
}

/// Makes `orig` ready to be submitted to `bdev`, a whole disk, with `opf` added to its flags. It will
/// come back to `end_io`. What it was is kept in `record`, of which nothing else may be used before
/// that is restored.
///
/// # Safety
///
/// `orig` must be valid, plain and the caller's; `record` must be memory for a bio, and the
/// caller's, until `orig` has come back; `bdev` must stay open as long.
#[inline]
pub(super) unsafe fn divert(
    orig: NonNull<bindings::bio>,
    record: NonNull<bindings::bio>,
    bdev: *mut bindings::block_device,
    end_io: unsafe extern "C" fn(*mut bindings::bio),
    opf: bindings::blk_opf_t,
) {
    const DROPPED: u16 = 1 << bindings::BIO_REMAPPED
        | 1 << bindings::BIO_CGROUP_ACCT
        | 1 << bindings::BIO_BPS_THROTTLED
        | 1 << bindings::BIO_TRACE_COMPLETION;
    let (orig, record) = (orig.as_ptr(), record.as_ptr());
    // SAFETY: The caller promises that both are valid and its own.
    unsafe {
        (*record).bi_bdev = (*orig).bi_bdev;
        (*record).bi_opf = (*orig).bi_opf;
        (*record).bi_flags = (*orig).bi_flags;
        (*record).bi_iter = (*orig).bi_iter;
        (*record).bi_end_io = (*orig).bi_end_io;
        (*record).bi_private = (*orig).bi_private;
        (*orig).bi_bdev = bdev;
        // What the driver above means by REQ_DRV is not what the one below would.
        (*orig).bi_opf = (*orig).bi_opf & !bindings::RMPATH_REQ_DRV | opf;
        // It was throttled, and its cgroup charged, for another disk; its way through this one is traced
        // and charged as well; and this one may be smaller: some drivers rely on the block layer to look.
        (*orig).bi_flags &= !DROPPED;
        (*orig).bi_end_io = Some(end_io);
        (*orig).bi_private = record.cast();
    }
    #[cfg(CONFIG_BLK_CGROUP)]
    // SAFETY: As above. The reference moves to the record, and the bio gets one for its device.
    unsafe {
        (*record).bi_blkg = (*orig).bi_blkg;
        (*orig).bi_blkg = null_mut();
        bindings::rmpath_bio_clone_blkg_association(orig, record);
    }
}

/// The record of a bio that has come back to the `end_io` of [`divert`].
///
/// # Safety
///
/// `orig` must have been diverted, once since it was restored, and have come back.
#[inline]
pub(super) unsafe fn of(orig: NonNull<bindings::bio>) -> NonNull<bindings::bio> {
    // SAFETY: The caller promises that `divert` has put the record there, which is not null.
    unsafe { NonNull::new_unchecked((*orig.as_ptr()).bi_private.cast()) }
}

/// Makes a bio that has come back what it was before, as far as it matters to who is told that it has
/// ended: where the iterator stands is nobody's business then, as with any bio that a device ends.
///
/// # Safety
///
/// As for [`of`], which returns `record`.
#[inline]
pub(super) unsafe fn restore_ended(orig: NonNull<bindings::bio>, record: NonNull<bindings::bio>) {
    let (orig, record) = (orig.as_ptr(), record.as_ptr());
    // SAFETY: The caller promises that both are valid and its own again.
    unsafe {
        (*orig).bi_bdev = (*record).bi_bdev;
        (*orig).bi_opf = (*record).bi_opf;
        (*orig).bi_flags = (*record).bi_flags;
        (*orig).bi_end_io = (*record).bi_end_io;
        (*orig).bi_private = (*record).bi_private;
    }
    #[cfg(CONFIG_BLK_CGROUP)]
    // SAFETY: As above. The one for the device was put when the bio ended.
    unsafe {
        (*orig).bi_blkg = (*record).bi_blkg;
    }
}

/// The same, with all that it needs to be sent again.
///
/// # Safety
///
/// As for [`restore_ended`].
#[inline]
pub(super) unsafe fn restore(orig: NonNull<bindings::bio>, record: NonNull<bindings::bio>) {
    // SAFETY: As the caller promises.
    unsafe { restore_ended(orig, record) };
    let (orig, record) = (orig.as_ptr(), record.as_ptr());
    // SAFETY: The caller promises that both are valid and its own again.
    unsafe {
        (*orig).bi_iter = (*record).bi_iter;
        // A queue below may have merged it with another one, and ends both as they hang together.
        (*orig).bi_next = null_mut();
        // Who has split it below has counted it down to 0, and who ends it well leaves what is there.
        (*orig).__bi_remaining.counter = 1;
        (*orig).bi_status = BlkStatus::OK.as_raw();
    }
}

/// Of how many sectors the original was.
///
/// # Safety
///
/// `record` must be that of a bio that was diverted.
#[inline]
pub(super) unsafe fn sectors(record: NonNull<bindings::bio>) -> u32 {
    // SAFETY: The caller promises that `divert` has set it.
    unsafe { (*record.as_ptr()).bi_iter.bi_size >> 9 }
}

/// The `bi_end_io` of a bio that has a parent (`bio_chain()`), which the kernel has no name for. It is
/// never to be called: `bio_endio()` goes on with the parent instead.
pub(super) struct ChildEnd(bindings::bio_end_io_t);

impl ChildEnd {
    /// Finds it out by making such a bio.
    pub(super) fn new() -> Self {
        let mut child = bindings::bio::default();
        let mut parent = bindings::bio::default();
        // SAFETY: Both are valid bios without contents, and nobody else's. The parent counts the child
        // and is never submitted.
        unsafe { bindings::bio_chain(&mut child, &mut parent) };
        Self(child.bi_end_io)
    }

    /// Ends a bio that has come back and was restored: what `bio_endio()` would do, most of which has
    /// been done once for the device below.
    ///
    /// # Safety
    ///
    /// `bio` must have been diverted and restored.
    #[inline]
    pub(super) unsafe fn end(&self, bio: Bio, status: BlkStatus) {
        // SAFETY: The bio is valid.
        let end_io = unsafe { (*bio.as_ptr()).bi_end_io };
        let address = |end_io: bindings::bio_end_io_t| end_io.map(|end_io| end_io as usize);
        let is_child = address(end_io) == address(self.0);
        // There may be a cgroup to be put, a parent to go on with, a tracer to be told.
        if cfg!(CONFIG_BLK_CGROUP) || is_child || trace::completions() {
            return bio.end(status);
        }
        let bio = bio.into_raw().as_ptr();
        // SAFETY: The bio is ours to write.
        unsafe { (*bio).bi_status = status.as_raw() };
        if let Some(end_io) = end_io {
            // SAFETY: It has not ended, and is given up. There is nobody else to be told: it has no
            // children, and nothing that it carries is the block layer's, since it is plain.
            unsafe { end_io(bio) };
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_bio_record)]
mod tests {
    use super::*;
    use kernel::{
        prelude::*,
        sync::atomic::{
            Atomic,
            Relaxed, //
        }, //
    };

    /// A bio as it comes to a disk, with as many references as that nobody frees it.
    fn bio() -> Result<KBox<bindings::bio>> {
        let mut bio = KBox::new(bindings::bio::default(), GFP_KERNEL)?;
        bio.bi_bdev = NonNull::dangling().as_ptr();
        bio.bi_opf =
            bindings::req_op_REQ_OP_WRITE | bindings::RMPATH_REQ_DRV | bindings::RMPATH_REQ_NOWAIT;
        bio.bi_flags = 1 << bindings::BIO_REFFED
            | 1 << bindings::BIO_REMAPPED
            | 1 << bindings::BIO_BPS_THROTTLED
            | 1 << bindings::BIO_CGROUP_ACCT
            | 1 << bindings::BIO_TRACE_COMPLETION;
        bio.__bi_remaining.counter = 1;
        bio.__bi_cnt.counter = 2;
        bio.bi_iter.bi_sector = 2048;
        bio.bi_iter.bi_size = 4096;
        Ok(bio)
    }

    /// # Safety
    ///
    /// None.
    unsafe extern "C" fn nothing(_bio: *mut bindings::bio) {}

    /// Counts, in what `bi_private` points to, a bio that has ended well, or 100.
    ///
    /// # Safety
    ///
    /// `bi_private` of the bio must point to an `Atomic<u32>`.
    unsafe extern "C" fn count(bio: *mut bindings::bio) {
        // SAFETY: The caller promises that it is valid.
        let bio = unsafe { &*bio };
        // SAFETY: The caller promises that it points there.
        let ends = unsafe { &*bio.bi_private.cast::<Atomic<u32>>() };
        let good = bio.bi_status == BlkStatus::OK.as_raw();
        ends.fetch_add(if good { 1 } else { 100 }, Relaxed);
    }

    #[test]
    fn a_bio_is_what_it_was() -> Result {
        let (mut orig, mut record) = (bio()?, bio()?);
        let ends = Atomic::new(0u32);
        orig.bi_end_io = Some(count);
        orig.bi_private = (&raw const ends).cast_mut().cast();
        let (bdev, opf, flags) = (orig.bi_bdev, orig.bi_opf, orig.bi_flags);
        let (private, below) = (orig.bi_private, NonNull::from(&mut *record).cast());
        let (there, place) = (NonNull::from(&mut *orig), NonNull::from(&mut *record));

        let failfast = bindings::RMPATH_REQ_FAILFAST_TRANSPORT;
        // SAFETY: Both are valid and ours. The device is not looked at.
        unsafe { divert(there, place, below.as_ptr(), nothing, failfast) };
        let sent = [
            orig.bi_bdev == below.as_ptr(),
            orig.bi_opf == opf & !bindings::RMPATH_REQ_DRV | failfast,
            orig.bi_flags == 1 << bindings::BIO_REFFED,
            orig.bi_iter.bi_sector == 2048 && orig.bi_iter.bi_size == 4096,
            orig.bi_end_io.is_some() && orig.bi_private == place.as_ptr().cast(),
        ];
        // What a device may do to it.
        orig.bi_opf |= bindings::RMPATH_REQ_INTEGRITY;
        orig.bi_flags |= 1 << bindings::BIO_QOS_THROTTLED;
        orig.bi_iter.bi_sector += 8;
        orig.bi_iter.bi_size = 0;
        orig.bi_next = below.as_ptr().cast();
        orig.__bi_remaining.counter = 0;
        orig.bi_status = BlkStatus::TRANSPORT.as_raw();
        // SAFETY: It was diverted, and is ours again.
        let back = unsafe { of(there) };
        // SAFETY: As above.
        unsafe { restore(there, back) };
        let restored = [
            back == place,
            orig.bi_bdev == bdev,
            orig.bi_opf == opf,
            orig.bi_flags == flags,
            orig.bi_iter.bi_sector == 2048 && orig.bi_iter.bi_size == 4096,
            orig.__bi_remaining.counter == 1,
            orig.bi_status == BlkStatus::OK.as_raw(),
            orig.bi_private == private,
            orig.bi_next.is_null(),
        ];
        orig.bi_bdev = null_mut();
        // SAFETY: It has not ended, and nobody else ends it.
        let bio = unsafe { Bio::from_raw(there) };
        // SAFETY: It was restored.
        unsafe { ChildEnd::new().end(bio, BlkStatus::OK) };
        drop((orig, record));

        assert_eq!(sent, [true; 5]);
        assert_eq!(restored, [true; 9]);
        assert_eq!(ends.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn what_is_not_plain_is_not_sent() -> Result {
        let (mut child, mut parent) = (bio()?, bio()?);
        let mut plain = [false; 4];
        // SAFETY: Valid bios of ours, here and below.
        plain[0] = unsafe { is_plain(NonNull::from(&mut *parent)) };
        // SAFETY: As above.
        unsafe { bindings::bio_chain(&mut *child, &mut *parent) };
        // SAFETY: As above.
        plain[1] = unsafe { is_plain(NonNull::from(&mut *parent)) };
        // SAFETY: As above.
        plain[2] = unsafe { is_plain(NonNull::from(&mut *child)) };
        child.bi_opf |= bindings::RMPATH_REQ_POLLED;
        // SAFETY: As above.
        plain[3] = unsafe { is_plain(NonNull::from(&mut *child)) };
        drop((child, parent));
        assert_eq!(plain, [true, false, true, false]);
        Ok(())
    }

    #[test]
    fn read_ahead_is_plain_but_not_usual() -> Result {
        let mut bio = bio()?;
        // SAFETY: A valid bio of ours, here and below.
        assert!(unsafe { is_usual(NonNull::from(&mut *bio)) });
        bio.bi_opf |= bindings::RMPATH_REQ_RAHEAD;
        // SAFETY: As above.
        assert!(unsafe { is_plain(NonNull::from(&mut *bio)) });
        // SAFETY: As above.
        assert!(unsafe { !is_usual(NonNull::from(&mut *bio)) });
        Ok(())
    }

    #[test]
    fn a_child_goes_on_with_its_parent() -> Result {
        let (mut child, mut parent) = (bio()?, bio()?);
        let ends = Atomic::new(0u32);
        child.bi_bdev = null_mut();
        parent.bi_bdev = null_mut();
        parent.bi_end_io = Some(count);
        parent.bi_private = (&raw const ends).cast_mut().cast();
        // SAFETY: Both are valid and ours.
        unsafe { bindings::bio_chain(&mut *child, &mut *parent) };
        // SAFETY: It has not ended, and nobody else ends it.
        let bio = unsafe { Bio::from_raw(NonNull::from(&mut *child)) };
        // SAFETY: It is as if it had been restored.
        unsafe { ChildEnd::new().end(bio, BlkStatus::MEDIUM) };
        let early = ends.load(Relaxed);
        // SAFETY: It has not ended, and nobody else ends it but its child.
        unsafe { bindings::bio_endio(&mut *parent) };
        let ended = ends.load(Relaxed);
        drop((child, parent));

        assert_eq!(early, 0);
        assert_eq!(ended, 100);
        Ok(())
    }
}
