// SPDX-License-Identifier: GPL-2.0

//! ioctls that the block layer does not know, passed from one disk to another, and geometry.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::{
    Operations,
    Table, //
};
use crate::{
    abstractions::block_device::Bdev,
    bindings, //
};
use core::ptr::NonNull;
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    sync::ArcBorrow,
    types::NotThreadSafe, //
};

/// The error of an ioctl that nobody knows (`ENOIOCTLCMD`). User space sees `ENOTTY`.
pub(crate) fn enoioctlcmd() -> Error {
    Error::from_errno(-(bindings::ENOIOCTLCMD as i32))
}

/// An ioctl on a disk or a partition of it.
///
/// # Invariants
///
/// `arg` is what the current thread's ioctl has as its argument, whose system call has not returned;
/// `compat` says whether it is that of a 32-bit program.
pub(crate) struct Ioctl {
    mode: bindings::blk_mode_t,
    cmd: c_uint,
    arg: c_ulong,
    compat: bool,
    partition: bool,
    _thread: NotThreadSafe,
}

impl Ioctl {
    /// Whether it is one on a partition.
    pub(crate) fn is_on_partition(&self) -> bool {
        self.partition
    }

    /// Whether its file was opened with `O_NONBLOCK`.
    pub(crate) fn is_nonblocking(&self) -> bool {
        self.mode & bindings::RMPATH_BLK_OPEN_NDELAY != 0
    }

    /// Has the disk of `bdev` carry it out, as if its file were one of that disk. May sleep, for as
    /// long as the driver does. Returns what that returns, `ENOTTY` if it has no ioctls.
    ///
    /// The driver does not see whether it came by a partition: that is the caller's to check.
    pub(crate) fn forward(&self, bdev: &Bdev) -> Result<c_int> {
        // SAFETY: An open device's disk is valid.
        let fops = unsafe { (*(*bdev.as_ptr()).bd_disk).fops };
        // SAFETY: The operations of a disk are valid as long as it is.
        let (native, compat) = unsafe { ((*fops).ioctl, (*fops).compat_ioctl) };
        let ioctl = match self.compat {
            false => native.ok_or(ENOTTY)?,
            true => compat.ok_or_else(enoioctlcmd)?,
        };
        // SAFETY: The device is open, and stays so until this returns. By the type invariant `arg`
        // is this thread's, as the driver expects.
        let result = unsafe { ioctl(bdev.as_ptr(), self.mode, self.cmd, self.arg) };
        if result < 0 {
            Err(Error::from_errno(result))
        } else {
            Ok(result)
        }
    }
}

/// Whether the current thread may do with a whole disk what it likes, though it has only a partition
/// of it open: `CAP_SYS_ADMIN` (nvme asks for that) and `CAP_SYS_RAWIO` (SCSI and dm do).
pub(crate) fn may_use_whole_disk() -> bool {
    [bindings::CAP_SYS_ADMIN, bindings::CAP_SYS_RAWIO]
        .into_iter()
        // SAFETY: It looks at the current thread's credentials.
        .all(|capability| unsafe { bindings::capable(capability as c_int) })
}

/// Whether the current thread is being killed.
pub(crate) fn fatal_signal_pending() -> bool {
    // SAFETY: It looks at the current thread.
    unsafe { bindings::rmpath_fatal_signal_pending() }
}

/// Room for the geometry of a disk, for those who still ask for it.
///
/// # Invariants
///
/// `raw` is valid. The first sector is set in it.
pub(crate) struct Geometry<'a> {
    raw: NonNull<bindings::hd_geometry>,
    own: &'a Bdev,
}

impl Geometry<'_> {
    /// That of the disk of `bdev`. May read from it. `ENOTTY` if it has none.
    pub(crate) fn forward(&mut self, bdev: &Bdev) -> Result {
        // SAFETY: An open device's disk is valid.
        let disk = unsafe { (*bdev.as_ptr()).bd_disk };
        // SAFETY: The operations of a disk are valid as long as it is.
        let getgeo = unsafe { (*(*disk).fops).getgeo }.ok_or(ENOTTY)?;
        // SAFETY: The device is open, and by the type invariant there is room.
        to_result(unsafe { getgeo(disk, self.raw.as_ptr()) })
    }

    /// The one that most disks claim to have, which follows from the size.
    pub(crate) fn compute(&mut self) {
        let sectors = self.own.nr_sectors();
        // Cut short where they do not fit, as others do.
        let cylinders = (sectors >> 11) as u16;
        // SAFETY: By the type invariant there is room.
        unsafe { bindings::rmpath_set_geometry(self.raw.as_ptr(), 64, 32, cylinders) };
    }
}

impl<T: Operations> Table<T> {
    /// # Safety
    ///
    /// As the block layer calls it.
    pub(super) unsafe extern "C" fn ioctl(
        bdev: *mut bindings::block_device,
        mode: bindings::blk_mode_t,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_int {
        // SAFETY: As this is called; `arg` is a native program's.
        unsafe { Self::any_ioctl(bdev, mode, cmd, arg, false) }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    #[cfg(CONFIG_COMPAT)]
    pub(super) unsafe extern "C" fn compat_ioctl(
        bdev: *mut bindings::block_device,
        mode: bindings::blk_mode_t,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_int {
        // SAFETY: As this is called; `arg` is a 32-bit program's.
        unsafe { Self::any_ioctl(bdev, mode, cmd, arg, true) }
    }

    /// # Safety
    ///
    /// `bdev` must be open, of a disk with data of type `T`, `arg` the argument of the current
    /// thread's system call, and `compat` say whether it is a 32-bit program's.
    unsafe fn any_ioctl(
        bdev: *mut bindings::block_device,
        mode: bindings::blk_mode_t,
        cmd: c_uint,
        arg: c_ulong,
        compat: bool,
    ) -> c_int {
        // SAFETY: The caller promises that the device is open.
        let disk = unsafe { (*bdev).bd_disk };
        // SAFETY: The data of an open disk is there, and came from `Arc::into_raw`.
        let data = unsafe { ArcBorrow::from_raw((*disk).private_data.cast_const().cast::<T>()) };
        // SAFETY: The caller promises that the device is open.
        let partition = unsafe { Bdev::from_raw(bdev) }.is_partition();
        // INVARIANT: By this function's requirements.
        let ioctl = Ioctl {
            mode,
            cmd,
            arg,
            compat,
            partition,
            _thread: NotThreadSafe,
        };
        from_result(|| T::ioctl(data, &ioctl))
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    pub(super) unsafe extern "C" fn getgeo(
        disk: *mut bindings::gendisk,
        raw: *mut bindings::hd_geometry,
    ) -> c_int {
        // SAFETY: The data of an open disk is there, and came from `Arc::into_raw`.
        let data = unsafe { ArcBorrow::from_raw((*disk).private_data.cast_const().cast::<T>()) };
        // SAFETY: The disk is open, and so has its first block device.
        let own = unsafe { Bdev::from_raw((*disk).part0) };
        // SAFETY: The caller's room is valid.
        let raw = unsafe { NonNull::new_unchecked(raw) };
        // INVARIANT: As above.
        from_result(|| T::geometry(data, &mut Geometry { raw, own }).map(|()| 0))
    }
}
