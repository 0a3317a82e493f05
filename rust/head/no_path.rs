// SPDX-License-Identifier: GPL-2.0

//! How long I/O waits for a path that is there, but not usable.
//!
//! The first bio that has to wait, or that would rather come again, begins the time,
//! `no_path_timeout_secs`. When it is over and still no path is usable, what waits fails, and I/O
//! fails at once until one is. A path that a probe has reinstated ends the wait when I/O has come that
//! way: one that answers probes and fails what waits shall not have that wait again and again. With no
//! path at all it is the pending removal that ends the wait, not this.

use super::{
    timers::{
        NoPath,
        Standing, //
    },
    Head,
    Inner,
    PathSet,
    State,
    NO_PATH, //
};
use crate::{
    abstractions::{
        module::ModuleRef,
        workqueue::{
            arm,
            disarm,
            secs_to_jiffies,
            Token, //
        },
    },
    mpath::{
        deadline::Deadline,
        path::PathState, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

/// `no_path_timeout_secs` of a new head. Long enough for a path that failed to be probed several
/// times, and for a target to fail over; short enough for nobody to be reported as hung, which the
/// kernel does after 120 s.
pub(super) const DEFAULT_SECS: u32 = 60;

/// A token that came back, to be dropped when the locks are released.
type Superseded = Option<Token<Head, ModuleRef>>;

impl Head {
    /// Somebody waits for a path: if there are any, only so long. In the read section that saw that
    /// none is usable.
    ///
    /// A bio is parked before: either this finds the last wait over, and begins a new one, or who
    /// has ended it, or made usable the path by which it has ended, has yet to kick what is parked. Who
    /// looks again by himself calls this each time.
    pub(super) fn begin_waiting(this: ArcBorrow<'_, Self>, set: &PathSet) {
        // With no path at all the pending removal ends the wait.
        if set.paths.is_empty() {
            return;
        }
        let mut waiting = this.waiting.lock();
        if waiting.is_some() {
            return;
        }
        let secs = this.no_path_secs.load(Relaxed);
        *waiting = Some(Deadline::from_now(secs));
        // Under the lock, so that it cannot be late, and undo what somebody did to a later wait.
        let superseded = Self::arm_no_path(this, secs);
        drop(waiting);
        // Not the last reference: the caller has one.
        drop(superseded);
    }

    /// Sets the timer for the wait, under its lock.
    fn arm_no_path(this: ArcBorrow<'_, Self>, secs: u32) -> Superseded {
        let token = Self::pinned(&this.into());
        let delay = secs_to_jiffies(secs);
        arm::<NO_PATH, _, _>(token, delay)
    }

    /// I/O that comes to wait waits from then on: a path is usable again, or the last one gone. The
    /// caller kicks what is parked, and drops the token after the lock.
    pub(super) fn stop_waiting(&self, inner: &mut Inner) -> Superseded {
        inner.expired = false;
        self.update_gate(inner);
        self.forget_wait()
    }

    /// Paths, or their states, have changed. If one is usable, I/O that comes to wait waits from then
    /// on; the wait that goes on ends too, unless all of those are on probation. The caller kicks what
    /// is parked, and drops the token after the lock.
    pub(super) fn review_wait(&self, inner: &mut Inner) -> Superseded {
        match inner.standing() {
            Standing::Unusable => None,
            Standing::OnProbation => {
                inner.expired = false;
                self.update_gate(inner);
                None
            }
            Standing::Usable => self.stop_waiting(inner),
        }
    }

    /// The no-path timer is not needed. The caller drops the token after the locks. Any context.
    pub(super) fn forget_wait(&self) -> Superseded {
        self.end_wait(&mut self.waiting.lock())
    }

    /// Takes the deadline away, and the timer with it, under their lock.
    fn end_wait(&self, waiting: &mut Option<Deadline>) -> Superseded {
        *waiting = None;
        disarm::<NO_PATH, _, _>(self)
    }

    /// Something has come by a path that was on probation: who waits from now on has all the time. Any
    /// context.
    pub(super) fn wait_is_over(&self, path: &PathState) {
        let mut waiting = self.waiting.lock();
        // Under the lock: who sees it fail after this finds no wait, and begins one. If it has failed
        // already, somebody may be waiting, who counts on the time that is running.
        if !path.is_usable() {
            return;
        }
        let superseded = self.end_wait(&mut waiting);
        drop(waiting);
        drop(superseded);
    }

    /// Sets `no_path_timeout_secs`. The time of I/O that waits begins anew, and if it is over
    /// already, I/O waits again. May sleep.
    pub(super) fn set_no_path_timeout(this: ArcBorrow<'_, Self>, secs: u32) {
        let mut inner = this.inner.lock();
        this.no_path_secs.store(secs, Relaxed);
        if inner.state == State::Live {
            inner.expired = false;
        }
        this.update_gate(&inner);
        let mut waiting = this.waiting.lock();
        let superseded = match (*waiting, secs) {
            (None, _) => None,
            (Some(_), 0) => this.end_wait(&mut waiting),
            (Some(_), _) => {
                *waiting = Some(Deadline::from_now(secs));
                Self::arm_no_path(this, secs)
            }
        };
        drop(waiting);
        drop(inner);
        drop(superseded);
        Self::settle(this);
    }
}

impl WorkItem<NO_PATH> for Head {
    type Pointer = Token<Self, ModuleRef>;

    fn run(token: Self::Pointer) {
        let owner = token.object().clone();
        let head = owner.as_arc_borrow();
        let mut inner = head.inner.lock();
        let mut waiting = head.waiting.lock();
        let left = waiting.as_ref().map(Deadline::left);
        // Under the lock: what is parked after this finds the time that is running.
        let busy = || head.parked.len() + head.delayed.len() != 0 || inner.is_busy();
        let decided = NoPath::of(inner.state, inner.standing(), busy, left);
        match decided {
            NoPath::Nothing => return,
            NoPath::Later(secs) => {
                let superseded = arm::<NO_PATH, _, _>(token, secs_to_jiffies(secs));
                drop(waiting);
                drop(inner);
                drop(superseded);
                return;
            }
            NoPath::Over | NoPath::Expire => *waiting = None,
        }
        drop(waiting);
        if decided == NoPath::Expire {
            inner.expired = true;
            head.update_gate(&inner);
        }
        drop(inner);
        if decided == NoPath::Expire {
            pr_warn!(
                "rmpath{}: no path has become usable, failing I/O\n",
                head.id
            );
        }
        Self::settle(head);
    }
}
