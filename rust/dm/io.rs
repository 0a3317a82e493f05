// SPDX-License-Identifier: GPL-2.0

//! The I/O of a map that does not go straight through: clones that find no path, that have failed,
//! or that wait.

use super::{
    path::Path,
    target::{
        Multipath,
        QUEUES,
        REQUEUE,
        RETRY,
        SUSPECTS,
        TIMES, //
    }, //
};
use crate::{
    abstractions::{
        bio::status::BlkStatus,
        device_mapper::{
            Ended,
            FailedBio,
            KeptBio,
            MapBio,
            Mapped,
            SucceededBio, //
        },
        workqueue::{
            arm,
            Token, //
        }, //
    },
    mpath::{
        error::{
            verdict,
            Verdict, //
        },
        group::{
            Demand,
            Picked, //
        },
        path::FailReason, //
    },
};
use kernel::{
    sync::{
        atomic::{
            Full,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
    time::{
        msecs_to_jiffies,
        Msecs, //
    },
    workqueue::WorkItem, //
};

/// How often a bio is tried again after errors that do not fail a path.
const MAX_SOFT_RETRIES: u8 = 3;

/// How often a bio is tried again after paths have failed, unless I/O is to wait for a path anyway.
const MAX_RETRIES: u8 = 32;

/// How many soft errors in a row fail a path.
const SOFT_ERRORS: u32 = 2;

/// How long a bio waits that was refused for want of resources, in milliseconds.
const RETRY_DELAY: Msecs = 100;

/// The number of no path.
const NO_PATH: u32 = u32::MAX;

/// What is kept with each clone.
pub(crate) struct BioData {
    /// What the path's group wants to know when it ends.
    kept: u64,
    /// The path that it was sent to last, or [`NO_PATH`].
    pub(super) path: u32,
    /// How often it was tried again after a path had failed.
    retries: u8,
    /// How often it was tried again after another error.
    soft_retries: u8,
    /// What it ends with if there is no path for it any more.
    error: BlkStatus,
    /// Makes one store of the last four.
    _fill: u8,
}

impl Default for BioData {
    #[inline]
    fn default() -> Self {
        Self {
            kept: 0,
            path: NO_PATH,
            retries: 0,
            soft_retries: 0,
            error: BlkStatus::IOERR,
            _fill: 0,
        }
    }
}

impl BioData {
    /// It is sent to this path.
    #[inline]
    fn sent(&mut self, picked: &Picked<'_, Arc<Path>>) {
        self.path = picked.path.number;
        self.kept = picked.kept;
    }
}

/// A clone that was kept.
pub(super) type Kept = KeptBio<Multipath>;

/// What a failed clone waits for.
#[derive(Clone, Copy, PartialEq)]
enum Retry {
    /// A path.
    Now,
    /// Resources.
    Later,
}

impl Multipath {
    /// Has clones that wait for resources wait for a path only.
    pub(super) fn hurry(&self) {
        let mut state = self.state.lock();
        let delayed = state.delayed.take();
        state.parked.append(delayed);
    }

    /// Submits the parked clones again. May sleep.
    pub(super) fn resubmit(&self) {
        let mut bios = self.state.lock().parked.take();
        while let Some(bio) = bios.pop() {
            self.submit(bio);
        }
    }

    /// Submits a clone, rather not to the path that it comes from; or parks it, or ends it.
    fn submit(&self, mut bio: Kept) {
        let last = bio.data_mut().path;
        let demand = Demand::Io(bio.bytes());
        let mut picked = self.groups.pick_if(demand, |path| path.number != last);
        if picked.is_none() {
            let mut state = self.state.lock();
            picked = self.groups.choose(&mut state.switch, demand);
            if picked.is_none() && state.may_park(bio.info()) {
                state.parked.push(bio);
                return;
            }
        }
        if let Some(picked) = picked {
            bio.data_mut().sent(&picked);
            bio.submit(picked.path.device);
            return;
        }
        let error = bio.data_mut().error;
        if let Err(bio) = bio.push_back() {
            bio.end(error);
        }
    }

    /// Sends a clone that has come to `map()` to this path.
    #[inline(always)]
    pub(super) fn send<'a>(
        mut bio: MapBio<'a, Self>,
        picked: &Picked<'_, Arc<Path>>,
    ) -> Mapped<'a> {
        // Before the store, or the path would be looked up again after it.
        let device = picked.path.device;
        bio.data_mut().sent(picked);
        bio.remap(device)
    }

    /// Maps a clone for which the current group has no path.
    #[cold]
    pub(super) fn map_otherwise<'a>(&self, bio: MapBio<'a, Self>) -> Mapped<'a> {
        let mut state = self.state.lock();
        let demand = Demand::Io(bio.bytes());
        if let Some(picked) = self.groups.choose(&mut state.switch, demand) {
            drop(state);
            return Self::send(bio, &picked);
        }
        let may_park = state.may_park(bio.info());
        if bio.is_nowait() {
            drop(state);
            return match may_park || bio.info().noflush_suspending() {
                true => bio.end(BlkStatus::AGAIN),
                false => bio.kill(),
            };
        }
        if !may_park {
            drop(state);
            return bio.push_back().unwrap_or_else(MapBio::kill);
        }
        let (kept, mapped) = bio.keep();
        state.parked.push(kept);
        mapped
    }

    /// Decides about a clone that has failed.
    pub(super) fn fail<'a>(
        this: ArcBorrow<'_, Self>,
        mut bio: FailedBio<'a, Self>,
        status: BlkStatus,
    ) -> Ended<'a> {
        let data = bio.data_mut();
        this.note_end(this.notes.load(Relaxed), data);
        let Some(path) = this.groups.path(data.path as usize) else {
            return bio.done(status);
        };
        data.error = status;
        let verdict = verdict(status);
        let fails = match verdict {
            Verdict::Done | Verdict::Return => return bio.done(status),
            Verdict::RetryLater => false,
            // A disk that is being removed ends what it still gets with IOERR.
            Verdict::RetryElsewhere => {
                this.suspect(path) || {
                    let device = bio.info().device(path.device);
                    !device.is_some_and(|device| device.bdev().is_live())
                }
            }
            Verdict::FailPath => true,
        };
        let data = bio.data_mut();
        if fails {
            data.retries = data.retries.saturating_add(1);
            Self::fail_path(this, bio.info(), path, FailReason::Io);
        } else if data.soft_retries < MAX_SOFT_RETRIES {
            data.soft_retries += 1;
        } else if verdict == Verdict::RetryLater {
            // Who keeps I/O while there is no path does so while there are no resources.
            if !this.state.lock().may_park(bio.info()) {
                return bio.push_back().unwrap_or_else(|bio| bio.done(status));
            }
        } else {
            return bio.done(status);
        }
        let retry = match verdict {
            Verdict::RetryLater => Retry::Later,
            _ => Retry::Now,
        };
        Self::retry(this, bio, retry)
    }

    /// Notes an error that may or may not be the path's fault. Returns whether it is one too many.
    fn suspect(&self, path: &Path) -> bool {
        let fails = path.state.note_soft_error(SOFT_ERRORS);
        self.set_suspects(true);
        fails
    }

    fn set_suspects(&self, suspects: bool) {
        // The other bits do not change, and nobody computes with an old value of this one.
        let counts = self.notes.load(Relaxed) & !SUSPECTS;
        let suspects = if suspects { SUSPECTS } else { 0 };
        self.notes.xchg(counts | suspects, Full);
    }

    /// A clone has come back from its path: counts it out, if it was counted in.
    fn note_end(&self, notes: u32, data: &BioData) {
        if notes & (QUEUES | TIMES) != 0 {
            self.groups.ended(data.path as usize, data.kept);
        }
    }

    /// A clone has succeeded, which counts in its path's queue. Apart, or who does not count would
    /// have to save the registers for it.
    #[inline(never)]
    pub(super) fn count_out(&self, bio: SucceededBio<'_, Self>) {
        // What we have ended ourselves was on no path any more.
        if let Some(data) = bio.data() {
            self.groups.count_out(data.path as usize, data.kept);
        }
    }

    /// A clone has succeeded, and there is more to be noted.
    #[inline(never)]
    pub(super) fn note_success(&self, notes: u32, bio: SucceededBio<'_, Self>) {
        let Some(data) = bio.data() else { return };
        self.note_end(notes, data);
        if notes & SUSPECTS != 0 {
            self.clear(data);
        }
    }

    /// The path that a clone came back by is under suspicion no more.
    #[cold]
    fn clear(&self, data: &BioData) {
        let path = self.groups.path(data.path as usize);
        let Some(path) = path.filter(|path| path.state.is_suspect()) else {
            return;
        };
        path.state.note_success();
        // Who notes an error meanwhile does so before he sets this: one of us sees the other.
        self.set_suspects(false);
        let suspect = |path: &Arc<Path>| path.state.is_suspect() && path.state.is_usable();
        if self.groups.paths().any(suspect) {
            self.set_suspects(true);
        }
    }

    /// Keeps a failed clone to try it again, or lets it end with the error it has.
    fn retry<'a>(
        this: ArcBorrow<'_, Self>,
        mut bio: FailedBio<'a, Self>,
        retry: Retry,
    ) -> Ended<'a> {
        let BioData { error, retries, .. } = *bio.data_mut();
        let mut state = this.state.lock();
        let may_park = state.may_park(bio.info());
        let go_on = may_park || (retries <= MAX_RETRIES && this.groups.usable() > 0);
        if bio.is_nowait() {
            drop(state);
            // The submitter would rather come again than wait for the work item.
            return match go_on || bio.info().noflush_suspending() {
                true => bio.done(BlkStatus::AGAIN),
                false => bio.done(error),
            };
        }
        if !go_on {
            drop(state);
            return bio.push_back().unwrap_or_else(|bio| bio.done(error));
        }
        let (kept, ended) = bio.keep();
        // Also while a suspend waits for it: it is not long, and hurrying would use up its retries.
        if retry == Retry::Later {
            let first = state.delayed.is_empty();
            state.delayed.push(kept);
            drop(state);
            if first {
                // Only if none waits yet, or a stream of them would move the time away for ever.
                let token = Token::of(this.into());
                let delay = msecs_to_jiffies(RETRY_DELAY);
                drop(arm::<RETRY, _, _>(token, delay));
            }
        } else {
            state.parked.push(kept);
            drop(state);
            Self::kick(this);
        }
        ended
    }
}

impl WorkItem<REQUEUE> for Multipath {
    type Pointer = Token<Self>;

    fn run(this: Self::Pointer) {
        this.resubmit();
    }
}

impl WorkItem<RETRY> for Multipath {
    type Pointer = Token<Self>;

    fn run(this: Self::Pointer) {
        this.hurry();
        this.resubmit();
    }
}
