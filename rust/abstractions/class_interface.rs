// SPDX-License-Identifier: GPL-2.0

//! Notice of every disk and partition that the system has or gets.
//!
//! The block class is not exported, but each disk's device names it, an own disk's too.
//!
//! C header: [`include/linux/device/class.h`](srctree/include/linux/device/class.h)
//!
//! # Examples
//!
//! ```ignore
//! impl DiskAdded for Discovery {
//!     fn disk_added(this: ArcBorrow<'_, Self>, disk: &AddedDisk) {
//!         if disk.is_whole_disk() && !disk.is_ours() {
//!             if let Some(dev) = disk.dev() {
//!                 this.look_at(dev); // Queues work.
//!             }
//!         }
//!     }
//! }
//!
//! let interface = BlockInterface::register(own_disk.block_class(), discovery)?;
//! ```

use core::ptr::{
    null_mut,
    NonNull, //
};
use kernel::{
    error::to_result,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Release, //
        },
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

use super::{
    block_device::DevT,
    class::BlockClass, //
};
use crate::bindings;

/// Somebody who is told of disks.
pub(crate) trait DiskAdded: Send + Sync + 'static {
    /// There is a disk, or a partition.
    ///
    /// It cannot be opened yet, may never become so, and may be gone any time after this returns:
    /// remember its number, and look at it from a work item, which tries again for a while.
    ///
    /// Called for everything that exists while [`BlockInterface::register`] runs, and later by
    /// whoever adds a disk (our own included), holding what locks it likes. Context: may sleep; the
    /// class's mutex is held, so nothing may be waited for that adds, removes or registers anything
    /// of the block class, and no lock taken under which somebody does.
    fn disk_added(this: ArcBorrow<'_, Self>, disk: &AddedDisk);
}

/// A disk or partition of which one is just being told.
///
/// # Invariants
///
/// A device of the block class that is being or has been added. It stays, with its disk and its
/// driver, while there is a reference to this: removing it takes the class's mutex, which is held
/// then.
pub(crate) struct AddedDisk {
    dev: NonNull<bindings::device>,
    disk_type: *const bindings::device_type,
}

impl AddedDisk {
    /// Its number; [`None`] if it is hidden, as a path of native NVMe multipath is: it can never be
    /// opened.
    pub(crate) fn dev(&self) -> Option<DevT> {
        // SAFETY: Valid by the type invariant, and the number does not change.
        let dev = unsafe { (*self.dev.as_ptr()).devt };
        (dev != 0).then_some(DevT::from_raw(dev))
    }

    /// Its name, as in /dev.
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: Valid by the type invariant.
        let name = unsafe { bindings::dev_name(self.dev.as_ptr()) };
        // SAFETY: A device being added has a name, and those of the block class keep it.
        unsafe { CStr::from_char_ptr(name) }
    }

    /// The class of the device that it belongs to, if that is in one: `nvme` for a namespace as one
    /// controller shows it, whose parent is the controller. (The disk of native NVMe multipath
    /// belongs to the subsystem.)
    pub(crate) fn parent_class(&self) -> Option<&CStr> {
        // SAFETY: Valid by the type invariant; its parent is set, and stays, as long as it is added.
        let parent = NonNull::new(unsafe { (*self.dev.as_ptr()).parent })?;
        // SAFETY: A device that is added holds its parent.
        let class = unsafe { (*parent.as_ptr()).class };
        // SAFETY: A class stays as long as it has devices, and its parent is one of them.
        let class = unsafe { class.as_ref() }?;
        // SAFETY: A class has a name, a terminated string that lives as long as it does.
        Some(unsafe { CStr::from_char_ptr(class.name) })
    }

    /// Whether it is a whole disk; else it is a partition.
    pub(crate) fn is_whole_disk(&self) -> bool {
        // SAFETY: Valid by the type invariant, and the type does not change.
        let device_type = unsafe { (*self.dev.as_ptr()).type_ };
        core::ptr::eq(device_type, self.disk_type)
    }

    /// Whether this module made it: the whole disk or the disk that the partition is on.
    pub(crate) fn is_ours(&self) -> bool {
        let dev = self.dev.as_ptr();
        // SAFETY: Everything in the block class is in a block device.
        let bdev = unsafe { kernel::container_of!(dev, bindings::block_device, bd_device) };
        // SAFETY: Valid by the type invariant, and the disk does not change.
        let disk = unsafe { (*bdev).bd_disk };
        // SAFETY: A block device has a disk.
        let operations = unsafe { (*disk).fops };
        // SAFETY: A disk has operations before it is added, and they stay, by the type invariant.
        core::ptr::eq(unsafe { (*operations).owner }, crate::THIS_MODULE.as_ptr())
    }
}

