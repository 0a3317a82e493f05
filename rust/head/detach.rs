// SPDX-License-Identifier: GPL-2.0

//! How a path ceases to be one.
//!
//! Whoever finds a path dead, or wants it gone, marks it so and queues this. The path leaves the
//! path set; when nobody can see it there any more it is shut, which waits for its I/O; then its
//! device is closed. Only then is it no longer a member, and if it was the last, the head's removal
//! is armed in the same critical section.

use super::{
    Head,
    OpenMember,
    PathHandle,
    PathSet,
    State,
    DETACH, //
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
    /// Has the paths closed that are dead. Any context.
    pub(super) fn queue_detach(this: ArcBorrow<'_, Self>) {
        // If it is queued already, it will see what was marked. The token that comes back is not
        // the last reference: the caller has one.
        drop(
            this.shared
                .detach
                .enqueue::<DETACH, _, _>(Token::of(this.into())),
        );
    }

    /// Takes the next path that is to go out of the path set.
    fn withdraw(&self) -> Option<(Arc<PathHandle>, OpenMember)> {
        let setup = self.setup.lock();
        let mut set = PathSet::with_room_for_sure(self.inner.lock().members.len());

        let mut inner = self.inner.lock();
        let doomed = inner.doomed;
        let leaves = |handle: &PathHandle| doomed || handle.state.is_dead();
        let member = inner
            .members
            .iter_mut()
            .find(|member| member.open.is_some() && leaves(&member.handle))?;
        // The doomed head's paths die too: nothing shall use them from now on.
        member.handle.state.kill();
        let handle = member.handle.clone();
        let open = member.open.take()?;
        inner.fill(&mut set);
        let old = self.paths.replace(set);
        drop(inner);
        drop(setup);
        // A grace period: from here on nobody chooses the path.
        drop(old);
        Some((handle, open))
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
        let lost = inner.members.is_empty() && inner.state == State::Live;
        let superseded = if lost {
            Self::lost_last_path(this, &mut inner)
        } else {
            [None, None]
        };
        drop(inner);
        drop(superseded);
        if let Some(member) = member {
            drop(this.ids.remove(member.id));
        }
        drop(setup);
        if lost {
            pr_info!("rmpath{}: the last path is gone\n", this.id);
        }
    }
}

impl WorkItem<DETACH> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let _no_io = NoIo::enter();
        let head = token.object().as_arc_borrow();
        while let Some((handle, open)) = head.withdraw() {
            let OpenMember { folder, path } = open;
            // Waits for the I/O that is under way; it comes back through `end_io`, and goes
            // elsewhere if it failed.
            path.shut();
            pr_info!("rmpath{}: path {} leaves\n", head.id, path.device().name());
            drop(folder);
            // The last reference: unlinks and closes the device.
            drop(path);
            Self::forget(head, &handle);
        }
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
