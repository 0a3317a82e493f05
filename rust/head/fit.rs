// SPDX-License-Identifier: GPL-2.0

//! What the paths' present sizes mean for a head, and whether a path still fits it.
//!
//! A head grows when all its paths have, and never shrinks: who uses it has seen its size. A path
//! that has become smaller than others is not used any more, for what lies behind its end would
//! fail. If all have become smaller, the disk has, and what can still be reached stays in reach.

use super::Geometry;
use kernel::prelude::*;

/// What a path's device looks like at present.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) geometry: Geometry,
    pub(super) read_only: bool,
}

/// Why a path does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    BlockSize,
    Smaller,
    ReadOnly,
}

impl Misfit {
    pub(super) fn why(self) -> &'static str {
        match self {
            Self::BlockSize => "has another logical block size now",
            Self::Smaller => "has become smaller than its head",
            Self::ReadOnly => "can only be read now",
        }
    }
}

/// What is to be done about a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Its size in sectors. Not less than it was.
    pub(super) sectors: u64,
    /// All paths are smaller than that.
    pub(super) shrunk: bool,
    /// All paths can only be read.
    pub(super) read_only: bool,
}

impl Judgement {
    /// About a head of this geometry with these paths: those that are there and have a size. `None`
    /// if there are none, for then nothing is known.
    pub(super) fn of(ours: Geometry, paths: impl Iterator<Item = Seen>) -> Option<Self> {
        let (mut smallest, mut largest, mut read_only, mut any) = (u64::MAX, 0, true, false);
        for path in paths {
            any = true;
            if path.geometry.logical_block_size == ours.logical_block_size {
                smallest = smallest.min(path.geometry.sectors);
                largest = largest.max(path.geometry.sectors);
            }
            read_only &= path.read_only;
        }
        any.then_some(Self {
            // With no path of its block size left, `largest` is 0.
            sectors: ours.sectors.max(smallest.min(largest)),
            shrunk: largest < ours.sectors,
            read_only,
        })
    }

    /// Whether a path of the head does not fit it, and why. `ours`: what the head was judged by.
    pub(super) fn misfit(&self, ours: Geometry, path: Seen) -> Option<Misfit> {
        if path.geometry.logical_block_size != ours.logical_block_size {
            Some(Misfit::BlockSize)
        } else if path.geometry.sectors < ours.sectors && !self.shrunk {
            Some(Misfit::Smaller)
        } else if path.read_only && !self.read_only {
            Some(Misfit::ReadOnly)
        } else {
            None
        }
    }

    /// Whether a newcomer of this geometry may join: it is as large as the head, or the disk has
    /// grown and the head has not followed yet (as another path shows, or there is none to show
    /// anything else).
    pub(super) fn admits(
        ours: Geometry,
        its: Geometry,
        paths: impl Iterator<Item = Seen> + Clone,
    ) -> bool {
        if its == ours {
            return true;
        }
        its.logical_block_size == ours.logical_block_size
            && its.sectors > ours.sectors
            && (paths.clone().next().is_none() || paths.into_iter().any(|p| p.geometry == its))
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_fit)]
mod tests {
    use super::*;

    fn geometry(sectors: u64) -> Geometry {
        Geometry {
            sectors,
            logical_block_size: 512,
        }
    }

    fn path(sectors: u64) -> Seen {
        Seen {
            geometry: geometry(sectors),
            read_only: false,
        }
    }

    fn read_only(sectors: u64) -> Seen {
        Seen {
            read_only: true,
            ..path(sectors)
        }
    }

    fn judge(paths: &[Seen]) -> Option<Judgement> {
        Judgement::of(geometry(100), paths.iter().copied())
    }

    fn sectors(paths: &[Seen]) -> Option<u64> {
        judge(paths).map(|judgement| judgement.sectors)
    }

    fn misfits(paths: &[Seen]) -> [Option<Misfit>; 3] {
        let mut found = [None; 3];
        if let Some(judgement) = judge(paths) {
            for (slot, path) in found.iter_mut().zip(paths) {
                *slot = judgement.misfit(geometry(100), *path);
            }
        }
        found
    }

    #[test]
    fn grows_with_the_last_path() {
        assert_eq!(sectors(&[path(100), path(200)]), Some(100));
        assert_eq!(sectors(&[path(150), path(200)]), Some(150));
        assert_eq!(sectors(&[path(200), path(200)]), Some(200));
        assert_eq!(sectors(&[]), None);
    }

    #[test]
    fn does_not_shrink() {
        assert_eq!(sectors(&[path(50), path(200)]), Some(100));
        assert_eq!(sectors(&[path(50)]), Some(100));
    }

    #[test]
    fn a_smaller_path_is_a_misfit() {
        let found = misfits(&[path(100), path(99), path(200)]);
        assert_eq!(found, [None, Some(Misfit::Smaller), None]);
    }

    #[test]
    fn a_smaller_disk_is_not() {
        assert_eq!(misfits(&[path(50), path(99)]), [None; 3]);
        assert_eq!(judge(&[path(50)]).map(|j| j.shrunk), Some(true));
        assert_eq!(judge(&[path(50), path(100)]).map(|j| j.shrunk), Some(false));
    }

    #[test]
    fn a_path_of_other_blocks_is_a_misfit() {
        let mut other = path(400);
        other.geometry.logical_block_size = 4096;
        let found = misfits(&[path(100), other]);
        assert_eq!(found, [None, Some(Misfit::BlockSize), None]);
        assert_eq!(sectors(&[path(200), other]), Some(200));
        assert_eq!(sectors(&[other]), Some(100));
    }

    #[test]
    fn one_that_can_only_be_read_is_a_misfit_among_others() {
        let found = misfits(&[read_only(100), path(100)]);
        assert_eq!(found, [Some(Misfit::ReadOnly), None, None]);
        let paths = [read_only(100), read_only(100)];
        assert_eq!(misfits(&paths), [None; 3]);
        assert_eq!(judge(&paths).map(|j| j.read_only), Some(true));
        assert_eq!(
            judge(&[path(100), read_only(100)]).map(|j| j.read_only),
            Some(false)
        );
    }

    #[test]
    fn newcomers_may_be_larger_if_the_disk_is() {
        let admits = |its, paths: &[Seen]| {
            Judgement::admits(geometry(100), geometry(its), paths.iter().copied())
        };
        assert!(admits(100, &[path(100)]));
        assert!(!admits(200, &[path(100)]));
        assert!(!admits(99, &[path(100)]));
        assert!(admits(200, &[path(100), path(200)]));
        assert!(admits(200, &[]));
        assert!(!admits(99, &[]));
    }
}
