// SPDX-License-Identifier: GPL-2.0

//! Disks that turn up: paths that return, and NVMe namespaces that make a head.
//!
//! The block class tells of every new disk, but under its mutex, and before the disk can be opened.
//! So the disk's number is noted there and looked at from a work item, again and again until it
//! can be opened or time is up. Each disk has a work item of its own: one that hangs while it is
//! opened holds up no other.
//!
//! With [`AutoAttach::Form`] the disks of the nvme driver make heads, as in native multipath. They
//! are recognised by their parent, which is a device of the class `nvme`, the controller: that is
//! where a namespace belongs to whose disk one controller shows, whatever the transport. The disk
//! that native multipath makes belongs to the subsystem instead, and the paths below it are hidden.

use super::{
    attach::{
        assemble,
        Refusal, //
    },
    registry::{
        AutoAttach,
        Shared, //
    },
    wwid::Identity, //
};
use crate::abstractions::{
    block_device::{
        DevT,
        SharedDevice, //
    },
    class_interface::{
        AddedDisk,
        DiskAdded, //
    },
    memalloc::NoIo,
    workqueue::{
        arm,
        disarm_sync,
        impl_runs_on,
        Queue,
        QueueKind,
        Token, //
    },
};
use kernel::{
    impl_has_delayed_work, new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        Arc,
        ArcBorrow,
        Mutex, //
    },
    time::msecs_to_jiffies,
    workqueue::{
        new_delayed_work,
        DelayedWork,
        WorkItem, //
    },
};

const LOOK: u64 = 0;

/// How often a disk is looked at.
const TRIES: u32 = 40;

/// How long to wait before looking again, in milliseconds: 50 at first and 800 in the end, 12
/// seconds in all. Somebody who looks at a new disk (udev, blkid) is soon done; who mounts it is
/// not.
fn pause(tries: u32) -> u32 {
    50 << (tries / 8).min(4)
}

/// A disk that has appeared.
#[pin_data]
struct Newcomer {
    dev: DevT,
    discovery: Arc<Discovery>,
    #[pin]
    look: DelayedWork<Self, LOOK>,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, LOOK> for Newcomer { self.look }
}
impl_runs_on! {
    impl RunsOn<LOOK> for Newcomer { self.discovery.queue }
}

/// What is known of a disk that is being looked at.
struct Known {
    newcomer: Arc<Newcomer>,
    /// Whether it is a namespace of the nvme driver.
    nvme: bool,
    /// How often it has been looked at since it came.
    tries: u32,
}

/// Those that are looked at, while somebody may arm their work items.
struct Newcomers {
    disks: RBTree<DevT, Known>,
    closed: bool,
}

impl Newcomers {
    /// What is known of this one. `None` if it was let go, also if another disk has its number now.
    fn known(&mut self, this: &Arc<Newcomer>) -> Option<&mut Known> {
        self.disks
            .get_mut(&this.dev)
            .filter(|known| Arc::ptr_eq(&known.newcomer, this))
    }
}

/// Looks at new disks.
#[pin_data]
pub(super) struct Discovery {
    shared: Arc<Shared>,
    #[pin]
    newcomers: Mutex<Newcomers>,
    queue: Queue,
}

impl Discovery {
    /// `ENOMEM`.
    pub(super) fn new(shared: Arc<Shared>) -> Result<Arc<Self>> {
        let queue = Queue::new(c"rmpath_discovery", QueueKind::Unbound)?;
        Arc::pin_init(
            pin_init!(Self {
                shared,
                newcomers <- new_mutex!(
                    Newcomers {
                        disks: RBTree::new(),
                        closed: false,
                    },
                    "rmpath_newcomers"
                ),
                queue,
            }),
            GFP_KERNEL,
        )
    }

    /// A disk that nobody looks at yet. `ENOMEM`.
    fn newcomer(
        this: ArcBorrow<'_, Self>,
        dev: DevT,
        nvme: bool,
    ) -> Result<RBTreeNode<DevT, Known>> {
        let newcomer = Arc::pin_init(
            pin_init!(Newcomer {
                dev,
                discovery: this.into(),
                look <- new_delayed_work!("rmpath_look"),
            }),
            GFP_KERNEL,
        )?;
        let known = Known {
            newcomer,
            nvme,
            tries: 0,
        };
        RBTreeNode::new(dev, known, GFP_KERNEL)
    }

    /// There is a disk of this number, perhaps once more. It is looked at soon.
    fn note(this: ArcBorrow<'_, Self>, dev: DevT, nvme: bool) {
        let Ok(node) = Self::newcomer(this, dev, nvme) else {
            pr_warn!("out of memory: disk {} is not looked at\n", dev);
            return;
        };
        // Armed under the lock, so that nothing is armed once this is closed.
        let mut newcomers = this.newcomers.lock();
        if newcomers.closed {
            drop(newcomers);
            return; // The node goes after the lock.
        }
        let spare = match newcomers.disks.get_mut(&dev) {
            // The last one of this number has not been forgotten yet.
            Some(known) => {
                known.nvme = nvme;
                known.tries = 0;
                Some(node)
            }
            None => newcomers.disks.insert(node),
        };
        let superseded = newcomers.disks.get(&dev).and_then(|known| {
            let token = Token::of(known.newcomer.clone());
            arm::<LOOK, _, _>(token, 0)
        });
        drop(newcomers);
        drop(superseded);
        drop(spare);
    }

