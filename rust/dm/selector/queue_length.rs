// SPDX-License-Identifier: GPL-2.0

//! queue-length: the path with the fewest I/Os under way. Follows drivers/md/dm-ps-queue-length.c.

use super::{
    super::table::Refused,
    repeat_counts::RepeatCounts, //
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
            least_loaded,
            Queue, //
        },
    },
};
use core::fmt::{
    self,
    Write, //
};
use kernel::prelude::*;

/// The selector. A path's load is how many I/Os are under way.
pub(crate) struct QueueLength {
    repeat_counts: RepeatCounts,
}

impl QueueLength {
    pub(super) fn new() -> Self {
        Self {
            repeat_counts: RepeatCounts::new(),
        }
    }

    /// `[<repeat count>]`
    pub(super) fn add_path(&mut self, words: &[Arg<'_>]) -> Result<(), Refused> {
        self.repeat_counts.add(
            words,
            c"queue-length ps: incorrect number of arguments",
            c"queue-length ps: invalid repeat count",
        )
    }

    pub(super) fn write_table(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        self.repeat_counts.write(index, out)
    }

    pub(super) fn write_info(queue: &Queue, out: &mut impl Write) -> fmt::Result {
        write!(out, "{} ", queue.load())
    }

    #[inline(always)]
    pub(super) fn pick<'a, P: Member>(
        paths: &'a [P],
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        let path = least_loaded(paths, wanted)?;
        Some(Picked::counted(path, demand.load(|_| 1)))
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_queue_length)]
mod tests {
    use super::*;
    use crate::mpath::selector::TestPath;

    #[test]
    fn the_shortest_queue_and_then_the_next_in_turn() -> Result {
        let paths = TestPath::several(3)?;
        let pick = |demand| {
            QueueLength::pick(&paths, demand, |_| true)
                .map_or((9, 9), |picked| (picked.path.number, picked.kept))
        };
        // Something that is not counted has its turn, and no more.
        let first = [pick(Demand::Other), pick(Demand::Other)];
        let round: [(usize, u64); 4] = core::array::from_fn(|_| pick(Demand::Io(512)));
        paths[1].queue.end(1);
        paths[0].queue.end(1);
        // 0 and 1 have none.
        let next: [(usize, u64); 3] = core::array::from_fn(|_| pick(Demand::Io(512)));
        let lengths = [0, 1, 2].map(|index: usize| paths[index].queue.load());
        drop(paths);

        assert_eq!(first, [(0, 0), (1, 0)]);
        assert_eq!(round, [(2, 1), (0, 1), (1, 1), (2, 1)]);
        assert_eq!(next, [(0, 1), (1, 1), (0, 1)]);
        assert_eq!(lengths, [2, 1, 2]);
        Ok(())
    }
}
