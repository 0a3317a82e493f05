// SPDX-License-Identifier: GPL-2.0

//! The path whose device is nearest to the CPU that submits.
//!
//! Which one that is is kept per node. A choice is one word, a path's index and a count of how often
//! it was forgotten: who looks for a path while states change, and keeps what he found, finds that
//! the count is another by then, and so cannot keep what is not true any more.

use super::{
    cheapest,
    HasNode,
    HasState, //
};
use crate::abstractions::{
    atomic::LoadOnce,
    numa::{
        Node,
        LOCAL_DISTANCE, //
    },
};
use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed, //
    }, //
};

/// One more forgetting.
const FORGOTTEN: u64 = 1 << 32;

/// The index and one more of the path in the lower half, 0 if none is kept.
const fn index(choice: u64) -> usize {
    (choice as u32).wrapping_sub(1) as usize
}

/// The nearest paths of one set of paths, per node.
pub(crate) struct Numa {
    choices: KVec<Atomic<u64>>,
}

impl Numa {
    /// For nodes with numbers below `nodes`. `ENOMEM`. May sleep.
    pub(crate) fn new(nodes: usize) -> Result<Self> {
        let mut choices = KVec::with_capacity(nodes, GFP_KERNEL)?;
        for _ in 0..nodes {
            choices.push(Atomic::new(0), GFP_KERNEL)?;
        }
        Ok(Self { choices })
    }

    /// The nearest path to the node `here`, if one is usable. `distance` says how far it is from
    /// one to another. `paths` are always the same. Any context.
    #[inline]
    pub(crate) fn select<'a, P>(
        &self,
        paths: &'a [P],
        here: Node,
        distance: impl Fn(Node, Node) -> u32,
    ) -> Option<&'a P>
    where
        P: Deref<Target: HasNode>,
    {
        let choice = self.choices.get(here.index());
        let kept = choice.and_then(|choice| paths.get(index(choice.load_once())));
        if let Some(path) = kept {
            if path.state().is_optimized() {
                return Some(path);
            }
        }
        self.search(paths, here, distance)
    }

    #[cold]
    fn search<'a, P>(
        &self,
        paths: &'a [P],
        here: Node,
        distance: impl Fn(Node, Node) -> u32,
    ) -> Option<&'a P>
    where
        P: Deref<Target: HasNode>,
    {
        // Before the states are looked at.
        let choice = self.choices.get(here.index());
        let before = choice.map(|choice| choice.load(Acquire));
        let (index, rank, path) = nearest(paths, here, |_| true, distance)?;
        if let (Some(choice), Some(before), 0) = (choice, before, rank) {
            if let Ok(number) = u32::try_from(index + 1) {
                let kept = (before & !u64::from(u32::MAX)) | u64::from(number);
                // If it fails, it was forgotten meanwhile, or somebody was faster.
                let _ = choice.cmpxchg(before, kept, Full);
            }
        }
        Some(path)
    }

    /// Some state has changed: what was chosen need not be the best any more. After the change. Any
    /// context.
    pub(crate) fn forget(&self) {
        for choice in &self.choices {
            let mut old = choice.load(Relaxed);
            loop {
                let new = (old & !u64::from(u32::MAX)).wrapping_add(FORGOTTEN);
                match choice.cmpxchg(old, new, Full) {
                    Ok(_) => break,
                    Err(now) => old = now,
                }
            }
        }
    }
}

/// As [`Numa::select`], and a path that is not `wanted` only if there is no other; nothing is kept.
pub(crate) fn select_if<P>(
    paths: &[P],
    here: Node,
    wanted: impl Fn(&P) -> bool,
    distance: impl Fn(Node, Node) -> u32,
) -> Option<&P>
where
    P: Deref<Target: HasNode>,
{
    nearest(paths, here, wanted, distance).map(|(_, _, path)| path)
}

/// One of which is not known where it is may be here, as nvme has it.
fn nearest<P>(
    paths: &[P],
    here: Node,
    wanted: impl Fn(&P) -> bool,
    distance: impl Fn(Node, Node) -> u32,
) -> Option<(usize, u32, &P)>
where
    P: Deref<Target: HasNode>,
{
    cheapest(paths, 0, wanted, |path| {
        path.node()
            .map_or(LOCAL_DISTANCE, |node| distance(here, node))
    })
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_selector_numa)]
mod tests {
    use super::*;
    use crate::mpath::{
        path::{
            AccessState,
            FailReason, //
        },
        selector::TestPath,
    };

