// SPDX-License-Identifier: GPL-2.0

//! Which path stands out among those of its disk, by its errors or by its slowness.
//!
//! A path that fails is not used; this is about those that do not quite fail. From time to time the
//! paths are compared: one whose error rate is above that of the best one by more than a limit, or
//! that needs more than a multiple of the time that the fastest one needs, is marked, and used after
//! all others. When it has not misbehaved again for some time, it is forgiven; how it behaves is
//! seen only when it is used, so to forgive is to try. One that misbehaves again soon is marked for
//! longer.
//!
//! Each path has periods of its own, that end when there was enough to tell. What one has shown in its
//! period is compared with what the others have shown meanwhile, for two paths that are used alike need
//! not come to the ends of their periods together.

use super::path::PathState;
use crate::abstractions::{
    atomic::LoadOnce,
    percpu::PerCpuCounter, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// How many bios of a path, in each period, have their time taken before it is one in
/// [`SAMPLE_MASK`] and one on each CPU.
const SAMPLE_FIRST: u32 = 64;
const SAMPLE_MASK: u32 = 63;

/// So many bios, or times, say something about a path. With fewer the period goes on.
const ENOUGH: u32 = 16;

/// One error is none.
const MIN_ERRORS: u32 = 2;

/// Differences below this do not count, in nanoseconds.
const MIN_DIFFERENCE: u64 = 100_000;

/// A path that is marked again within the time that it was marked for is marked for twice as long;
/// so many times over.
const MAX_RELAPSES: u32 = 4;

const NS_PER_SEC: u64 = 1_000_000_000;

/// What is known of how one path behaves. Counting: any context.
pub(crate) struct Vitals {
    begun: PerCpuCounter,
    errors: Atomic<u32>,
    samples: Atomic<u32>,
    /// The sum of the samples: nanoseconds.
    time: Atomic<u64>,
    // What follows is the judge's.
    /// `begun` at the beginning of the period.
    seen: Atomic<u32>,
    /// Errors in a thousand bios.
    last_rate: Finding,
    /// Nanoseconds.
    last_mean: Finding,
    /// When the mark ends, or ended: nanoseconds of the monotonic clock; 0 if there was none.
    until: Atomic<u64>,
    relapses: Atomic<u32>,
}

/// What a path showed in the period before the one that goes on. The judge's.
struct Finding {
    /// [`Finding::NOTHING`] if that is not known.
    value: Atomic<u64>,
    /// When that period ended and this one began: nanoseconds of the monotonic clock.
    time: Atomic<u64>,
}

impl Finding {
    const NOTHING: u64 = u64::MAX;

    const fn none(now: u64) -> Self {
        Self {
            value: Atomic::new(Self::NOTHING),
            time: Atomic::new(now),
        }
    }

    fn keep(&self, value: u64, now: u64) {
        self.value.store(value, Relaxed);
        self.time.store(now, Relaxed);
    }

    fn began(&self) -> u64 {
        self.time.load(Relaxed)
    }

    /// What was shown, if that was later than `since`.
    fn recall(&self, since: u64) -> Option<u64> {
        let value = self.value.load(Relaxed);
        (value != Self::NOTHING && self.began() > since).then_some(value)
    }
}

/// What a path did in one period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Period {
    /// Bios that were sent there.
    pub(crate) bios: u32,
    /// Those that came back with an error that may be the path's.
    pub(crate) errors: u32,
    /// Those of which the time was taken.
    pub(crate) samples: u32,
    /// The sum of these times: nanoseconds.
    pub(crate) time: u64,
}

impl Period {
    /// Errors in a thousand bios, if there were so many at least, and one.
    fn error_rate(&self, enough: u32) -> Option<u64> {
        let rate = (u64::from(self.errors) * 1000).checked_div(self.bios.into());
        rate.filter(|_| self.bios >= enough)
    }

    /// The mean time of a bio in nanoseconds, if so many were measured at least, and one.
    fn mean(&self, enough: u32) -> Option<u64> {
        let mean = self.time.checked_div(self.samples.into());
        mean.filter(|_| self.samples >= enough)
    }
}

