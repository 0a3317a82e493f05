// SPDX-License-Identifier: GPL-2.0

//! How paths fail and return: all that the errors of I/O and the kernel's own probes do to them.
//!
//! A path that has failed by errors of its I/O is probed: one block is read, again and again with
//! growing pauses, until that succeeds. Each path has a work item of its own for this, and the read
//! does not hold it, so a path that hangs holds up its own probe and no other.
//!
//! Who arms the work item has a [`LiveRef`] of the path, `run` included, and so has a read in flight.
//! Closing the path waits for those; after that nobody arms it any more, and it can be cancelled for
//! good.

use super::{
    path::{
        ArcPath,
        HeadPath,
        PathHandle, //
    },
    Head,
    PROBE, //
};
use crate::{
    abstractions::{
        bio::{
            read::{
                BlockRead,
                Reader, //
            },
            status::BlkStatus, //
        },
        percpu_ref::LiveRef,
        workqueue::{
            arm,
            disarm_sync,
            secs_to_jiffies,
            Token, //
        },
    },
    mpath::{
        path::FailReason,
        probe::{
            answer,
            Answer,
            Purpose, //
        },
        selector::HasState, //
    },
};
use kernel::{
    fmt,
    prelude::*,
    sync::{
        atomic::{
            Full,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    time::Instant,
    workqueue::WorkItem, //
};

/// `probe_secs` of a new head: how often multipathd looks.
pub(super) const DEFAULT_SECS: u32 = 5;

impl Head {
    /// Errors have shown that a path is broken. Every path that fails by itself does so here. Any
    /// context.
    pub(super) fn path_failed(&self, path: &LiveRef<HeadPath>, status: BlkStatus) {
        let handle = path.handle();
        if !handle.state.fail(FailReason::Io) {
            return;
        }
        self.path_event(path, fmt!("failed: status {}", status.as_raw()));
        Self::notify(path.head.as_arc_borrow());
        // After the full barrier of failing it; `set_probe_secs` has another. One sees the other.
        let secs = self.probe_secs.load(Relaxed);
        if secs != 0 {
            let pause = handle.probing.lock().failed(secs, Instant::now());
            handle.arm_probe(path, pause);
        }
    }

    /// A probe has shown that a path that had failed by itself is well. Every path that returns by
    /// itself does so here. The error of a device that does not take the head's reservation key: then
    /// the path stays failed. May sleep.
    fn path_returned(this: ArcBorrow<'_, Self>, path: &LiveRef<HeadPath>) -> Result {
        if this.readmit_probed(path)? {
            path.handle().probing.lock().reinstated(Instant::now());
            this.path_event(path, fmt!("answers, and is used again"));
            Self::path_changed(this);
        }
        Ok(())
    }

    /// Something has come by a path that was suspect. Any context.
    #[cold]
    pub(super) fn path_works(path: &LiveRef<HeadPath>) {
        let handle = path.handle();
        if handle.state.note_success() {
            path.head.wait_is_over(&handle.state);
        }
    }

    /// What has happened to a path. Any context.
    fn path_event(&self, path: &LiveRef<HeadPath>, what: fmt::Arguments<'_>) {
        pr_warn!(
            "rmpath{}: path {} {}\n",
            self.id,
            path.device().name(),
            what
        );
    }

    /// Errors that may be the medium's have come by a path as often as fails one, but there is no
    /// other. Has it probed at once: it fails if the probe does. Returns whether it will be probed.
    /// Any context.
    pub(super) fn path_suspected(&self, path: &LiveRef<HeadPath>) -> bool {
        if self.probe_secs.load(Relaxed) == 0 {
            return false;
        }
        path.handle().probing.lock().suspect();
        path.handle().arm_probe(path, 0);
        true
    }

    /// Sets `probe_secs`. Paths that have failed are probed so many seconds from now; with 0 no
    /// more. Any context.
    pub(super) fn set_probe_secs(&self, secs: u32) {
        self.probe_secs.xchg(secs, Full);
        if secs == 0 {
            return;
        }
        self.paths.read(|set| {
            let failed = |path: &&ArcPath| path.state().wants_probe();
            for path in set.paths.iter().filter(failed) {
                if let Some(path) = path.try_get() {
                    path.handle().probing.lock().restart();
                    path.handle().arm_probe(&path, secs);
                }
            }
        });
    }

    /// The open path of this handle, unless it is being closed.
    pub(super) fn open_path(&self, handle: &PathHandle) -> Option<LiveRef<HeadPath>> {
        self.paths.read(|set| {
            set.paths
                .iter()
                .find(|path| core::ptr::eq::<PathHandle>(&**path.handle(), handle))
                .and_then(|path| path.try_get())
        })
    }
}

impl PathHandle {
    /// Has the path probed, or the end of its probe looked at, so many seconds from now. Any context.
    fn arm_probe(&self, path: &LiveRef<HeadPath>, secs: u32) {
        let token = Token::of(path.handle().clone());
        // The token that comes back is not the last reference: the device has one.
        drop(arm::<PROBE, _, _>(token, secs_to_jiffies(secs)));
    }

    /// The path has been shut: it is not probed any more. May sleep.
    pub(super) fn stop_probing(&self) {
        drop(disarm_sync::<PROBE, _, _>(self));
    }

    /// Reads a block, unless there is no reason to.
    fn probe(path: LiveRef<HeadPath>, secs: u32) {
        let handle = path.handle();
        if secs == 0 || !handle.probing.lock().begin(handle.state.wants_probe()) {
            return;
        }
        match BlockRead::new(path.device()) {
            Ok(read) => read.submit(path),
            Err(_) => {
                let mut probing = handle.probing.lock();
                probing.abandoned();
                let pause = probing.again(secs);
                drop(probing);
                handle.arm_probe(&path, pause);
            }
        }
    }

    /// A read has ended.
    fn conclude(
        head: ArcBorrow<'_, Head>,
        path: &LiveRef<HeadPath>,
        status: BlkStatus,
        purpose: Purpose,
        secs: u32,
    ) {
        let handle = path.handle();
        let found = answer(status);
        let pause = match (purpose, found) {
            (Purpose::Verify, Answer::Alive) => return handle.state.note_answer(),
            (Purpose::Verify, Answer::Broken) => return head.path_failed(path, status),
            (Purpose::Verify, Answer::Unclear) => return,
            (Purpose::Reinstate, Answer::Alive) if Head::path_returned(head, path).is_ok() => {
                return
            }
            (Purpose::Reinstate, Answer::Unclear) => handle.probing.lock().again(secs),
            (Purpose::Reinstate, _) => handle.probing.lock().missed(secs),
        };
        if secs != 0 {
            handle.arm_probe(path, pause);
        }
    }
}

impl Reader for LiveRef<HeadPath> {
    fn end_read(self, status: BlkStatus) {
        self.handle().probing.lock().answered(status);
        // Before the reference goes: who waits for that cancels the work item next.
        self.handle().arm_probe(&self, 0);
    }
}

impl WorkItem<PROBE> for PathHandle {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let handle = token.object();
        let Some(head) = handle.head().map(Arc::as_arc_borrow) else {
            return;
        };
        let Some(path) = head.open_path(handle) else {
            return;
        };
        let secs = head.probe_secs.load(Relaxed);
        let ended = handle.probing.lock().conclude(handle.state.wants_probe());
        match ended {
            None => Self::probe(path, secs),
            Some((status, Some(purpose))) => Self::conclude(head, &path, status, purpose, secs),
            Some((_, None)) => (),
        }
    }
}
