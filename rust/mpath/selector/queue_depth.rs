// SPDX-License-Identifier: GPL-2.0

//! The path with the fewest bios under way, in relation to its weight; of equals each in turn.

use super::{
    cheapest,
    HasLoad,
    HasState, //
};
use core::ops::Deref;

/// One bio of a path of weight 1; of others it is a part.
const UNIT_SHIFT: u32 = 16;

/// A path, if one is usable; one that is not `wanted` only if there is no other. Ties begin at the
/// index `first`. Any context.
#[inline]
pub(crate) fn select<P>(paths: &[P], first: usize, wanted: impl Fn(&P) -> bool) -> Option<&P>
where
    P: Deref<Target: HasLoad>,
{
    // There is none better than one that is idle, and of equals it is the first.
    let path = paths.get(first)?;
    if path.state().is_optimized() && path.load().bios() == 0 && wanted(path) {
        return Some(path);
    }
    search(paths, first, wanted)
}

#[inline(never)]
fn search<P>(paths: &[P], first: usize, wanted: impl Fn(&P) -> bool) -> Option<&P>
where
    P: Deref<Target: HasLoad>,
{
    cheapest(paths, first, wanted, |path| {
        (path.load().bios() << UNIT_SHIFT) / u64::from(path.weight().max(1))
    })
    .map(|(_, _, path)| path)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_queue_depth)]
mod tests {
    use super::*;
    use crate::mpath::selector::TestPath;
    use kernel::prelude::*;

    #[test]
    fn the_shortest_queue() -> Result {
        let paths = TestPath::several(3)?;
        let pick = |first| select(&paths, first, |_| true).map(|path| path.number);
        let idle = [pick(0), pick(1), pick(2)];
        paths[0].load.begin(8);
        paths[2].load.begin(8);
        let one = [pick(0), pick(1), pick(2)];
        paths[1].load.begin(2048);
        paths[1].load.begin(2048);
        let other = [pick(1), pick(2)];
        let avoiding = select(&paths, 0, |path| path.number == 1).map(|path| path.number);
        drop(paths);
        assert_eq!(idle, [Some(0), Some(1), Some(2)]);
        assert_eq!(one, [Some(1); 3]);
        assert_eq!(other, [Some(2), Some(2)]);
        assert_eq!(avoiding, Some(1));
        Ok(())
    }

    #[test]
    fn weights_divide_the_queue() -> Result {
        let mut paths = TestPath::several(2)?;
        paths[0].weight = 3;
        for turn in 0..40 {
            if let Some(path) = select(&paths, turn % 2, |_| true) {
                path.load.begin(8);
            }
        }
        let depths = [paths[0].load.bios(), paths[1].load.bios()];
        drop(paths);
        assert_eq!(depths, [30, 10]);
        Ok(())
    }
}
