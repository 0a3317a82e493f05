// SPDX-License-Identifier: GPL-2.0

//! A bio-based disk of our own.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)
//!
//! The stages of a disk's life are types: a [`NewDisk`] has limits and nothing else, adding it
//! makes it a [`Disk<T>`] with data, which is removed when it is dropped. The data is released when
//! the last reference to the disk is gone, which can be long after that: whoever has it open still
//! calls into it.
//!
//! # Examples
//!
//! ```ignore
//! let new = NewDisk::new(limits)?;
//! // The disk is open to everybody when this returns, so `head` is complete before.
//! let disk = new.add(fmt!("rmpath{id}"), sectors, head.clone())?;
//! drop(disk); // no more openers, no more attributes, no submit_bio() running
//! // T::free(head) follows when the last opener has gone
//! ```

mod change;
pub(crate) mod ioctl;
pub(super) mod limits;
pub(crate) mod pr;
#[cfg(CONFIG_KUNIT = "y")]
pub(super) mod suite;
mod uevent;

pub(crate) use limits::Limits;

use crate::{
    abstractions::{
        bio::{
            poll::Poll,
            Bio, //
        },
        block_device::{
            DevT,
            IdKind,
            SharedDevice,
            KIND_OWN, //
        },
        class::BlockClass,
        device_attr::{
            AttributeGroups,
            DeviceData, //
        },
        errno::eopnotsupp,
        kobject::{
            Kobject,
            Parent, //
        },
        module::ModuleRef,
    },
    bindings, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    fmt::{
        self,
        Write, //
    },
    new_mutex,
    page::PAGE_SIZE,
    prelude::*,
    static_lock_class,
    str::NullTerminatedFormatter,
    sync::{
        Arc,
        ArcBorrow,
        Mutex, //
    },
};

/// The largest capacity, in sectors: `BLK_DEV_MAX_SECTORS`.
const MAX_SECTORS: u64 = (1 << 54) - 1;

