// SPDX-License-Identifier: GPL-2.0

//! The end of a map's wait for a path.
//!
//! A map that keeps I/O while it has no path does so for a limited time, if there is a limit: its
//! own (`no_path_timeout`), or else that of all maps (`queue_if_no_path_timeout_secs`). The time
//! begins when the last path is lost. When it is over, the map ceases to keep I/O, as if it had been
//! told `fail_if_no_path`.
//!
//! The pending end owns a token. Whether to wait is decided in the critical section that changes
//! what it depends on, and the work item decides anew under the same lock: dm-multipath's
//! `queue_if_no_path_timeout_work()` does not look again, so a path that returns just then finds a
//! map that keeps nothing any more, and deletes its timer outside the lock, so a path that is lost
//! just then is waited for without an end.

use super::target::{
    Multipath,
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
    mpath::deadline::{
        Deadline,
        Expiry, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

/// For how many seconds a map without a limit of its own waits; 0: without an end. A change holds
/// for waits that begin after it, as dm-multipath's parameter of this name.
pub(crate) static QUEUE_IF_NO_PATH_TIMEOUT_SECS: Atomic<u32> = Atomic::new(0);

/// Tokens that came back, to be dropped when the lock is released.
type Superseded = [Option<Token<Multipath, ModuleRef>>; 2];

impl Multipath {
    /// After a change of what the wait depends on: begins it, ends it, or leaves it alone. Any
    /// context; the caller drops the tokens after the lock, under which `state` is.
    pub(super) fn review_wait(this: ArcBorrow<'_, Self>, state: &mut State) -> Superseded {
        let waits = state.queue_if_no_path && this.groups.usable() == 0;
        match (waits, state.wait.is_some()) {
            (true, false) => [Self::begin_wait(this, state), None],
            (false, true) => [this.end_wait(state), None],
            _ => [None, None],
        }
    }

    /// As [`Self::review_wait`], and a wait that goes on begins anew.
    pub(super) fn restart_wait(this: ArcBorrow<'_, Self>, state: &mut State) -> Superseded {
        let ended = this.end_wait(state);
        let [begun, _] = Self::review_wait(this, state);
        [ended, begun]
    }

    /// There is no wait. The caller drops the token after the lock.
    pub(super) fn end_wait(&self, state: &mut State) -> Option<Token<Self, ModuleRef>> {
        state.wait = None;
        disarm::<NO_PATH, _, _>(self)
    }

    fn begin_wait(this: ArcBorrow<'_, Self>, state: &mut State) -> Option<Token<Self, ModuleRef>> {
        let secs = match this.no_path_timeout() {
            0 => return None,
            secs => secs,
        };
        // There is always one: a map has a reference on the module.
        let module = ModuleRef::try_get()?;
        state.wait = Some(Deadline::from_now(secs));
        let token = Token::new(this.into(), module);
        arm::<NO_PATH, _, _>(token, secs_to_jiffies(secs))
    }
}

impl WorkItem<NO_PATH> for Multipath {
    type Pointer = Token<Self, ModuleRef>;

    fn run(token: Self::Pointer) {
        let this = token.object().clone();
        let mut state = this.state.lock();
        match Expiry::of(state.wait.as_ref().map(Deadline::left)) {
            Expiry::Ended => return,
            Expiry::Later(secs) => {
                let superseded = arm::<NO_PATH, _, _>(token, secs_to_jiffies(secs));
                drop(state);
                drop(superseded);
                return;
            }
            Expiry::Now => (),
        }
        state.wait = None;
        state.queue_if_no_path = false;
        drop(state);
        pr_warn!(
            "{}: queue_if_no_path timeout, failing queued I/O\n",
            &*this.name
        );
        Self::kick(this.as_arc_borrow());
    }
}