    /// Looks at one disk. Returns whether to look again later.
    fn look_at(&self, dev: DevT, nvme: bool) -> bool {
        let form = nvme && self.shared.auto_attach == AutoAttach::Form;
        // First beside others: opening a disk for ourselves alone would disturb those whose it is.
        let identity = match SharedDevice::open(dev) {
            // A map over a head reports that head's identity: it is not a way to it.
            Ok(device) if device.is_stacked() => return false,
            Ok(device) => Identity::of(&device),
            // Not there yet, or not any more; or memory is short.
            Err(error) => return [ENXIO, ENOMEM].contains(&error),
        };
        let Some(identity) = identity else {
            if form {
                pr_info!("disk {} forms no head: no EUI-64 or NGUID\n", dev);
            }
            return false;
        };
        if !form {
            let Ok(wwid) = identity.wwid() else {
                return true;
            };
            if self.shared.find(&wwid).is_none() {
                return false;
            }
        }
        match assemble(&self.shared, dev, form) {
            Ok(()) | Err(Refusal::Unwanted | Refusal::Duplicate) => false,
            // Somebody may be looking at it just now, its head be on its way out, the path of its name
            // that was there before not have gone yet, or memory be short. Who keeps it may do so.
            Err(Refusal::Open(error)) if [EBUSY, ENXIO, ENOMEM].contains(&error) => true,
            Err(Refusal::Failed(error, _)) if [EAGAIN, ENOMEM].contains(&error) => true,
            // What exists already is told of while the module is being loaded.
            Err(Refusal::NameInUse | Refusal::NotReady) => true,
            Err(refusal) => {
                pr_warn!("disk {} does not join its head: {}\n", dev, refusal);
                false
            }
        }
    }
}

impl DiskAdded for Discovery {
    fn disk_added(this: ArcBorrow<'_, Self>, disk: &AddedDisk) {
        if disk.is_ours() || !disk.is_whole_disk() {
            return;
        }
        let nvme = disk.parent_class() == Some(c"nvme");
        let may_form = nvme && this.shared.auto_attach == AutoAttach::Form;
        if !may_form && this.shared.is_empty() {
            return;
        }
        if let Some(dev) = disk.dev() {
            // A head may be waiting for this disk with memory that is to be freed.
            let _no_io = NoIo::enter();
            Self::note(this, dev, nvme);
        }
    }
}

impl WorkItem<LOOK> for Newcomer {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let _no_io = NoIo::enter();
        let this = token.object().clone();
        let discovery = &this.discovery;
        let nvme = {
            let mut newcomers = discovery.newcomers.lock();
            let Some(known) = newcomers.known(&this) else {
                return; // The module goes.
            };
            known.tries += 1;
            known.nvme
        };
        let again = discovery.look_at(this.dev, nvme);

        let mut newcomers = discovery.newcomers.lock();
        let Some(known) = newcomers.known(&this) else {
            return;
        };
        let tries = known.tries;
        if tries == 0 {
            // Another disk of this number has come meanwhile, and this item is armed for it.
        } else if again && tries < TRIES {
            let pause = msecs_to_jiffies(pause(tries));
            let superseded = arm::<LOOK, _, _>(token, pause);
            drop(newcomers);
            drop(superseded);
        } else {
            let node = newcomers.disks.remove_node(&this.dev);
            drop(newcomers);
            drop(node);
        }
    }
}

/// Ends a [`Discovery`] when dropped, after the interface that feeds it.
pub(super) struct Running(pub(super) Arc<Discovery>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut newcomers = self.0.newcomers.lock();
        newcomers.closed = true;
        let disks = core::mem::take(&mut newcomers.disks);
        drop(newcomers);
        // Their tokens hold no module reference, so they may be pending when the module exits.
        for known in disks.values() {
            drop(disarm_sync::<LOOK, _, _>(&*known.newcomer));
        }
        drop(disks);
        // One that had just forgotten its disk may still have us: the queue must not be destroyed
        // by one of its own items.
        self.0.queue.flush();
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_discover)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_twelve_seconds() {
        assert_eq!(pause(1), 50);
        assert_eq!(pause(TRIES - 1), 800);
        let all: u32 = (1..TRIES).map(pause).sum();
        assert!((11_000..13_000).contains(&all));
    }

    #[test]
    fn disks_that_never_come_are_let_go_at_the_end() -> Result {
        let discovery = Discovery::new(Shared::new(AutoAttach::Form, 0)?)?;
        let running = Running(discovery.clone());
        for minor in 0..8 {
            // A major number that nobody has: opening these is ENXIO.
            let dev = DevT::from_numbers(4095, minor);
            Discovery::note(discovery.as_arc_borrow(), dev, true);
            // Twice: it is still the same one.
            Discovery::note(discovery.as_arc_borrow(), dev, false);
        }
        let noted = discovery.newcomers.lock().disks.values().count();
        drop(running);
        let left = discovery.newcomers.lock().disks.values().count();
        // Too late.
        Discovery::note(discovery.as_arc_borrow(), DevT::from_numbers(4095, 9), true);
        let late = discovery.newcomers.lock().disks.values().count();
        drop(discovery);

        assert_eq!(noted, 8);
        assert_eq!(left, 0);
        assert_eq!(late, 0);
        Ok(())
    }
}
