// SPDX-License-Identifier: GPL-2.0

//! service-time: the path that will have done its data first, by what the table says of its
//! throughput. Follows drivers/md/dm-ps-service-time.c.

use super::{
    super::table::{
        number,
        Refused, //
    },
    repeat_count, //
};
use crate::{
    abstractions::device_mapper::Arg,
    mpath::{
        group::{
            Demand,
            Member,
            Picked, //
        },
        queue::{
            best,
            least_loaded,
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
use kernel::prelude::*;

/// The greatest throughput that a path can have.
const MAX_THROUGHPUT: u32 = 100;

/// Bytes are counted by so many: sectors.
const SECTOR_SHIFT: u32 = 9;

/// What the table says of a path.
struct Service {
    /// 0 or 1. Without effect.
    repeat_count: u32,
    /// In relation to the other paths of the group; 0: only if there is no other.
    throughput: u32,
}

/// What a path is like at one moment.
#[derive(Clone, Copy)]
struct Seen {
    throughput: u32,
    sectors: u32,
}

/// The selector. A path's load is how many sectors are under way.
pub(crate) struct ServiceTime {
    services: KVec<Service>,
    /// Whether all paths have the same throughput: then only the data counts.
    is_even: bool,
}

impl ServiceTime {
    pub(super) fn new() -> Self {
        Self {
            services: KVec::new(),
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
        if let Some(first) = self.services.first() {
            self.is_even &= first.throughput == throughput;
        }
        let service = Service {
            repeat_count,
            throughput,
        };
        Ok(self.services.push(service, GFP_KERNEL)?)
    }

    pub(super) fn write_table(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        let service = self.services.get(index).ok_or(fmt::Error)?;
        write!(out, "{} {} ", service.repeat_count, service.throughput)
    }

    pub(super) fn write_info(
        &self,
        index: usize,
        queue: &Queue,
        out: &mut impl Write,
    ) -> fmt::Result {
        let service = self.services.get(index).ok_or(fmt::Error)?;
        let bytes = u64::from(queue.load()) << SECTOR_SHIFT;
        write!(out, "{bytes} {} ", service.throughput)
    }

    #[inline(always)]
    pub(super) fn pick<'a, P: Member>(
        &self,
        paths: &'a [P],
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        let incoming = demand.load(|bytes| bytes >> SECTOR_SHIFT);
        let path = if self.is_even {
            least_loaded(paths, wanted)?
        } else {
            self.best_by_time(paths, incoming, wanted)?
        };
        Some(Picked::counted(path, incoming))
    }

    /// The best path, whatever their throughputs are.
    #[inline(never)]
    fn best_by_time<'a, P: Member>(
        &self,
        paths: &'a [P],
        incoming: u32,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<&'a P::Target> {
        let look = |path: &P::Target, service: &Service| Seen {
            throughput: service.throughput,
            sectors: path.queue().load(),
        };
        let before = |(a, a_turn): (Seen, u32), (b, b_turn): (Seen, u32)| {
            let order = compare(a, b, incoming);
            order.then(a_turn.cmp(&b_turn)).is_lt()
        };
        best(paths, &self.services, wanted, look, before)
    }
}

/// Which path will have done so many more sectors first: `Less`, the first one. Follows
/// `st_compare_load()`.
fn compare(a: Seen, b: Seen, incoming: u32) -> Ordering {
    if a.throughput == b.throughput {
        return a.sectors.cmp(&b.sectors);
    }
    let by_throughput = b.throughput.cmp(&a.throughput);
    if a.sectors == b.sectors || a.throughput == 0 || b.throughput == 0 {
        return by_throughput;
    }
    let time = |seen: Seen, other: Seen| {
        (u64::from(seen.sectors) + u64::from(incoming)) * u64::from(other.throughput)
    };
    time(a, b).cmp(&time(b, a)).then(by_throughput)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_service_time)]
mod tests {
    use super::*;
    use crate::mpath::selector::TestPath;

    fn seen(throughput: u32, sectors: u32) -> Seen {
        Seen {
            throughput,
            sectors,
        }
    }

    #[test]
    fn the_shorter_time_is_better() {
        let compare = |a, b| compare(a, b, 8);
        assert!(compare(seen(1, 0), seen(1, 1)).is_lt());
        assert!(compare(seen(1, 1), seen(1, 1)).is_eq());
        assert!(compare(seen(2, 1), seen(1, 1)).is_lt());
        // Without throughput only if there is nothing else.
        assert!(compare(seen(0, 0), seen(1, 1 << 30)).is_gt());
        assert!(compare(seen(0, 1), seen(0, 0)).is_gt());
        // 16 / 1 against 24 / 3, and against 48 / 3.
        assert!(compare(seen(1, 8), seen(3, 16)).is_gt());
        assert!(compare(seen(3, 39), seen(1, 8)).is_lt());
        assert!(compare(seen(3, 48), seen(1, 8)).is_gt());
        // More than 32 bits.
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
        paths[1].queue.end(8);
        let sectors = [0, 1].map(|index: usize| paths[index].queue.load());
        drop((paths, selector));

        // At 32 / 4 both would take the same time, and the faster one is used.
        assert_eq!(io, [0, 0, 0, 0, 1]);
        assert_eq!(other, 0);
        assert_eq!(sectors, [32, 0]);
        Ok(())
    }
}
