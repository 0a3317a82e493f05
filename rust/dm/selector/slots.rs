// SPDX-License-Identifier: GPL-2.0

//! Which of several paths that are equally good is used: the one that was not used for longest.
//!
//! The C modules keep their paths in a list, behind a lock, and move the one they choose to its end.
//! Here each path has the number of the turn in which it was last moved to the end, so that the list
//! is the paths in the order of their numbers. Choosing reads all of them and writes one, which lies
//! beside what is counted of the path and so is in the same cache line. Two that choose at the same
//! time may give two paths the same number, and one of these two then comes before the other for no
//! good reason; that is all the harm there is.

use crate::{
    abstractions::atomic::LoadOnce,
    mpath::{
        group::Member,
        selector::HasState, //
    }, //
};
use kernel::{
    alloc::AllocError,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// What is known of one path: a cache line of its own, for it is written for each I/O.
#[repr(align(64))]
struct Slot<L> {
    turn: Atomic<u64>,
    load: L,
}

/// Whether, of two paths with so much load, the first is to be used: it has less, or as much and an
/// earlier turn.
#[inline]
pub(super) fn less_loaded(a: (u64, u64), b: (u64, u64)) -> bool {
    // As one number: that is one comparison.
    let key = |(load, turn)| u128::from(load) << u64::BITS | u128::from(turn);
    key(a) < key(b)
}

/// What is known of each path of a group, in their order.
pub(super) struct Slots<L>(KVec<Slot<L>>);

impl<L> Slots<L> {
    pub(super) fn new() -> Self {
        Self(KVec::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds one at the end. May sleep.
    pub(super) fn push(&mut self, load: L) -> Result<(), AllocError> {
        let turn = Atomic::new(self.0.len() as u64);
        self.0.push(Slot { turn, load }, GFP_KERNEL)
    }

    /// What is known of a path.
    pub(super) fn get(&self, index: usize) -> Option<&L> {
        self.0.get(index).map(|slot| &slot.load)
    }

    /// Moves a path to the end. Any context.
    pub(super) fn move_to_end(&self, index: usize) {
        let last = self.0.iter().map(|slot| slot.turn.load_once()).max();
        if let (Some(last), Some(slot)) = (last, self.0.get(index)) {
            slot.turn.store(last.wrapping_add(1), Relaxed);
        }
    }

    /// The best of the usable paths, which is moved to the end: of equals the one that is nearest to
    /// the beginning. One that is not `wanted` only if there is no other.
    ///
    /// `look` says once what a path is like, `before` which of two comes before the other, going by what
    /// they are like and, where that is equal, by their turns, which come with it.
    /// `None` if no path is usable. Any context.
    #[inline]
    pub(super) fn best<'a, P: Member, S: Copy>(
        &self,
        paths: &'a [P],
        wanted: impl Fn(&P) -> bool,
        look: impl Fn(&L) -> S,
        before: impl Fn((S, u64), (S, u64)) -> bool,
    ) -> Option<(&'a P, &L)> {
        let mut last = 0;
        let mut usable = paths.iter().zip(&self.0).filter_map(|(path, slot)| {
            let turn = slot.turn.load_once();
            last = last.max(turn);
            path.state().is_usable().then_some((path, slot, turn))
        });
        let (mut path, mut slot, turn) = usable.next()?;
        let mut best = (wanted(path), (look(&slot.load), turn));
        for (other, its_slot, its_turn) in usable {
            let it = (wanted(other), (look(&its_slot.load), its_turn));
            let better = match it.0 == best.0 {
                true => before(it.1, best.1),
                false => it.0,
            };
            if better {
                (path, slot, best) = (other, its_slot, it);
            }
        }
        slot.turn.store(last.wrapping_add(1), Relaxed);
        Some((path, &slot.load))
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_slots)]
mod tests {
    use super::*;
    use crate::mpath::{
        path::FailReason,
        selector::TestPath, //
    };

    #[test]
    fn equals_take_turns_as_in_a_list() -> Result {
        let paths = TestPath::several(3)?;
        let mut slots = Slots::new();
        for _ in 0..3 {
            slots.push(())?;
        }
        let pick = |unwanted| {
            slots
                .best(
                    &paths,
                    |path| path.number != unwanted,
                    |()| (),
                    |a, b| a < b,
                )
                .map_or(9, |(path, ())| path.number)
        };
        let none = usize::MAX;
        let round: [usize; 4] = core::array::from_fn(|_| pick(none));
        // 1 2 0
        paths[1].state.fail(FailReason::Io);
        let without: [usize; 3] = core::array::from_fn(|_| pick(none));
        // 0 2, and 1 at the end.
        paths[1].state.reinstate();
        slots.move_to_end(1);
        let again: [usize; 3] = core::array::from_fn(|_| pick(none));
        let avoiding = [pick(0), pick(2)];
        for path in &paths {
            path.state.fail(FailReason::Io);
        }
        let nothing = pick(none);
        drop(paths);

        assert_eq!(round, [0, 1, 2, 0]);
        assert_eq!(without, [2, 0, 2]);
        assert_eq!(again, [0, 2, 1]);
        assert_eq!(avoiding, [2, 0]);
        assert_eq!(nothing, 9);
        Ok(())
    }

    #[test]
    fn the_better_one_comes_first() -> Result {
        let paths = TestPath::several(3)?;
        let mut slots = Slots::new();
        for cost in [3u32, 1, 1] {
            slots.push(cost)?;
        }
        let pick = |unwanted: usize| {
            slots
                .best(
                    &paths,
                    |path| path.number != unwanted,
                    |cost| *cost,
                    |a, b| a < b,
                )
                .map_or(9, |(_, cost)| *cost)
        };
        let costs = [pick(9), pick(9), pick(9)];
        paths[1].state.fail(FailReason::Io);
        // Rather a worse one than one that is not wanted, rather that than none.
        let other = pick(2);
        paths[0].state.fail(FailReason::Io);
        let last = pick(2);
        drop(paths);

        assert_eq!(costs, [1, 1, 1]);
        assert_eq!(other, 3);
        assert_eq!(last, 1);
        Ok(())
    }
}
