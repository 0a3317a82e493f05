// SPDX-License-Identifier: GPL-2.0

//! Which heads there are, and what all of them share.

use super::{
    path::PathHandle,
    wwid::{
        Identity,
        Wwid, //
    },
    Head, //
};
use crate::abstractions::{
    block_device::DevT,
    workqueue::{
        Queue,
        QueueKind, //
    },
    xarray::IdTable, //
};
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::RBTree,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// The heads that are not dying, by identity. A head leaves in the same critical section in which
/// it begins to die.
pub(super) type Registry = RBTree<Wwid, Arc<Head>>;

/// What all heads share.
///
/// Each head has a reference, and a reference on the module that it gives up after that; so the
/// last one is the module's, whose exit destroys the queues when nothing is on them.
#[pin_data]
pub(super) struct Shared {
    /// Whether disks that return rejoin their head by themselves.
    pub(super) auto_attach: bool,
    /// Their numbers, and those that can be seen.
    pub(super) heads: Arc<IdTable<Head>>,
    #[pin]
    pub(super) registry: Mutex<Registry>,
    /// Sends parked bios on, or has them fail. Its items do not wait for I/O.
    pub(super) requeue: Queue,
    /// Removes heads.
    pub(super) removal: Queue,
    /// Closes paths, which waits for their I/O.
    pub(super) close: Queue,
    /// Scans partitions, which reads from heads.
    pub(super) scan: Queue,
    /// Releases heads whose last opener has gone.
    pub(super) reap: Queue,
}

impl Shared {
    /// `ENOMEM`.
    pub(super) fn new(auto_attach: bool) -> Result<Arc<Self>> {
        let heads = IdTable::new(GFP_KERNEL)?;
        let requeue = Queue::new(c"rmpath_requeue", QueueKind::Reclaim)?;
        let removal = Queue::new(c"rmpath_removal", QueueKind::Unbound)?;
        let close = Queue::new(c"rmpath_close", QueueKind::Unbound)?;
        let scan = Queue::new(c"rmpath_scan", QueueKind::Unbound)?;
        let reap = Queue::new(c"rmpath_reap", QueueKind::Unbound)?;
        Arc::pin_init(
            pin_init!(Self {
                auto_attach,
                heads,
                registry <- new_mutex!(RBTree::new(), "rmpath_registry"),
                requeue,
                removal,
                close,
                scan,
                reap,
            }),
            GFP_KERNEL,
        )
    }

    /// The head of this identity, if there is one that is not dying.
    pub(super) fn find(&self, wwid: &Wwid) -> Option<Arc<Head>> {
        self.registry.lock().get(wwid).cloned()
    }

    /// As [`Shared::find`], or a new one. Errors as `Head::new`.
    pub(super) fn find_or_create(
        this: &Arc<Self>,
        wwid: &Wwid,
        identity: Option<Identity>,
    ) -> Result<Arc<Head>> {
        if let Some(head) = this.find(wwid) {
            return Ok(head);
        }
        // Made before the lock, and dropped after it if somebody else was faster.
        let head = Head::new(this, wwid.try_clone()?, identity)?;
        let mut registry = this.registry.lock();
        if let Some(other) = registry.get(wwid).cloned() {
            drop(registry);
            return Ok(other);
        }
        registry.try_create_and_insert(wwid.try_clone()?, head.clone(), GFP_KERNEL)?;
        drop(registry);
        Ok(head)
    }

    /// Whether there is no head at all.
    pub(super) fn is_empty(&self) -> bool {
        self.registry.lock().is_empty()
    }

    /// The path on this device, if some head has one.
    pub(super) fn member_of(&self, dev: DevT) -> Option<Arc<PathHandle>> {
        self.heads.iter().find_map(|(_, head)| head.member_of(dev))
    }
}