    /// Four nodes in a row.
    fn row(from: Node, to: Node) -> u32 {
        LOCAL_DISTANCE * (from.index().abs_diff(to.index()) as u32 + 1)
    }

    /// Paths on the nodes 0, 2 and 3.
    fn paths() -> Result<KVec<KBox<TestPath>>> {
        let mut paths = TestPath::several(3)?;
        for (path, node) in paths.iter_mut().zip([0, 2, 3]) {
            path.node = Some(Node::of(node));
        }
        Ok(paths)
    }

    /// The numbers of the paths that the four nodes use.
    fn chosen(numa: &Numa, paths: &[KBox<TestPath>]) -> [Option<usize>; 4] {
        [0, 1, 2, 3].map(|node| {
            numa.select(paths, Node::of(node), row)
                .map(|path| path.number)
        })
    }

    #[test]
    fn each_node_uses_the_nearest() -> Result {
        let (numa, paths) = (Numa::new(4)?, paths()?);
        let first = chosen(&numa, &paths);
        let again = chosen(&numa, &paths);
        paths[1].state.fail(FailReason::Io);
        let failed = chosen(&numa, &paths);
        paths[1].state.reinstate();
        // Nobody has said so yet.
        let unaware = chosen(&numa, &paths);
        numa.forget();
        let aware = chosen(&numa, &paths);
        drop((numa, paths));
        assert_eq!(first, [Some(0), Some(0), Some(1), Some(2)]);
        assert_eq!(again, first);
        assert_eq!(failed, [Some(0), Some(0), Some(2), Some(2)]);
        assert_eq!(unaware, failed);
        assert_eq!(aware, first);
        Ok(())
    }

    #[test]
    fn near_is_not_better_than_optimized() -> Result {
        let (numa, paths) = (Numa::new(4)?, paths()?);
        paths[0].state.set_access(AccessState::NonOptimized);
        paths[1].state.set_access(AccessState::NonOptimized);
        let far = chosen(&numa, &paths);
        paths[2].state.set_access(AccessState::Inaccessible);
        let rest = chosen(&numa, &paths);
        paths[0].state.set_access(AccessState::Optimized);
        numa.forget();
        let one = chosen(&numa, &paths);
        drop((numa, paths));
        assert_eq!(far, [Some(2); 4]);
        assert_eq!(rest, [Some(0), Some(0), Some(1), Some(1)]);
        assert_eq!(one, [Some(0); 4]);
        Ok(())
    }

    #[test]
    fn what_is_not_known_is_found_nevertheless() -> Result {
        let mut paths = paths()?;
        // A node that came later, and a path on none.
        let numa = Numa::new(1)?;
        let far = numa
            .select(&paths, Node::of(3), row)
            .map(|path| path.number);
        paths[1].node = None;
        let nowhere = numa
            .select(&paths, Node::of(1), row)
            .map(|path| path.number);
        let avoiding =
            select_if(&paths, Node::of(3), |path| path.number != 2, row).map(|path| path.number);
        paths.truncate(0);
        let none = numa.select(&paths, Node::of(0), row).is_none();
        drop((numa, paths));
        assert_eq!(far, Some(2));
        assert_eq!(nowhere, Some(1));
        assert_eq!(avoiding, Some(1));
        assert!(none);
        Ok(())
    }

    #[test]
    fn what_was_forgotten_meanwhile_is_not_kept() -> Result {
        let (numa, paths) = (Numa::new(4)?, paths()?);
        // The state changes while somebody measures the distance.
        let once = numa
            .select(&paths, Node::of(2), |from, to| {
                numa.forget();
                row(from, to)
            })
            .map(|path| path.number);
        let kept = numa.choices[2].load(Relaxed);
        drop((numa, paths));
        assert_eq!(once, Some(1));
        assert_eq!(kept as u32, 0);
        Ok(())
    }
}
