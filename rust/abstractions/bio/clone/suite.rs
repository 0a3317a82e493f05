// SPDX-License-Identifier: GPL-2.0

//! Clones: no original is lost or ended twice, however its clone ends.

use super::*;
use crate::abstractions::{
    bio::cache::BioCache,
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
    module::ModuleRef,
    percpu_ref::{
        Live,
        LiveRef, //
    },
};
use kernel::{
    prelude::*,
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

/// The last counts what could not be sent to it.
struct Below(BlockDevice<Nobody>, Arc<BioSet<Io>>, Atomic<u32>);

struct Nobody;

impl Holder for Nobody {
    fn mark_dead(_this: ArcBorrow<'_, Self>) {}
}

impl AsRef<Bdev> for LiveRef<Below> {
    fn as_ref(&self) -> &Bdev {
        &self.0
    }
}

impl AsRef<BioSet<Io>> for LiveRef<Below> {
    fn as_ref(&self) -> &BioSet<Io> {
        &self.1
    }
}

/// Counts its own drops: one for each clone, however often that is exchanged.
struct Io {
    plan: Plan,
    drops: Arc<Atomic<u32>>,
    good: Arc<Atomic<u32>>,
    below: Arc<Live<Below>>,
}

impl Drop for Io {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Relaxed);
    }
}

impl CloneOps for Io {
    type Target = LiveRef<Below>;

    fn succeeded(&self, _target: &Self::Target) {
        self.good.fetch_add(1, Relaxed);
    }

    fn failed(mut clone: super::Clone<Self>, target: Self::Target, status: BlkStatus) {
        drop(target);
        match clone.plan {
            Plan::Finish => clone.finish(status),
            Plan::Drop => drop(clone),
            Plan::Again => {
                clone.plan = Plan::Finish;
                // The disk below ends bios in the submitter's thread, which may sleep.
                let below = clone.below.clone();
                if let Some(target) = below.try_get() {
                    clone.submit(target, Flags::FAILFAST);
                }
            }
        }
    }

    fn not_sent(&self, target: &Self::Target) {
        target.2.fetch_add(1, Relaxed);
    }
}

struct Top {
    bios: Arc<BioSet<Io>>,
    /// Whether bios are sent at once, not cloned first.
    at_once: bool,
    plan: Plan,
    drops: Arc<Atomic<u32>>,
    good: Arc<Atomic<u32>>,
    below: Arc<Live<Below>>,
    freed: Arc<Completion>,
    module: ModuleRef,
}

#[vtable]
impl Operations for Top {
    const ATTRIBUTES: Option<&'static AttributeGroups<Self>> = None;

    fn module(&self) -> &ModuleRef {
        &self.module
    }