/// What is too much.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// Errors in a thousand bios, more than the best path has; 0: errors do not count.
    pub(crate) err_rate: u32,
    /// Percent of the time that the fastest path needs; 0: time does not count.
    pub(crate) latency_pct: u32,
    /// For how many seconds a path is marked; 0: until somebody says otherwise.
    pub(crate) recheck_gap: u32,
}

/// Why a path is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Errors of so many bios.
    Errors(u32, u32),
    /// So many nanoseconds for a bio, and so many on the fastest path.
    Latency(u64, u64),
}

impl Rules {
    /// For how long one is marked that has relapsed so often: nanoseconds.
    fn gap(&self, relapses: u32) -> u64 {
        let gap = u64::from(self.recheck_gap) * NS_PER_SEC;
        gap.saturating_mul(1 << relapses)
    }

    /// Why a path that did that stands out beside the best of `others`, if it does.
    fn verdict<'a, J: Judged + 'a>(
        &self,
        vitals: &Vitals,
        period: &Period,
        others: impl Iterator<Item = &'a J> + Clone,
    ) -> Option<Reason> {
        if let (Some(rate), 1..) = (period.error_rate(ENOUGH), self.err_rate) {
            let since = vitals.last_rate.began();
            let rates = others.clone().map(|other| other.vitals().rate(since));
            let limit = rates.min()?.saturating_add(self.err_rate.into());
            if period.errors >= MIN_ERRORS && rate > limit {
                return Some(Reason::Errors(period.errors, period.bios));
            }
        }
        if let (Some(mean), 1..) = (period.mean(ENOUGH), self.latency_pct) {
            let since = vitals.last_mean.began();
            let means = others.filter_map(|other| other.vitals().mean(since));
            let fastest = means.min()?;
            let limit = fastest.saturating_mul(self.latency_pct.into()) / 100;
            if mean > limit && mean - fastest.min(mean) > MIN_DIFFERENCE {
                return Some(Reason::Latency(mean, fastest));
            }
        }
        None
    }
}

/// What has become of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is used last from now on.
    Marked(Reason),
    /// It is as good as others again.
    Forgiven,
}

/// A path that is judged.
pub(crate) trait Judged {
    /// Whether it is usable, and whether it is marked.
    fn state(&self) -> &PathState;
    /// How it behaves.
    fn vitals(&self) -> &Vitals;
}

/// Compares the paths, once per period; by one judge at a time. `changed` hears what becomes of
/// which. Returns whether to go on: there was I/O, or some path is marked. Does not sleep.
pub(crate) fn judge<'a, J: Judged + 'a>(
    paths: impl Iterator<Item = &'a J> + Clone,
    rules: &Rules,
    now: u64,
    mut changed: impl FnMut(&J, Change),
) -> bool {
    let is_good = |path: &&'a J| path.state().is_usable() && !path.state().is_marginal();
    let mut unmarked = paths.clone().filter(is_good).count();
    let mut go_on = false;
    for path in paths.clone() {
        let (state, vitals) = (path.state(), path.vitals());
        let period = vitals.period();
        go_on |= period.bios != 0 || period.errors != 0;
        let reason = rules.verdict(vitals, &period, paths.clone().filter(is_good));
        if state.is_marginal() {
            go_on = true;
            if reason.is_some() {
                vitals.sentence(rules, now);
            } else if vitals.is_over(now) && state.forgive() {
                unmarked += usize::from(state.is_usable());
                changed(path, Change::Forgiven);
            }
        } else if let Some(reason) = reason {
            // If all were marked, none would be used last.
            if state.is_usable() && unmarked > 1 && state.mark_marginal() {
                unmarked -= 1;
                vitals.relapse(rules, now);
                go_on = true;
                changed(path, Change::Marked(reason));
            }
        }
        // One that has failed for the moment is judged when it is back.
        if state.is_usable() {
            vitals.end(&period, now);
        }
    }
    if !go_on {
        // What is left over would be old when it goes on.
        for vitals in paths.map(Judged::vitals) {
            vitals.restart_samples(&vitals.period());
        }
    }
    go_on
}

