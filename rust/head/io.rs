// SPDX-License-Identifier: GPL-2.0

//! The I/O path of a head: a clone per bio, another one on another path when it fails.
//!
//! A submitter chooses a path and takes a reference on it in one RCU read section, or parks the
//! clone in the same section. Whoever makes a path usable, or decides that there will be none,
//! first publishes that, waits for a grace period, and then takes out what is parked: nothing that
//! did not see the news can be parked after that.

use super::{
    path::{
        ArcPath,
        HeadPath, //
    },
    Head,
    PathSet,
    NO_PATH,
    REQUEUE,
    RETRY, //
};
use crate::{
    abstractions::{
        bio::{
            clone::{
                Clone as BioClone,
                CloneOps,
                Flags, //
            },
            list::BioList,
            status::BlkStatus,
            Bio, //
        },
        module::ModuleRef,
        percpu_ref::LiveRef,
        workqueue::Token, //
    },
    mpath::{
        error::{
            verdict,
            Verdict, //
        },
        path::FailReason,
        selector::HasState, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Full,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    time::msecs_to_jiffies,
    workqueue::WorkItem, //
};

/// How often one bio is sent again before its error is believed. A path that fails is not used
/// again, so this ends what a path that is reinstated again and again could go on with for ever.
const MAX_RETRIES: u8 = 32;

/// How often one bio is sent again after errors that may not be the path's fault.
const MAX_SOFT_RETRIES: u8 = 3;

/// How long a bio waits that met a shortage, in milliseconds.
const SHORTAGE_DELAY: u32 = 100;

/// What becomes of a bio that finds no path.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Gate {
    /// It ends with the last error.
    Fail = 0,
    /// It waits.
    Park = 1,
}

/// What is kept with each clone.
pub(super) struct HeadIo {
    /// The last error, if it has been sent before.
    status: BlkStatus,
    retries: u8,
    soft_retries: u8,
    /// The path that error came by, to be used again only if there is no other. Compared, never
    /// followed.
    avoid: usize,
}

impl CloneOps for HeadIo {
    type Target = LiveRef<HeadPath>;

    #[inline]
    fn end_io(clone: BioClone<Self>, path: Self::Target, status: BlkStatus) {
        path.handle().end_io();
        if status == BlkStatus::OK {
            path.handle().state.note_success();
            drop(path);
            clone.finish(status);
        } else {
            failed(clone, path, status);
        }
    }
}

/// Where a clone goes.
enum Route {
    Path(BioClone<HeadIo>, LiveRef<HeadPath>, Flags),
    End(BioClone<HeadIo>, BlkStatus),
    Parked,
}

/// What to do about a clone that came back with an error.
#[cold]
fn failed(mut clone: BioClone<HeadIo>, path: LiveRef<HeadPath>, status: BlkStatus) {
    let head = &path.head;
    let handle = path.handle();
    let mut verdict = verdict(status);
    if verdict == Verdict::RetryElsewhere && !path.device().is_live() {
        // A disk that is being removed ends what it still gets with IOERR.
        verdict = Verdict::FailPath;
    }
    clone.status = status;
    clone.avoid = Arc::as_ptr(handle).addr();
    let again = match verdict {
        Verdict::Done | Verdict::Return => false,
        Verdict::RetryLater => {
            clone.soft_retries += 1;
            let again = clone.soft_retries <= MAX_SOFT_RETRIES;
            if again && !clone.is_nowait() {
                // Armed by the first one only, or a steady stream would put it off for ever.
                if head.delayed.park(clone) {
                    let token = Token::of(head.clone());
                    let delay = msecs_to_jiffies(SHORTAGE_DELAY);
                    drop(head.shared.requeue.arm::<RETRY, _, _>(token, delay));
                }
                return;
            }
            again
        }
        Verdict::RetryElsewhere => {
            // The last path is not given up for an error that may be the medium's.
            if handle.state.note_soft_error() && head.has_other(&path) {
                head.path_failed(&path, status);
            }
            clone.soft_retries += 1;
            clone.soft_retries <= MAX_SOFT_RETRIES
        }
        Verdict::FailPath => {
            head.path_failed(&path, status);
            clone.retries += 1;
            clone.retries <= MAX_RETRIES
        }
    };
    if !again {
        drop(path);
        clone.finish(status);
    } else if clone.is_nowait() {
        // The submitter would rather come again than wait for the work item.
        drop(path);
        clone.finish(BlkStatus::AGAIN);
    } else {
        handle.count_failover();
        Head::count(&head.failovers);
        head.parked.park(clone);
        Head::kick(head.as_arc_borrow());
    }
}

