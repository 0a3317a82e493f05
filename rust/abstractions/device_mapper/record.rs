// SPDX-License-Identifier: GPL-2.0

//! The state in which a clone comes to a target, to try it again.
//!
//! dm core owns the clone, so a retry does not make a new one: the clone is put back into the state
//! in which it came to `map`, as drivers/md/dm-bio-record.h does it. Going further than that, we
//! also put back
//!
//! * no neighbour (`bi_next`), for a queue may have merged it with one;
//! * `bi_opf`, as we have sent it: a lower device may add flags of its own, such as nvme's
//!   `REQ_NVME_MPATH`, which must not come to a device that does not know them;
//! * the place in the integrity data, which a transfer of a part has moved on;
//! * `bi_cookie`, and no polling: the number is one of a queue of the device that failed.
//!
//! `bi_bdev` stays that of the device that failed, which is open as long as the table is there.

use crate::{
    abstractions::bio::{
        flags::Flags,
        status::BlkStatus, //
    },
    bindings, //
};
#[cfg(any(CONFIG_BLK_DEV_INTEGRITY, CONFIG_KUNIT = "y"))]
use core::mem::MaybeUninit;
use core::ptr::{
    addr_of_mut,
    null_mut, //
};

/// What lower devices change in a clone.
pub(super) struct Record {
    /// With what we add.
    pub(super) opf: bindings::blk_opf_t,
    flags: u16,
    iter: bindings::bvec_iter,
    end_io: bindings::bio_end_io_t,
    /// Initialised if `opf` has `REQ_INTEGRITY`, and not null then.
    #[cfg(CONFIG_BLK_DEV_INTEGRITY)]
    integrity: MaybeUninit<*mut bindings::bio_integrity_payload>,
    /// Likewise.
    #[cfg(CONFIG_BLK_DEV_INTEGRITY)]
    integrity_iter: MaybeUninit<bindings::bvec_iter>,
}

impl Record {
    /// Adds `flags` to those of a clone, and makes a record of it, where that is to be: field by field,
    /// or the compiler would carry all of it there by way of the stack.
    ///
    /// # Safety
    ///
    /// `place` must be valid for writes, and `bio` a valid clone that belongs to the caller.
    #[inline]
    pub(super) unsafe fn write(place: *mut Self, bio: *mut bindings::bio, flags: Flags) {
        // dm core's own `REQ_DM_POLL_LIST` is such a flag, and is inherited if the bio is split.
        // SAFETY: The caller promises that it is valid.
        let opf = unsafe { (*bio).bi_opf } & !bindings::RMPATH_REQ_DRV;
        let flags = match opf & (bindings::RMPATH_REQ_RAHEAD | bindings::RMPATH_REQ_INTEGRITY) {
            0 => flags,
            // SAFETY: As for us.
            _ => unsafe { Self::write_unusual(place, bio, flags) },
        };
        let opf = opf | flags.bits();
        // SAFETY: The caller promises that both may be written.
        unsafe {
            (*bio).bi_opf = opf;
            addr_of_mut!((*place).opf).write(opf);
            addr_of_mut!((*place).flags).write((*bio).bi_flags);
            addr_of_mut!((*place).iter).write((*bio).bi_iter);
            addr_of_mut!((*place).end_io).write((*bio).bi_end_io);
        }
    }

    /// The part of [`Self::write`] for read-ahead, and for integrity data. Returns the flags to be added.
    ///
    /// # Safety
    ///
    /// As there.
    #[cold]
    #[inline(never)]
    unsafe fn write_unusual(place: *mut Self, bio: *const bindings::bio, flags: Flags) -> Flags {
        // SAFETY: The caller promises that it is valid.
        let opf = unsafe { (*bio).bi_opf };
        #[cfg(CONFIG_BLK_DEV_INTEGRITY)]
        // SAFETY: The caller promises that the one may be written and the other read; a clone with
        // this flag has a payload, which is valid as long as the clone is.
        unsafe {
            if opf & bindings::RMPATH_REQ_INTEGRITY != 0 {
                let integrity = (*bio).bi_integrity;
                let iter = *bindings::rmpath_bip_iter(integrity);
                addr_of_mut!((*place).integrity).write(MaybeUninit::new(integrity));
                addr_of_mut!((*place).integrity_iter).write(MaybeUninit::new(iter));
            }
        }
        let _ = place;
        flags.fit_for(opf)
    }

