// SPDX-License-Identifier: GPL-2.0

//! Clones: no original is lost or ended twice, however its clone ends.

use super::*;
use crate::abstractions::{
    block_device::{
        BlockDevice,
        Holder,
        SharedDevice, //
    },
    device_attr::AttributeGroups,
    gendisk::{
        suite::{
            read_sector,
            read_sector_with,
            Record,
            TestDisk,
            SECTORS, //
        },
        Disk,
        Limits,
        NewDisk,
        Operations, //
    },
    kunit::FailingAllocations,
    percpu_ref::{
        Live,
        LiveRef, //
    },
};
use kernel::{
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow,
        Completion, //
    }, //
};

/// What is done with a clone that comes back with an error.
#[derive(Clone, Copy, PartialEq)]
enum Plan {
    /// Its error is passed on.
    Finish,
    /// It is dropped.
    Drop,
    /// A fresh one is sent, once.
    Again,
}

struct Below(BlockDevice<Nobody>);

struct Nobody;

impl Holder for Nobody {
    fn mark_dead(_this: ArcBorrow<'_, Self>) {}
}

impl AsRef<Bdev> for LiveRef<Below> {
    fn as_ref(&self) -> &Bdev {
        &self.0
    }
}

/// Counts its own drops: one for each clone, however often that is exchanged.
struct Io {
    plan: Plan,
    drops: Arc<Atomic<u32>>,
    below: Arc<Live<Below>>,
}

impl Drop for Io {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Relaxed);
    }
}

impl CloneOps for Io {
    type Target = LiveRef<Below>;

    fn end_io(mut clone: super::Clone<Self>, target: Self::Target, status: BlkStatus) {
        drop(target);
        if status == BlkStatus::OK {
            return clone.finish(status);
        }
        match clone.plan {
            Plan::Finish => clone.finish(status),
            Plan::Drop => drop(clone),
            Plan::Again => {
                clone.plan = Plan::Finish;
                // The disk below ends bios in the submitter's thread, which may sleep.
                let below = clone.below.clone();
                if let (Some(fresh), Some(target)) = (clone.refresh(), below.try_get()) {
                    fresh.submit(target, Flags { failfast: true });
                }
            }
        }
    }
}

#[pin_data]
struct Top {
    #[pin]
    bios: BioSet<Io>,
    plan: Plan,
    drops: Arc<Atomic<u32>>,
    below: Arc<Live<Below>>,
    freed: Arc<Completion>,
}

#[vtable]
impl Operations for Top {
    const ATTRIBUTES: Option<&'static AttributeGroups<Self>> = None;

    fn submit_bio(this: ArcBorrow<'_, Self>, bio: Bio) {
        let io = Io {
            plan: this.plan,
            drops: this.drops.clone(),
            below: this.below.clone(),
        };
        match (this.bios.clone_bio(bio, io), this.below.try_get()) {
            (Ok(clone), Some(target)) => clone.submit(target, Flags::default()),
            (Ok(clone), None) => clone.finish(BlkStatus::OFFLINE),
            (Err((bio, status)), _) => bio.end(status),
        }
    }

    fn open(_this: &Self) -> Result {
        Ok(())
    }

    fn free(this: Arc<Self>) {
        let freed = this.freed.clone();
        drop(this);
        freed.complete_all();
    }
}

/// A disk on a disk.
struct Stack {
    bottom: Disk<TestDisk>,
    record: Arc<Record>,
    below: Arc<Live<Below>>,
    top: Disk<Top>,
    data: Arc<Top>,
    device: SharedDevice,
    drops: Arc<Atomic<u32>>,
    freed: Arc<Completion>,
}

impl Stack {
    fn new(name: &'static str, plan: Plan) -> Result<Self> {
        let (bottom, record) = TestDisk::add()?;
        let holder = Arc::new(Nobody, GFP_KERNEL)?;
        let below = Below(BlockDevice::open(bottom.reference().dev(), holder)?);
        let below = Arc::pin_init(Live::pin_init(below), GFP_KERNEL)?;
        let drops = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let cache = BioCache::new(c"rmpath_kunit_io")?;
        let freed = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let (its_drops, its_below, its_freed) = (drops.clone(), below.clone(), freed.clone());
        let data = Arc::pin_init(
            try_pin_init!(Top {
                bios <- BioSet::new(cache),
                plan,
                drops: its_drops,
                below: its_below,
                freed: its_freed,
            }? Error),
            GFP_KERNEL,
        )?;
        let mut limits = Limits::stacking();
        limits.stack(&below.0);
        let top = NewDisk::new(limits)?.add(fmt!("{name}"), SECTORS, data.clone())?;
        let device = SharedDevice::open(top.reference().dev())?;
        Ok(Self {
            bottom,
            record,
            below,
            top,
            data,
            device,
            drops,
            freed,
        })
    }

