// SPDX-License-Identifier: GPL-2.0

//! Weights: how many turns each path of a head has under round robin.
//!
//! The turns are part of the path set, so a weight that is written replaces the set, by one with the
//! same paths. That takes `setup`, which a store must not wait for: a folder may be removed under it,
//! which waits for the stores of its files. So it is left to a work item. The head's removal cancels
//! that, when no store can queue it any more.

use super::{
    path::PathHandle,
    Head,
    Inner,
    PathSet,
    State,
    PLAN, //
};
use crate::{
    abstractions::{
        memalloc::NoIo,
        rcu::Retired,
        workqueue::Token, //
    },
    mpath::selector::HasLoad,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        ArcBorrow, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::WorkItem, //
};

impl Head {
    /// The weights of the members, in a vector with room for some more. `ENOMEM`. Under `setup`,
    /// which keeps the members what they are, but not their weights.
    pub(super) fn weights(&self, more: usize) -> Result<KVec<u32>> {
        let count = self.inner.lock().members.len();
        let mut weights = KVec::with_capacity(count + more, GFP_KERNEL)?;
        for member in &self.inner.lock().members {
            let _ = weights.push_within_capacity(member.handle.weight.load(Relaxed));
        }
        Ok(weights)
    }

    /// An empty path set with room for all members. Comes back until it has the memory: a path that
    /// is dead has to leave. Under `setup`.
    pub(super) fn empty_set_for_sure(&self) -> KBox<PathSet> {
        loop {
            let set = self
                .weights(0)
                .and_then(|weights| PathSet::with_room(weights.iter().copied()));
            match set {
                Ok(set) => return set,
                Err(_) => fsleep(Delta::from_millis(10)),
            }
        }
    }

    /// Publishes the members that are open as the path set, in `set`, which is empty and has room. The
    /// old one is to be had after a grace period. Also returns whether the turns could be planned.
    /// Under `setup`.
    pub(super) fn publish_members(
        &self,
        inner: &Inner,
        mut set: KBox<PathSet>,
    ) -> (Retired<PathSet>, bool) {
        inner.fill(&mut set);
        let planned = set.plan();
        set.note_caches(self);
        (self.paths.replace(set), planned)
    }

    /// Sets the weight of a path. It has its turns soon. Any context.
    pub(super) fn set_weight(this: ArcBorrow<'_, Self>, handle: &PathHandle, weight: u32) {
        handle.weight.store(weight, Relaxed);
        Self::plan_again(this);
    }

    /// A weight has changed: has the paths given their turns anew. A token that comes back is not
    /// the last reference: the caller has one. Any context.
    pub(super) fn plan_again(this: ArcBorrow<'_, Self>) {
        drop(
            this.shared
                .close
                .enqueue::<PLAN, _, _>(Token::of(this.into())),
        );
    }
}

impl PathSet {
    /// Gives its paths their turns, when all of them are in it. Does not sleep. Returns `false` if
    /// weights have changed since it was made, so that there is not enough room for that.
    #[must_use]
    pub(super) fn plan(&mut self) -> bool {
        self.turns.fill(&self.paths, |path| path.weight())
    }
}

impl WorkItem<PLAN> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let _no_io = NoIo::enter();
        let head = token.object();
        let setup = head.setup.lock();
        let set = head.empty_set_for_sure();
        let inner = head.inner.lock();
        if inner.state != State::Live {
            // Who makes it so makes a set.
            return;
        }
        let (old, planned) = head.publish_members(&inner, set);
        drop(inner);
        // A grace period. Under `setup`, or the set would still have a path that is to be closed.
        drop(old);
        drop(setup);
        if !planned {
            Self::plan_again(head.as_arc_borrow());
        }
    }
}
