// SPDX-License-Identifier: GPL-2.0

//! Block devices that are opened for ourselves alone, and that tell us when they die.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)
//!
//! # Examples
//!
//! ```ignore
//! let dev = DevT::lookup(c"/dev/nvme0n1")?;
//! let device = BlockDevice::open(dev, holder)?; // Holder::mark_dead may be called from here on ...
//! pr_info!("{}: {} sectors\n", device.name(), device.nr_sectors());
//! drop(device); // ... to here; the device is closed when this returns
//! ```

use crate::{
    abstractions::{
        gendisk::DiskRef,
        kobject::Kobject,
        numa::Node, //
    },
    bindings, //
};
use core::{
    marker::PhantomData,
    ops::Deref,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    fmt,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        SetOnce, //
    },
    types::Opaque, //
};

/// A device number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DevT(bindings::dev_t);

impl DevT {
    pub(super) const fn from_raw(dev: bindings::dev_t) -> Self {
        Self(dev)
    }

    /// The number with this major and minor, as MKDEV() of include/linux/kdev_t.h makes it.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const fn from_numbers(major: u32, minor: u32) -> Self {
        Self(major << 20 | minor)
    }

    /// The number of the block device that `path` names in the caller's mount namespace.
    ///
    /// `ENOENT` if there is no such file, `ENOTBLK` if it is something else, `EACCES` on a mount
    /// without devices. May sleep. Follows `lookup_bdev()`.
    pub(crate) fn lookup(path: &CStr) -> Result<Self> {
        let mut dev = 0;
        // SAFETY: `path` is a valid string and `dev` valid for writes.
        to_result(unsafe { bindings::lookup_bdev(path.as_char_ptr(), &mut dev) })?;
        Ok(Self(dev))
    }
}

impl fmt::Display for DevT {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // MAJOR() and MINOR() of include/linux/kdev_t.h.
        write!(f, "{}:{}", self.0 >> 20, self.0 & ((1 << 20) - 1))
    }
}

/// A kind of identity that no disk but ours has: all of ours answer it, and device-mapper hands the
/// question on to what a map of one target stands on. Not among the 4-bit designator types that
/// SCSI disks look for.
pub(super) const KIND_OWN: bindings::blk_unique_id = 0x726d_7074;

/// Kinds of identity that a disk can report, in the order in which we want them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    /// EUI-64 or NGUID.
    Eui64,
    /// Network address authority.
    Naa,
}

/// An identity reported by a disk.
pub(crate) struct UniqueId {
    bytes: [u8; 16],
    len: usize,
}

impl UniqueId {
    /// One of these bytes, 16 at most.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn of(id: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..id.len()].copy_from_slice(id);
        Self {
            bytes,
            len: id.len(),
        }
    }

    /// Its bytes: at most 16.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A block device that somebody keeps open for as long as the reference is there.
#[repr(transparent)]
pub(crate) struct Bdev(Opaque<bindings::block_device>);

// SAFETY: What `&Bdev` allows may be done from any thread.
unsafe impl Sync for Bdev {}

