// SPDX-License-Identifier: GPL-2.0

//! Paths that return by themselves.
//!
//! The block class tells of every new disk, but under its mutex, and before the disk can be opened.
//! So the disk's number is noted there and looked at from a work item, again and again until it
//! can be opened or time is up.

use super::{
    attach::{
        rejoin,
        Refusal, //
    },
    registry::Shared,
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
        disarm_sync,
        Queue,
        QueueKind,
        Token, //
    },
};
use kernel::{
    impl_has_delayed_work, new_mutex,
    prelude::*,
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

/// How long to wait before looking again, in milliseconds, and how often.
const INTERVAL: u32 = 50;
const TRIES: u32 = 200;

/// A disk that has appeared.
struct Newcomer {
    dev: DevT,
    tries: u32,
}

/// Those to look at, while somebody may arm the work item.
struct Newcomers {
    disks: KVec<Newcomer>,
    closed: bool,
}

/// Looks at new disks.
#[pin_data]
pub(super) struct Discovery {
    shared: Arc<Shared>,
    #[pin]
    newcomers: Mutex<Newcomers>,
    #[pin]
    look: DelayedWork<Self, LOOK>,
    queue: Queue,
}

impl_has_delayed_work! {
    impl HasDelayedWork<Self, LOOK> for Discovery { self.look }
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
                        disks: KVec::new(),
                        closed: false,
                    },
                    "rmpath_newcomers"
                ),
                look <- new_delayed_work!("rmpath_look"),
                queue,
            }),
            GFP_KERNEL,
        )
    }

    fn note(this: ArcBorrow<'_, Self>, newcomer: Newcomer, delay: u32) {
        let dev = newcomer.dev;
        // Armed under the lock, so that nothing is armed once this is closed.
        let mut newcomers = this.newcomers.lock();
        if newcomers.closed {
            return;
        }
        if newcomers.disks.push(newcomer, GFP_KERNEL).is_err() {
            pr_warn!("out of memory: disk {} is not looked at\n", dev);
            return;
        }
        let token = Token::of(this.into());
        // A token that comes back is not the last reference: the caller has one.
        drop(this.queue.arm::<LOOK, _, _>(token, msecs_to_jiffies(delay)));
    }

    /// Looks at one disk. Returns whether to look again later.
    fn look_at(&self, dev: DevT) -> bool {
        // First beside others: opening a disk for ourselves alone would disturb those whose it is.
        let wwid = match SharedDevice::open(dev) {
            // A map over a head reports that head's identity: it is not a way to it.
            Ok(device) if device.is_stacked() => return false,
            Ok(device) => Identity::of(&device).and_then(|identity| identity.wwid().ok()),
            // Not there yet, or not any more.
            Err(error) => return error == ENXIO,
        };
        if wwid.and_then(|wwid| self.shared.find(&wwid)).is_none() {
            return false;
        }
        match rejoin(&self.shared, dev) {
            Ok(()) | Err(Refusal::Unwanted | Refusal::Duplicate) => false,
            // Somebody may be looking at it just now, or its head be on its way out.
            Err(Refusal::Open(error)) if error == EBUSY || error == ENXIO => true,
            Err(Refusal::Failed(error, _)) if error == EAGAIN => true,
            Err(refusal) => {
                pr_warn!("disk {} does not rejoin its head: {}\n", dev, refusal);
                false
            }
        }
    }
}

impl DiskAdded for Discovery {
    fn disk_added(this: ArcBorrow<'_, Self>, disk: &AddedDisk) {
        if disk.is_ours() || !disk.is_whole_disk() || this.shared.is_empty() {
            return;
        }
        if let Some(dev) = disk.dev() {
            // A head may be waiting for this disk with memory that is to be freed.
            let _no_io = NoIo::enter();
            Self::note(this, Newcomer { dev, tries: 0 }, 0);
        }
    }
}

impl WorkItem<LOOK> for Discovery {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let _no_io = NoIo::enter();
        let this = token.object().as_arc_borrow();
        let newcomers = core::mem::take(&mut this.newcomers.lock().disks);
        for Newcomer { dev, tries } in newcomers {
            if this.look_at(dev) && tries < TRIES {
                let tries = tries + 1;
                Self::note(this, Newcomer { dev, tries }, INTERVAL);
            }
        }
    }
}

/// Ends a [`Discovery`] when dropped, after the interface that feeds it.
pub(super) struct Running(pub(super) Arc<Discovery>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.newcomers.lock().closed = true;
        // Its token holds no module reference, so it may be pending when the module exits.
        drop(disarm_sync::<LOOK, _, _>(&*self.0));
    }
}
