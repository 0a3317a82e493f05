// SPDX-License-Identifier: GPL-2.0

//! service-time: the path that will have done its data first, by what the table says of its
//! throughput. Follows drivers/md/dm-ps-service-time.c.

use super::{
    super::table::{
        number,
        Refused, //
    },
    repeat_count,
    slots::{
        less_loaded,
        Slots, //
    },
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        device_mapper::Arg, //
    },
    mpath::group::{
        Demand,
        Member,
        Picked, //
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

/// The greatest throughput that a path can have.
const MAX_THROUGHPUT: u32 = 100;

/// What is known of a path.
struct Service {
    /// 0 or 1. Without effect.
    repeat_count: u32,
    /// In relation to the other paths of the group; 0: only if there is no other.
    throughput: u32,
    /// How many bytes are under way.
    bytes: Atomic<u64>,
}

/// What a path is like at one moment.
#[derive(Clone, Copy)]
struct Seen {
    throughput: u32,
    bytes: u64,
}

/// The selector.
pub(crate) struct ServiceTime {
    slots: Slots<Service>,
    /// Whether all paths have the same throughput: then only the data counts.
    is_even: bool,
}

impl ServiceTime {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(),
            is_even: true,
        }
    }

    /// `[<repeat count> [<relative throughput>]]`
    pub(super) fn add_path(&mut self, words: &[Arg<'_>]) -> Result<(), Refused> {
        if words.len() > 2 {
            return Err(Refused::because(
                c"service-time ps: incorrect number of arguments",
            ));
        }
        let repeat_count = repeat_count(words, c"service-time ps: invalid repeat count")?;
        let throughput = match words.get(1) {
            None => 1,
            Some(word) => number(word.as_cstr())
                .filter(|throughput| *throughput <= MAX_THROUGHPUT)
                .ok_or(Refused::because(
                    c"service-time ps: invalid relative_throughput value",
                ))?,
        };
        if let Some(first) = self.slots.get(0) {
            self.is_even &= first.throughput == throughput;
        }
        Ok(self.slots.push(Service {
            repeat_count,
            throughput,
            bytes: Atomic::new(0),
        })?)
    }

    pub(super) fn write_table(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        let service = self.slots.get(index).ok_or(fmt::Error)?;
        write!(out, "{} {} ", service.repeat_count, service.throughput)
    }

    pub(super) fn write_info(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        let service = self.slots.get(index).ok_or(fmt::Error)?;
        write!(out, "{} {} ", service.bytes.load_once(), service.throughput)
    }

    #[inline]
    pub(super) fn pick<'a, P: Member>(
        &self,
        paths: &'a [P],
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        let incoming = match demand {
            Demand::Io(bytes) => u64::from(bytes),
            Demand::Other => 0,
        };
        let (path, service) = if self.is_even {
            let look = |service: &Service| service.bytes.load_once();
            self.slots.best(paths, wanted, look, less_loaded)?
        } else {
            self.best_by_time(paths, incoming, wanted)?
        };
        if let Demand::Io(_) = demand {
            service.bytes.add(incoming, Relaxed);
        }
        Some(Picked { path, start: 0 })
    }

    /// The best path, whatever their throughputs are.
    #[inline(never)]
    fn best_by_time<'a, P: Member>(
        &self,
        paths: &'a [P],
        incoming: u64,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<(&'a P, &Service)> {
        let look = |service: &Service| Seen {
            throughput: service.throughput,
            bytes: service.bytes.load_once(),
        };
        let before = |(a, a_turn): (Seen, u64), (b, b_turn): (Seen, u64)| {
            let order = compare(a, b, incoming);
            order.then(a_turn.cmp(&b_turn)).is_lt()
        };
        self.slots.best(paths, wanted, look, before)
    }

    #[inline]
    pub(super) fn ended(&self, index: usize, bytes: u32) {
        if let Some(service) = self.slots.get(index) {
            service.bytes.add(u64::from(bytes).wrapping_neg(), Relaxed);
        }
    }

    pub(super) fn reinstated(&self, index: usize) {
        self.slots.move_to_end(index);
    }
}

/// Which path will have done so many more bytes first: `Less`, the first one. Follows
/// `st_compare_load()`.
fn compare(a: Seen, b: Seen, incoming: u64) -> Ordering {
    if a.throughput == b.throughput {
        return a.bytes.cmp(&b.bytes);
    }
    let by_throughput = b.throughput.cmp(&a.throughput);
    if a.bytes == b.bytes || a.throughput == 0 || b.throughput == 0 {
        return by_throughput;
    }
    let time = |seen: Seen, other: Seen| {
        seen.bytes
            .wrapping_add(incoming)
            .saturating_mul(u64::from(other.throughput))
    };
    time(a, b).cmp(&time(b, a)).then(by_throughput)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_service_time)]
mod tests {
    use super::*;
    use crate::mpath::selector::TestPath;

    fn seen(throughput: u32, bytes: u64) -> Seen {
        Seen { throughput, bytes }
    }

    #[test]
    fn the_shorter_time_is_better() {
        let compare = |a, b| compare(a, b, 4096);
        assert!(compare(seen(1, 0), seen(1, 512)).is_lt());
        assert!(compare(seen(1, 512), seen(1, 512)).is_eq());
        assert!(compare(seen(2, 512), seen(1, 512)).is_lt());
        // Without throughput only if there is nothing else.
        assert!(compare(seen(0, 0), seen(1, 1 << 30)).is_gt());
        assert!(compare(seen(0, 512), seen(0, 0)).is_gt());
        // 8192 / 1 against 12288 / 3, and against 24576 / 3.
        assert!(compare(seen(1, 4096), seen(3, 8192)).is_gt());
        assert!(compare(seen(3, 20480), seen(1, 4096)).is_lt());
        assert!(compare(seen(3, 24576), seen(1, 4096)).is_gt());
        // What an int does not hold.
        assert!(compare(seen(100, 3 << 30), seen(1, 1 << 30)).is_lt());
    }

    #[test]
    fn data_is_counted_until_it_is_done() -> Result {
        let paths = TestPath::several(2)?;
        let mut selector = ServiceTime::new();
        let words = [Arg::from(c"1"), Arg::from(c"4")];
        selector
            .add_path(&words)
            .and_then(|()| selector.add_path(&[]))
            .map_err(|refused| refused.error)?;
        let pick = |demand| {
            selector
                .pick(&paths, demand, |_| true)
                .map_or(9, |picked| picked.path.number)
        };
        let io: [usize; 5] = core::array::from_fn(|_| pick(Demand::Io(4096)));
        let other = pick(Demand::Other);
        selector.ended(1, 4096);
        let bytes = [0, 1].map(|index| selector.slots.get(index).map(|s| s.bytes.load_once()));
        drop((paths, selector));

        // At 16384 / 4 both would take the same time, and the faster one is used.
        assert_eq!(io, [0, 0, 0, 0, 1]);
        assert_eq!(other, 0);
        assert_eq!(bytes, [Some(16384), Some(0)]);
        Ok(())
    }
}
