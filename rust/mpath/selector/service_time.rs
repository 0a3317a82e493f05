// SPDX-License-Identifier: GPL-2.0

//! The path on which the least data is under way, in relation to its weight, which stands for its
//! throughput.
//!
//! The rule is that of drivers/md/dm-ps-service-time.c: what counts is the data that would be under
//! way with the bio that is to be sent.

use super::{
    cheapest,
    HasLoad,
    HasState, //
};
use core::ops::Deref;

/// One sector of a path of weight 1; of others it is a part.
const UNIT_SHIFT: u32 = 16;

/// A path for a bio of so many sectors, if one is usable; one that is not `wanted` only if there is
/// no other. Ties begin at the index `first`. `alike` says that all have the same weight. Any context.
#[inline]
pub(crate) fn select<P>(
    paths: &[P],
    first: usize,
    alike: bool,
    sectors: u32,
    wanted: impl Fn(&P) -> bool,
) -> Option<&P>
where
    P: Deref<Target: HasLoad>,
{
    // There is none better than one that is idle, and of equals it is the first.
    let path = paths.get(first)?;
    let is_best = |path: &P| path.state().is_optimized() && path.load().bios() == 0 && wanted(path);
    if alike && is_best(path) {
        return Some(path);
    }
    search(paths, first, sectors, wanted)
}

#[inline(never)]
fn search<P>(paths: &[P], first: usize, sectors: u32, wanted: impl Fn(&P) -> bool) -> Option<&P>
where
    P: Deref<Target: HasLoad>,
{
    // One without data takes its time too.
    let sectors = u64::from(sectors.max(1));
    cheapest(paths, first, wanted, |path| {
        ((path.load().sectors() + sectors) << UNIT_SHIFT) / u64::from(path.weight().max(1))
    })
    .map(|(_, _, path)| path)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_service_time)]
mod tests {
    use super::*;
    use crate::mpath::selector::TestPath;
    use kernel::prelude::*;

    #[test]
    fn the_least_data() -> Result {
        let paths = TestPath::several(2)?;
        let pick =
            |first, sectors| select(&paths, first, true, sectors, |_| true).map(|p| p.number);
        let idle = [pick(0, 8), pick(1, 8), pick(1, 0)];
        // Many small ones are less than a big one.
        paths[0].load.begin(2048);
        for _ in 0..100 {
            paths[1].load.begin(8);
        }
        let busy = [pick(0, 8), pick(1, 8)];
        drop(paths);
        assert_eq!(idle, [Some(0), Some(1), Some(1)]);
        assert_eq!(busy, [Some(1), Some(1)]);
        Ok(())
    }

    #[test]
    fn weight_is_throughput() -> Result {
        let mut paths = TestPath::several(2)?;
        paths[1].weight = 4;
        let idle = select(&paths, 0, false, 8, |_| true).map(|path| path.number);
        for turn in 0..100 {
            if let Some(path) = select(&paths, turn % 2, false, 8, |_| true) {
                path.load.begin(8);
            }
        }
        let sectors = [paths[0].load.sectors(), paths[1].load.sectors()];
        drop(paths);
        // An idle one that is faster is faster.
        assert_eq!(idle, Some(1));
        assert_eq!(sectors, [160, 640]);
        Ok(())
    }
}
