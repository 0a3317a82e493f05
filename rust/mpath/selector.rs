// SPDX-License-Identifier: GPL-2.0

//! Choosing among paths, one policy a file.
//!
//! Whatever the policy, it chooses among the paths of the best rank that there is
//! ([`PathState::rank`]): another one is not used because it is near, or idle.

pub(crate) mod historical_service_time;
pub(crate) mod numa;
pub(crate) mod queue_depth;
pub(crate) mod round_robin;
pub(crate) mod service_time;
pub(crate) mod turns;

#[cfg(CONFIG_KUNIT = "y")]
use super::queue::{
    HasQueue,
    Queue, //
};
use super::{
    load::Load,
    path::{
        PathState,
        RANKS, //
    },
};
use crate::abstractions::numa::Node;
use core::ops::Deref;
use kernel::prelude::*;

/// Something whose state as a path is known.
pub(crate) trait HasState {
    /// Its state.
    fn state(&self) -> &PathState;
}

/// A path of which is known what is under way on it.
pub(crate) trait HasLoad: HasState {
    /// What is under way.
    fn load(&self) -> &Load;

    /// How much it can take, in relation to others: from 1 to [`MAX_WEIGHT`].
    fn weight(&self) -> u32;
}

/// A path that is somewhere.
pub(crate) trait HasNode: HasState {
    /// The node that its device is near to, if that is known.
    fn node(&self) -> Option<Node>;
}

/// The greatest weight that a path can have.
pub(crate) const MAX_WEIGHT: u32 = 1000;

/// How a path is chosen for each bio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Policy {
    /// Each in turn.
    RoundRobin = 0,
    /// The one that is nearest to the submitter's CPU.
    Numa = 1,
    /// The one with the fewest bios under way.
    QueueDepth = 2,
    /// The one with the least data under way.
    ServiceTime = 3,
    /// The one that will be done first, going by what it needed until now.
    HistoricalServiceTime = 4,
}

impl Policy {
    const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::Numa,
        Self::QueueDepth,
        Self::ServiceTime,
        Self::HistoricalServiceTime,
    ];

    /// As sysfs shows and takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::Numa => "numa",
            Self::QueueDepth => "queue-depth",
            Self::ServiceTime => "service-time",
            Self::HistoricalServiceTime => "historical-service-time",
        }
    }

    /// The policy of that name. `EINVAL` if there is none.
    pub(crate) fn from_name(name: &[u8]) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name().as_bytes() == name)
            .ok_or(EINVAL)
    }

    /// That of a number; round-robin if there is none.
    #[inline]
    pub(crate) fn from_raw(number: u32) -> Self {
        match number {
            1 => Self::Numa,
            2 => Self::QueueDepth,
            3 => Self::ServiceTime,
            4 => Self::HistoricalServiceTime,
            _ => Self::RoundRobin,
        }
    }

    /// Whether it needs to know what is under way on each path.
    pub(crate) fn needs_load(self) -> bool {
        !matches!(self, Self::RoundRobin | Self::Numa)
    }
}

/// The rank of a path for a bio that wants some paths rather than others: those it does not want
/// come after all that it does. `None` if it is not usable.
fn rank(state: &PathState, wanted: bool) -> Option<u32> {
    let rank = state.rank()?;
    Some(if wanted { rank } else { RANKS + rank })
}

/// Of the paths of the best rank the one with the smallest cost, with its index and its rank; of
/// equals the first one from the index `first` on. `None` if none is usable.
fn cheapest<P, C: Ord>(
    paths: &[P],
    first: usize,
    wanted: impl Fn(&P) -> bool,
    cost: impl Fn(&P::Target) -> C,
) -> Option<(usize, u32, &P)>
where
    P: Deref<Target: HasState>,
{
    let mut found: Option<(usize, u32, C, &P)> = None;
    let (before, from) = paths.split_at_checked(first)?;
    for (first, part) in [(first, from), (0, before)] {
        for (index, path) in part.iter().enumerate() {
            let Some(rank) = rank(path.state(), wanted(path)) else {
                continue;
            };
            let best = found.as_ref().map_or(u32::MAX, |(_, best, _, _)| *best);
            if rank > best {
                continue;
            }
            let cost = cost(path);
            match &found {
                Some((_, _, least, _)) if rank == best && cost >= *least => (),
                _ => found = Some((first + index, rank, cost, path)),
            }
        }
    }
    found.map(|(index, rank, _, path)| (index, rank, path))
}

