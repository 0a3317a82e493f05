// SPDX-License-Identifier: GPL-2.0

//! How a path ceases to be one.
//!
//! Whoever finds a path dead, or wants it gone, marks it so and queues its work item. The path
//! leaves the path set, and if it was the last, the head's removal is armed in the same critical
//! section. When nobody can see the path there any more it is shut, which waits for its I/O; then
//! its device is closed, and only then is it no longer a member. A head is not removed while it has
//! members, so the path's link to the disk is undone before the disk goes.

use super::{
    Head,
    OpenMember,
    PathHandle,
    State,
    CLOSE, //
};
use crate::abstractions::{
    block_device::DevT,
    memalloc::NoIo,
    rcu::Elapsed,
    workqueue::Token, //
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

impl Head {
    /// Takes a path out of the path set, if it is in there. It stays a member. Also returns whether it
    /// has a write cache that is to be emptied ([`Head::flush_leaving`]).
    fn withdraw(this: ArcBorrow<'_, Self>, handle: &Arc<PathHandle>) -> Option<(OpenMember, bool)> {
        let setup = this.setup.lock();
        let set = this.empty_set_for_sure();

        let mut inner = this.inner.lock();
        let open = inner
            .members
            .iter_mut()
            .find(|member| Arc::ptr_eq(&member.handle, handle))?
            .open
            .take()?;
        let lost =
            inner.state == State::Live && inner.members.iter().all(|member| member.open.is_none());
        let superseded = if lost {
            Self::lost_last_path(this, &mut inner)
        } else {
            [None, None]
        };
        // Who does not see the path in the new set sees this there.
        let cached = this.note_leaving(&open.path);
        let (old, planned) = this.publish_members(&inner, set);
        drop(inner);
        drop(superseded);
        // A grace period: from here on nobody chooses the path. Under `setup`, or a set of another
        // path's would still have this one when it is to be closed.
        drop(old);
        if !planned {
            Self::plan_again(this);
        }
        if lost {
            // Who still saw the set may have armed the timer again.
            drop(this.forget_wait());
        }
        drop(setup);
        // A flush may have waited for this path.
        Self::kick(this);
        if lost {
            pr_info!("rmpath{}: the last path is gone\n", this.id);
        }
        Self::notify(this);
        Some((open, cached))
    }

    /// Takes all paths out of the path set, for a head that is abandoned. May sleep. Under `setup`.
    pub(super) fn withdraw_all(&self) -> Elapsed {
        self.paths.replace(self.empty_set_for_sure()).elapse()
    }

    /// The path is closed: it is not a member any more.
    fn forget(this: ArcBorrow<'_, Self>, handle: &Arc<PathHandle>, dev: DevT) {
        let setup = this.setup.lock();
        let mut inner = this.inner.lock();
        let position = inner
            .members
            .iter()
            .position(|member| Arc::ptr_eq(&member.handle, handle));
        let member = position.and_then(|position| inner.members.remove(position).ok());
        let superseded = if inner.members.is_empty() {
            Self::lost_last_member(this, &mut inner)
        } else {
            None
        };
        drop(inner);
        drop(superseded);
        let told = member.as_ref().is_some_and(|member| member.told.is_some());
        if let Some(member) = member {
            drop(this.ids.remove(member.id));
        }
        this.inherit_debt(handle);
        Self::refresh(this);
        drop(setup);
        if told {
            this.tell_removed(dev);
        }
    }
}

impl WorkItem<CLOSE> for PathHandle {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let _no_io = NoIo::enter();
        let handle = token.object();
        // It is queued by those who know its head.
        let Some(head) = handle.head().map(Arc::as_arc_borrow) else {
            return;
        };
        let Some((open, cached)) = Head::withdraw(head, handle) else {
            return;
        };
        let OpenMember {
            listing,
            folder,
            path,
        } = open;
        // From here on it is not found by its device: who takes it away need not wait for this.
        drop(listing);
        // Waits for the I/O that is under way; it comes back through `end_io`, and goes elsewhere
        // if it failed.
        path.shut();
        handle.stop_probing();
        if cached {
            head.flush_leaving(&path);
        }
        pr_info!("rmpath{}: path {} leaves\n", head.id, path.device().name());
        drop(folder);
        let dev = path.device().dev();
        // The last reference: unlinks and closes the device.
        drop(path);
        Head::forget(head, handle, dev);
    }
}