    /// How many bytes the clone has.
    #[inline]
    pub(super) fn bytes(&self) -> u32 {
        self.iter.bi_size
    }

    /// # Safety
    ///
    /// `bio` must be the clone of which the record was made; it belongs to the caller.
    pub(super) unsafe fn restore(&mut self, bio: *mut bindings::bio) {
        // Nobody polls for it when it is sent again, with the flags from here.
        self.opf &= !bindings::RMPATH_REQ_POLLED;
        // A polling task may still look at the clone: it stops at a cookie that is none.
        // SAFETY: The caller promises that it is ours to write.
        let opf = unsafe { addr_of_mut!((*bio).bi_opf) };
        // SAFETY: As above.
        unsafe { opf.write_volatile(self.opf) };
        // SAFETY: As above.
        let cookie = unsafe { addr_of_mut!((*bio).__bindgen_anon_1.bi_cookie) };
        // SAFETY: As above.
        unsafe { cookie.write_volatile(bindings::BLK_QC_T_NONE as u32) };
        // SAFETY: As above, for all of these.
        unsafe {
            (*bio).bi_flags = self.flags;
            // A queue below may have merged it with another one, and ends both as they hang together.
            (*bio).bi_next = null_mut();
            // Whoever has split it has counted it down; it came without children.
            (*bio).__bi_remaining.counter = 1;
            (*bio).bi_iter = self.iter;
            (*bio).bi_end_io = self.end_io;
            (*bio).bi_status = BlkStatus::OK.as_raw();
        }
        #[cfg(CONFIG_BLK_DEV_INTEGRITY)]
        {
            let integrity = match self.opf & bindings::RMPATH_REQ_INTEGRITY {
                0 => null_mut(),
                _ => {
                    // SAFETY: `write` has set it, since there is a payload.
                    let integrity = unsafe { self.integrity.assume_init() };
                    // SAFETY: As above.
                    let iter = unsafe { self.integrity_iter.assume_init() };
                    // SAFETY: A payload that came with the clone goes with it.
                    unsafe { *bindings::rmpath_bip_iter(integrity) = iter };
                    integrity
                }
            };
            // SAFETY: As above.
            unsafe { (*bio).bi_integrity = integrity };
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_dm_record)]
mod tests {
    use super::*;
    use kernel::prelude::*;

    /// A clone as it comes to `map`.
    fn clone() -> Result<KBox<bindings::bio>> {
        let mut bio = KBox::new(bindings::bio::default(), GFP_KERNEL)?;
        bio.bi_opf = bindings::req_op_REQ_OP_WRITE
            | bindings::RMPATH_REQ_DRV
            | bindings::RMPATH_REQ_POLLED
            | bindings::RMPATH_REQ_NOWAIT;
        bio.bi_flags = 1 << bindings::BIO_CLONED;
        bio.__bi_remaining.counter = 1;
        bio.bi_iter.bi_sector = 2048;
        bio.bi_iter.bi_size = 4096;
        Ok(bio)
    }

    /// What a device may do to it.
    fn use_up(bio: &mut bindings::bio) {
        bio.bi_opf |= bindings::RMPATH_REQ_INTEGRITY | bindings::RMPATH_REQ_DRV;
        bio.bi_flags |= 1 << bindings::BIO_REMAPPED;
        bio.bi_next = bio;
        bio.__bi_remaining.counter = 0;
        bio.bi_iter.bi_sector += 8;
        bio.bi_iter.bi_size = 0;
        bio.bi_iter.bi_idx = 1;
        bio.bi_end_io = None;
        bio.bi_status = BlkStatus::TRANSPORT.as_raw();
        bio.__bindgen_anon_1.bi_cookie = 3;
    }

