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
    PathSet,
    State,
    CLOSE, //
};
use crate::abstractions::{
    memalloc::NoIo,
    workqueue::Token, //
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::WorkItem, //
};

impl Head {
    /// Takes a path out of the path set, if it is in there. It stays a member.
    fn withdraw(this: ArcBorrow<'_, Self>, handle: &Arc<PathHandle>) -> Option<OpenMember> {
        let setup = this.setup.lock();
        let mut set = PathSet::with_room_for_sure(this.inner.lock().members.len());

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
        inner.fill(&mut set);
        let old = this.paths.replace(set);
        drop(inner);
        drop(superseded);
        // A grace period: from here on nobody chooses the path. Under `setup`, or a set of another
        // path's would still have this one when it is to be closed.
        drop(old);
        if lost {
            // Who still saw the set may have armed the timer again.
            let late = this.stop_waiting(&mut this.inner.lock());
            drop(late);
        }
        drop(setup);
        if lost {
            pr_info!("rmpath{}: the last path is gone\n", this.id);
        }
        Some(open)
    }

    /// Takes all paths out of the path set, for a head that is abandoned. Under `setup`.
    pub(super) fn withdraw_all(&self) {
        drop(self.paths.replace(PathSet::with_room_for_sure(0)));
    }

    /// The path is closed: it is not a member any more.
    fn forget(this: ArcBorrow<'_, Self>, handle: &Arc<PathHandle>) {
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
        if let Some(member) = member {
            drop(this.ids.remove(member.id));
        }
        drop(setup);
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
        let Some(OpenMember { folder, path }) = Head::withdraw(head, handle) else {
            return;
        };
        // Waits for the I/O that is under way; it comes back through `end_io`, and goes elsewhere
        // if it failed.
        path.shut();
        pr_info!("rmpath{}: path {} leaves\n", head.id, path.device().name());
        drop(folder);
        // The last reference: unlinks and closes the device.
        drop(path);
        Head::forget(head, handle);
    }
}

impl PathSet {
    /// As [`PathSet::with_room`], but comes back until it has the memory: a path that is dead has
    /// to leave.
    fn with_room_for_sure(room: usize) -> KBox<Self> {
        loop {
            match Self::with_room(room) {
                Ok(set) => return set,
                Err(_) => fsleep(Delta::from_millis(10)),
            }
        }
    }
}
