// SPDX-License-Identifier: GPL-2.0

//! historical-service-time: the path that will be done first, going by how long it needed for what
//! came before. Follows drivers/md/dm-ps-historical-service-time.c.
//!
//! What is known of a path is kept in atomics, without its lock: of two I/Os that end on a path at
//! the same time one may not enter into the average, which is no less an average for that.

use super::{
    super::table::{
        number,
        Refused, //
    }, //
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        clock::now_ns,
        device_mapper::Arg, //
    },
    mpath::{
        group::{
            Demand,
            Member,
            Picked, //
        },
        queue::{
            best,
            move_to_end,
            HasQueue,
            Queue, //
        },
    },
};
use core::{
    cmp::Ordering,
    fmt::{
        self,
        Write, //
    }, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Bits behind the binary point of weights and averages.
const SHIFT: u32 = 10;
const ONE: u64 = 1 << SHIFT;
/// 0.95
const BASE_WEIGHT: u32 = 972;
/// From so many I/Os under way on, times are computed with fewer bits.
const MAX_IN_FLIGHT: u64 = ONE;
/// Times of about 16 ms each have the same weight.
const BUCKET_SHIFT: u32 = 24;
const BUCKETS: usize = 64;

/// What is known of a path beside its load, which is how many I/Os are under way: a cache line of its
/// own, for it is written for each I/O.
#[repr(align(64))]
struct History {
    /// The moving average of its service time: nanoseconds, with [`SHIFT`] bits behind the point.
    average: Atomic<u64>,
    /// Until when the average is to be believed, and when an I/O ended last: nanoseconds of the
    /// monotonic clock.
    stale_after: Atomic<u64>,
    last_finish: Atomic<u64>,
}

/// What a path is like at one moment.
#[derive(Clone, Copy)]
struct Seen {
    average: u64,
    outstanding: u64,
    stale_after: u64,
}

/// The selector.
pub(crate) struct HistoricalServiceTime {
    histories: KVec<History>,
    /// How much an average counts beside a time of so many buckets: the powers of the base weight.
    weights: KVec<u32>,
    /// How many times longer a path must take for that to count.
    threshold: u32,
    /// How many paths are usable.
    valid: Atomic<u32>,
}

/// `x` to the power of `n`, both fixed point numbers.
fn power(mut x: u64, mut n: u32) -> u64 {
    let rounded = |product: u64| (product + (1 << (SHIFT - 1))) >> SHIFT;
    let mut result = ONE;
    while n > 0 {
        if n & 1 == 1 {
            result = rounded(result * x);
        }
        x = rounded(x * x);
        n >>= 1;
    }
    result
}

impl HistoricalServiceTime {
    /// `[<base weight> [<threshold multiplier>]]`
    pub(super) fn new(words: &[Arg<'_>]) -> Result<Self, Refused> {
        let refused = || Refused::because(c"path selector constructor failed");
        let value = |index: usize, default| match words.get(index) {
            None => Ok(default),
            Some(word) => number(word.as_cstr()).ok_or_else(refused),
        };
        let base = value(0, BASE_WEIGHT)?;
        let threshold = value(1, 0)?;
        if words.len() > 2 || u64::from(base) >= ONE {
            return Err(refused());
        }
        let mut weights = KVec::with_capacity(BUCKETS, GFP_KERNEL)?;
        for n in 1..BUCKETS as u32 {
            weights.push(power(u64::from(base), n) as u32, GFP_KERNEL)?;
        }
        // What took longer than all these is all that counts.
        weights.push(0, GFP_KERNEL)?;
        Ok(Self {
            histories: KVec::new(),
            weights,
            threshold,
            valid: Atomic::new(0),
        })
    }

    /// `[<repeat count>]`
    pub(super) fn add_path(&mut self, words: &[Arg<'_>]) -> Result<(), Refused> {
        if words.len() > 1 {
            return Err(Refused::because(
                c"historical-service-time ps: incorrect number of arguments",
            ));
        }
        super::repeat_count(words, c"historical-service-time ps: invalid repeat count")?;
        let history = History {
            average: Atomic::new(ONE),
            stale_after: Atomic::new(0),
            last_finish: Atomic::new(0),
        };
        self.histories.push(history, GFP_KERNEL)?;
        self.valid.store(self.histories.len() as u32, Relaxed);
        Ok(())
    }

    pub(super) fn write_args(&self, out: &mut impl Write) -> fmt::Result {
        let base = self.weights.first().unwrap_or(&0);
        write!(out, "2 {base} {} ", self.threshold)
    }

    pub(super) fn write_info(
        &self,
        index: usize,
        queue: &Queue,
        out: &mut impl Write,
    ) -> fmt::Result {
        let history = self.histories.get(index).ok_or(fmt::Error)?;
        let Seen {
            average,
            outstanding,
            stale_after,
        } = history.look(queue);
        write!(out, "{average} {outstanding} {stale_after} ")
    }

    #[inline(never)]
    pub(super) fn pick<'a, P: Member>(
        &self,
        paths: &'a [P],
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        let now = now_ns();
        let look = |path: &P::Target, history: &History| history.look(path.queue());
        let before = |(a, a_turn): (Seen, u32), (b, b_turn): (Seen, u32)| {
            let order = compare(a, b, now, self.threshold);
            order.then(a_turn.cmp(&b_turn)).is_lt()
        };
        let path = best(paths, &self.histories, wanted, look, before)?;
        let picked = Picked::counted(path, demand.load(|_| 1));
        Some(Picked {
            kept: now,
            ..picked
        })
    }

    #[inline(never)]
    pub(super) fn ended(&self, queue: &Queue, index: usize, start: u64) {
        queue.end(1);
        if let Some(history) = self.histories.get(index) {
            self.note_end(history, start, now_ns());
        }
    }

    fn note_end(&self, history: &History, start: u64, now: u64) {
        // As if they were done one after the other.
        let last = history.last_finish.xchg(now, Relaxed);
        let time = now.saturating_sub(start.max(last));
        let bucket = usize::try_from(time >> BUCKET_SHIFT).unwrap_or(usize::MAX);
        let weight = self.weights.get(bucket.min(BUCKETS - 1)).copied();
        let weight = u64::from(weight.unwrap_or(0));
        let time = time.saturating_mul(ONE).min(u64::MAX >> SHIFT);
        let average = (history.average.load_once().wrapping_mul(weight))
            .wrapping_add(time.wrapping_mul(ONE - weight))
            .wrapping_add(1 << (SHIFT - 1))
            >> SHIFT;
        history.average.store(average, Relaxed);
        let fresh = u64::from(self.valid.load_once()).wrapping_mul(average >> SHIFT);
        history.stale_after.store(now.wrapping_add(fresh), Relaxed);
    }

    pub(super) fn failed(&self) {
        let valid = self.valid.load_once();
        self.valid.store(valid.saturating_sub(1), Relaxed);
    }

    pub(super) fn reinstated<P: Member>(&self, paths: &[P], index: usize) {
        let valid = self.valid.load_once();
        self.valid.store(valid.saturating_add(1), Relaxed);
        move_to_end(paths, index);
    }
}

impl History {
    fn look(&self, queue: &Queue) -> Seen {
        Seen {
            average: self.average.load_once(),
            outstanding: queue.load().into(),
            stale_after: self.stale_after.load_once(),
        }
    }
}

/// Which path will be done with one more I/O first: `Less`, the first one. Follows `hst_compare()`.
fn compare(a: Seen, b: Seen, now: u64, threshold: u32) -> Ordering {
    let longer = a.average.max(b.average);
    let shorter = a.average.min(b.average);
    let by_outstanding = a.outstanding.cmp(&b.outstanding);
    if longer <= shorter.wrapping_mul(u64::from(threshold)) {
        return by_outstanding;
    }
    let idle = |seen: Seen| seen.outstanding == 0;
    let stale = |seen: Seen| seen.stale_after < now;
    if (idle(a) && stale(a)) || (idle(b) && stale(b)) || (idle(a) && idle(b)) {
        // An idle one whose average is old is tried again, the oldest first.
        let age = |seen: Seen, other: Seen| if idle(other) { seen.stale_after } else { 0 };
        return age(a, b).cmp(&age(b, a));
    }
    let b_is_better = if a.outstanding == b.outstanding {
        a.average > b.average
    } else {
        let coarse = a.outstanding.max(b.outstanding) >= MAX_IN_FLIGHT;
        let shift = if coarse { SHIFT } else { 0 };
        let time = |seen: Seen| {
            let ahead = seen.outstanding.wrapping_add(1);
            ahead.wrapping_mul(seen.average >> shift)
        };
        time(a) > time(b)
    };
    // One whose average is old gets no more than the other.
    match (b_is_better, stale(a), stale(b)) {
        (true, _, true) | (false, true, _) => by_outstanding,
        (true, _, false) => Ordering::Greater,
        (false, false, _) => Ordering::Less,
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_historical_service_time)]
mod tests {
    use super::*;
    use crate::mpath::selector::TestPath;

    const MS: u64 = 1_000_000;

    #[test]
    fn powers_are_those_of_the_c_module() {
        assert_eq!([0, 1, 2, 3].map(|n| power(972, n)), [1024, 972, 923, 876]);
        assert_eq!([0, 1, 2].map(|n| power(0, n)), [1024, 0, 0]);
        assert_eq!([1, 2, 3].map(|n| power(1023, n)), [1023, 1022, 1021]);
    }

    fn seen(average: u64, outstanding: u64, stale_after: u64) -> Seen {
        Seen {
            average,
            outstanding,
            stale_after,
        }
    }

    #[test]
    fn the_shorter_time_is_better() {
        let now = 100;
        let by = |a, b| compare(a, b, now, 0);
        // Both idle: the older news.
        assert!(by(seen(ONE, 0, 0), seen(ONE, 0, 0)).is_eq());
        assert!(by(seen(9 * ONE, 0, 120), seen(ONE, 0, 130)).is_lt());
        // An idle one without news before a busy one.
        assert!(by(seen(9 * ONE, 0, 50), seen(ONE, 1, 150)).is_lt());
        // Two against nine times as long.
        assert!(by(seen(ONE, 1, 150), seen(9 * ONE, 0, 150)).is_lt());
        assert!(by(seen(ONE, 9, 150), seen(9 * ONE, 0, 150)).is_gt());
        assert!(by(seen(2 * ONE, 3, 150), seen(ONE, 3, 150)).is_gt());
        // It is better, but that is old news.
        assert!(by(seen(ONE, 3, 50), seen(9 * ONE, 2, 150)).is_gt());
        // Not different enough.
        assert!(compare(seen(ONE, 3, 150), seen(2 * ONE, 2, 150), now, 2).is_gt());
        assert!(compare(seen(ONE, 2, 150), seen(2 * ONE, 2, 150), now, 2).is_eq());
        // Numbers that do not fit.
        assert!(by(seen(u64::MAX >> SHIFT, 5000, 150), seen(ONE, 5000, 150)).is_gt());
        assert!(by(seen(u64::MAX >> SHIFT, 5000, 150), seen(ONE, 4000, 150)).is_gt());
    }

    #[test]
    fn the_average_follows_what_a_path_needs() -> Result {
        let paths = TestPath::several(2)?;
        let mut selector = HistoricalServiceTime::new(&[]).map_err(|refused| refused.error)?;
        for _ in 0..2 {
            selector.add_path(&[]).map_err(|refused| refused.error)?;
        }
        let history = selector.histories.first().ok_or(EINVAL)?;
        let queue = &paths[0].queue;
        let pick = |demand| {
            selector
                .pick(&paths, demand, |_| true)
                .map_or(9, |picked| picked.path.number)
        };
        let first = [pick(Demand::Other), pick(Demand::Io(512))];
        let counted = paths[1].queue.load();
        selector.ended(&paths[1].queue, 1, 0);
        let counted = [counted, paths[1].queue.load()];
        // Half a bucket, and again from the end of that: 52 of 1024 parts each.
        queue.begin(1);
        selector.note_end(history, 100 * MS, 108 * MS);
        let once = history.look(queue);
        selector.note_end(history, 100 * MS, 116 * MS);
        let twice = history.look(queue);
        selector.failed();
        // Very long: nothing of the past counts.
        selector.note_end(history, 200 * MS, 2200 * MS);
        let long = history.look(queue);
        // A clock that goes backwards, and one that is at its end.
        selector.note_end(history, 5000 * MS, 4000 * MS);
        selector.note_end(history, 0, u64::MAX);
        drop((paths, selector));

        assert_eq!(first, [0, 1]);
        assert_eq!(counted, [1, 0]);
        let ema = |old: u64, time: u64| (old * 972 + time * ONE * 52 + 512) >> SHIFT;
        assert_eq!(once.average, ema(ONE, 8 * MS));
        assert_eq!(once.outstanding, 1);
        assert_eq!(once.stale_after, 108 * MS + 2 * (once.average >> SHIFT));
        assert_eq!(twice.average, ema(once.average, 8 * MS));
        assert_eq!(long.average, 2000 * MS * ONE);
        assert_eq!(long.stale_after, 2200 * MS + 2000 * MS);
        Ok(())
    }

    #[test]
    fn its_words_are_checked() {
        let refused = |words: &[&CStr]| {
            let mut args = [Arg::from(c""); 3];
            for (arg, word) in args.iter_mut().zip(words) {
                *arg = Arg::from(*word);
            }
            HistoricalServiceTime::new(args.get(..words.len()).unwrap_or(&[])).is_err()
        };
        assert!(!refused(&[]));
        assert!(!refused(&[c"0"]));
        assert!(!refused(&[c"1023", c"4294967295"]));
        assert!(refused(&[c"1024"]));
        assert!(refused(&[c"x"]));
        assert!(refused(&[c"1", c"-1"]));
        assert!(refused(&[c"1", c"1", c"1"]));
    }
}