/// The registration that is there, for the callback, which is not told whose it is.
///
/// Null, or the `inner` of the one [`BlockInterface`], from before it is known to the class until
/// it no longer is.
static REGISTERED: Atomic<*mut c_void> = Atomic::new(null_mut());

struct Inner<H: DiskAdded> {
    raw: Opaque<bindings::class_interface>,
    class: BlockClass,
    handler: Arc<H>,
}

/// Tells a handler of all disks, from registration until it is dropped.
///
/// Dropping it waits for calls that are running: not under a lock that the handler takes, nor in
/// the handler. Context: may sleep.
///
/// # Invariants
///
/// `inner` is registered with the class, and is what [`REGISTERED`] points to.
pub(crate) struct BlockInterface<H: DiskAdded> {
    inner: KBox<Inner<H>>,
}

// SAFETY: It is used by no thread in particular; its handler can be sent.
unsafe impl<H: DiskAdded> Send for BlockInterface<H> {}

// SAFETY: A shared interface can do nothing.
unsafe impl<H: DiskAdded> Sync for BlockInterface<H> {}

impl<H: DiskAdded> BlockInterface<H> {
    /// Begins to tell `handler`, and first tells it of all that exists.
    ///
    /// # Errors
    ///
    /// [`EBUSY`] if there is another one already, [`ENOMEM`].
    pub(crate) fn register(class: BlockClass, handler: Arc<H>) -> Result<Self> {
        let inner = KBox::new(
            Inner {
                raw: Opaque::new(bindings::class_interface {
                    class: class.class,
                    add_dev: Some(add_dev::<H>),
                    ..Default::default()
                }),
                class,
                handler,
            },
            GFP_KERNEL,
        )?;
        let ptr = (&raw const *inner).cast_mut().cast::<c_void>();
        if REGISTERED.cmpxchg(null_mut(), ptr, Full).is_err() {
            return Err(EBUSY);
        }
        // SAFETY: The interface does not move, and stays until it is unregistered. The class exists
        // as long as the system does.
        let ret = to_result(unsafe { bindings::class_interface_register(inner.raw.get()) });
        if let Err(e) = ret {
            REGISTERED.store(null_mut(), Release);
            return Err(e);
        }
        // INVARIANT: Both have just been done.
        Ok(Self { inner })
    }
}

impl<H: DiskAdded> Drop for BlockInterface<H> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is registered.
        unsafe { bindings::class_interface_unregister(self.inner.raw.get()) };
        // The class's mutex was taken: no call is running, and none will come.
        REGISTERED.store(null_mut(), Release);
    }
}

/// # Safety
///
/// Only for the driver core, with a device of the block class, while a `BlockInterface<H>` is
/// registered.
unsafe extern "C" fn add_dev<H: DiskAdded>(dev: *mut bindings::device) -> c_int {
    // SAFETY: Set before this could be called, and until it no longer can be, by an interface of
    // this `H`: only that one registers this function.
    let inner = unsafe { &*REGISTERED.load(Acquire).cast::<Inner<H>>() };
    if let Some(dev) = NonNull::new(dev) {
        // INVARIANT: The driver core passes devices of the class, and holds its mutex.
        let disk = AddedDisk {
            dev,
            disk_type: inner.class.disk,
        };
        H::disk_added(inner.handler.as_arc_borrow(), &disk);
    }
    // The driver core does not look at it.
    0
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_class_interface)]
mod tests {
    use super::*;
    use kernel::{
        error::from_err_ptr,
        sync::{
            atomic::Relaxed,
            static_lock_class, //
        },
    };

    /// A disk that nobody can open, and of which user space is not told.
    struct HiddenDisk {
        disk: *mut bindings::gendisk,
        added: bool,
        // After the disk.
        _operations: KBox<bindings::block_device_operations>,
    }

    /// # Safety
    ///
    /// Only for the block layer.
    unsafe extern "C" fn submit_bio(bio: *mut bindings::bio) {
        // SAFETY: The block layer gives it to us, to be ended once.
        unsafe { bindings::bio_endio(bio) };
    }

    impl HiddenDisk {
        fn new(name: &CStr, owner: *mut bindings::module) -> Result<Self> {
            let operations = KBox::new(
                bindings::block_device_operations {
                    owner,
                    submit_bio: Some(submit_bio),
                    ..Default::default()
                },
                GFP_KERNEL,
            )?;
            // SAFETY: No limits stand for the usual ones.
            let disk = from_err_ptr(unsafe {
                bindings::__blk_alloc_disk(
                    null_mut(),
                    bindings::NUMA_NO_NODE,
                    static_lock_class!().as_ptr(),
                )
            })?;
            // SAFETY: A new disk is valid, and ours.
            unsafe { (*disk).fops = &*operations };
            // SAFETY: As above.
            unsafe { (*disk).flags |= bindings::GENHD_FL_HIDDEN as c_int };
            // SAFETY: As above.
            let disk_name = unsafe { &mut (*disk).disk_name };
            for (to, from) in disk_name.iter_mut().zip(name.to_bytes_with_nul()) {
                *to = *from as c_char;
            }
            Ok(Self {
                disk,
                added: false,
                _operations: operations,
            })
        }

