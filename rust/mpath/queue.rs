// SPDX-License-Identifier: GPL-2.0

//! What is under way on a path of a group, and which of several paths that are equally good is used:
//! the one that was not used for longest.
//!
//! The C modules keep their paths in a list, behind a lock, and move the one they choose to its end.
//! Here each path has the number of the turn in which it was last moved to the end, so that the list
//! is the paths in the order of their numbers. Choosing reads all of them and writes one, which lies
//! beside what else is read of the path for each I/O. Two that choose at the same time may take the same
//! path, or give two paths the same number, one of which then comes before the other for no good reason;
//! that is all the harm there is.

use super::{
    group::Member,
    selector::HasState, //
};
use crate::abstractions::atomic::LoadOnce;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// The greatest number of a turn. After it they begin anew, with all paths equal.
const MAX_TURN: u32 = u32::MAX - 1;

/// What is under way on a path, in whatever unit its selector counts it. All methods: any context.
#[repr(align(8))]
pub(crate) struct Queue {
    turn: Atomic<u32>,
    load: Atomic<u32>,
}

impl Queue {
    /// That of a path that was not used yet. Of several the first is the first in turn.
    pub(crate) fn new() -> Self {
        Self {
            turn: Atomic::new(0),
            load: Atomic::new(0),
        }
    }

    /// How much is under way.
    #[inline]
    pub(crate) fn load(&self) -> u32 {
        self.load.load_once()
    }

    /// So much more is.
    #[inline]
    pub(crate) fn begin(&self, load: u32) {
        self.load.add(load, Relaxed);
    }

    /// So much is done. For each [`Queue::begin`] with the same number, once.
    #[inline]
    pub(crate) fn end(&self, load: u32) {
        self.load.add(load.wrapping_neg(), Relaxed);
    }

    /// The load, and among equals the turn, as one number: the smaller one is to be used first.
    #[inline]
    fn key(&self, turn: u32) -> u64 {
        u64::from(self.load()) << u32::BITS | u64::from(turn)
    }
}

/// Something that has such a queue.
pub(crate) trait HasQueue {
    /// The queue.
    fn queue(&self) -> &Queue;
}

/// The usable path that is `wanted` on which the least is under way; of equals the first in turn. It is
/// moved to the end. `None` if there is none. Any context.
#[inline(always)]
pub(crate) fn least_loaded<P: Member>(
    paths: &[P],
    wanted: impl Fn(&P) -> bool,
) -> Option<&P::Target> {
    let (mut last, mut least, mut best) = (0, u64::MAX, None);
    for member in paths {
        let path: &P::Target = member;
        let turn = path.queue().turn.load_once();
        last = last.max(turn);
        // No key is as large as the first: no turn has that number.
        let key = path.queue().key(turn);
        if key < least && path.state().is_usable() && wanted(member) {
            (least, best) = (key, Some(path));
        }
    }
    let best = best?;
    put_behind(paths, best.queue(), last);
    Some(best)
}

/// The best of the usable paths that are `wanted`, of each of which is `known` something; of equals the
/// first in turn. It is moved to the end. `None` if there is none. Any context.
///
/// `look` says once what a path is like, `before` which of two comes before the other, going by what
/// they are like and, where that is equal, by their turns, which come with it.
#[inline]
pub(crate) fn best<'a, P: Member, K, S: Copy>(
    paths: &'a [P],
    known: &[K],
    wanted: impl Fn(&P) -> bool,
    look: impl Fn(&P::Target, &K) -> S,
    before: impl Fn((S, u32), (S, u32)) -> bool,
) -> Option<&'a P::Target> {
    let mut last = 0;
    let mut usable = paths.iter().zip(known).filter_map(|(member, known)| {
        let path: &P::Target = member;
        let turn = path.queue().turn.load_once();
        last = last.max(turn);
        (path.state().is_usable() && wanted(member)).then_some((path, known, turn))
    });
    let (path, known, turn) = usable.next()?;
    let (mut best, mut seen) = (path, (look(path, known), turn));
    for (path, known, turn) in usable {
        let it = (look(path, known), turn);
        if before(it, seen) {
            (best, seen) = (path, it);
        }
    }
    put_behind(paths, best.queue(), last);
    Some(best)
}

/// Moves one of the paths to the end. Any context.
pub(crate) fn move_to_end<P: Member>(paths: &[P], index: usize) {
    let last = paths.iter().map(|path| path.queue().turn.load_once()).max();
    if let (Some(last), Some(path)) = (last, paths.get(index)) {
        put_behind(paths, path.queue(), last);
    }
}

