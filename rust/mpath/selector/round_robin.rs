// SPDX-License-Identifier: GPL-2.0

//! Each usable path in turn: those of the best rank that there is.
//!
//! Every CPU has a turn of its own, so that no shared cache line is written.

use super::{
    rank,
    HasState, //
};
use crate::abstractions::percpu::PerCpuCursor;
use core::ops::Deref;
use kernel::prelude::*;

/// The turns.
pub(crate) struct RoundRobin {
    cursor: PerCpuCursor,
}

impl RoundRobin {
    /// `ENOMEM`. May sleep.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            cursor: PerCpuCursor::new()?,
        })
    }

    /// The path whose turn it is, if one is usable. Any context.
    ///
    /// A path may be listed more than once, and then has that many turns.
    #[inline]
    pub(crate) fn select<'a, P>(&self, paths: &'a [P]) -> Option<&'a P>
    where
        P: Deref,
        P::Target: HasState,
    {
        let start = self.turn(paths.len());
        // The common case, without a look at the others.
        let first = paths.get(start)?;
        if first.state().is_optimized() {
            return Some(first);
        }
        self.search(paths, start, |_| true)
    }

    /// As [`RoundRobin::select`], and a path of which `wanted` is true if there is such a one.
    #[cold]
    pub(crate) fn select_if<'a, P>(
        &self,
        paths: &'a [P],
        wanted: impl Fn(&P) -> bool,
    ) -> Option<&'a P>
    where
        P: Deref,
        P::Target: HasState,
    {
        self.search(paths, self.turn(paths.len()), wanted)
    }

    /// Whose turn it is, of so many; also for policies that choose otherwise, among equals. Any
    /// context.
    #[inline]
    pub(crate) fn turn(&self, len: usize) -> usize {
        self.cursor.next(len as u32) as usize
    }

    /// The best one, the first of equals from `start` on. The next turn is that of the one behind
    /// it, or those behind what is not used would have more turns than others.
    #[cold]
    fn search<'a, P>(
        &self,
        paths: &'a [P],
        start: usize,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<&'a P>
    where
        P: Deref,
        P::Target: HasState,
    {
        let mut found: Option<(u32, usize, &P)> = None;
        for index in Iterator::chain(start..paths.len(), 0..start) {
            let path = paths.get(index)?;
            let Some(rank) = rank(path.state(), wanted(path)) else {
                continue;
            };
            if found.is_none_or(|(best, _, _)| rank < best) {
                found = Some((rank, index, path));
            }
            if rank == 0 {
                break;
            }
        }
        let (_, index, path) = found?;
        self.cursor.set(index as u32);
        Some(path)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_round_robin)]
mod tests {
    use super::*;
    use crate::mpath::{
        path::{
            AccessState,
            FailReason, //
        },
        selector::TestPath,
    };

    fn paths() -> Result<KVec<KBox<TestPath>>> {
        TestPath::several(3)
    }

    /// How often each path is chosen in so many turns; the thread may move to another CPU between
    /// them, so that only the sums are certain.
    fn turns(rr: &RoundRobin, paths: &[KBox<TestPath>], turns: usize) -> [usize; 3] {
        let mut chosen = [0; 3];
        for _ in 0..turns {
            if let Some(path) = rr.select(paths) {
                chosen[path.number] += 1;
            }
        }
        chosen
    }

    #[test]
    fn all_optimized_paths_have_their_turn() -> Result {
        let (rr, paths) = (RoundRobin::new()?, paths()?);
        let chosen = turns(&rr, &paths, 300);
        assert_eq!(chosen.iter().sum::<usize>(), 300);
        assert!(chosen.iter().all(|times| *times >= 90));
        Ok(())
    }

    #[test]
    fn unusable_paths_are_passed_over() -> Result {
        let (rr, paths) = (RoundRobin::new()?, paths()?);
        paths[1].state.fail(FailReason::Io);
        let chosen = turns(&rr, &paths, 100);
        assert_eq!(chosen[1], 0);
        assert_eq!(chosen[0] + chosen[2], 100);
        paths[0].state.set_access(AccessState::NonOptimized);
        let chosen = turns(&rr, &paths, 100);
        assert_eq!(chosen, [0, 0, 100]);
        Ok(())
    }

    #[test]
    fn what_is_not_wanted_is_used_if_there_is_nothing_else() -> Result {
        let (rr, paths) = (RoundRobin::new()?, paths()?);
        let wanted = |path: &KBox<TestPath>| path.number != 1;
        let mut chosen = [0; 3];
        for _ in 0..100 {
            if let Some(path) = rr.select_if(&paths, wanted) {
                chosen[path.number] += 1;
            }
        }
        assert_eq!(chosen[1], 0);
        assert_eq!(chosen[0] + chosen[2], 100);
        paths[0].state.fail(FailReason::Io);
        paths[2].state.fail(FailReason::Io);
        assert!(rr
            .select_if(&paths, wanted)
            .is_some_and(|path| path.number == 1));
        paths[1].state.fail(FailReason::Io);
        assert!(rr.select_if(&paths, wanted).is_none());
        Ok(())
    }

    #[test]
    fn the_rest_is_better_than_nothing() -> Result {
        let (rr, paths) = (RoundRobin::new()?, paths()?);
        paths[0].state.set_access(AccessState::NonOptimized);
        paths[1].state.set_access(AccessState::Inaccessible);
        paths[2].state.kill();
        let chosen = turns(&rr, &paths, 50);
        assert_eq!(chosen, [50, 0, 0]);
        paths[0].state.fail(FailReason::Admin);
        assert!(rr.select(&paths).is_none());
        let none: [KBox<TestPath>; 0] = [];
        assert!(rr.select(&none).is_none());
        Ok(())
    }

    #[test]
    fn turns_are_fair_around_what_is_not_used() -> Result {
        let (rr, paths) = (RoundRobin::new()?, TestPath::several(5)?);
        paths[2].state.set_access(AccessState::NonOptimized);
        paths[3].state.mark_marginal();
        paths[4].state.fail(FailReason::Io);
        let mut chosen = [0usize; 5];
        for _ in 0..400 {
            if let Some(path) = rr.select(&paths) {
                chosen[path.number] += 1;
            }
        }
        // The unmarked one first, then the marginal ones.
        paths[0].state.kill();
        paths[1].state.kill();
        let second = rr.select(&paths).map(|path| path.number);
        paths[2].state.kill();
        let last = rr.select(&paths).map(|path| path.number);
        drop((rr, paths));
        assert_eq!(chosen[0] + chosen[1], 400);
        assert!(chosen[0].abs_diff(200) <= 10);
        assert_eq!(second, Some(2));
        assert_eq!(last, Some(3));
        Ok(())
    }
}
