// SPDX-License-Identifier: GPL-2.0

//! A read of one block whose data nobody wants: whether a device answers.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)
//!
//! `submit_bio_wait()` would hold a thread for as long as the device takes. Here the read in flight
//! owns what keeps its device open, and gives that back when it ends.
//!
//! # Examples
//!
//! ```ignore
//! impl Reader for LiveRef<HeadPath> {
//!     fn end_read(self, status: BlkStatus) { /* any context: note it and queue the rest */ }
//! }
//! BlockRead::new(&path)?.submit(path);
//! ```

use super::status::BlkStatus;
use crate::{
    abstractions::block_device::Bdev,
    bindings, //
};
use core::mem::ManuallyDrop;
use kernel::{
    prelude::*,
    types::Opaque, //
};

/// What keeps the device open while it is read, and hears how that ended.
pub(crate) trait Reader: AsRef<Bdev> + Send + Sized + 'static {
    /// The read has ended. Any context, interrupts included.
    fn end_read(self, status: BlkStatus);
}

/// # Invariants
///
/// `reader` is `Some` exactly while the bio is in flight, and is not borrowed mutably in between.
struct Request<R> {
    bio: Opaque<bindings::bio>,
    vec: Opaque<bindings::bio_vec>,
    buffer: KVec<u8>,
    reader: Option<R>,
}

/// A read that was not submitted yet.
pub(crate) struct BlockRead<R: Reader>(KBox<Request<R>>);

// SAFETY: Until it is submitted it is memory that nobody else knows, without a reader.
unsafe impl<R: Reader> Send for BlockRead<R> {}

impl<R: Reader> BlockRead<R> {
    /// Memory for a read of one logical block of the device. `ENOMEM`. Any context: it neither waits
    /// for memory, which may be freed only by I/O that waits for this read, nor complains.
    pub(crate) fn new(bdev: &Bdev) -> Result<Self> {
        let flags = GFP_ATOMIC | __GFP_NOWARN;
        let block = bdev.logical_block_size() as usize;
        // INVARIANT: Not in flight.
        let request = Request {
            bio: Opaque::uninit(),
            vec: Opaque::uninit(),
            buffer: KVec::with_capacity(block, flags)?,
            reader: None,
        };
        Ok(Self(KBox::new(request, flags)?))
    }

    /// Reads the first block. [`Reader::end_read`] is called when it is there, or is not to be had,
    /// perhaps before this returns. The device does not retry for long (`REQ_FAILFAST_TRANSPORT`). Not
    /// with `REQ_NOWAIT`, which a device that sleeps would refuse and go on sleeping.
    ///
    /// Context: may sleep, as `submit_bio()` may.
    pub(crate) fn submit(self, reader: R) {
        let mut request = ManuallyDrop::new(self.0);
        let length = request.buffer.capacity() as u32;
        let buffer = request.buffer.as_mut_ptr();
        // INVARIANT: In flight from here on.
        let bdev = (*request.reader.insert(reader)).as_ref();
        let block = bdev.logical_block_size().min(length);
        let bdev = bdev.as_ptr();
        let raw: *mut Request<R> = &mut **request;
        // SAFETY: The request was just leaked, so it is valid until `end_io`.
        let bio = unsafe { (*raw).bio.get() };
        // SAFETY: As above.
        let vec = unsafe { (*raw).vec.get() };
        // SAFETY: Both are valid for writes and stay where they are. The device is open for as long
        // as the reader is there, which is until the bio has come back.
        unsafe {
            bindings::bio_init(
                bio,
                bdev,
                vec,
                1,
                bindings::RMPATH_REQ_OP_READ | bindings::RMPATH_REQ_FAILFAST_TRANSPORT,
            )
        };
        // SAFETY: The bio has room for one segment; the buffer is in the direct mapping, as all that
        // `KVec` allocates, has that many bytes, and lives until `end_io`.
        unsafe { bindings::bio_add_virt_nofail(bio, buffer.cast(), block) };
        // SAFETY: The bio is valid and ours.
        unsafe {
            (*bio).bi_end_io = Some(Self::end_io);
            (*bio).bi_private = raw.cast();
        }
        // SAFETY: The bio is complete, and given up to the block layer until `end_io`.
        unsafe { bindings::submit_bio(bio) };
    }

    /// # Safety
    ///
    /// `bio` must have been submitted by [`BlockRead::submit`].
    unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
        // SAFETY: The bio has come back, and is ours again.
        let status = BlkStatus::from_raw(unsafe { (*bio).bi_status });
        // SAFETY: As above; `submit` put the request there.
        let raw = unsafe { (*bio).bi_private }.cast::<Request<R>>();
        // SAFETY: `submit` initialised it, and it is not used again.
        unsafe { bindings::bio_uninit(bio) };
        // SAFETY: `submit` leaked the box, and this is the one call for it.
        let mut request = unsafe { KBox::from_raw(raw) };
        // INVARIANT: Not in flight any more.
        let reader = request.reader.take();
        drop(request);
        if let Some(reader) = reader {
            reader.end_read(status);
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_bio_read)]
mod tests {
    use super::*;
    use crate::abstractions::{
        block_device::{
            BlockDevice,
            Holder, //
        },
        gendisk::suite::TestDisk, //
    };
    use kernel::sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    };

    struct Nobody;

    impl Holder for Nobody {
        fn mark_dead(_this: ArcBorrow<'_, Self>) {}
    }

    struct Target {
        device: Arc<BlockDevice<Nobody>>,
        heard: Arc<Atomic<u32>>,
    }

    impl AsRef<Bdev> for Target {
        fn as_ref(&self) -> &Bdev {
            &self.device
        }
    }

    impl Reader for Target {
        fn end_read(self, status: BlkStatus) {
            self.heard.store(u32::from(status.as_raw()) + 1, Relaxed);
        }
    }

    /// The statuses with which reads end on a disk that ends them as `script` says. It does so in
    /// the submitter's thread.
    fn reads(script: u32) -> Result<[Option<u32>; 3]> {
        let (disk, record) = TestDisk::add()?;
        let holder = Arc::new(Nobody, GFP_KERNEL)?;
        let statuses = BlockDevice::open(disk.reference().dev(), holder).and_then(|device| {
            let device = Arc::new(device, GFP_KERNEL)?;
            record.script.store(script, Relaxed);
            let mut statuses = [None; 3];
            for status in &mut statuses {
                let heard = Arc::new(Atomic::new(0), GFP_KERNEL)?;
                let target = Target {
                    device: device.clone(),
                    heard: heard.clone(),
                };
                BlockRead::new(&device)?.submit(target);
                *status = heard.load(Relaxed).checked_sub(1);
            }
            Ok(statuses)
        });
        drop(disk);
        record.freed.wait_for_completion();
        statuses
    }

    #[test]
    fn each_end_is_heard_once() -> Result {
        let medium = u32::from(BlkStatus::MEDIUM.as_raw());
        let transport = u32::from(BlkStatus::TRANSPORT.as_raw());
        let statuses = reads(medium << 8 | transport << 16)?;
        assert!(statuses == [Some(0), Some(medium), Some(transport)]);
        Ok(())
    }

    #[test]
    fn one_that_is_not_submitted_leaves_nothing() -> Result {
        let (disk, record) = TestDisk::add()?;
        let holder = Arc::new(Nobody, GFP_KERNEL)?;
        let made = BlockDevice::open(disk.reference().dev(), holder)
            .and_then(|device| BlockRead::<Target>::new(&device).map(drop));
        drop(disk);
        record.freed.wait_for_completion();
        made
    }
}
