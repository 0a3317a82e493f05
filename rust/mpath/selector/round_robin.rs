// SPDX-License-Identifier: GPL-2.0

//! Each usable path in turn: the optimized ones, or if there are none the others.
//!
//! Every CPU has a turn of its own, so that no shared cache line is written.

use super::HasState;
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
    #[inline]
    pub(crate) fn select<'a, P>(&self, paths: &'a [P]) -> Option<&'a P>
    where
        P: Deref,
        P::Target: HasState,
    {
        let len = paths.len() as u32;
        let start = self.cursor.next(len) as usize;
        // The common case, without a look at the others.
        let first = paths.get(start)?;
        if first.state().is_optimized() {
            return Some(first);
        }
        Self::search(paths, start)
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
        let start = self.cursor.next(paths.len() as u32) as usize;
        let (before, from) = paths.split_at_checked(start)?;
        let in_turn = || Iterator::chain(from.iter(), before).filter(|path| wanted(path));
        in_turn()
            .find(|path| path.state().is_optimized())
            .or_else(|| in_turn().find(|path| path.state().is_usable()))
            .or_else(|| self.select(paths))
    }

    #[cold]
    fn search<P>(paths: &[P], start: usize) -> Option<&P>
    where
        P: Deref,
        P::Target: HasState,
    {
        let (before, from) = paths.split_at_checked(start)?;
        let in_turn = || Iterator::chain(from.iter(), before);
        in_turn()
            .find(|path| path.state().is_optimized())
            .or_else(|| in_turn().find(|path| path.state().is_usable()))
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_round_robin)]
mod tests {
    use super::*;
    use crate::mpath::path::{
        AccessState,
        FailReason,
        PathState, //
    };

    struct Path(usize, PathState);

    impl HasState for Path {
        fn state(&self) -> &PathState {
            &self.1
        }
    }

    fn paths() -> Result<KVec<KBox<Path>>> {
        let mut paths = KVec::new();
        for number in 0..3 {
            let path = Path(number, PathState::new(AccessState::Optimized));
            paths.push(KBox::new(path, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(paths)
    }

    /// How often each path is chosen in so many turns; the thread may move to another CPU between
    /// them, so that only the sums are certain.
    fn turns(rr: &RoundRobin, paths: &[KBox<Path>], turns: usize) -> [usize; 3] {
        let mut chosen = [0; 3];
        for _ in 0..turns {
            if let Some(path) = rr.select(paths) {
                chosen[path.0] += 1;
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
        paths[1].1.fail(FailReason::Io);
        let chosen = turns(&rr, &paths, 100);
        assert_eq!(chosen[1], 0);
        assert_eq!(chosen[0] + chosen[2], 100);
        paths[0].1.set_access(AccessState::NonOptimized);
        let chosen = turns(&rr, &paths, 100);
        assert_eq!(chosen, [0, 0, 100]);
        Ok(())
    }

    #[test]
    fn what_is_not_wanted_is_used_if_there_is_nothing_else() -> Result {
        let (rr, paths) = (RoundRobin::new()?, paths()?);
        let wanted = |path: &KBox<Path>| path.0 != 1;
        let mut chosen = [0; 3];
        for _ in 0..100 {
            if let Some(path) = rr.select_if(&paths, wanted) {
                chosen[path.0] += 1;
            }
        }
        assert_eq!(chosen[1], 0);
        assert_eq!(chosen[0] + chosen[2], 100);
        paths[0].1.fail(FailReason::Io);
        paths[2].1.fail(FailReason::Io);
        assert!(rr.select_if(&paths, wanted).is_some_and(|path| path.0 == 1));
        paths[1].1.fail(FailReason::Io);
        assert!(rr.select_if(&paths, wanted).is_none());
        Ok(())
    }

    #[test]
    fn the_rest_is_better_than_nothing() -> Result {
        let (rr, paths) = (RoundRobin::new()?, paths()?);
        paths[0].1.set_access(AccessState::NonOptimized);
        paths[1].1.set_access(AccessState::Inaccessible);
        paths[2].1.kill();
        let chosen = turns(&rr, &paths, 50);
        assert_eq!(chosen, [50, 0, 0]);
        paths[0].1.fail(FailReason::Admin);
        assert!(rr.select(&paths).is_none());
        let none: [KBox<Path>; 0] = [];
        assert!(rr.select(&none).is_none());
        Ok(())
    }
}