impl Bdev {
    /// # Safety
    ///
    /// `bdev` must be valid, and stay open for `'a`.
    pub(super) unsafe fn from_raw<'a>(bdev: *mut bindings::block_device) -> &'a Self {
        // SAFETY: The caller promises that it is valid; `Bdev` is transparent.
        unsafe { &*bdev.cast() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::block_device {
        self.0.get()
    }

    fn disk(&self) -> *mut bindings::gendisk {
        // SAFETY: The device is valid, and its disk does not change.
        unsafe { (*self.as_ptr()).bd_disk }
    }

    /// Its number.
    pub(crate) fn dev(&self) -> DevT {
        // SAFETY: The device is valid, and its number does not change.
        DevT(unsafe { (*self.as_ptr()).bd_dev })
    }

    /// The name of its disk. (Of the whole disk, if this is a partition.)
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: An open device's disk is valid, and its name does not change once it is added.
        let name = unsafe { core::ptr::addr_of!((*self.disk()).disk_name) };
        // SAFETY: The name is a terminated string, which lives as long as the disk.
        unsafe { CStr::from_char_ptr(name.cast()) }
    }

    /// Its size in sectors of 512 bytes; 0 if there is no medium, or the device is dying.
    pub(crate) fn nr_sectors(&self) -> u64 {
        // SAFETY: The device is valid.
        unsafe { bindings::rmpath_bdev_nr_sectors(self.as_ptr()) }
    }

    /// Its logical block size in bytes.
    pub(crate) fn logical_block_size(&self) -> u32 {
        // SAFETY: The device is open, so it has a queue.
        unsafe { bindings::rmpath_bdev_logical_block_size(self.as_ptr()) }
    }

    /// The node of memory that it is near to, if that is known.
    pub(crate) fn node(&self) -> Option<Node> {
        // SAFETY: The device is valid, and its disk does not change.
        Node::from_raw(unsafe { bindings::rmpath_bdev_node(self.as_ptr()) })
    }

    /// Whether it is a partition.
    pub(crate) fn is_partition(&self) -> bool {
        // SAFETY: The device is valid.
        unsafe { bindings::rmpath_bdev_is_partition(self.as_ptr()) }
    }

    /// Whether it has zones.
    pub(crate) fn is_zoned(&self) -> bool {
        // SAFETY: The device is open, so it has a queue.
        unsafe { bindings::rmpath_bdev_is_zoned(self.as_ptr()) }
    }

    /// Whether it has a write cache that loses what is in it when the power fails.
    pub(crate) fn has_write_cache(&self) -> bool {
        // SAFETY: The device is open, so it has a queue.
        unsafe { bindings::rmpath_bdev_write_cache(self.as_ptr()) }
    }

    /// Empties that cache. Errors of the device. May sleep, for as long as the device does.
    pub(crate) fn flush(&self) -> Result {
        // SAFETY: The device is open.
        to_result(unsafe { bindings::blkdev_issue_flush(self.as_ptr()) })
    }

    /// Whether it can only be read.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: The device is valid.
        unsafe { bindings::rmpath_bdev_read_only(self.as_ptr()) }
    }

    /// Whether its disk is still there: `false` from the beginning of del_gendisk(), and after a
    /// surprise removal.
    pub(crate) fn is_live(&self) -> bool {
        // SAFETY: An open device's disk is valid.
        unsafe { bindings::rmpath_disk_live(self.disk()) }
    }

    /// Whether its disk is one that this module made.
    pub(crate) fn is_own(&self) -> bool {
        // SAFETY: An open device's disk is valid, and its operations do not change.
        let owner = unsafe { (*(*self.disk()).fops).owner };
        core::ptr::eq(owner, crate::THIS_MODULE.as_ptr())
    }

    /// Whether its disk stands on others that it is linked to (`slaves/`), as a map does. It need
    /// not be known before the disk is first opened.
    pub(crate) fn is_stacked(&self) -> bool {
        // SAFETY: An open device's disk is valid.
        unsafe { bindings::rmpath_disk_has_slaves(self.disk()) }
    }

    /// Whether it is a map that stands on a disk of this module, at any depth, as far as its targets
    /// pass on who they stand on: a map of one target does. May sleep.
    pub(crate) fn stands_on_own(&self) -> bool {
        let mut id = [0; 16];
        self.ask_id(KIND_OWN, &mut id).is_some_and(|len| len > 0)
    }

    /// What the disk says its identity of this kind is, if it has one. May sleep.
    pub(crate) fn unique_id(&self, kind: IdKind) -> Option<UniqueId> {
        let kind = match kind {
            IdKind::Eui64 => bindings::blk_unique_id_BLK_UID_EUI64,
            IdKind::Naa => bindings::blk_unique_id_BLK_UID_NAA,
        };
        let mut bytes = [0; 16];
        let len = self.ask_id(kind, &mut bytes)?;
        // All zeroes is what a disk without an identity of its own tends to have there.
        let id = bytes.get(..len)?;
        id.iter()
            .any(|byte| *byte != 0)
            .then_some(UniqueId { bytes, len })
    }

    /// Asks for the identity of a kind. Returns its length, or [`None`] if it has none.
    fn ask_id(&self, kind: bindings::blk_unique_id, id: &mut [u8; 16]) -> Option<usize> {
        // SAFETY: An open device's disk is valid, and its operations do not change.
        let get = unsafe { (*(*self.disk()).fops).get_unique_id }?;
        // SAFETY: The disk is valid; the buffer has the 16 bytes asked for.
        let len = unsafe { get(self.disk(), id.as_mut_ptr().cast(), kind) };
        usize::try_from(len).ok()
    }