impl Vitals {
    /// Those of a path that nothing is known of. `now`: nanoseconds of the monotonic clock. `ENOMEM`. May
    /// sleep.
    pub(crate) fn new(now: u64) -> Result<Self> {
        Ok(Self {
            begun: PerCpuCounter::new()?,
            errors: Atomic::new(0),
            samples: Atomic::new(0),
            time: Atomic::new(0),
            seen: Atomic::new(0),
            last_rate: Finding::none(now),
            last_mean: Finding::none(now),
            until: Atomic::new(0),
            relapses: Atomic::new(0),
        })
    }

    /// A bio is sent there. Returns whether to take its time.
    pub(crate) fn begin(&self) -> bool {
        let number = self.begun.step();
        number & SAMPLE_MASK == 0 || self.samples.load_once() < SAMPLE_FIRST
    }

    /// One of those whose time was taken has succeeded after so many nanoseconds.
    pub(crate) fn sample(&self, time: u64) {
        self.time.add(time, Relaxed);
        self.samples.add(1, Relaxed);
    }

    /// One came back with an error that may be the path's.
    pub(crate) fn error(&self) {
        self.errors.add(1, Relaxed);
    }

    fn period(&self) -> Period {
        Period {
            bios: self
                .begun
                .wrapping_sum()
                .wrapping_sub(self.seen.load(Relaxed)),
            errors: self.errors.load(Relaxed),
            samples: self.samples.load(Relaxed),
            time: self.time.load(Relaxed),
        }
    }

    /// How many of a thousand bios have failed since then; 0 if there were none: one that is not used is
    /// given the benefit of the doubt.
    fn rate(&self, since: u64) -> u64 {
        let period = self.period();
        if let Some(rate) = period.error_rate(ENOUGH) {
            return rate;
        }
        let so_far = period.error_rate(1).unwrap_or(0);
        so_far.max(self.last_rate.recall(since).unwrap_or(0))
    }

    /// How long a bio has taken since then, if that is known: nanoseconds. What goes on now counts if it
    /// is worse than what was.
    fn mean(&self, since: u64) -> Option<u64> {
        let period = self.period();
        let so_far = period.mean(1).unwrap_or(0);
        let last = self.last_mean.recall(since);
        period.mean(ENOUGH).or(last.map(|mean| mean.max(so_far)))
    }

    /// Of that of which there was enough to tell, a new period begins.
    fn end(&self, period: &Period, now: u64) {
        if let Some(rate) = period.error_rate(ENOUGH) {
            self.last_rate.keep(rate, now);
            self.restart_errors(period);
        }
        if let Some(mean) = period.mean(ENOUGH) {
            self.last_mean.keep(mean, now);
            self.restart_samples(period);
        }
    }

    fn restart_errors(&self, period: &Period) {
        self.seen.add(period.bios, Relaxed);
        self.errors.add(period.errors.wrapping_neg(), Relaxed);
    }

    fn restart_samples(&self, period: &Period) {
        self.samples.add(period.samples.wrapping_neg(), Relaxed);
        self.time.add(period.time.wrapping_neg(), Relaxed);
    }

    /// Nothing is known of it any more. `now`: as in [`Vitals::new`].
    pub(crate) fn reset(&self, now: u64) {
        let period = self.period();
        self.restart_errors(&period);
        self.restart_samples(&period);
        self.last_rate.keep(Finding::NOTHING, now);
        self.last_mean.keep(Finding::NOTHING, now);
        self.until.store(0, Relaxed);
        self.relapses.store(0, Relaxed);
    }

    /// Its mark lasts from now on.
    fn sentence(&self, rules: &Rules, now: u64) {
        let until = match rules.recheck_gap {
            0 => u64::MAX,
            _ => now.saturating_add(rules.gap(self.relapses.load(Relaxed))),
        };
        self.until.store(until, Relaxed);
    }

    /// It is marked now.
    fn relapse(&self, rules: &Rules, now: u64) {
        let until = self.until.load(Relaxed);
        let relapses = self.relapses.load(Relaxed);
        let soon = until != 0 && now < until.saturating_add(rules.gap(relapses));
        let relapses = if soon {
            (relapses + 1).min(MAX_RELAPSES)
        } else {
            0
        };
        self.relapses.store(relapses, Relaxed);
        self.sentence(rules, now);
    }

    fn is_over(&self, now: u64) -> bool {
        now >= self.until.load(Relaxed)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
mod suite;