impl Head {
    /// A bio is submitted to the disk. May sleep, unless it is `REQ_NOWAIT`.
    #[inline]
    pub(super) fn submit(this: ArcBorrow<'_, Self>, bio: Bio) {
        let io = HeadIo {
            status: BlkStatus::OK,
            retries: 0,
            soft_retries: 0,
            avoid: 0,
        };
        match this.bios.clone_bio(bio, io) {
            Ok(clone) => Self::dispatch(this, clone),
            Err((bio, status)) => bio.end(status),
        }
    }

    /// Sends a clone down a path, or lets it wait, or ends it.
    #[inline]
    fn dispatch(this: ArcBorrow<'_, Self>, clone: BioClone<HeadIo>) {
        let avoid = clone.avoid;
        let route = this.paths.read(|set| {
            let other = |path: &ArcPath| Arc::as_ptr(path.handle()).addr() != avoid;
            let path = match avoid {
                0 => this.rr.select(&set.paths),
                _ => this.rr.select_if(&set.paths, other),
            };
            match path.and_then(|path| path.try_get()) {
                Some(path) => {
                    let failfast = set.paths.len() > 1;
                    Route::Path(clone, path, Flags { failfast })
                }
                None => Self::no_path(this, clone, set),
            }
        });
        match route {
            Route::Path(clone, path, flags) => {
                path.handle().begin_io();
                clone.submit(path, flags);
            }
            Route::End(clone, status) => clone.finish(status),
            Route::Parked => (),
        }
    }

    /// What to do with a clone for which there is no path. In the read section that saw that.
    #[cold]
    fn no_path(this: ArcBorrow<'_, Self>, clone: BioClone<HeadIo>, set: &PathSet) -> Route {
        if this.gate.load(Relaxed) != Gate::Park as u32 {
            Self::count(&this.refused);
            let status = match clone.status {
                BlkStatus::OK => BlkStatus::IOERR,
                last => last,
            };
            return Route::End(clone, status);
        }
        if clone.is_nowait() {
            return Route::End(clone, BlkStatus::AGAIN);
        }
        // With no path at all the pending removal ends the wait.
        if !set.paths.is_empty() && !this.waiting.xchg(true, Full) {
            drop(Self::arm_no_path(this));
        }
        Self::count(&this.requeued);
        this.parked.park(clone);
        Route::Parked
    }

    /// Whether a path other than this one is usable.
    fn has_other(&self, path: &LiveRef<HeadPath>) -> bool {
        self.paths.read(|set| {
            set.paths
                .iter()
                .any(|other| other.state().is_usable() && !core::ptr::eq(&***other, &**path))
        })
    }

    /// An error has shown that a path is broken. Any context.
    fn path_failed(&self, path: &LiveRef<HeadPath>, status: BlkStatus) {
        if path.handle().state.fail(FailReason::Io) {
            pr_warn!(
                "rmpath{}: path {} failed: status {}\n",
                self.id,
                path.device().name(),
                status.as_raw()
            );
        }
    }

    /// Has what is parked tried again. Any context.
    pub(super) fn kick(this: ArcBorrow<'_, Self>) {
        // If it is queued already, it will see what we parked. The token that comes back is not
        // the last reference: the caller has one.
        drop(
            this.shared
                .requeue
                .enqueue::<REQUEUE, _, _>(Token::of(this.into())),
        );
    }

    /// Tries again what is in `bios`. May sleep.
    fn resubmit(this: ArcBorrow<'_, Self>, mut bios: BioList<BioClone<HeadIo>>) {
        while let Some(clone) = bios.pop() {
            let fresh = match clone.status {
                BlkStatus::OK => Some(clone),
                // It has been in flight.
                _ => clone.refresh(),
            };
            if let Some(clone) = fresh {
                Self::dispatch(this, clone);
            }
        }
    }

    /// Tries again everything that waits. May sleep.
    pub(super) fn resubmit_all(this: ArcBorrow<'_, Self>) {
        Self::resubmit(this, this.parked.take());
        Self::resubmit(this, this.delayed.take());
    }
}

impl WorkItem<REQUEUE> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let head = token.object().as_arc_borrow();
        Self::resubmit(head, head.parked.take());
    }
}

impl WorkItem<RETRY> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let head = token.object().as_arc_borrow();
        Self::resubmit(head, head.delayed.take());
    }
}

impl WorkItem<NO_PATH> for Head {
    type Pointer = Token<Self, ModuleRef>;

    fn run(token: Self::Pointer) {
        let head = token.object().as_arc_borrow();
        let mut inner = head.inner.lock();
        let present = inner.members.iter().any(|member| member.open.is_some());
        if inner.has_usable() || !present {
            // Whoever waits next arms it again.
            head.waiting.store(false, Relaxed);
            drop(inner);
            return Self::settle(head);
        }
        inner.expired = true;
        head.update_gate(&inner);
        drop(inner);
        pr_warn!(
            "rmpath{}: no path has become usable, failing I/O\n",
            head.id
        );
        Self::settle(head);
    }
}
