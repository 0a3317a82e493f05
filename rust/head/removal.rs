// SPDX-License-Identifier: GPL-2.0

//! The end of a head, and how it is put off.
//!
//! A head that has lost its last path waits `delayed_removal_secs` for one to return. The pending
//! removal owns a token with a reference on the head and one on the module. Arming and disarming
//! happen in the same critical section of the head's lock as the change that is the reason for it,
//! and the work item decides everything anew under that lock when it runs: so no two events can
//! both take the head for lost, or save it and not know it.

use super::{
    io::Gate,
    path::PathHandle,
    timers::{
        Removal,
        Standing, //
    },
    Head,
    Inner,
    State,
    Visible,
    EVENT,
    JUDGE,
    NO_PATH,
    PLAN,
    REFRESH,
    REMOVAL,
    REQUEUE,
    RETRY,
    SCAN, //
};
use crate::{
    abstractions::{
        module::ModuleRef,
        rcu::{
            self,
            Elapsed, //
        },
        workqueue::{
            arm,
            cancel_sync,
            disarm,
            disarm_sync,
            secs_to_jiffies,
            Token, //
        },
    },
    mpath::deadline::Deadline,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

/// A token that came back, to be dropped when the locks are released.
type Superseded = Option<Token<Head, ModuleRef>>;

impl Head {
    /// Sets what becomes of I/O without a path, after anything changed that it depends on.
    pub(super) fn update_gate(&self, inner: &Inner) {
        let patience = match inner.state {
            // A path is there, and may become usable.
            State::Live => self.no_path_secs.load(Relaxed),
            // One may come.
            State::Pending => self.delay.load(Relaxed),
            State::Building | State::Dying => 0,
        };
        let may_return = patience != 0 && !inner.doomed && !inner.expired;
        let gate = if may_return { Gate::Park } else { Gate::Fail };
        self.gate.store(gate as u32, Relaxed);
    }

    /// After a change that I/O must see has been published: waits until everybody does, and has
    /// what is parked tried again. May sleep.
    pub(super) fn settle(this: ArcBorrow<'_, Self>) {
        Self::settled(this, rcu::synchronize());
    }

    /// The rest of [`Head::settle`], for those who have waited for a grace period themselves.
    pub(super) fn settled(this: ArcBorrow<'_, Self>, _: Elapsed) {
        this.paths.read(|set| set.near.forget());
        let mut inner = this.inner.lock();
        // Who saw no path in time has armed the timer since it was stopped.
        let superseded = this.review_wait(&mut inner);
        drop(inner);
        drop(superseded);
        Self::kick(this);
    }

    /// The last path is out of the path set: arms the removal. The caller drops the tokens after the
    /// lock.
    pub(super) fn lost_last_path(this: ArcBorrow<'_, Self>, inner: &mut Inner) -> [Superseded; 2] {
        inner.state = State::Pending;
        // From now on the pending removal ends the wait, however long I/O has waited before.
        let waited = this.stop_waiting(inner);
        [Self::arm_removal(this, inner), waited]
    }

    /// Arms a removal, or moves the deadline of the one that is pending, to as many seconds from
    /// now as the head's delay says.
    fn arm_removal(this: ArcBorrow<'_, Self>, inner: &mut Inner) -> Superseded {
        let secs = match inner.doomed {
            true => 0,
            false => this.delay.load(Relaxed),
        };
        inner.deadline = Some(Deadline::from_now(secs));
        inner.expired = false;
        this.update_gate(inner);
        let token = Self::pinned(&this.into());
        arm::<REMOVAL, _, _>(token, secs_to_jiffies(secs))
    }

    /// The last member has gone. If the removal had to wait for that beyond its deadline, it is due
    /// now. The caller drops the token after the lock.
    pub(super) fn lost_last_member(this: ArcBorrow<'_, Self>, inner: &mut Inner) -> Superseded {
        if inner.state != State::Pending || inner.remaining_secs().is_some() {
            return None;
        }
        let token = Self::pinned(&this.into());
        arm::<REMOVAL, _, _>(token, 0)
    }

    /// If the pending removal is due, has I/O fail that waits. May sleep.
    fn expire_if_due(this: ArcBorrow<'_, Self>) {
        let mut inner = this.inner.lock();
        let due = inner.state == State::Pending && inner.remaining_secs().is_none();
        if due {
            inner.expired = true;
            this.update_gate(&inner);
        }
        drop(inner);
        if due {
            Self::settle(this);
        }
    }

    /// A path has come: disarms. The caller drops the tokens after the lock.
    pub(super) fn gained_path(&self, inner: &mut Inner) -> [Superseded; 2] {
        let before = core::mem::replace(&mut inner.state, State::Live);
        inner.deadline = None;
        // One that is not usable ends no wait for one that is.
        let waited = match before {
            State::Live => self.review_wait(inner),
            _ => self.stop_waiting(inner),
        };
        [disarm::<REMOVAL, _, _>(self), waited]
    }

    /// The state of a path has changed. May sleep.
    pub(super) fn path_changed(this: ArcBorrow<'_, Self>) {
        let mut inner = this.inner.lock();
        let superseded = this.review_wait(&mut inner);
        drop(inner);
        drop(superseded);
        Self::notify(this);
        Self::settle(this);
    }

    /// Sets `delayed_removal_secs`. A removal that is pending gets the new deadline.
    pub(super) fn set_delay(this: ArcBorrow<'_, Self>, secs: u32) {
        let mut inner = this.inner.lock();
        this.delay.store(secs, Relaxed);
        let superseded = match inner.state {
            State::Pending => Self::arm_removal(this, &mut inner),
            _ => None,
        };
        drop(inner);
        drop(superseded);
        Self::settle(this);
    }

    /// Removes the head, paths or not. Returns at once; the rest is done by the work items.
    ///
    /// `EBUSY` while its first path is being attached.
    pub(super) fn doom(this: ArcBorrow<'_, Self>) -> Result {
        let mut inner = this.inner.lock();
        let superseded = match inner.state {
            State::Building => return Err(EBUSY),
            State::Dying => return Ok(()),
            State::Pending => {
                inner.doomed = true;
                Self::arm_removal(this, &mut inner)
            }
            State::Live => {
                inner.doomed = true;
                this.update_gate(&inner);
                for member in inner.members.iter() {
                    PathHandle::kill(member.handle.as_arc_borrow());
                }
                None
            }
        };
        drop(inner);
        drop(superseded);
        Self::settle(this);
        Ok(())
    }

    /// Takes a dying head away from everybody. May sleep, until its last bio has ended.
    ///
    /// Its state is [`State::Dying`], the registry does not have it, and no path is left.
    pub(super) fn tear_down(this: &Arc<Self>, visible: Option<Visible>) {
        // Everybody sees the closed gate; what was parked before ends now. This is also what the
        // removal of the disk may wait for: a partition scan, a file system that syncs.
        Self::resubmit_all(this.as_arc_borrow(), rcu::synchronize());

        let retired = visible.map(|visible| {
            let (retired, published) = visible.published.retire();
            drop(published);
            drop(visible.debug);
            drop(visible.folder);
            drop(visible.disk);
            retired
        });

        this.bios.shut();
        drop(disarm_sync::<RETRY, _, _>(&**this));
        drop(disarm_sync::<NO_PATH, _, _>(&**this));
        drop(disarm_sync::<JUDGE, _, _>(&**this));
        drop(cancel_sync::<PLAN, _, _>(&**this));
        drop(disarm_sync::<REFRESH, _, _>(&**this));
        drop(cancel_sync::<SCAN, _, _>(&**this));
        drop(cancel_sync::<EVENT, _, _>(&**this));
        // Last: the others may queue it.
        drop(cancel_sync::<REQUEUE, _, _>(&**this));
        // Only now may another head have the number, and with it the disk's name.
        drop(retired);
        pr_info!("rmpath{}: removed\n", this.id);
    }
}

impl Inner {
    /// The members by which I/O can be sent.
    pub(super) fn usable(&self) -> impl Iterator<Item = &PathHandle> {
        self.members
            .iter()
            .filter(|member| member.open.is_some() && member.handle.state.is_usable())
            .map(|member| &*member.handle)
    }

    /// How they stand.
    pub(super) fn standing(&self) -> Standing {
        let mut standing = Standing::Unusable;
        for path in self.usable() {
            if !path.state.is_on_probation() {
                return Standing::Usable;
            }
            standing = Standing::OnProbation;
        }
        standing
    }

    /// Whether anything is under way on a member that is usable.
    pub(super) fn is_busy(&self) -> bool {
        self.usable().any(|path| path.inflight() != 0)
    }

    /// How long the pending removal still has to wait. (A timer may expire early: the kernel's
    /// timer wheel ends somewhere.)
    fn remaining_secs(&self) -> Option<u32> {
        self.deadline?.left()
    }
}

impl WorkItem<REMOVAL> for Head {
    type Pointer = Token<Self, ModuleRef>;

    fn run(token: Self::Pointer) {
        let head = token.object().clone();
        let setup = head.setup.try_lock().unwrap_or_else(|| {
            // Whoever has it may be waiting for a device. I/O has waited long enough all the same.
            Self::expire_if_due(head.as_arc_borrow());
            head.setup.lock()
        });
        let mut registry = head.shared.registry.lock();
        let mut inner = head.inner.lock();

        let members = !inner.members.is_empty();
        match Removal::of(inner.state, inner.remaining_secs(), members) {
            Removal::Nothing => {
                drop(inner);
                drop(registry);
                drop(setup);
                drop(head);
                return;
            }
            Removal::Later(secs) => {
                let superseded = arm::<REMOVAL, _, _>(token, secs_to_jiffies(secs));
                drop(inner);
                drop(registry);
                drop(setup);
                drop(superseded);
                return;
            }
            Removal::DevicesFirst => {
                // They are in use until their I/O has ended; other I/O has waited long enough.
                inner.expired = true;
                head.update_gate(&inner);
                drop(inner);
                drop(registry);
                drop(setup);
                Self::settle(head.as_arc_borrow());
                return;
            }
            Removal::Die => (),
        }

        inner.state = State::Dying;
        head.update_gate(&inner);
        let visible = inner.visible.take();
        let registered = registry.remove(&head);
        drop(inner);
        drop(registry);
        drop(setup);
        drop(registered);

        Self::tear_down(&head, visible);
    }
}
