// SPDX-License-Identifier: GPL-2.0

//! A read of one block whose data nobody wants: whether a device answers.

use super::info::Device;
use crate::{
    abstractions::{
        bio::status::BlkStatus,
        memalloc::NoIo, //
    },
    bindings, //
};
use core::mem::MaybeUninit;
use kernel::prelude::*;

/// What the block layer writes to while the read is under way.
struct Request {
    bio: MaybeUninit<bindings::bio>,
    vec: MaybeUninit<bindings::bio_vec>,
}

impl Device {
    /// Reads the first logical block, and says how that has ended. `ENOMEM`. Sleeps for as long as
    /// the device needs; not from `map`, where what is submitted is sent when that has returned.
    /// Memory does not wait for I/O, which may wait for what this finds out.
    pub(crate) fn read_block(&self) -> Result<BlkStatus> {
        let _no_io = NoIo::enter();
        let length = self.bdev().logical_block_size();
        let mut buffer = KVec::<u8>::with_capacity(length as usize, GFP_KERNEL)?;
        let mut request = KBox::new(
            Request {
                bio: MaybeUninit::uninit(),
                vec: MaybeUninit::uninit(),
            },
            GFP_KERNEL,
        )?;
        let bio = request.bio.as_mut_ptr();
        let vec = request.vec.as_mut_ptr();
        // SAFETY: Both are valid for writes and stay where they are; the device is open as long as
        // `self` is there.
        unsafe {
            bindings::bio_init(bio, self.bdev_ptr(), vec, 1, bindings::RMPATH_REQ_OP_READ);
        }
        // SAFETY: The bio has room for one segment; the buffer is in the direct mapping, as all that
        // `KVec` allocates, and has that many bytes.
        unsafe { bindings::bio_add_virt_nofail(bio, buffer.as_mut_ptr().cast(), length) };
        // SAFETY: The bio is complete; bio, segment and buffer are there until it has come back,
        // which is when this returns.
        unsafe { bindings::submit_bio_wait(bio) };
        // SAFETY: The bio has come back, and is ours again.
        let status = BlkStatus::from_raw(unsafe { (*bio).bi_status });
        // SAFETY: It was initialised above, and is not used again.
        unsafe { bindings::bio_uninit(bio) };
        Ok(status)
    }
}
