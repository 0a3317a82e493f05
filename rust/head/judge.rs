// SPDX-License-Identifier: GPL-2.0

//! Looking for marginal paths: when the paths of a head are compared, and by what rules.
//!
//! While marginal paths are looked for, a work item compares the paths once per sample time. It is
//! armed by the first bio that tells something (one whose time was taken, or that failed), and arms
//! itself again as long as there is I/O, or some path is marked. It holds no module reference: the
//! head's removal cancels it, when no bio is left that could arm it.

use super::{
    path::PathHandle,
    Head,
    State,
    JUDGE, //
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        clock::now_ns,
        workqueue::{
            arm,
            secs_to_jiffies,
            Token, //
        },
    },
    mpath::{
        marginal::{
            judge,
            Change,
            Reason,
            Rules, //
        },
        path::AccessState, //
    },
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full,
            Relaxed, //
        },
        ArcBorrow, //
    },
    workqueue::WorkItem, //
};

/// What sysfs sets: see Documentation/admin-guide.rst. Numbers that are independent of each other.
pub(super) struct Watch {
    /// `marginal_path_err_sample_time`: seconds; 0 is off. Written under the head's lock.
    sample_time: Atomic<u32>,
    /// `marginal_path_err_rate_threshold`: errors in a thousand bios; 0: they do not count.
    pub(super) err_rate: Atomic<u32>,
    /// `marginal_path_latency_pct`: percent of the fastest path's time; 0: it does not count.
    pub(super) latency_pct: Atomic<u32>,
    /// `marginal_path_err_recheck_gap_time`: seconds; 0: for good.
    pub(super) recheck_gap: Atomic<u32>,
    /// Whether the work item is pending, or running and not yet done.
    armed: Atomic<bool>,
}

impl Watch {
    /// Off, with what is taken when only the sample time is set.
    pub(super) const fn new() -> Self {
        Self {
            sample_time: Atomic::new(0),
            err_rate: Atomic::new(10),
            latency_pct: Atomic::new(1000),
            recheck_gap: Atomic::new(300),
            armed: Atomic::new(false),
        }
    }

    /// Seconds.
    pub(super) fn sample_time(&self) -> u32 {
        self.sample_time.load_once()
    }

    fn rules(&self) -> Rules {
        Rules {
            err_rate: self.err_rate.load(Relaxed),
            latency_pct: self.latency_pct.load(Relaxed),
            recheck_gap: self.recheck_gap.load(Relaxed),
        }
    }
}

impl Head {
    /// There is something to compare: sees to it that it is done in a while. By a bio that has not
    /// ended yet: the removal of the head waits for those. Any context.
    pub(super) fn watch(this: ArcBorrow<'_, Self>) {
        let watch = &this.choice.watch;
        if !watch.armed.load(Relaxed) && !watch.armed.xchg(true, Full) {
            Self::arm_judge(this, Token::of(this.into()));
        }
    }

    /// A token that comes back is not the last reference: the caller has one.
    fn arm_judge(this: ArcBorrow<'_, Self>, token: Token<Self>) {
        // 0 has just been written, and the mode with it: this is the last time, then.
        let secs = this.choice.watch.sample_time().max(1);
        let delay = secs_to_jiffies(secs);
        drop(arm::<JUDGE, _, _>(token, delay));
    }

    /// Sets `marginal_path_err_sample_time`. With 0 all paths are forgiven. May sleep.
    pub(super) fn set_sample_time(this: ArcBorrow<'_, Self>, secs: u32) {
        let watch = &this.choice.watch;
        let mut inner = this.inner.lock();
        let before = watch.sample_time.xchg(secs, Relaxed);
        this.choice.set_watch(&mut inner, secs != 0);
        if (before == 0) != (secs == 0) {
            // What was counted before says nothing about the time from now on.
            for member in &inner.members {
                member.handle.state.forgive();
                member.handle.history.vitals.reset(now_ns());
            }
        }
        drop(inner);
        this.paths.read(|set| set.near.forget());
        Self::notify(this);
        if watch.armed.load(Relaxed) {
            Self::arm_judge(this, Token::of(this.into()));
        }
    }

    /// Compares the paths. Returns whether to do so again.
    fn judge_paths(this: ArcBorrow<'_, Self>) -> bool {
        let watch = &this.choice.watch;
        // Against those who absolve or forgive meanwhile.
        let inner = this.inner.lock();
        if watch.sample_time() == 0 {
            return false;
        }
        let mut news = false;
        let go_on = this.paths.read(|set| {
            let go_on = judge(
                set.paths.iter().map(Deref::deref),
                &watch.rules(),
                now_ns(),
                |path, change| {
                    this.announce(path.device().name(), change);
                    news = true;
                },
            );
            set.near.forget();
            go_on && !set.paths.is_empty()
        });
        drop(inner);
        if news {
            Self::notify(this);
        }
        go_on
    }

    fn announce(&self, name: &CStr, change: Change) {
        let id = self.id;
        match change {
            Change::Marked(Reason::Errors(errors, bios)) => {
                pr_warn!("rmpath{id}: path {name} is marginal: {errors} errors in {bios} bios\n")
            }
            Change::Marked(Reason::Latency(its, best)) => pr_warn!(
                "rmpath{id}: path {name} is marginal: {} us for a bio, the fastest needs {} us\n",
                its / 1000,
                best / 1000
            ),
            Change::Forgiven => pr_info!("rmpath{id}: path {name} is forgiven\n"),
        }
    }
}

impl PathHandle {
    /// Somebody has said how good it is: what was measured until now does not count. May sleep.
    pub(super) fn set_access(this: ArcBorrow<'_, Self>, access: AccessState) {
        let inner = this.head().map(|head| head.inner.lock());
        this.history.vitals.reset(now_ns());
        this.state.set_access(access);
        drop(inner);
    }
}

impl WorkItem<JUDGE> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let head = token.object().clone();
        let go_on = Self::judge_paths(head.as_arc_borrow());
        let inner = head.inner.lock();
        // A dying head cancels this, and nobody may arm it after that.
        if go_on && inner.state != State::Dying {
            Self::arm_judge(head.as_arc_borrow(), token);
        } else {
            // Whoever has something to tell from now on arms it again.
            head.choice.watch.armed.store(false, Relaxed);
        }
        drop(inner);
    }
}
