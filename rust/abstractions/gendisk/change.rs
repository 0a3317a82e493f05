// SPDX-License-Identifier: GPL-2.0

//! What may change about a disk that is in use: its limits, its size, whether it can be written.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::{
    DiskRef,
    Limits,
    MAX_SECTORS, //
};
use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*, //
};

impl DiskRef {
    /// Gives the disk new limits, and leaves what its user has set in `queue/`: what differs from
    /// `before`, the limits that it was given last. `EAGAIN` if somebody else is changing them,
    /// `EINVAL` if they contradict each other. Waits for nothing.
    ///
    /// The queue is not frozen, and whoever has begun to change the limits is not waited for.
    /// Freezing waits for those who are in `submit_bio` of the disk's operations; they may be
    /// waiting for memory that only I/O of this very disk will free, I/O that waits for a device
    /// whose limits are to be set here. A user who writes to `queue/` freezes the queue while it
    /// has the lock that is tried here. And for a disk without requests there is nothing to gain:
    /// the block layer looks at the limits before it enters the queue, and bios that were checked
    /// by the old ones may be parked for long and sent by the new ones whatever is done here. The
    /// device below looks at each bio by its own limits, and splits or refuses it.
    pub(crate) fn try_set_limits(&self, mut limits: Limits, before: &Limits) -> Result {
        // SAFETY: By the type invariant the disk is valid, and has its queue.
        let queue = unsafe { (*self.as_ptr()).queue };
        // SAFETY: As above.
        if !unsafe { bindings::rmpath_queue_limits_trylock(queue) } {
            return Err(EAGAIN);
        }
        // SAFETY: The queue is valid; its limits do not change while their lock is held.
        limits.keep_users(unsafe { &(*queue).limits }, before);
        if limits.has_stable_writes() {
            // Otherwise it is looked at only once, when the disk is added.
            // SAFETY: By the type invariant the disk is valid, and has its first block device.
            unsafe { bindings::rmpath_disk_set_stable_writes(self.as_ptr()) };
        }
        // SAFETY: The limits' lock is held, and given up by this.
        to_result(unsafe { bindings::queue_limits_commit_update(queue, limits.as_mut_ptr()) })
    }

    /// Gives the disk another size, in sectors of 512 bytes, and tells user space (`RESIZE=1`).
    /// `EINVAL` if it is too large, `ENODEV` if the disk is gone. May sleep.
    pub(crate) fn set_sectors(&self, sectors: u64) -> Result {
        if sectors > MAX_SECTORS {
            return Err(EINVAL);
        }
        self.with_links(|disk| {
            // SAFETY: The disk was added, and its removal waits.
            unsafe { bindings::set_capacity_and_notify(disk, sectors) };
            Ok(())
        })
    }

    /// Says whether the disk can only be read, beside what its user says (`BLKROSET`), and tells
    /// user space of a change (`DISK_RO=`). `ENODEV` if the disk is gone. May sleep.
    pub(crate) fn set_read_only(&self, read_only: bool) -> Result {
        self.with_links(|disk| {
            // SAFETY: The disk was added, and its removal waits.
            unsafe { bindings::set_disk_ro(disk, read_only) };
            Ok(())
        })
    }
}