/// What a disk does.
#[vtable]
pub(crate) trait Operations: Send + Sync + Sized + 'static {
    /// Attributes beside those of every disk, or none.
    const ATTRIBUTES: Option<&'static AttributeGroups<Self>>;

    /// What keeps the module as long as the data is there: whoever has the last reference to the disk
    /// calls its functions when it puts that, and need not have the disk open. Any context.
    fn module(&self) -> &ModuleRef;

    /// A bio has been submitted. May sleep, unless the bio is `REQ_NOWAIT`.
    fn submit_bio(this: ArcBorrow<'_, Self>, bio: Bio);

    /// A polled bio is asked for. Whatever it returns above 0 means that something was found.
    /// Context: does not sleep.
    fn poll_bio(poll: Poll<'_>) -> c_int {
        let _ = poll;
        build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// The disk is opened; an error refuses it. Context: `open_mutex` is held.
    fn open(this: &Self) -> Result;

    /// The disk's identity of this kind, in at most 16 bytes: how many there are.
    fn unique_id(this: &Self, kind: IdKind, id: &mut [u8; 16]) -> Result<usize> {
        let _ = (this, kind, id);
        build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// An ioctl that the block layer does not know, on the disk or a partition. May sleep.
    fn ioctl(this: ArcBorrow<'_, Self>, ioctl: &ioctl::Ioctl) -> Result<c_int> {
        let _ = (this, ioctl);
        build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// The disk's geometry. May sleep.
    fn geometry(this: ArcBorrow<'_, Self>, geometry: &mut ioctl::Geometry<'_>) -> Result {
        let _ = (this, geometry);
        build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// Something about persistent reservations; the block layer has checked that the caller may.
    /// May sleep.
    fn reservation(
        this: ArcBorrow<'_, Self>,
        command: &mut pr::Command<'_>,
    ) -> Result<(), pr::Failure> {
        let _ = (this, command);
        build_error!(kernel::error::VTABLE_DEFAULT_ERROR)
    }

    /// The last reference to the disk is gone, and with it the disk's on its data.
    ///
    /// Context: may sleep, but that of whoever put that reference; nothing keeps the module
    /// loaded after this. So it must not drop what may be the last `Arc`, but hand it to a queue.
    fn free(this: Arc<Self>);
}

/// A disk that is allocated but not added: nobody can see it.
///
/// # Invariants
///
/// Points to a valid disk that has not been added, and that we own.
pub(crate) struct NewDisk(NonNull<bindings::gendisk>);

// SAFETY: Nobody else has the disk.
unsafe impl Send for NewDisk {}

impl NewDisk {
    /// Allocates a disk with these limits. `ENOMEM`; `EINVAL` for limits that contradict each
    /// other. May sleep.
    pub(crate) fn new(mut limits: Limits) -> Result<Self> {
        // SAFETY: The limits are valid; a negative node means any.
        let disk = from_err_ptr(unsafe {
            bindings::__blk_alloc_disk(
                limits.as_mut_ptr(),
                bindings::NUMA_NO_NODE,
                static_lock_class!().as_ptr(),
            )
        })?;
        // INVARIANT: Just allocated.
        NonNull::new(disk).map(Self).ok_or(ENOMEM)
    }

    /// The class that all disks are in.
    pub(crate) fn block_class(&self) -> BlockClass {
        // SAFETY: By the type invariant the disk is valid, and has its first block device.
        let dev = unsafe { core::ptr::addr_of_mut!((*(*self.0.as_ptr()).part0).bd_device) };
        // SAFETY: The device of an allocated disk has its class and its type.
        unsafe { BlockClass::from_device(dev) }
    }

    /// Adds the disk under `name`, with a capacity of `sectors` (of 512 bytes), and shows it to
    /// everybody. Its partitions are not scanned: [`DiskRef::scan_partitions`].
    ///
    /// `EEXIST` if the name is taken, `EINVAL` if it is too long or the capacity too large,
    /// `ENOMEM`. Then `data` is dropped here, without [`Operations::free`]. May sleep.
    pub(crate) fn add<T: Operations>(
        self,
        name: fmt::Arguments<'_>,
        sectors: u64,
        data: Arc<T>,
    ) -> Result<Disk<T>> {
        if sectors > MAX_SECTORS {
            return Err(EINVAL);
        }
        let disk = self.0.as_ptr();
        let links = Arc::pin_init(new_mutex!(true, "rmpath_disk_links"), GFP_KERNEL)?;
        // SAFETY: By the type invariant the disk is ours alone.
        let name_buffer = unsafe { &mut (*disk).disk_name };
        let mut writer = NullTerminatedFormatter::new(name_buffer).ok_or(EINVAL)?;
        writer.write_fmt(name).map_err(|_| EINVAL)?;

        let _: &ModuleRef = data.module();
        let raw = Arc::into_raw(data);
        // SAFETY: By the type invariant the disk is ours alone.
        unsafe {
            (*disk).fops = &Table::<T>::TABLE;
            (*disk).private_data = raw.cast_mut().cast();
        }
        // SAFETY: By the type invariant the disk is valid.
        unsafe { bindings::set_capacity(disk, sectors) };
        // Reading the partition table may take until a path returns; that must not hold up
        // whoever adds the disk.
        // SAFETY: As above; the state is a bitmap of one word.
        unsafe { bindings::rmpath_disk_set_state(disk, bindings::GD_SUPPRESS_PART_SCAN) };

        let groups = match T::ATTRIBUTES {
            Some(groups) => groups.as_ptr(),
            None => core::ptr::null_mut(),
        };
        // SAFETY: The disk is valid and not added; the groups are static.
        let added = unsafe { bindings::device_add_disk(core::ptr::null_mut(), disk, groups) };
        if let Err(error) = to_result(added) {
            // SAFETY: A disk that was not added does not call `free_disk`: the data is ours.
            drop(unsafe { Arc::from_raw(raw) });
            // There is no cause for EINVAL. But `device_add_disk()` does not look whether there was
            // memory for the device's name, and `device_add()` refuses a device without one.
            return Err(if error == EINVAL { ENOMEM } else { error });
        }
        core::mem::forget(self);
        // INVARIANT: The disk was just added, with data of type `T`.
        Ok(Disk {
            // SAFETY: `disk` came from a `NonNull`.
            disk: unsafe { NonNull::new_unchecked(disk) },
            links,
            _data: PhantomData,
        })
    }
}

impl Drop for NewDisk {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the disk is ours. It was not added, so that `free_disk` is
        // not called.
        unsafe { bindings::put_disk(self.0.as_ptr()) };
    }
}

/// A disk that everybody can see. Dropping it removes it: may sleep, until all its attributes and
/// `submit_bio` calls have returned. Clones in flight are not waited for.
///
/// # Invariants
///
/// Points to a disk that was added with data of type `T` and not removed.
pub(crate) struct Disk<T: Operations> {
    disk: NonNull<bindings::gendisk>,
    links: Arc<Mutex<bool>>,
    _data: PhantomData<T>,
}

// SAFETY: A disk may be removed by any thread.
unsafe impl<T: Operations> Send for Disk<T> {}
// SAFETY: What `&Disk` allows may be done from any thread.
unsafe impl<T: Operations> Sync for Disk<T> {}

// The disk does not move when its handle does.
impl<T: Operations> Unpin for Disk<T> {}

impl<T: Operations> Disk<T> {
    /// A reference to the disk, which may outlive its removal.
    pub(crate) fn reference(&self) -> DiskRef {
        // SAFETY: By the type invariant the disk is valid.
        unsafe { DiskRef::get(self.disk, self.links.clone()) }
    }
}

impl<T: Operations> Disk<T> {
    /// Its folder in sysfs, to put others into.
    pub(crate) fn as_parent(&self) -> Parent<'_> {
        // SAFETY: By the type invariant the disk is valid.
        let dev = unsafe { device_of(self.disk.as_ptr()) };
        // SAFETY: As above, and for as long as `self` is borrowed.
        let kobj = unsafe { Kobject::from_raw(core::ptr::addr_of_mut!((*dev).kobj)) };
        // SAFETY: The disk was added, and is removed when `self` is dropped.
        unsafe { Parent::new(kobj) }
    }
}

impl<T: Operations> Drop for Disk<T> {
    fn drop(&mut self) {
        // Whoever links or unlinks devices has finished, and nobody begins any more.
        *self.links.lock() = false;
        // SAFETY: By the type invariant the disk was added and not removed.
        unsafe { bindings::del_gendisk(self.disk.as_ptr()) };
        // SAFETY: The reference from its allocation is ours.
        unsafe { bindings::put_disk(self.disk.as_ptr()) };
    }
}

/// A counted reference to a disk that was added. The disk may have been removed since.
///
/// # Invariants
///
/// Owns one reference on the disk. `links` says whether its `slaves/` is there, which does not
/// change while it is locked.
pub(crate) struct DiskRef {
    disk: NonNull<bindings::gendisk>,
    links: Arc<Mutex<bool>>,
}

// SAFETY: References may be put by any thread.
unsafe impl Send for DiskRef {}
// SAFETY: What `&DiskRef` allows may be done from any thread.
unsafe impl Sync for DiskRef {}

impl DiskRef {
    /// # Safety
    ///
    /// The disk must be valid and have been added.
    unsafe fn get(disk: NonNull<bindings::gendisk>, links: Arc<Mutex<bool>>) -> Self {
        // SAFETY: The caller promises that the disk is valid.
        unsafe { bindings::get_device(device_of(disk.as_ptr())) };
        // INVARIANT: The reference was just taken.
        Self { disk, links }
    }

    /// Its number. Any context.
    pub(crate) fn dev(&self) -> DevT {
        // SAFETY: By the type invariant the disk is valid; its number is set once it is added.
        DevT::from_raw(unsafe { (*device_of(self.as_ptr())).devt })
    }

    fn as_ptr(&self) -> *mut bindings::gendisk {
        self.disk.as_ptr()
    }

    /// Runs `f` while the disk's `slaves/` cannot go; `ENODEV` if it is gone. May sleep.
    pub(super) fn with_links(&self, f: impl FnOnce(*mut bindings::gendisk) -> Result) -> Result {
        let links = self.links.lock();
        if !*links {
            return Err(ENODEV);
        }
        f(self.as_ptr())
    }

    /// Tells user space that the disk has changed (`KOBJ_CHANGE`). `ENODEV` if it is gone. May sleep.
    pub(crate) fn changed(&self) -> Result {
        self.with_links(|disk| {
            // SAFETY: The disk was added, and its removal waits.
            unsafe { bindings::disk_uevent(disk, bindings::kobject_action_KOBJ_CHANGE) };
            Ok(())
        })
    }

    /// Looks for partitions. May sleep for as long as a read of the disk takes.
    pub(crate) fn scan_partitions(&self) {
        let disk = self.as_ptr();
        // SAFETY: By the type invariant the disk is valid.
        unsafe { bindings::rmpath_disk_clear_state(disk, bindings::GD_SUPPRESS_PART_SCAN) };
        // SAFETY: As above; it has its first block device, and a queue.
        let block = unsafe { bindings::rmpath_bdev_logical_block_size((*disk).part0) };
        // The page cache learns with the first opener that the disk's blocks are larger than a page.
        let open = (block as usize > PAGE_SIZE).then(|| SharedDevice::open(self.dev()));
        if matches!(open, Some(Err(_))) {
            return;
        }
        // SAFETY: As above.
        let open_mutex = unsafe { core::ptr::addr_of_mut!((*disk).open_mutex) };
        // SAFETY: The mutex is part of the disk.
        unsafe { bindings::rmpath_mutex_lock(open_mutex) };
        // It looks itself whether the disk is still there.
        // SAFETY: `open_mutex` is held. Errors mean that there are no partitions.
        let _ = unsafe { bindings::bdev_disk_changed(disk, false) };
        // SAFETY: Locked above.
        unsafe { bindings::mutex_unlock(open_mutex) };
    }
}

impl Clone for DiskRef {
    fn clone(&self) -> Self {
        // SAFETY: By the type invariant the disk is valid and was added.
        unsafe { Self::get(self.disk, self.links.clone()) }
    }
}

impl Drop for DiskRef {
    fn drop(&mut self) {
        // SAFETY: By the type invariant there is a reference to put.
        unsafe { bindings::put_device(device_of(self.as_ptr())) };
    }
}

/// disk_to_dev().
///
/// # Safety
///
/// `disk` must be valid.
unsafe fn device_of(disk: *mut bindings::gendisk) -> *mut bindings::device {
    // SAFETY: The caller promises that the disk is valid, and it has its first block device.
    unsafe { core::ptr::addr_of_mut!((*(*disk).part0).bd_device) }
}

// SAFETY: The device of a disk that was added with data of type `T` leads to that data, whose `Arc`
// the disk owns from before its device is added to after it has been removed.
unsafe impl<T: Operations> DeviceData for T {
    unsafe fn from_device(dev: *mut bindings::device) -> *const T {
        // SAFETY: The device is the `bd_device` of the disk's first block device.
        let bdev = unsafe { kernel::container_of!(dev, bindings::block_device, bd_device) };
        // SAFETY: That block device and its disk are valid.
        unsafe { (*(*bdev).bd_disk).private_data }
            .cast_const()
            .cast()
    }
}

struct Table<T>(PhantomData<T>);

impl<T: Operations> Table<T> {
    const TABLE: bindings::block_device_operations = bindings::block_device_operations {
        submit_bio: Some(Self::submit_bio),
        poll_bio: if T::HAS_POLL_BIO {
            Some(Self::poll_bio)
        } else {
            None
        },
        open: Some(Self::open),
        release: None,
        ioctl: if T::HAS_IOCTL {
            Some(Self::ioctl)
        } else {
            None
        },
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: if T::HAS_IOCTL {
            Some(Self::compat_ioctl)
        } else {
            None
        },
        #[cfg(not(CONFIG_COMPAT))]
        compat_ioctl: None,
        check_events: None,
        unlock_native_capacity: None,
        getgeo: if T::HAS_GEOMETRY {
            Some(Self::getgeo)
        } else {
            None
        },
        set_read_only: None,
        free_disk: Some(Self::free_disk),
        swap_slot_free_notify: None,
        report_zones: None,
        devnode: None,
        get_unique_id: if T::HAS_UNIQUE_ID {
            Some(Self::get_unique_id)
        } else {
            None
        },
        owner: crate::THIS_MODULE.as_ptr(),
        pr_ops: if T::HAS_RESERVATION {
            core::ptr::from_ref(&Self::PR_OPS).cast()
        } else {
            core::ptr::null()
        },
        alternative_gpt_sector: None,
    };

    /// # Safety
    ///
    /// `disk` must have been added with data of type `T`, and that not be freed.
    #[inline]
    unsafe fn data<'a>(disk: *mut bindings::gendisk) -> &'a T {
        // SAFETY: The caller promises that the data is there.
        unsafe { &*(*disk).private_data.cast_const().cast::<T>() }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn submit_bio(bio: *mut bindings::bio) {
        // SAFETY: A bio that is submitted has a device, which has a disk.
        let disk = unsafe { (*(*bio).bi_bdev).bd_disk };
        // SAFETY: The disk is one of ours, and in use by the submitter: its data is there, and came
        // from `Arc::into_raw`.
        let data = unsafe { ArcBorrow::from_raw((*disk).private_data.cast_const().cast()) };
        // SAFETY: The bio is not null.
        let bio = unsafe { NonNull::new_unchecked(bio) };
        // SAFETY: The block layer gives the bio to us to end.
        T::submit_bio(data, unsafe { Bio::from_raw(bio) });
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn poll_bio(
        bio: *mut bindings::bio,
        iob: *mut bindings::io_comp_batch,
        flags: c_uint,
    ) -> c_int {
        // SAFETY: The bio is not null.
        let bio = unsafe { NonNull::new_unchecked(bio) };
        // SAFETY: The caller sees to it, by RCU or because the bio is its own, that the memory
        // stays one of bios; and `iob` is its own.
        T::poll_bio(unsafe { Poll::new(bio, iob, flags) })
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn open(disk: *mut bindings::gendisk, _mode: bindings::blk_mode_t) -> c_int {
        // SAFETY: The opener has a reference to the disk, so it is not freed.
        from_result(|| T::open(unsafe { Self::data(disk) }).map(|()| 0))
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn get_unique_id(
        disk: *mut bindings::gendisk,
        id: *mut u8,
        kind: bindings::blk_unique_id,
    ) -> c_int {
        from_result(|| {
            let kind = match kind {
                // What is asked for is whether there is one of ours.
                KIND_OWN => return Ok(1),
                bindings::blk_unique_id_BLK_UID_EUI64 => IdKind::Eui64,
                bindings::blk_unique_id_BLK_UID_NAA => IdKind::Naa,
                _ => return Err(EINVAL),
            };
            // SAFETY: The caller has the disk open, so it is not freed.
            let data = unsafe { Self::data(disk) };
            // SAFETY: The caller's buffer has 16 bytes.
            let id = unsafe { &mut *id.cast::<[u8; 16]>() };
            T::unique_id(data, kind, id).and_then(|len| Ok(i32::try_from(len)?))
        })
    }

    /// # Safety
    ///
    /// As the block layer calls it: once, for a disk that was added.
    unsafe extern "C" fn free_disk(disk: *mut bindings::gendisk) {
        // SAFETY: The data came from `Arc::into_raw` in `add`, and is taken once.
        T::free(unsafe { Arc::from_raw((*disk).private_data.cast_const().cast()) });
    }
}