/// Gives the queue of one of the paths the turn after the last one.
#[inline]
fn put_behind<P: Member>(paths: &[P], queue: &Queue, last: u32) {
    let turn = if last < MAX_TURN {
        last + 1
    } else {
        begin_anew(paths)
    };
    queue.turn.store(turn, Relaxed);
}

/// Makes all equal. Returns the next turn.
#[cold]
#[inline(never)]
fn begin_anew<P: Member>(paths: &[P]) -> u32 {
    for path in paths {
        path.queue().turn.store(0, Relaxed);
    }
    1
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_queue)]
mod tests {
    use super::*;
    use crate::mpath::{
        path::FailReason,
        selector::TestPath, //
    };
    use kernel::prelude::*;

    /// The numbers of the next paths, if nothing is counted.
    fn next<const N: usize>(paths: &[KBox<TestPath>], wanted: fn(usize) -> bool) -> [usize; N] {
        core::array::from_fn(|_| {
            least_loaded(paths, |path| wanted(path.number)).map_or(9, |path| path.number)
        })
    }

    /// The same by [`best`], with the numbers of `costs`.
    fn cheapest<const N: usize>(
        paths: &[KBox<TestPath>],
        costs: [u32; 3],
        wanted: fn(usize) -> bool,
    ) -> [usize; N] {
        core::array::from_fn(|_| {
            best(
                paths,
                &costs,
                |path| wanted(path.number),
                |_, cost| *cost,
                |a, b| a < b,
            )
            .map_or(9, |path| path.number)
        })
    }

    #[test]
    fn equals_take_turns_as_in_a_list() -> Result {
        let paths = TestPath::several(3)?;
        let round: [usize; 4] = next(&paths, |_| true);
        // 1 2 0
        paths[1].state.fail(FailReason::Io);
        let without: [usize; 3] = next(&paths, |_| true);
        // 0 2, and 1 at the end.
        paths[1].state.reinstate();
        move_to_end(&paths, 1);
        let again: [usize; 3] = cheapest(&paths, [5; 3], |_| true);
        let avoiding: [usize; 2] = next(&paths, |number| number != 0);
        let alone: [usize; 2] = cheapest(&paths, [5; 3], |number| number == 1);
        for path in &paths {
            path.state.fail(FailReason::Io);
        }
        let nothing: ([usize; 1], [usize; 1]) =
            (next(&paths, |_| true), cheapest(&paths, [5; 3], |_| true));
        drop(paths);

        assert_eq!(round, [0, 1, 2, 0]);
        assert_eq!(without, [2, 0, 2]);
        assert_eq!(again, [0, 2, 1]);
        assert_eq!(avoiding, [2, 1]);
        assert_eq!(alone, [1, 1]);
        assert_eq!(nothing, ([9], [9]));
        Ok(())
    }

    #[test]
    fn the_better_one_comes_first() -> Result {
        let paths = TestPath::several(3)?;
        let costs = [3, 1, 1];
        let by_cost: [usize; 3] = cheapest(&paths, costs, |_| true);
        let of_two: [usize; 2] = cheapest(&paths, costs, |number| number != 2);
        paths[1].state.fail(FailReason::Io);
        let without: [usize; 2] = cheapest(&paths, costs, |_| true);
        paths[1].state.reinstate();
        for (path, load) in paths.iter().zip([2u32, 1, u32::MAX]) {
            path.queue.begin(load);
        }
        let by_load: [usize; 2] = next(&paths, |_| true);
        let full: [usize; 1] = next(&paths, |number| number == 2);
        paths[0].queue.end(1);
        paths[1].queue.begin(1);
        let after: [usize; 1] = next(&paths, |_| true);
        drop(paths);

        assert_eq!(by_cost, [1, 2, 1]);
        assert_eq!(of_two, [1, 1]);
        assert_eq!(without, [2, 2]);
        assert_eq!(by_load, [1, 1]);
        assert_eq!(full, [2]);
        assert_eq!(after, [0]);
        Ok(())
    }

    #[test]
    fn turns_have_no_end() -> Result {
        let paths = TestPath::several(3)?;
        paths[0].queue.turn.store(MAX_TURN - 2, Relaxed);
        paths[1].queue.turn.store(MAX_TURN - 1, Relaxed);
        paths[2].queue.turn.store(MAX_TURN, Relaxed);
        let round: [usize; 6] = next(&paths, |_| true);
        let turns = paths.iter().map(|path| path.queue.turn.load_once()).max();
        drop(paths);

        // 0 is moved behind the others, which are equal then.
        assert_eq!(round, [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns, Some(6));
        Ok(())
    }
}