    /// Reads a sector while the disk below does what `script` says.
    fn read(&self, script: &[BlkStatus]) -> Result<i32> {
        let bytes = script
            .iter()
            .rev()
            .fold(0, |bytes, status| bytes << 8 | u32::from(status.as_raw()));
        self.record.script.store(bytes, Relaxed);
        read_sector(&self.device)
    }

    /// Takes it down, and returns how many clones there have been, and how many bios below.
    fn end(self) -> (u32, u32) {
        drop(self.device);
        drop(self.top);
        drop(self.data);
        self.freed.wait_for_completion();
        self.below.shut();
        drop(self.below);
        drop(self.bottom);
        self.record.freed.wait_for_completion();
        (self.drops.load(Relaxed), self.record.bios.load(Relaxed))
    }
}

#[kunit_tests(rmpath_bio_clone)]
mod tests {
    use super::*;

    #[test]
    fn success_and_errors_are_passed_on() -> Result {
        let stack = Stack::new("rmpath_pass", Plan::Finish)?;
        let good = stack.read(&[])?;
        let bad = stack.read(&[BlkStatus::MEDIUM])?;
        let (clones, bios) = stack.end();

        assert_eq!(good, 0);
        assert_eq!(bad, -(bindings::ENODATA as i32));
        assert_eq!(clones, 2);
        assert_eq!(bios, 2);
        Ok(())
    }

    #[test]
    fn a_dropped_clone_ends_its_original() -> Result {
        let stack = Stack::new("rmpath_drop", Plan::Drop)?;
        let dropped = stack.read(&[BlkStatus::MEDIUM])?;
        let (clones, bios) = stack.end();

        assert_eq!(dropped, EIO.to_errno());
        assert_eq!(clones, 1);
        assert_eq!(bios, 1);
        Ok(())
    }

    #[test]
    fn a_fresh_clone_is_the_same_bio_again() -> Result {
        let stack = Stack::new("rmpath_again", Plan::Again)?;
        let saved = stack.read(&[BlkStatus::TRANSPORT])?;
        let lost = stack.read(&[BlkStatus::TRANSPORT, BlkStatus::MEDIUM])?;
        let (clones, bios) = stack.end();

        assert_eq!(saved, 0);
        assert_eq!(lost, -(bindings::ENODATA as i32));
        // Private data moves to the fresh clone.
        assert_eq!(clones, 2);
        assert_eq!(bios, 4);
        Ok(())
    }

    #[test]
    fn a_set_has_a_reserve_for_want_of_memory() -> Result {
        let stack = Stack::new("rmpath_reserve", Plan::Again)?;
        // What the next original is made of: memory that its own set keeps.
        let primed = read_sector(&stack.below.0)?;
        let mut results = [0; 4];
        if let Some(failing) = FailingAllocations::begin() {
            for result in &mut results {
                *result = stack
                    .read(&[BlkStatus::TRANSPORT])
                    .map_or(1, |status| status);
            }
            drop(failing);
        }
        stack.end();

        assert_eq!(primed, 0);
        assert_eq!(results, [0; 4]);
        Ok(())
    }

    #[test]
    fn what_may_not_wait_is_given_back_for_want_of_memory() -> Result {
        let stack = Stack::new("rmpath_nowait", Plan::Finish)?;
        let primed = read_sector(&stack.below.0)?;
        let mut refused = EAGAIN.to_errno();
        if let Some(failing) = FailingAllocations::begin() {
            refused = read_sector_with(&stack.device, bindings::RMPATH_REQ_NOWAIT).unwrap_or(1);
            drop(failing);
        }
        // Waits for ever, were the clone that was not made still counted.
        stack.end();

        assert_eq!(primed, 0);
        assert_eq!(refused, EAGAIN.to_errno());
        Ok(())
    }

    #[test]
    fn a_set_that_is_shut_makes_no_clones() -> Result {
        let stack = Stack::new("rmpath_shut", Plan::Finish)?;
        stack.data.bios.shut();
        let refused = stack.read(&[])?;
        let (clones, bios) = stack.end();

        assert_eq!(refused, EIO.to_errno());
        assert_eq!(clones, 1);
        assert_eq!(bios, 0);
        Ok(())
    }

    #[test]
    fn a_target_that_is_shut_gets_nothing() -> Result {
        let stack = Stack::new("rmpath_offline", Plan::Finish)?;
        stack.below.shut();
        let refused = stack.read(&[])?;
        let (clones, bios) = stack.end();

        assert!(refused != 0);
        assert_eq!(clones, 1);
        assert_eq!(bios, 0);
        Ok(())
    }
}
