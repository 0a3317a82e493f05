// SPDX-License-Identifier: GPL-2.0

//! Disks and block devices: who may open them, who hears of their death, when their data goes.

use super::*;
use crate::abstractions::{
    bio::status::BlkStatus,
    block_device::{
        BlockDevice,
        Holder, //
    }, //
};
use kernel::{
    page::Page,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Completion, //
    },
};

/// What a test disk is told to do, and what has been done with it.
#[pin_data]
pub(crate) struct Record {
    /// What the next bios end with; the lowest byte first.
    pub(crate) script: Atomic<u32>,
    pub(crate) bios: Atomic<u32>,
    pub(crate) refuse: Atomic<bool>,
    pub(crate) frees: Atomic<u32>,
    pub(crate) drops: Atomic<u32>,
    #[pin]
    pub(crate) freed: Completion,
}

/// A disk that ends every bio at once, as it is told.
pub(crate) struct TestDisk(Arc<Record>, ModuleRef);

impl Drop for TestDisk {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, Relaxed);
    }
}

static NUMBER: Atomic<u32> = Atomic::new(0);

/// Its size in sectors.
pub(crate) const SECTORS: u64 = 2048;

impl TestDisk {
    /// Adds one.
    pub(crate) fn add() -> Result<(Disk<Self>, Arc<Record>)> {
        let record = Self::record()?;
        let number = NUMBER.fetch_add(1, Relaxed);
        let disk = NewDisk::new(Limits::stacking())?.add(
            fmt!("rmpath_test{number}"),
            SECTORS,
            Self::new(&record)?,
        )?;
        Ok((disk, record))
    }

    fn new(record: &Arc<Record>) -> Result<Arc<Self>> {
        let module = ModuleRef::try_get().ok_or(ENODEV)?;
        Ok(Arc::new(Self(record.clone(), module), GFP_KERNEL)?)
    }

