// SPDX-License-Identifier: GPL-2.0

//! Which heads there are, and what all of them share.
//!
//! What is looked up here takes a time that grows with the logarithm of the number of heads and
//! paths. These locks are held for that long only: nothing is allocated or waited for under them.

use super::{
    io::HeadIo,
    path::PathHandle,
    wwid::{
        Identity,
        Wwid, //
    },
    Head, //
};
use crate::abstractions::{
    bio::cache::BioCache,
    block_device::DevT,
    debugfs,
    workqueue::{
        Queue,
        QueueKind, //
    },
    xarray::IdTable, //
};
use crate::mpath::selector::Policy;
use kernel::{
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    }, //
};

/// What becomes of new disks by itself: the module parameter `auto_attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum AutoAttach {
    /// Nothing.
    Off = 0,
    /// They join the head of their identity, if there is one.
    Rejoin = 1,
    /// And NVMe namespaces make one if there is none.
    Form = 2,
}

impl AutoAttach {
    /// As the parameter has it.
    pub(crate) fn from_number(number: u32) -> Option<Self> {
        [Self::Off, Self::Rejoin, Self::Form]
            .into_iter()
            .find(|value| *value as u32 == number)
    }
}

/// The heads that are not dying, by identity. A head leaves in the same critical section in which
/// it begins to die.
pub(super) struct Registry(RBTree<Wwid, Arc<Head>>);

impl Registry {
    /// The head leaves, if it is there. Another one of its identity may have come since it left: that
    /// stays. The caller drops what is returned after the lock.
    pub(super) fn remove(&mut self, head: &Head) -> Option<RBTreeNode<Wwid, Arc<Head>>> {
        take(&mut self.0, &head.wwid, head)
    }
}

/// Takes a value out of a tree, if it is the one that is there under this key.
fn take<K: Ord, T>(
    tree: &mut RBTree<K, Arc<T>>,
    key: &K,
    value: &T,
) -> Option<RBTreeNode<K, Arc<T>>> {
    let is_there = tree
        .get(key)
        .is_some_and(|found| core::ptr::eq(&**found, value));
    if is_there {
        tree.remove_node(key)
    } else {
        None
    }
}

/// What all heads share.
///
/// Each head has a reference, and a reference on the module that it gives up after that; so the
/// last one is the module's, whose exit destroys the queues when nothing is on them.
#[pin_data]
pub(super) struct Shared {
    /// What becomes of new disks.
    pub(super) auto_attach: AutoAttach,
    /// `delayed_removal_secs` of the heads that are made from now on: seconds.
    pub(super) default_delay: Atomic<u32>,
    /// Their `iopolicy`: the number of a [`Policy`].
    default_policy: Atomic<u32>,
    /// Their numbers, and those that can be seen.
    pub(super) heads: Arc<IdTable<Head>>,
    #[pin]
    pub(super) registry: Mutex<Registry>,
    /// The paths that can be taken away, by device.
    #[pin]
    paths: Mutex<RBTree<DevT, Arc<PathHandle>>>,
    /// Memory for their clones.
    pub(super) bios: Arc<BioCache<HeadIo>>,
    /// Sends parked bios on, or has them fail. Its items do not wait for I/O.
    pub(super) requeue: Queue,
    /// Removes heads.
    pub(super) removal: Queue,
    /// Closes paths, which waits for their I/O, and plans their turns.
    pub(super) close: Queue,
    /// Probes failed paths.
    pub(super) probe: Queue,
    /// Looks at paths for what heads take over from them. Its items wait for path changes.
    pub(super) refresh: Queue,
    /// Scans partitions, which reads from heads.
    pub(super) scan: Queue,
    /// Releases heads whose last opener has gone.
    pub(super) reap: Queue,
    /// Tells user space what has changed.
    pub(super) events: Queue,
    /// Where heads show their state.
    pub(super) debug: Arc<debugfs::Dir>,
}