    /// Its folder in sysfs.
    pub(crate) fn kobject(&self) -> &Kobject {
        // SAFETY: The device is valid.
        let kobj = unsafe { core::ptr::addr_of_mut!((*self.as_ptr()).bd_device.kobj) };
        // SAFETY: The embedded kobject is valid as long as the device is.
        unsafe { Kobject::from_raw(kobj) }
    }
}

/// A block device that is open beside others, to look at it. Closed when dropped (may sleep).
///
/// # Invariants
///
/// `file` is an open file of the block device `bdev`.
pub(crate) struct SharedDevice {
    file: NonNull<bindings::file>,
    bdev: NonNull<bindings::block_device>,
}

impl SharedDevice {
    /// Opens the device for reading. `ENXIO` if it has gone, or is not there yet. May sleep, for
    /// as long as the driver does.
    pub(crate) fn open(dev: DevT) -> Result<Self> {
        // SAFETY: Without a holder there is nothing that has to stay valid.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(
                dev.0,
                bindings::RMPATH_BLK_OPEN_READ,
                core::ptr::null_mut(),
                core::ptr::null(),
            )
        })?;
        let file = NonNull::new(file).ok_or(ENXIO)?;
        // SAFETY: The file was opened as that of a block device.
        let bdev = unsafe { bindings::file_bdev(file.as_ptr()) };
        // INVARIANT: As opened.
        Ok(Self {
            file,
            bdev: NonNull::new(bdev).ok_or(ENXIO)?,
        })
    }
}

impl Deref for SharedDevice {
    type Target = Bdev;

    fn deref(&self) -> &Bdev {
        // SAFETY: By the type invariant the device is open for as long as `self` is there.
        unsafe { Bdev::from_raw(self.bdev.as_ptr()) }
    }
}

impl Drop for SharedDevice {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the file is open, and ours to close.
        unsafe { bindings::__fput_sync(self.file.as_ptr()) };
    }
}

/// Who holds a device, and hears of its death.
pub(crate) trait Holder: Send + Sync + Sized + 'static {
    /// The device died, or is about to be removed.
    ///
    /// Context: may sleep, but `bd_holder_lock` is held, and the remover waits: mark the path,
    /// queue the rest.
    fn mark_dead(this: ArcBorrow<'_, Self>);
}

/// A block device that is open for us alone, for reading and writing. Closed when dropped (may
/// sleep).
///
/// # Invariants
///
/// `file` is an open file of a block device that was claimed for `_claim` (the address of what is in
/// the box, which is nobody else's, and `Operations::<H>::OPS`).
pub(crate) struct BlockDevice<H: Holder> {
    file: NonNull<bindings::file>,
    bdev: NonNull<bindings::block_device>,
    /// The disk that it is linked to.
    link: SetOnce<DiskRef>,
    holder: Arc<H>,
    // The same. `mark_dead` may find it until `drop` has given up the claim. In a box, so that no two
    // claims are for the same address: who claims a device again for the same, as the block layer lets
    // one, leads `mark_dead` astray for a moment.
    _claim: KBox<Arc<H>>,
}

// SAFETY: A file may be used and closed from any thread; the holder is `Send` and `Sync`.
unsafe impl<H: Holder> Send for BlockDevice<H> {}
// SAFETY: What `&BlockDevice` allows may be done from any thread.
unsafe impl<H: Holder> Sync for BlockDevice<H> {}

struct Operations<H>(PhantomData<H>);

impl<H: Holder> Operations<H> {
    const OPS: bindings::blk_holder_ops = bindings::blk_holder_ops {
        mark_dead: Some(Self::mark_dead),
        sync: None,
        freeze: None,
        thaw: None,
    };