        fn class(&self) -> BlockClass {
            // SAFETY: A disk has a `part0`.
            let dev = unsafe { &raw const (*(*self.disk).part0).bd_device };
            // SAFETY: It is the disk's.
            unsafe { BlockClass::from_device(dev) }
        }

        fn add(&mut self) -> Result {
            // SAFETY: The disk has what it needs.
            to_result(unsafe {
                bindings::device_add_disk(null_mut(), self.disk, core::ptr::null_mut())
            })?;
            self.added = true;
            Ok(())
        }
    }

    impl Drop for HiddenDisk {
        fn drop(&mut self) {
            if self.added {
                // SAFETY: It was added, and nobody else removes it.
                unsafe { bindings::del_gendisk(self.disk) };
            }
            // SAFETY: The reference is that of the allocation.
            unsafe { bindings::put_disk(self.disk) };
        }
    }

    /// Counts the disks that bear the name of this test.
    struct Counter {
        named: Atomic<u32>,
        ours: Atomic<u32>,
        wrong: Atomic<u32>,
    }

    impl Counter {
        fn new() -> Result<Arc<Self>> {
            let counter = Self {
                named: Atomic::new(0),
                ours: Atomic::new(0),
                wrong: Atomic::new(0),
            };
            Ok(Arc::new(counter, GFP_KERNEL)?)
        }

        /// How many of this name, how many of this module, how many something was wrong with.
        fn counts(&self) -> [u32; 3] {
            [&self.named, &self.ours, &self.wrong].map(|count| count.load(Relaxed))
        }
    }

    impl DiskAdded for Counter {
        fn disk_added(this: ArcBorrow<'_, Self>, disk: &AddedDisk) {
            let named = disk.name().to_bytes().starts_with(b"rmpath-kunit");
            let ours = disk.is_ours();
            this.named.add(named.into(), Relaxed);
            this.ours.add(ours.into(), Relaxed);
            let wrong = named && (!disk.is_whole_disk() || disk.dev().is_some());
            this.wrong.add(wrong.into(), Relaxed);
        }
    }

    #[test]
    fn tells_of_new_disks_until_dropped() -> Result {
        let mut first = HiddenDisk::new(c"rmpath-kunit0", null_mut())?;
        let mut second = HiddenDisk::new(c"rmpath-kunit1", crate::THIS_MODULE.as_ptr())?;
        let mut third = HiddenDisk::new(c"rmpath-kunit2", null_mut())?;
        let counter = Counter::new()?;
        let interface = BlockInterface::register(first.class(), counter.clone())?;
        let before = counter.counts();
        let mut added = first.add();
        let one = counter.counts();
        added = added.and(second.add());
        let two = counter.counts();
        drop(interface);
        added = added.and(third.add());
        let end = counter.counts();
        drop((first, second, third));
        assert_eq!(added, Ok(()));
        assert_eq!(before, [0, 0, 0]);
        assert_eq!(one, [1, 0, 0]);
        assert_eq!(two, [2, 1, 0]);
        assert_eq!(end, [2, 1, 0]);
        Ok(())
    }

    #[test]
    fn tells_of_existing_disks() -> Result {
        let mut disk = HiddenDisk::new(c"rmpath-kunit0", crate::THIS_MODULE.as_ptr())?;
        let added = disk.add();
        let counter = Counter::new()?;
        let interface = BlockInterface::register(disk.class(), counter.clone())?;
        let counts = counter.counts();
        drop(interface);
        drop(disk);
        assert_eq!(added, Ok(()));
        assert_eq!(counts, [1, 1, 0]);
        Ok(())
    }

    #[test]
    fn there_is_one_at_a_time() -> Result {
        let disk = HiddenDisk::new(c"rmpath-kunit0", null_mut())?;
        let counter = Counter::new()?;
        let first = BlockInterface::register(disk.class(), counter.clone())?;
        let second = BlockInterface::register(disk.class(), counter.clone()).err();
        drop(first);
        let third = BlockInterface::register(disk.class(), counter).map(drop);
        drop(disk);
        assert_eq!(second, Some(EBUSY));
        assert_eq!(third, Ok(()));
        Ok(())
    }
}