    fn record(bio: &mut bindings::bio) -> Record {
        let mut place = MaybeUninit::uninit();
        // SAFETY: Both are ours, and nobody else knows of them.
        unsafe { Record::write(place.as_mut_ptr(), bio, Flags::FAILFAST) };
        // SAFETY: It has been written.
        unsafe { place.assume_init() }
    }

    #[test]
    fn restoring_undoes_what_devices_do() -> Result {
        let mut bio = clone()?;
        let mut record = record(&mut bio);
        use_up(&mut bio);
        // SAFETY: It is ours, and nobody else knows of it.
        unsafe { record.restore(&mut *bio) };

        assert_eq!(bio.bi_flags, 1 << bindings::BIO_CLONED);
        assert!(bio.bi_next.is_null());
        assert_eq!(bio.__bi_remaining.counter, 1);
        assert_eq!(bio.bi_iter.bi_sector, 2048);
        assert_eq!(bio.bi_iter.bi_size, 4096);
        assert_eq!(bio.bi_iter.bi_idx, 0);
        assert_eq!(bio.bi_status, BlkStatus::OK.as_raw());
        // Neither flags of a driver nor polling; the rest as it was sent.
        assert_eq!(
            bio.bi_opf,
            bindings::req_op_REQ_OP_WRITE
                | bindings::RMPATH_REQ_NOWAIT
                | bindings::RMPATH_REQ_FAILFAST_TRANSPORT
        );
        // SAFETY: Both fields of the union are integers.
        let cookie = unsafe { bio.__bindgen_anon_1.bi_cookie };
        assert_eq!(cookie, bindings::BLK_QC_T_NONE as u32);
        // Nor when it is sent again.
        assert_eq!(record.opf & bindings::RMPATH_REQ_POLLED, 0);
        Ok(())
    }

    #[test]
    fn read_ahead_is_sent_with_its_own_flags() -> Result {
        let mut bio = clone()?;
        bio.bi_opf |= bindings::RMPATH_REQ_RAHEAD;
        let opf = bio.bi_opf & !bindings::RMPATH_REQ_DRV;
        let mut record = record(&mut bio);
        assert_eq!(bio.bi_opf, opf);
        // SAFETY: It is ours, and nobody else knows of it.
        unsafe { record.restore(&mut *bio) };
        assert_eq!(bio.bi_opf, opf & !bindings::RMPATH_REQ_POLLED);
        Ok(())
    }

    #[cfg(CONFIG_BLK_DEV_INTEGRITY)]
    #[test]
    fn restoring_rewinds_the_integrity_data() -> Result {
        let mut bio = clone()?;
        // More than the structure has, which we do not know.
        let mut payload = KBox::new([0u64; 32], GFP_KERNEL)?;
        let bip = core::ptr::from_mut(&mut *payload).cast::<bindings::bio_integrity_payload>();
        bio.bi_integrity = bip;
        bio.bi_opf |= bindings::RMPATH_REQ_INTEGRITY;
        // SAFETY: It is large enough, and ours.
        unsafe { (*bindings::rmpath_bip_iter(bip)).bi_size = 64 };
        let mut record = record(&mut bio);
        use_up(&mut bio);
        // SAFETY: As above.
        unsafe { (*bindings::rmpath_bip_iter(bip)).bi_size = 8 };
        bio.bi_integrity = core::ptr::null_mut();
        // SAFETY: As above.
        unsafe { record.restore(&mut *bio) };
        // SAFETY: As above.
        let size = unsafe { (*bindings::rmpath_bip_iter(bip)).bi_size };

        assert_eq!(bio.bi_integrity, bip);
        assert_eq!(size, 64);
        Ok(())
    }
}