    /// # Safety
    ///
    /// `bdev` must be claimed by a [`BlockDevice<H>`], and its `bd_holder_lock` be held, which is
    /// released.
    unsafe extern "C" fn mark_dead(bdev: *mut bindings::block_device, _surprise: bool) {
        // SAFETY: The caller promises that the lock is held, so that the holder stays.
        let holder = unsafe { (*bdev).bd_holder }.cast_const().cast::<Arc<H>>();
        // SAFETY: The holder of a device claimed by a `BlockDevice<H>` is the address of its
        // `Arc<H>`, which is there until the claim is gone, for which the lock is needed.
        H::mark_dead(unsafe { &*holder }.as_arc_borrow());
        // Last: now the holder may go.
        // SAFETY: The lock is held by this thread, and the caller expects us to release it.
        unsafe { bindings::mutex_unlock(core::ptr::addr_of_mut!((*bdev).bd_holder_lock)) };
    }
}

impl<H: Holder> BlockDevice<H> {
    /// Opens the device for ourselves alone.
    ///
    /// `EBUSY` if somebody else has claimed it, `ENXIO` if it has gone, `EROFS` if it can only be
    /// read, `ENOMEM`, else what its driver says. May sleep, for as long as the driver does.
    pub(crate) fn open(dev: DevT, holder: Arc<H>) -> Result<Self> {
        let claim = KBox::new(holder.clone(), GFP_KERNEL)?;
        // SAFETY: The address in the box stays valid, and ours alone, until `drop`.
        let file = from_err_ptr(unsafe {
            bindings::bdev_file_open_by_dev(
                dev.0,
                bindings::RMPATH_BLK_OPEN_READ_WRITE,
                core::ptr::from_ref(&*claim).cast_mut().cast(),
                &Operations::<H>::OPS,
            )
        })?;
        let file = NonNull::new(file).ok_or(ENXIO)?;
        // SAFETY: The file was opened as that of a block device.
        let bdev = unsafe { bindings::file_bdev(file.as_ptr()) };
        // INVARIANT: It was opened with that holder and those operations.
        let this = Self {
            file,
            bdev: NonNull::new(bdev).ok_or(ENXIO)?,
            link: SetOnce::new(),
            holder,
            _claim: claim,
        };
        if this.is_read_only() {
            return Err(EROFS);
        }
        Ok(this)
    }

    /// Who holds it.
    #[inline]
    pub(crate) fn holder(&self) -> &Arc<H> {
        &self.holder
    }

    /// Shows in sysfs that `disk` is made of this device (`slaves/` and `holders/`), until it is
    /// closed or the disk goes.
    ///
    /// `ENODEV` if the device has just died or the disk has gone, `EBUSY` if it was linked before.
    /// May sleep.
    pub(crate) fn link_to(&self, disk: &DiskRef) -> Result {
        disk.with_links(|raw| {
            if self.link.as_ref().is_some() {
                return Err(EBUSY);
            }
            // SAFETY: The device is open and claimed; the disk was added, and its `slaves/` stays.
            to_result(unsafe { bindings::bd_link_disk_holder(self.as_ptr(), raw) })?;
            if self.link.populate(disk.clone()) {
                return Ok(());
            }
            // Somebody else was faster.
            // SAFETY: As above; they were just linked.
            unsafe { bindings::bd_unlink_disk_holder(self.as_ptr(), raw) };
            Err(EBUSY)
        })
    }
}

impl<H: Holder> Deref for BlockDevice<H> {
    type Target = Bdev;

    #[inline]
    fn deref(&self) -> &Bdev {
        // SAFETY: By the type invariant the device is open for as long as `self` is there.
        unsafe { Bdev::from_raw(self.bdev.as_ptr()) }
    }
}

impl<H: Holder> Drop for BlockDevice<H> {
    fn drop(&mut self) {
        if let Some(disk) = self.link.as_ref() {
            // If the disk has gone before, so have the links.
            let _ = disk.with_links(|raw| {
                // SAFETY: `link_to` linked these two, and the disk's `slaves/` stays.
                unsafe { bindings::bd_unlink_disk_holder(self.bdev.as_ptr(), raw) };
                Ok(())
            });
        }
        // bdev_fput() gives up the claim at once, but in a kernel thread leaves the rest to a work
        // item of the system's; we want the device closed when this returns.
        // SAFETY: By the type invariant the file is open.
        unsafe { bindings::rmpath_get_file(self.file.as_ptr()) };
        // SAFETY: As above; this puts the reference from `open`.
        unsafe { bindings::bdev_fput(self.file.as_ptr()) };
        // SAFETY: This puts the reference that was just taken.
        unsafe { bindings::__fput_sync(self.file.as_ptr()) };
    }
}