    fn submit_bio(this: ArcBorrow<'_, Self>, bio: Bio) {
        let io = Io {
            plan: this.plan,
            drops: this.drops.clone(),
            good: this.good.clone(),
            below: this.below.clone(),
        };
        if this.at_once {
            return match this.below.try_get() {
                Some(target) => super::Clone::send(bio, || io, target, Flags::default()),
                None => bio.end(BlkStatus::OFFLINE),
            };
        }
        match (this.bios.clone_bio(bio, io), this.below.try_get()) {
            (Ok(clone), Some(target)) => clone.submit(target, Flags::default()),
            (Ok(clone), None) => clone.finish(BlkStatus::OFFLINE),
            (Err((bio, _, status)), _) => bio.end(status),
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
    good: Arc<Atomic<u32>>,
    freed: Arc<Completion>,
}

impl Stack {
    fn new(name: &'static str, plan: Plan, at_once: bool) -> Result<Self> {
        let (bottom, record) = TestDisk::add()?;
        let holder = Arc::new(Nobody, GFP_KERNEL)?;
        let cache = BioCache::new(c"rmpath_kunit_io")?;
        let bios = Arc::pin_init(BioSet::new(cache), GFP_KERNEL)?;
        let device = BlockDevice::open(bottom.reference().dev(), holder)?;
        let below = Below(device, bios.clone(), Atomic::new(0));
        let below = Arc::pin_init(Live::pin_init(below), GFP_KERNEL)?;
        let drops = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let good = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let freed = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let data = Top {
            bios,
            at_once,
            plan,
            drops: drops.clone(),
            good: good.clone(),
            below: below.clone(),
            freed: freed.clone(),
            module: ModuleRef::try_get().ok_or(ENODEV)?,
        };
        let data = Arc::new(data, GFP_KERNEL)?;
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
            good,
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

    /// Takes it down, and returns how many clones there have been, how many came back well, and how many
    /// bios there were below.
    fn end(self) -> (u32, u32, u32) {
        drop(self.device);
        drop(self.top);
        drop(self.data);
        self.freed.wait_for_completion();
        self.below.shut();
        drop(self.below);
        drop(self.bottom);
        self.record.freed.wait_for_completion();
        let (drops, good) = (self.drops.load(Relaxed), self.good.load(Relaxed));
        (drops, good, self.record.bios.load(Relaxed))
    }
}

#[kunit_tests(rmpath_bio_clone)]
mod tests {
    use super::*;

    #[test]
    fn success_and_errors_are_passed_on() -> Result {
        for at_once in [false, true] {
            let stack = Stack::new("rmpath_pass", Plan::Finish, at_once)?;
            let good = stack.read(&[])?;
            let bad = stack.read(&[BlkStatus::MEDIUM])?;
            let counts = stack.end();

            assert_eq!(good, 0);
            assert_eq!(bad, -(bindings::ENODATA as i32));
            assert_eq!(counts, (2, 1, 2));
        }
        Ok(())
    }

    #[test]
    fn a_dropped_clone_ends_its_original() -> Result {
        for at_once in [false, true] {
            let stack = Stack::new("rmpath_drop", Plan::Drop, at_once)?;
            let dropped = stack.read(&[BlkStatus::MEDIUM])?;
            let counts = stack.end();

            assert_eq!(dropped, EIO.to_errno());
            assert_eq!(counts, (1, 0, 1));
        }
        Ok(())
    }

    #[test]
    fn a_fresh_clone_is_the_same_bio_again() -> Result {
        for at_once in [false, true] {
            let stack = Stack::new("rmpath_again", Plan::Again, at_once)?;
            let saved = stack.read(&[BlkStatus::TRANSPORT])?;
            let lost = stack.read(&[BlkStatus::TRANSPORT, BlkStatus::MEDIUM])?;
            let counts = stack.end();

            assert_eq!(saved, 0);
            assert_eq!(lost, -(bindings::ENODATA as i32));
            // Private data moves to the fresh clone.
            assert_eq!(counts, (2, 1, 4));
        }
        Ok(())
    }

    #[test]
    fn what_was_sent_at_once_is_not_kept_by_a_set_that_is_shut() -> Result {
        let stack = Stack::new("rmpath_late", Plan::Again, true)?;
        stack.data.bios.shut();
        let good = stack.read(&[])?;
        // It would be sent again, were there a clone to be had.
        let bad = stack.read(&[BlkStatus::TRANSPORT])?;
        let counts = stack.end();

        assert_eq!(good, 0);
        assert_eq!(bad, -(bindings::ENOLINK as i32));
        assert_eq!(counts, (2, 1, 2));
        Ok(())
    }

    #[test]
    fn a_set_has_a_reserve_for_want_of_memory() -> Result {
        let stack = Stack::new("rmpath_reserve", Plan::Again, false)?;
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
        for at_once in [false, true] {
            let stack = Stack::new("rmpath_nowait", Plan::Finish, at_once)?;
            let primed = read_sector(&stack.below.0)?;
            let mut refused = EAGAIN.to_errno();
            let mut unsent = u32::from(at_once);
            if let Some(failing) = FailingAllocations::begin() {
                refused = read_sector_with(&stack.device, bindings::RMPATH_REQ_NOWAIT).unwrap_or(1);
                drop(failing);
                unsent = stack
                    .below
                    .try_get()
                    .map_or(2, |below| below.2.load(Relaxed));
            }
            // Waits for ever, were the clone that was not made still counted.
            stack.end();

            assert_eq!(primed, 0);
            assert_eq!(refused, EAGAIN.to_errno());
            // Only who sends it at once has chosen a target by then.
            assert_eq!(unsent, u32::from(at_once));
        }
        Ok(())
    }

    #[test]
    fn a_set_that_is_shut_makes_no_clones() -> Result {
        let stack = Stack::new("rmpath_shut", Plan::Finish, false)?;
        stack.data.bios.shut();
        let refused = stack.read(&[])?;
        let counts = stack.end();

        assert_eq!(refused, EIO.to_errno());
        assert_eq!(counts, (1, 0, 0));
        Ok(())
    }

    #[test]
    fn a_target_that_is_shut_gets_nothing() -> Result {
        let stack = Stack::new("rmpath_offline", Plan::Finish, false)?;
        stack.below.shut();
        let refused = stack.read(&[])?;
        let counts = stack.end();

        assert!(refused != 0);
        assert_eq!(counts, (1, 0, 0));
        Ok(())
    }
}