/// A path of tests, with a number.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) struct TestPath {
    pub(crate) number: usize,
    pub(crate) state: PathState,
    pub(crate) load: Load,
    pub(crate) queue: Queue,
    pub(crate) weight: u32,
    pub(crate) node: Option<Node>,
}

#[cfg(CONFIG_KUNIT = "y")]
impl TestPath {
    /// An optimized path of weight 1 on no node.
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            state: PathState::new(super::path::AccessState::Optimized),
            load: Load::new(),
            queue: Queue::new(),
            weight: 1,
            node: None,
        }
    }

    /// So many of them.
    pub(crate) fn several(count: usize) -> Result<KVec<KBox<Self>>> {
        let mut paths = KVec::new();
        for number in 0..count {
            paths.push(KBox::new(Self::new(number), GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Ok(paths)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
impl HasState for TestPath {
    fn state(&self) -> &PathState {
        &self.state
    }
}

#[cfg(CONFIG_KUNIT = "y")]
impl HasQueue for TestPath {
    fn queue(&self) -> &Queue {
        &self.queue
    }
}

#[cfg(CONFIG_KUNIT = "y")]
impl HasLoad for TestPath {
    fn load(&self) -> &Load {
        &self.load
    }

    fn weight(&self) -> u32 {
        self.weight
    }
}

#[cfg(CONFIG_KUNIT = "y")]
impl HasNode for TestPath {
    fn node(&self) -> Option<Node> {
        self.node
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_selector)]
mod tests {
    use super::*;
    use crate::mpath::path::{
        AccessState,
        FailReason, //
    };

    #[test]
    fn names_are_read_back() {
        for policy in Policy::ALL {
            assert!(Policy::from_name(policy.name().as_bytes()) == Ok(policy));
            assert_eq!(Policy::from_raw(policy as u32), policy);
        }
        assert!(Policy::from_name(b"round_robin") == Err(EINVAL));
        assert!(Policy::from_name(b"") == Err(EINVAL));
        assert_eq!(Policy::from_raw(77), Policy::RoundRobin);
    }

    /// The number of the cheapest, where a path's number is its cost.
    fn chosen(paths: &[KBox<TestPath>], first: usize, unwanted: usize) -> Option<usize> {
        cheapest(
            paths,
            first,
            |path| path.number != unwanted,
            |path| path.number,
        )
        .map(|(_, _, path)| path.number)
    }

    #[test]
    fn rank_comes_before_cost() -> Result {
        let paths = TestPath::several(4)?;
        let none = usize::MAX;
        let mut seen = KVec::new();
        let mut see = |what| seen.push(what, GFP_KERNEL);
        see(chosen(&paths, 2, none))?;
        see(chosen(&paths, 0, 0))?;
        paths[0].state.mark_marginal();
        see(chosen(&paths, 0, none))?;
        paths[1].state.set_access(AccessState::NonOptimized);
        see(chosen(&paths, 0, none))?;
        paths[2].state.fail(FailReason::Io);
        paths[3].state.fail(FailReason::Io);
        see(chosen(&paths, 3, none))?;
        // What is not wanted is used before nothing, but after what is worse.
        see(chosen(&paths, 0, 1))?;
        paths[0].state.kill();
        see(chosen(&paths, 0, 1))?;
        paths[1].state.set_access(AccessState::Inaccessible);
        see(chosen(&paths, 0, none))?;
        see(chosen(&[], 0, none))?;
        see(chosen(&paths, 5, none))?;
        let want = [
            Some(0),
            Some(1),
            Some(1),
            Some(2),
            Some(1),
            Some(0),
            Some(1),
            None,
            None,
            None,
        ];
        let right = seen.as_slice() == want;
        drop((paths, seen));
        assert!(right);
        Ok(())
    }

    #[test]
    fn of_equals_the_first_in_turn() -> Result {
        let paths = TestPath::several(3)?;
        let equal = |first| cheapest(&paths, first, |_| true, |_| 7).map(|(index, _, _)| index);
        let turns = [equal(0), equal(1), equal(2)];
        drop(paths);
        assert_eq!(turns, [Some(0), Some(1), Some(2)]);
        Ok(())
    }
}
