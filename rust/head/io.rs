// SPDX-License-Identifier: GPL-2.0

//! The I/O path of a head: a clone per bio, another one on another path when it fails.
//!
//! A submitter chooses a path and takes a reference on it in one RCU read section, or parks the
//! clone in the same section. Whoever makes a path usable, or decides that there will be none,
//! first publishes that, waits for a grace period, and then takes out what is parked: nothing that
//! did not see the news can be parked after that.

use super::{
    choice::{
        Counted,
        NoCache, //
    },
    path::HeadPath,
    Head,
    PathSet,
    REQUEUE,
    RETRY, //
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        bio::{
            clone::{
                Clone as BioClone,
                CloneOps, //
            },
            flags::Flags,
            list::BioList,
            status::BlkStatus,
            Bio, //
        },
        clock::now_ns,
        percpu_ref::LiveRef,
        rcu::Elapsed,
        workqueue::{
            arm,
            Token, //
        }, //
    },
    mpath::{
        delay::Due,
        error::{
            verdict,
            Verdict, //
        },
        selector::HasState, //
    },
};
use kernel::{
    sync::{
        atomic::Relaxed,
        Arc,
        ArcBorrow, //
    },
    time::{
        msecs_to_jiffies,
        Msecs, //
    },
    workqueue::WorkItem, //
};

/// How often one bio is sent again before its error is believed. A path that fails is not used
/// again, so this ends what a path that is reinstated again and again could go on with for ever.
const MAX_RETRIES: u8 = 32;

/// How often one bio is sent again after errors that may not be the path's fault.
const MAX_SOFT_RETRIES: u8 = 3;

const NSEC_PER_MSEC: u64 = 1_000_000;
const MSEC_PER_SEC: u32 = 1000;

/// Instead of the sectors of a flush that waits for a path with a cache: more than any bio has.
const AWAITS_CACHE: u32 = u32::MAX;

/// How long a bio waits that met a shortage, an error for which its path is probed first, or a write
/// cache that is being emptied.
const SHORTAGE_DELAY: Msecs = 100;

/// The longest `retry_delay_ms`: device-mapper's bound for its `pg_init_delay_msecs`.
pub(super) const MAX_RETRY_DELAY: Msecs = 60_000;

/// `path_fail_threshold` of a new head.
pub(super) const DEFAULT_FAIL_THRESHOLD: u32 = 2;

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
    /// What it was counted for when it was sent, and of how many sectors it was then; while it waits
    /// for its time, [`AWAITS_CACHE`] if a change of paths may end that.
    pub(super) counted: Counted,
    pub(super) sectors: u32,
    /// The path that error came by, to be used again only if there is no other. Compared, never
    /// followed.
    pub(super) avoid: usize,
    /// When it was sent, if its time is taken; while it waits for its time, when that comes:
    /// nanoseconds of the monotonic clock.
    pub(super) start: u64,
}

impl Due for BioClone<HeadIo> {
    fn due(&self) -> u64 {
        self.start
    }
}

impl CloneOps for HeadIo {
    type Target = LiveRef<HeadPath>;

    #[inline(always)]
    fn succeeded(&self, path: &Self::Target) {
        path.handle().end_io();
        if !self.counted.is_none() {
            Head::count_out_well(self, path);
        }
        if path.handle().state.is_suspect() {
            Head::path_works(path);
        }
    }

    fn failed(mut clone: BioClone<Self>, path: Self::Target, status: BlkStatus) {
        path.handle().end_io();
        if !clone.counted.is_none() {
            Head::count_out(&clone, &path, status);
            clone.counted = Counted::NONE;
        }
        failed(clone, path, status);
    }

    #[cold]
    fn not_sent(&self, path: &Self::Target) {
        path.handle().end_io();
        Head::count_out(self, path, BlkStatus::AGAIN);
    }
}

impl HeadIo {
    /// What is kept with one that has not been sent before.
    #[inline]
    fn new(counted: Counted, sectors: u32, start: u64) -> Self {
        Self {
            status: BlkStatus::OK,
            retries: 0,
            soft_retries: 0,
            counted,
            sectors,
            avoid: 0,
            start,
        }
    }
}

