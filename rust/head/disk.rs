// SPDX-License-Identifier: GPL-2.0

//! The head as a disk.

use super::{
    sysfs,
    Head,
    REAP,
    SCAN, //
};
use crate::abstractions::{
    bio::{
        poll::Poll,
        Bio, //
    },
    block_device::IdKind,
    device_attr::AttributeGroups,
    gendisk::{
        ioctl::{
            Geometry,
            Ioctl, //
        },
        pr,
        Operations, //
    },
    module::ModuleRef,
    workqueue::{
        Queue,
        Token, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

#[vtable]
impl Operations for Head {
    const ATTRIBUTES: Option<&'static AttributeGroups<Self>> = Some(&sysfs::DISK);

    fn module(&self) -> &ModuleRef {
        &self.module
    }

    #[inline]
    fn submit_bio(this: ArcBorrow<'_, Self>, bio: Bio) {
        Self::submit(this, bio);
    }

    fn poll_bio(poll: Poll<'_>) -> c_int {
        poll.run()
    }

    fn open(this: &Self) -> Result {
        this.inner.lock().state.may_be_opened()
    }

    fn unique_id(this: &Self, kind: IdKind, id: &mut [u8; 16]) -> Result<usize> {
        this.identity.as_ref().ok_or(EINVAL)?.answer(kind, id)
    }

    fn ioctl(this: ArcBorrow<'_, Self>, ioctl: &Ioctl) -> Result<c_int> {
        Self::forward_ioctl(this, ioctl)
    }

    fn geometry(this: ArcBorrow<'_, Self>, geometry: &mut Geometry<'_>) -> Result {
        this.forward_geometry(geometry);
        Ok(())
    }

    fn reservation(
        this: ArcBorrow<'_, Self>,
        command: &mut pr::Command<'_>,
    ) -> Result<(), pr::Failure> {
        Self::forward_reservation(this, command)
    }

    fn free(this: Arc<Self>) {
        // What the head holds may be the last reference on the module, and nothing else keeps this
        // code: not to be dropped here. Queued once, so it cannot be queued already.
        drop(Queue::enqueue_on_own::<REAP, _, _>(
            Token::of(this),
            |head| &head.shared.reap,
        ));
    }
}

impl WorkItem<REAP> for Head {
    type Pointer = Token<Self>;

    /// Drops what the disk held. The module's exit waits for this.
    fn run(token: Self::Pointer) {
        drop(token);
    }
}

impl WorkItem<SCAN> for Head {
    type Pointer = Token<Self>;

    /// Looks for partitions. Reads from the head, and so may wait for a path: that is why nobody
    /// waits for this but the removal, which first lets such reads fail.
    fn run(token: Self::Pointer) {
        let head = token.object();
        let disk = head
            .inner
            .lock()
            .visible
            .as_ref()
            .map(|visible| visible.disk.reference());
        if let Some(disk) = disk {
            disk.scan_partitions();
        }
    }
}