impl Shared {
    /// `delay`: `delayed_removal_secs` of new heads. `ENOMEM`.
    pub(super) fn new(auto_attach: AutoAttach, delay: u32) -> Result<Arc<Self>> {
        let heads = IdTable::new(GFP_KERNEL)?;
        let bios = BioCache::new(c"rmpath_io")?;
        let requeue = Queue::new(c"rmpath_requeue", QueueKind::Reclaim)?;
        let removal = Queue::new(c"rmpath_removal", QueueKind::Unbound)?;
        let close = Queue::new(c"rmpath_close", QueueKind::Unbound)?;
        let probe = Queue::new(c"rmpath_probe", QueueKind::Unbound)?;
        let refresh = Queue::new(c"rmpath_refresh", QueueKind::Unbound)?;
        let scan = Queue::new(c"rmpath_scan", QueueKind::Unbound)?;
        let reap = Queue::new(c"rmpath_reap", QueueKind::Unbound)?;
        let events = Queue::new(c"rmpath_events", QueueKind::Unbound)?;
        let debug = Arc::new(debugfs::Dir::new(c"rmpath"), GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                auto_attach,
                default_delay: Atomic::new(delay),
                default_policy: Atomic::new(Policy::RoundRobin as u32),
                heads,
                registry <- new_mutex!(Registry(RBTree::new()), "rmpath_registry"),
                paths <- new_mutex!(RBTree::new(), "rmpath_paths"),
                bios,
                requeue,
                removal,
                close,
                probe,
                refresh,
                scan,
                reap,
                events,
                debug,
            }),
            GFP_KERNEL,
        )
    }

    /// `iopolicy` of the heads that are made from now on. Any context.
    pub(super) fn default_policy(&self) -> Policy {
        Policy::from_raw(self.default_policy.load(Relaxed))
    }

    /// Sets it. Any context.
    pub(super) fn set_default_policy(&self, policy: Policy) {
        self.default_policy.store(policy as u32, Relaxed);
    }

    /// The head of this identity, if there is one that is not dying.
    pub(super) fn find(&self, wwid: &Wwid) -> Option<Arc<Head>> {
        self.registry.lock().0.get(wwid).cloned()
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
        let node = RBTreeNode::new(wwid.try_clone()?, head.clone(), GFP_KERNEL)?;
        let mut registry = this.registry.lock();
        if let Some(other) = registry.0.get(wwid).cloned() {
            drop(registry);
            return Ok(other);
        }
        registry.0.insert(node);
        drop(registry);
        Ok(head)
    }

    /// Whether there is no head at all.
    pub(super) fn is_empty(&self) -> bool {
        self.registry.lock().0.is_empty()
    }

    /// Has [`Shared::member_of`] find the path on this device, until what is returned is dropped.
    /// `ENOMEM`.
    pub(super) fn list(this: &Arc<Self>, dev: DevT, handle: &Arc<PathHandle>) -> Result<Listing> {
        let node = RBTreeNode::new(dev, handle.clone(), GFP_KERNEL)?;
        let replaced = this.paths.lock().insert(node);
        // There is none: a path's device is claimed for it alone.
        drop(replaced);
        Ok(Listing {
            shared: this.clone(),
            dev,
            handle: handle.clone(),
        })
    }

    /// The path on this device, if some head has one that is not being closed.
    pub(super) fn member_of(&self, dev: DevT) -> Option<Arc<PathHandle>> {
        self.paths.lock().get(&dev).cloned()
    }
}

/// A path's entry in the index of devices, which it leaves when this is dropped.
pub(super) struct Listing {
    shared: Arc<Shared>,
    dev: DevT,
    handle: Arc<PathHandle>,
}

impl Drop for Listing {
    fn drop(&mut self) {
        let mut paths = self.shared.paths.lock();
        let node = take(&mut paths, &self.dev, &*self.handle);
        drop(paths);
        drop(node);
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_registry)]
mod tests {
    use super::{
        super::path::HeadPath,
        *, //
    };
    use crate::{
        abstractions::percpu_ref::Live,
        mpath::path::AccessState, //
    };
    use core::mem::size_of;

    /// What they are made of beside this is measured by tests/42-scale.sh.
    #[test]
    fn heads_and_paths_stay_small() {
        // Locks and work items are twice as large with lockdep, which is where this runs.
        assert!(size_of::<Head>() <= 6 << 10);
        assert!(size_of::<PathHandle>() + size_of::<Live<HeadPath>>() <= 1 << 10);
    }

    #[test]
    fn auto_attach_knows_three_numbers() {
        for number in 0..3 {
            let value = AutoAttach::from_number(number);
            assert!(value.is_some_and(|value| value as u32 == number));
        }
        assert_eq!(AutoAttach::from_number(3), None);
        assert_eq!(AutoAttach::from_number(u32::MAX), None);
    }

    #[test]
    fn a_head_takes_no_other_away() -> Result {
        let shared = Shared::new(AutoAttach::Off, 0)?;
        let wwid = Wwid::from_user(b"same")?;
        let is = |head: &Arc<Head>| {
            let found = shared.find(&wwid);
            found.is_some_and(|found| Arc::ptr_eq(&found, head))
        };
        let first = Shared::find_or_create(&shared, &wwid, None)?;
        let found = is(&first);
        first.abandon();
        let left = shared.find(&wwid).is_none();
        let second = Shared::find_or_create(&shared, &wwid, None)?;
        first.abandon();
        let stays = is(&second);
        second.abandon();
        let empty = shared.is_empty();

        assert!(found && left && stays && empty);
        Ok(())
    }

    #[test]
    fn a_path_is_found_by_its_device_until_it_is_closed() -> Result {
        let shared = Shared::new(AutoAttach::Off, 0)?;
        let (one, two) = (DevT::from_numbers(8, 0), DevT::from_numbers(8, 16));
        let first = PathHandle::new(&shared, AccessState::Optimized, 1)?;
        let second = PathHandle::new(&shared, AccessState::Optimized, 1)?;
        let is = |dev, handle| {
            let found = shared.member_of(dev);
            found.is_some_and(|found| Arc::ptr_eq(&found, handle))
        };
        let before = shared.member_of(one).is_none();
        let listing = Shared::list(&shared, one, &first)?;
        let other = Shared::list(&shared, two, &second)?;
        let both = is(one, &first) && is(two, &second);
        drop(listing);
        let after = shared.member_of(one).is_none() && is(two, &second);
        // A number that is used again belongs to who came last.
        let again = Shared::list(&shared, two, &first)?;
        drop(other);
        let kept = is(two, &first);
        drop(again);
        let none = shared.member_of(two).is_none();

        assert!(before && both && after && kept && none);
        Ok(())
    }
}