/// Where a clone goes.
enum Route {
    Path(BioClone<HeadIo>, LiveRef<HeadPath>, Flags),
    End(BioClone<HeadIo>, BlkStatus),
    /// Nowhere, for a while.
    Later(BioClone<HeadIo>),
    /// It waits for something that has been told.
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
    if status == BlkStatus::NOTSUPP && clone.stop_polling() {
        // Perhaps because it has stopped to poll since the clone was sent there: not so again. That is
        // not what the original ends with if there is no path then.
        if clone.is_nowait() {
            drop(path);
            return clone.finish(BlkStatus::AGAIN);
        }
        let head = head.as_arc_borrow();
        head.parked.park(clone);
        return Head::kick(head);
    }
    clone.status = status;
    clone.avoid = Arc::as_ptr(handle).addr();
    // How long it waits, and whether that it is sent again speaks for another path.
    let (mut delay, mut elsewhere) = (0, true);
    let again = match verdict {
        Verdict::Done | Verdict::Return => false,
        Verdict::RetryLater => {
            (delay, elsewhere) = (SHORTAGE_DELAY, false);
            clone.soft_retries += 1;
            clone.soft_retries <= MAX_SOFT_RETRIES
        }
        Verdict::RetryElsewhere => {
            elsewhere = head.has_other(&path);
            let threshold = head.fail_threshold.load(Relaxed);
            // The path has become smaller than the head. That is no sign of its being broken.
            let behind_end =
                status == BlkStatus::IOERR && clone.ends_behind(path.device().nr_sectors());
            if !behind_end && handle.state.note_soft_error(threshold) {
                if elsewhere {
                    head.path_failed(&path, status);
                } else if head.path_suspected(&path) {
                    // The last path is not given up for an error that may be the medium's.
                    delay = SHORTAGE_DELAY;
                }
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
        handle.history.counters.errors.inc();
        drop(path);
        return clone.finish(status);
    }
    if clone.is_nowait() {
        // The submitter would rather come again than wait for the work item.
        drop(path);
        return clone.finish(BlkStatus::AGAIN);
    }
    if elsewhere {
        handle.history.counters.failovers.inc();
        head.counters.failovers.inc();
    } else {
        handle.history.counters.retries.inc();
    }
    if verdict != Verdict::RetryLater && clone.is_write() {
        delay = delay.max(head.retry_delay.load(Relaxed));
    }
    if delay == 0 {
        head.parked.park(clone);
        Head::kick(head.as_arc_borrow());
    } else {
        Head::hold_for(head.as_arc_borrow(), clone, delay);
    }
}

impl Head {
    /// A bio is submitted to the disk. May sleep, unless it is `REQ_NOWAIT`.
    #[inline]
    pub(super) fn submit(this: ArcBorrow<'_, Self>, bio: Bio) {
        let mode = this.choice.mode();
        // Where all is well.
        let path = this.paths.read_in_section(|set, section| {
            if set.mixed_caches.load_once() != 0 {
                return None;
            }
            let path = this.choose_first(mode, set, &bio)?;
            Some((path.try_get_in_section(section)?, set.flags))
        });
        let Some((path, flags)) = path else {
            return Self::submit_slowly(this, bio);
        };
        path.handle().begin_io();
        if mode.is_simple() {
            return BioClone::send(bio, || HeadIo::new(Counted::NONE, 0, 0), path, flags);
        }
        let sectors = bio.sectors();
        let (counted, start) = Self::count_in(mode, path.handle(), sectors);
        BioClone::send(bio, || HeadIo::new(counted, sectors, start), path, flags);
    }

    /// The same where no path was found at once.
    #[cold]
    #[inline(never)]
    fn submit_slowly(this: ArcBorrow<'_, Self>, bio: Bio) {
        match this.bios.clone_bio(bio, HeadIo::new(Counted::NONE, 0, 0)) {
            Ok(clone) => Self::dispatch(this, clone),
            Err((bio, _, status)) => bio.end(status),
        }
    }

    /// Sends a clone down a path, or lets it wait, or ends it.
    #[inline(never)]
    fn dispatch(this: ArcBorrow<'_, Self>, clone: BioClone<HeadIo>) {
        let mode = this.choice.mode();
        let route = this.paths.read(move |set| {
            let path = match set.mixed_caches.load_once() != 0 && clone.flushes() {
                false => this.choose(mode, set, clone.original_sectors(), clone.avoid),
                true => match this.choose_for_flush(set, &clone) {
                    Ok(path) => path,
                    Err(NoCache::Leaves) => return Route::Later(clone),
                    Err(NoCache::Away) => return Self::be_patient(this, clone),
                },
            };
            match path.and_then(|path| path.try_get()) {
                Some(path) => Route::Path(clone, path, set.flags),
                None => Self::no_path(this, clone, set),
            }
        });
        match route {
            Route::Path(mut clone, path, flags) => {
                path.handle().begin_io();
                if !mode.is_simple() {
                    clone.sectors = clone.original_sectors();
                    (clone.counted, clone.start) =
                        Self::count_in(mode, path.handle(), clone.sectors);
                }
                clone.submit(path, flags);
            }
            Route::End(clone, status) => clone.finish(status),
            Route::Later(clone) if clone.is_nowait() => clone.finish(BlkStatus::AGAIN),
            Route::Later(clone) => Self::hold_for(this, clone, SHORTAGE_DELAY),
            Route::Parked => (),
        }
    }

    /// A flush waits for a path with a cache, looking again when paths change, and now and then, for
    /// `no_path_timeout_secs` in all: to say that all is written, when it is not, is worse than an error.
    /// In the read section that saw no such path usable: who makes one usable, or changes the time,
    /// kicks when that is over.
    #[cold]
    fn be_patient(this: ArcBorrow<'_, Self>, mut clone: BioClone<HeadIo>) -> Route {
        if clone.is_nowait() {
            return Route::End(clone, BlkStatus::AGAIN);
        }
        let secs = this.no_path_secs.load(Relaxed);
        let now = now_ns();
        let is_early = clone.sectors == AWAITS_CACHE && clone.start > now;
        if secs == 0 || (!is_early && clone.retries >= MAX_RETRIES) {
            this.counters.refused.inc();
            return Route::End(clone, BlkStatus::IOERR);
        }
        let pause = secs.saturating_mul(MSEC_PER_SEC / u32::from(MAX_RETRIES));
        let next = now + u64::from(pause.max(SHORTAGE_DELAY)) * NSEC_PER_MSEC;
        if is_early {
            clone.start = clone.start.min(next);
        } else {
            clone.start = next;
            clone.retries += 1;
        }
        clone.sectors = AWAITS_CACHE;
        Self::hold(this, clone);
        // After that: who clears it in between finds the flush, or has nothing to tell it.
        this.flush_waits.store(true, Relaxed);
        Route::Parked
    }

    /// What to do with a clone for which there is no path. In the read section that saw that.
    #[cold]
    fn no_path(this: ArcBorrow<'_, Self>, clone: BioClone<HeadIo>, set: &PathSet) -> Route {
        if this.gate.load(Relaxed) != Gate::Park as u32 {
            this.counters.refused.inc();
            let status = match clone.status {
                BlkStatus::OK => BlkStatus::IOERR,
                last => last,
            };
            return Route::End(clone, status);
        }
        if clone.is_nowait() {
            // Whoever comes again instead shall not do so for ever.
            Self::begin_waiting(this, set);
            return Route::End(clone, BlkStatus::AGAIN);
        }
        this.counters.requeued.inc();
        this.parked.park(clone);
        Self::begin_waiting(this, set);
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

    /// Keeps a clone for so many milliseconds. Any context.
    #[cold]
    fn hold_for(this: ArcBorrow<'_, Self>, mut clone: BioClone<HeadIo>, delay: Msecs) {
        clone.start = now_ns() + u64::from(delay) * NSEC_PER_MSEC;
        clone.sectors = 0;
        Self::hold(this, clone);
    }

    /// Keeps a clone until its time. Any context.
    fn hold(this: ArcBorrow<'_, Self>, clone: BioClone<HeadIo>) {
        // Not the last reference: the caller has one.
        drop(
            this.delayed
                .hold(clone, |delay| Self::arm_retry(this, delay)),
        );
    }

    /// Sets the timer for the clones that wait for their time, the first for so many nanoseconds.
    fn arm_retry(this: ArcBorrow<'_, Self>, delay: u64) -> Option<Token<Self>> {
        // A little late rather than early, or it would find nothing that is due.
        let ms = Msecs::try_from(delay / NSEC_PER_MSEC + 1).unwrap_or(MAX_RETRY_DELAY);
        let token = Token::of(this.into());
        arm::<RETRY, _, _>(token, msecs_to_jiffies(ms))
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
            Self::dispatch(this, clone);
        }
    }

    /// Tries again everything that waits, when everybody sees that it shall not any more. May sleep.
    pub(super) fn resubmit_all(this: ArcBorrow<'_, Self>, _: Elapsed) {
        Self::resubmit(this, this.parked.take());
        Self::resubmit(this, this.delayed.take());
    }
}

impl WorkItem<REQUEUE> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let head = token.object().as_arc_borrow();
        Self::resubmit(head, head.parked.take());
        if head.flush_waits.load(Relaxed) {
            head.flush_waits.store(false, Relaxed);
            let flushes = head.delayed.take_if(|clone| clone.sectors == AWAITS_CACHE);
            Self::resubmit(head, flushes);
        }
    }
}

impl WorkItem<RETRY> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let head = token.object().as_arc_borrow();
        let (bios, superseded) = head.delayed.take_due(|delay| Self::arm_retry(head, delay));
        drop(superseded);
        Self::resubmit(head, bios);
    }
}
