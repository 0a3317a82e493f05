// SPDX-License-Identifier: GPL-2.0

//! Paths that the map itself finds well again, if its table says so (`probe_secs`).
//!
//! A path that has failed because its I/O has is read from after a while, and reinstated if it
//! answers; see [`Probing`] for the pauses. One that was failed by message is for others to
//! reinstate. One work item of the map decides, under the map's lock; the reads are in flight on
//! their own, one of a path at a time, so that a device that hangs keeps no other one out of use. The
//! map's end waits for them.
//!
//! While the map is suspended nothing begins, and what has ended is looked at afterwards.

use super::{
    path::Path,
    target::{
        Multipath,
        State,
        Suspend,
        REVIVE, //
    }, //
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
        block_device::Bdev,
        clock::now_ns,
        device_mapper::Hold,
        workqueue::{
            arm,
            disarm_sync,
            impl_has_token_work,
            Token, //
        },
    },
    mpath::{
        path::PathState,
        probe::{
            answer,
            Answer,
            Probing, //
        }, //
    },
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        Mutex, //
    },
    time::{
        msecs_to_jiffies,
        Instant,
        Msecs, //
    },
    workqueue::{
        new_work,
        Work,
        WorkItem, //
    },
};

const SUBMIT: u64 = 0;

const NS_PER_SEC: u64 = 1_000_000_000;
const NS_PER_MSEC: u64 = 1_000_000;

/// One path's.
struct Revival {
    probing: Probing,
    /// When it is probed, or its probe looked at: nanoseconds of the monotonic clock.
    due: Option<u64>,
}

/// Those of all paths of a map, by their numbers; lies in the map's lock.
pub(super) struct Revivals {
    paths: KVec<Revival>,
    /// The first pause, in seconds; 0: there are none.
    secs: u32,
    /// The map is on its way out.
    stopped: bool,
}

impl Revivals {
    /// For so many paths, if `secs` is not 0. `ENOMEM`. May sleep.
    pub(super) fn new(secs: u32, paths: usize) -> Result<Self> {
        let mut revivals = KVec::new();
        if secs > 0 {
            revivals.reserve(paths, GFP_KERNEL)?;
            for _ in 0..paths {
                let revival = Revival {
                    probing: Probing::new(),
                    due: None,
                };
                revivals.push(revival, GFP_KERNEL)?;
            }
        }
        Ok(Self {
            paths: revivals,
            secs,
            stopped: false,
        })
    }

    fn get(&mut self, path: &Path) -> Option<&mut Revival> {
        self.paths.get_mut(path.number as usize)
    }

    /// How long until the first is due, in nanoseconds.
    fn next(&self, now: u64) -> Option<u64> {
        let due = self.paths.iter().filter_map(|revival| revival.due).min()?;
        Some(due.saturating_sub(now))
    }
}

/// A block of a path is being read.
struct Read {
    // Dropped first: the map's end waits for the other, so this is not the last reference.
    map: Arc<Multipath>,
    number: u32,
    device: Hold,
}

impl AsRef<Bdev> for Read {
    fn as_ref(&self) -> &Bdev {
        self.device.as_ref()
    }
}

impl Reader for Read {
    fn end_read(self, status: BlkStatus) {
        let mut state = self.map.state.lock();
        if let Some(revival) = state.revivals.paths.get_mut(self.number as usize) {
            revival.probing.answered(status);
            revival.due = Some(now_ns());
        }
        let superseded = Multipath::plan_revivals(self.map.as_arc_borrow(), &mut state);
        drop(state);
        drop(superseded);
    }
}

/// A read that is to be sent, by a work item of its own: a device whose queue is frozen, or full, keeps
/// whoever does it. Until it is sent, too, the map's end waits for it.
#[pin_data]
struct Submission {
    #[pin]
    read: Mutex<Option<(BlockRead<Read>, Read)>>,
    #[pin]
    work: Work<Self, SUBMIT>,
}

impl_has_token_work! {
    impl HasPlainWork<SUBMIT> for Submission { self.work }
}

impl WorkItem<SUBMIT> for Submission {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let read = token.read.lock().take();
        // Nothing of the map is left in it.
        drop(token);
        if let Some((read, reader)) = read {
            read.submit(reader);
        }
    }
}

