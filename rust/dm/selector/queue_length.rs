// SPDX-License-Identifier: GPL-2.0

//! queue-length: the path with the fewest I/Os under way. Follows drivers/md/dm-ps-queue-length.c.

use super::{
    super::table::Refused,
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
use core::fmt::{
    self,
    Write, //
};
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// A path's queue.
struct Queue {
    /// 0 or 1. Without effect.
    repeat_count: u32,
    /// How many I/Os are under way.
    length: Atomic<u64>,
}

/// The selector.
pub(crate) struct QueueLength {
    slots: Slots<Queue>,
}

impl QueueLength {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(),
        }
    }

    /// `[<repeat count>]`
    pub(super) fn add_path(&mut self, words: &[Arg<'_>]) -> Result<(), Refused> {
        if words.len() > 1 {
            return Err(Refused::because(
                c"queue-length ps: incorrect number of arguments",
            ));
        }
        Ok(self.slots.push(Queue {
            repeat_count: repeat_count(words, c"queue-length ps: invalid repeat count")?,
            length: Atomic::new(0),
        })?)
    }

    pub(super) fn write_table(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        let queue = self.slots.get(index).ok_or(fmt::Error)?;
        write!(out, "{} ", queue.repeat_count)
    }

    pub(super) fn write_info(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        let queue = self.slots.get(index).ok_or(fmt::Error)?;
        write!(out, "{} ", queue.length.load_once())
    }

    #[inline]
    pub(super) fn pick<'a, P: Member>(
        &self,
        paths: &'a [P],
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        let look = |queue: &Queue| queue.length.load_once();
        let (path, queue) = self.slots.best(paths, wanted, look, less_loaded)?;
        if let Demand::Io(_) = demand {
            queue.length.add(1u64, Relaxed);
        }
        Some(Picked { path, start: 0 })
    }

    #[inline]
    pub(super) fn ended(&self, index: usize) {
        if let Some(queue) = self.slots.get(index) {
            queue.length.add(1u64.wrapping_neg(), Relaxed);
        }
    }

    pub(super) fn reinstated(&self, index: usize) {
        self.slots.move_to_end(index);
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
        let mut selector = QueueLength::new();
        for _ in 0..3 {
            selector.add_path(&[]).map_err(|refused| refused.error)?;
        }
        let pick = |demand| {
            selector
                .pick(&paths, demand, |_| true)
                .map_or(9, |picked| picked.path.number)
        };
        // Something that is not counted has its turn, and no more.
        let first = [pick(Demand::Other), pick(Demand::Other)];
        let round: [usize; 4] = core::array::from_fn(|_| pick(Demand::Io(512)));
        selector.ended(1);
        selector.ended(0);
        // 0 and 1 have none.
        let next: [usize; 3] = core::array::from_fn(|_| pick(Demand::Io(512)));
        let lengths =
            [0, 1, 2].map(|index| selector.slots.get(index).map(|q| q.length.load_once()));
        drop((paths, selector));

        assert_eq!(first, [0, 1]);
        assert_eq!(round, [2, 0, 1, 2]);
        assert_eq!(next, [0, 1, 0]);
        assert_eq!(lengths, [Some(2), Some(1), Some(2)]);
        Ok(())
    }
}