    fn record() -> Result<Arc<Record>> {
        Arc::pin_init(
            pin_init!(Record {
                script: Atomic::new(0),
                bios: Atomic::new(0),
                refuse: Atomic::new(false),
                frees: Atomic::new(0),
                drops: Atomic::new(0),
                freed <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }
}

#[vtable]
impl Operations for TestDisk {
    const ATTRIBUTES: Option<&'static AttributeGroups<Self>> = None;

    fn module(&self) -> &ModuleRef {
        &self.1
    }

    fn submit_bio(this: ArcBorrow<'_, Self>, bio: Bio) {
        this.0.bios.fetch_add(1, Relaxed);
        let script = this.0.script.load(Relaxed);
        this.0.script.store(script >> 8, Relaxed);
        bio.end(BlkStatus::from_raw(script as u8));
    }

    fn open(this: &Self) -> Result {
        if this.0.refuse.load(Relaxed) {
            Err(ENXIO)
        } else {
            Ok(())
        }
    }

    fn unique_id(_this: &Self, kind: IdKind, id: &mut [u8; 16]) -> Result<usize> {
        if kind != IdKind::Naa {
            return Err(EINVAL);
        }
        id[..8].copy_from_slice(b"\x33rmpath!");
        Ok(8)
    }

    fn free(this: Arc<Self>) {
        let record = this.0.clone();
        record.frees.fetch_add(1, Relaxed);
        // In a test the thread that waits for this keeps the module.
        drop(this);
        record.freed.complete_all();
    }
}

/// Reads the first sector, and says how that ended: 0 or a negative errno.
pub(crate) fn read_sector(bdev: &crate::abstractions::block_device::Bdev) -> Result<i32> {
    read_sector_with(bdev, 0)
}

/// As [`read_sector`], by a bio with these flags.
pub(crate) fn read_sector_with(
    bdev: &crate::abstractions::block_device::Bdev,
    flags: bindings::blk_opf_t,
) -> Result<i32> {
    let page = Page::alloc_page(GFP_KERNEL)?;
    // SAFETY: The device is open; the bio is put below.
    let bio = unsafe {
        bindings::bio_alloc_bioset(
            bdev.as_ptr(),
            1,
            bindings::req_op_REQ_OP_READ | flags,
            bindings::RMPATH_GFP_NOIO,
            &raw mut bindings::fs_bio_set,
        )
    };
    // SAFETY: The bio has room for one page, which is ours until it has ended.
    let added = unsafe { bindings::bio_add_page(bio, page.as_ptr(), 512, 0) };
    debug_assert_eq!(added, 512);
    // SAFETY: The bio is complete, and ours.
    let status = unsafe { bindings::submit_bio_wait(bio) };
    // SAFETY: It has ended.
    unsafe { bindings::bio_put(bio) };
    Ok(status)
}

/// Hears of deaths.
struct Heir(Atomic<u32>);

impl Holder for Heir {
    fn mark_dead(this: ArcBorrow<'_, Self>) {
        this.0.fetch_add(1, Relaxed);
    }
}

fn heir() -> Result<Arc<Heir>> {
    Ok(Arc::new(Heir(Atomic::new(0)), GFP_KERNEL)?)
}

#[kunit_tests(rmpath_gendisk)]
mod tests {
    use super::*;

    #[test]
    fn data_outlives_the_last_reference_to_the_disk() -> Result {
        let (disk, record) = TestDisk::add()?;
        let reference = disk.reference();
        drop(disk);
        let removed = record.frees.load(Relaxed);
        drop(reference);
        record.freed.wait_for_completion();
        let (frees, drops) = (record.frees.load(Relaxed), record.drops.load(Relaxed));

        assert_eq!(removed, 0);
        assert_eq!(frees, 1);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn a_disk_that_is_not_added_gives_its_data_back() -> Result {
        let record = TestDisk::record()?;
        let data = TestDisk::new(&record)?;
        let added = NewDisk::new(Limits::stacking())?.add(
            fmt!("a_name_that_is_longer_than_disk_names_can_be"),
            SECTORS,
            data,
        );
        let error = added.err();
        let (frees, drops) = (record.frees.load(Relaxed), record.drops.load(Relaxed));

        assert!(error == Some(EINVAL));
        assert_eq!(frees, 0);
        assert_eq!(drops, 1);
        Ok(())
    }

    #[test]
    fn an_open_disk_tells_what_it_is() -> Result {
        let (disk, record) = TestDisk::add()?;
        let device = SharedDevice::open(disk.reference().dev())?;
        let sectors = device.nr_sectors();
        let own = device.is_own();
        let whole = !device.is_partition() && !device.is_zoned() && !device.is_read_only();
        let live = device.is_live();
        let naa = device.unique_id(IdKind::Naa).map(|id| id.bytes().len());
        let eui = device.unique_id(IdKind::Eui64).is_none();
        drop(device);
        drop(disk);
        record.freed.wait_for_completion();

        assert_eq!(sectors, SECTORS);
        assert!(own);
        assert!(whole);
        assert!(live);
        assert_eq!(naa, Some(8));
        assert!(eui);
        Ok(())
    }

    #[test]
    fn open_can_be_refused_and_ends_with_removal() -> Result {
        let (disk, record) = TestDisk::add()?;
        let dev = disk.reference().dev();
        record.refuse.store(true, Relaxed);
        let refused = SharedDevice::open(dev).err();
        record.refuse.store(false, Relaxed);
        let opened = SharedDevice::open(dev).is_ok();
        drop(disk);
        let gone = SharedDevice::open(dev).err();
        record.freed.wait_for_completion();

        assert!(refused == Some(ENXIO));
        assert!(opened);
        assert!(gone == Some(ENXIO));
        Ok(())
    }

    #[test]
    fn only_one_holder_at_a_time() -> Result {
        let (disk, record) = TestDisk::add()?;
        let dev = disk.reference().dev();
        let device = BlockDevice::open(dev, heir()?)?;
        let second = BlockDevice::open(dev, heir()?).err();
        let shared = SharedDevice::open(dev).is_ok();
        drop(device);
        let third = BlockDevice::open(dev, heir()?).is_ok();
        drop(disk);
        record.freed.wait_for_completion();

        assert!(second == Some(EBUSY));
        assert!(shared);
        assert!(third);
        Ok(())
    }

    #[test]
    fn the_holder_hears_of_death_and_closes_later() -> Result {
        let (disk, record) = TestDisk::add()?;
        let heir = heir()?;
        let device = BlockDevice::open(disk.reference().dev(), heir.clone())?;
        let alive = heir.0.load(Relaxed);
        drop(disk);
        let dead = heir.0.load(Relaxed);
        let live = device.is_live();
        let sectors = device.nr_sectors();
        let frees = record.frees.load(Relaxed);
        drop(device);
        record.freed.wait_for_completion();
        let again = heir.0.load(Relaxed);

        assert_eq!(alive, 0);
        assert_eq!(dead, 1);
        assert!(!live);
        assert_eq!(sectors, 0);
        assert_eq!(frees, 0);
        assert_eq!(again, 1);
        Ok(())
    }

    #[test]
    fn a_device_is_linked_once_and_unlinked_when_closed() -> Result {
        let (bottom, bottom_record) = TestDisk::add()?;
        let (top, top_record) = TestDisk::add()?;
        let device = BlockDevice::open(bottom.reference().dev(), heir()?)?;
        let first = device.link_to(&top.reference());
        let second = device.link_to(&top.reference()).err();
        drop(device);
        // Would complain in the log if a link were left.
        drop(top);
        drop(bottom);
        top_record.freed.wait_for_completion();
        bottom_record.freed.wait_for_completion();

        assert!(first.is_ok());
        assert!(second == Some(EBUSY));
        Ok(())
    }

    #[test]
    fn bios_come_and_go() -> Result {
        let (disk, record) = TestDisk::add()?;
        let device = SharedDevice::open(disk.reference().dev())?;
        let good = read_sector(&device)?;
        record
            .script
            .store(BlkStatus::MEDIUM.as_raw().into(), Relaxed);
        let bad = read_sector(&device)?;
        let bios = record.bios.load(Relaxed);
        drop(device);
        drop(disk);
        record.freed.wait_for_completion();

        assert_eq!(good, 0);
        assert_eq!(bad, -(bindings::ENODATA as i32));
        assert_eq!(bios, 2);
        Ok(())
    }
}