/// A token that came back, to be dropped when the lock is released.
type Superseded = Option<Token<Multipath>>;

impl Multipath {
    /// A path has failed, and is to be probed if that is `new`. Any context.
    pub(super) fn note_failure(
        this: ArcBorrow<'_, Self>,
        state: &mut State,
        path: &Path,
        new: bool,
    ) -> Superseded {
        let secs = state.revivals.secs;
        let revival = state.revivals.get(path).filter(|_| new)?;
        let pause = revival.probing.failed(secs, Instant::now());
        revival.due = Some(now_ns() + u64::from(pause) * NS_PER_SEC);
        Self::plan_revivals(this, state)
    }

    /// Has the work item run when the first path is due. Any context.
    pub(super) fn plan_revivals(this: ArcBorrow<'_, Self>, state: &mut State) -> Superseded {
        if state.revivals.stopped || state.suspend != Suspend::None {
            return None;
        }
        let left = state.revivals.next(now_ns())?;
        let msecs = Msecs::try_from(left.div_ceil(NS_PER_MSEC)).unwrap_or(Msecs::MAX);
        arm::<REVIVE, _, _>(Token::of(this.into()), msecs_to_jiffies(msecs))
    }

    /// No read begins any more. Those in flight are waited for by whoever puts the devices.
    pub(super) fn stop_revivals(&self) {
        self.state.lock().revivals.stopped = true;
        drop(disarm_sync::<REVIVE, _, _>(self));
    }

    /// What is due of one path: its probe is looked at, or made.
    fn revive(this: ArcBorrow<'_, Self>, path: &Path) {
        let mut state = this.state.lock();
        if state.revivals.stopped || state.suspend != Suspend::None {
            return;
        }
        let now = now_ns();
        let secs = state.revivals.secs;
        let Some(revival) = state.revivals.get(path) else {
            return;
        };
        if revival.due.is_none_or(|due| due > now) {
            return;
        }
        revival.due = None;
        let wanted = path.state.wants_probe();
        let found = match revival.probing.conclude(wanted) {
            Some((_, None)) => return,
            Some((status, Some(_))) => answer(status),
            None if !revival.probing.begin(wanted) => return,
            None => {
                drop(state);
                if Self::read(this, path) {
                    return;
                }
                state = this.state.lock();
                if let Some(revival) = state.revivals.get(path) {
                    revival.probing.abandoned();
                }
                Answer::Unclear
            }
        };
        let Some(revival) = state.revivals.get(path) else {
            return;
        };
        let pause = match found {
            Answer::Alive => {
                revival.probing.reinstated(Instant::now());
                drop(state);
                // Unless a message has failed it meanwhile.
                this.events.with(|info| {
                    Self::reinstate_path(this, info, path, PathState::reinstate_probed);
                });
                return;
            }
            Answer::Broken => revival.probing.missed(secs),
            Answer::Unclear => revival.probing.again(secs),
        };
        revival.due = Some(now_ns() + u64::from(pause) * NS_PER_SEC);
    }

    /// Reads a block of a path. Returns whether the read will end.
    fn read(this: ArcBorrow<'_, Self>, path: &Path) -> bool {
        let Some(device) = path.holdable.hold() else {
            return false;
        };
        let Ok(read) = BlockRead::new(device.as_ref()) else {
            return false;
        };
        let reader = Read {
            map: this.into(),
            number: path.number,
            device,
        };
        let submission = Arc::pin_init(
            pin_init!(Submission {
                read <- new_mutex!(Some((read, reader)), "rmpath_dm_submission"),
                work <- new_work!("rmpath_dm_submit"),
            }),
            // Memory may not be had before I/O has ended that waits for this.
            GFP_ATOMIC | __GFP_NOWARN,
        );
        let Ok(submission) = submission else {
            return false;
        };
        // It is new, so it is not queued already.
        drop(
            this.queues
                .probes
                .enqueue::<SUBMIT, _, _>(Token::of(submission)),
        );
        true
    }
}

impl WorkItem<REVIVE> for Multipath {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let this = token.object().as_arc_borrow();
        for path in this.groups.paths() {
            Self::revive(this, path);
        }
        let mut state = this.state.lock();
        let superseded = Self::plan_revivals(this, &mut state);
        drop(state);
        drop(superseded);
    }
}
