// SPDX-License-Identifier: GPL-2.0

//! What is under way on a path, and how long it takes there, for the policies that go by it.
//!
//! It is one cache line that all CPUs write, so it is kept only while a policy needs it. Who counts a
//! bio in remembers that he did, and counts it out again whatever the policy is by then: so the
//! numbers come back to zero however often the policy changes meanwhile.

use crate::abstractions::atomic::LoadOnce;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// Of the word that counts both, the lower bits have the sectors and the upper ones the bios.
const BIOS: u32 = 40;

/// A service time of so many nanoseconds replaces a twentieth of the average, one of twice that two
/// twentieths, and so on: the average is one over time rather than over bios.
const STEP_SHIFT: u32 = 24;
const STEPS: u64 = 20;

/// An average counts for half as much after so many times itself without news, and this.
const PATIENCE: u64 = 16;
const PATIENCE_NS: u64 = 100_000_000;

/// What is under way on a path. All methods: any context.
pub(crate) struct Load {
    /// Bios and sectors in one, so that it is one step to count both.
    under_way: Atomic<u64>,
    /// The moving average of the service time: nanoseconds, 0 if nothing is known.
    average: Atomic<u64>,
    /// When a bio was last done: nanoseconds of the monotonic clock.
    finished: Atomic<u64>,
}

impl Load {
    /// That of an idle path.
    pub(crate) fn new() -> Self {
        Self {
            under_way: Atomic::new(0),
            average: Atomic::new(0),
            finished: Atomic::new(0),
        }
    }

    #[inline]
    fn word(sectors: u32) -> u64 {
        (1 << BIOS) + u64::from(sectors)
    }

    /// A bio of so many sectors is sent there.
    #[inline]
    pub(crate) fn begin(&self, sectors: u32) {
        self.under_way.add(Self::word(sectors), Relaxed);
    }

    /// It is done. For each [`Load::begin`] with the same number, once.
    #[inline]
    pub(crate) fn end(&self, sectors: u32) {
        self.under_way
            .add(Self::word(sectors).wrapping_neg(), Relaxed);
    }

    /// How many bios are under way.
    #[inline]
    pub(crate) fn bios(&self) -> u64 {
        self.under_way.load_once() >> BIOS
    }

    /// How many sectors are under way.
    pub(crate) fn sectors(&self) -> u64 {
        self.under_way.load_once() & ((1 << BIOS) - 1)
    }

    /// A bio that was sent at `start` has succeeded. If another one was done since, the path is
    /// taken to have begun with this one only then: what counts is how long the path needs for one,
    /// not how long it had to wait there.
    ///
    /// Two at the same time may lose one of their times, which does no harm.
    pub(crate) fn served(&self, start: u64, now: u64) {
        let last = self.finished.xchg(now, Relaxed);
        let time = now.saturating_sub(start.max(last));
        // What was believed when the bio was sent there: a path that was not used for long, because
        // it was slow, begins anew.
        let old = aged(self.average.load_once(), start.saturating_sub(last));
        let steps = if old == 0 {
            STEPS
        } else {
            ((time >> STEP_SHIFT) + 1).min(STEPS)
        };
        let (old, time) = (u128::from(old), u128::from(time));
        let new = (old * u128::from(STEPS - steps) + time * u128::from(steps)) / u128::from(STEPS);
        // 0 means that nothing is known.
        self.average.store((new as u64).max(1), Relaxed);
    }

    /// How long until one more bio will be done there, in nanoseconds, and what to go by if that is
    /// equal. The time of a path that is idle becomes smaller with time, so that one that is not used
    /// because it was slow is tried again, and so is one of which nothing is known: with one bio.
    pub(crate) fn forecast(&self, now: u64) -> (u64, u64) {
        let average = self.average.load_once();
        match (self.bios(), average) {
            (0, _) => {
                let idle = now.saturating_sub(self.finished.load_once());
                (aged(average, idle), average)
            }
            (bios, 0) => (u64::MAX, bios),
            (bios, _) => (average.saturating_mul(bios + 1), average),
        }
    }
}

/// What an average counts for that has not been renewed for so many nanoseconds.
fn aged(average: u64, idle: u64) -> u64 {
    let half_life = average.saturating_mul(PATIENCE).saturating_add(PATIENCE_NS);
    let halvings = u32::try_from(idle / half_life).unwrap_or(u32::MAX);
    average.checked_shr(halvings).unwrap_or(0)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_load)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_is_counted_in_is_counted_out() {
        let load = Load::new();
        load.begin(8);
        load.begin(0);
        load.begin(u32::MAX);
        assert_eq!(load.bios(), 3);
        assert_eq!(load.sectors(), u64::from(u32::MAX) + 8);
        load.end(u32::MAX);
        load.end(8);
        assert_eq!(load.bios(), 1);
        assert_eq!(load.sectors(), 0);
        load.end(0);
        assert_eq!(load.bios(), 0);
    }

    #[test]
    fn the_average_follows() {
        let load = Load::new();
        assert_eq!(load.forecast(0), (0, 0));
        load.served(MS, 2 * MS);
        assert_eq!(load.forecast(2 * MS), (MS, MS));
        // Ten at once, done one after the other: each took a millisecond of the path's.
        for done in 3..13 {
            load.served(2 * MS, done * MS);
        }
        assert_eq!(load.forecast(12 * MS).1, MS);
        load.begin(8);
        assert_eq!(load.forecast(12 * MS), (2 * MS, MS));
        load.end(8);
        // One that took very long counts for much.
        load.served(12 * MS, 1012 * MS);
        assert_eq!(load.forecast(1012 * MS).1, 1000 * MS);
        load.served(1012 * MS, 1013 * MS);
        let after = load.forecast(1013 * MS).1;
        assert!(after > 900 * MS && after < 1000 * MS);
    }

    #[test]
    fn what_is_known_grows_old() {
        let load = Load::new();
        load.served(0, 100 * MS);
        let (fresh, plain) = load.forecast(100 * MS);
        assert_eq!(fresh, 100 * MS);
        let (later, same) = load.forecast(100 * MS + 1700 * MS);
        assert_eq!(later, 50 * MS);
        assert_eq!(same, plain);
        assert_eq!(load.forecast(u64::MAX / 2), (0, 100 * MS));
        // A clock that is behind.
        assert_eq!(load.forecast(0), (100 * MS, 100 * MS));
        // It is tried again, and is fast; then slow.
        load.served(20_000 * MS, 20_001 * MS);
        let (_, fast) = load.forecast(20_001 * MS);
        assert!(fast < 2 * MS);
        load.served(40_000 * MS, 40_100 * MS);
        assert!(load.forecast(40_100 * MS).1 > 25 * MS);
    }
}
