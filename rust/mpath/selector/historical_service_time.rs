// SPDX-License-Identifier: GPL-2.0

//! The path that will be done with one more bio first, going by how long it needed for those before.
//!
//! The idea is that of drivers/md/dm-ps-historical-service-time.c: a moving average of the time
//! that a path needs for one bio, times the bios that it would have. What differs is how a path
//! that was slow comes to be used again: the average counts for less the longer it is not renewed
//! ([`Load::forecast`]), rather than for nothing after a fixed time.
//!
//! [`Load::forecast`]: crate::mpath::load::Load::forecast

use super::{
    cheapest,
    HasLoad, //
};
use core::ops::Deref;

/// A path for a bio that is sent `now` (nanoseconds of the monotonic clock), if one is usable; one
/// that is not `wanted` only if there is no other. Ties begin at the index `first`. Any context.
pub(crate) fn select<P>(
    paths: &[P],
    first: usize,
    now: u64,
    wanted: impl Fn(&P) -> bool,
) -> Option<&P>
where
    P: Deref<Target: HasLoad>,
{
    cheapest(paths, first, wanted, |path| path.load().forecast(now)).map(|(_, _, path)| path)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_historical_service_time)]
mod tests {
    use super::*;
    use crate::mpath::selector::TestPath;
    use kernel::prelude::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_unknown_is_tried_first() -> Result {
        let paths = TestPath::several(3)?;
        let pick = |first, now| select(&paths, first, now, |_| true).map(|path| path.number);
        let fresh = [pick(0, 0), pick(1, 0), pick(2, 0)];
        paths[0].load.served(0, MS);
        paths[2].load.served(0, MS);
        let known = [pick(0, MS), pick(2, MS)];
        drop(paths);
        assert_eq!(fresh, [Some(0), Some(1), Some(2)]);
        assert_eq!(known, [Some(1), Some(1)]);
        Ok(())
    }

    #[test]
    fn the_unknown_is_tried_with_one() -> Result {
        let paths = TestPath::several(3)?;
        paths[0].load.served(0, MS);
        for turn in 0..30 {
            if let Some(path) = select(&paths, turn % 3, MS, |_| true) {
                path.load.begin(8);
            }
        }
        let depths = [0, 1, 2].map(|path: usize| paths[path].load.bios());
        // With nothing known at all, they share.
        let unknown = TestPath::several(2)?;
        for _ in 0..10 {
            if let Some(path) = select(&unknown, 0, MS, |_| true) {
                path.load.begin(8);
            }
        }
        let shares = [unknown[0].load.bios(), unknown[1].load.bios()];
        drop((paths, unknown));
        assert_eq!(depths, [28, 1, 1]);
        assert_eq!(shares, [5, 5]);
        Ok(())
    }

    #[test]
    fn the_slow_one_gets_its_share() -> Result {
        let paths = TestPath::several(2)?;
        // The second is nine times slower.
        paths[0].load.served(0, MS);
        paths[1].load.served(0, 9 * MS);
        for turn in 0..100 {
            if let Some(path) = select(&paths, turn % 2, 9 * MS, |_| true) {
                path.load.begin(8);
            }
        }
        let depths = [paths[0].load.bios(), paths[1].load.bios()];
        drop(paths);
        assert_eq!(depths, [90, 10]);
        Ok(())
    }

    #[test]
    fn it_is_tried_again() -> Result {
        let paths = TestPath::several(2)?;
        paths[0].load.served(0, MS);
        paths[1].load.served(0, 100 * MS);
        // The fast one goes on; after a while the slow one gets one bio again.
        let mut tried = None;
        for ms in 100..60_000 {
            paths[0].load.served((ms - 1) * MS, ms * MS);
            let path = select(&paths, 0, ms * MS, |_| true).map(|path| path.number);
            if path == Some(1) {
                tried = Some(ms);
                break;
            }
        }
        // When both rest for long, the fast one is still known to be that.
        let rested = select(&paths, 1, u64::MAX / 2, |_| true).map(|path| path.number);
        drop(paths);
        assert!(tried.is_some_and(|ms| ms > 5_000 && ms < 30_000));
        assert_eq!(rested, Some(0));
        Ok(())
    }
}
