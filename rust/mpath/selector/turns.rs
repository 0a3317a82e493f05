// SPDX-License-Identifier: GPL-2.0

//! In which order paths of different weights have their turns.
//!
//! A path of weight 3 is listed three times for each time that one of weight 1 is, and never more
//! often in a row than it must be. Round robin over that list needs not know of weights, so that
//! they cost nothing when a path is chosen.

use kernel::prelude::*;

/// The longest list that weights make, but for one that has to name each path once. Weights that
/// would make a longer one are rounded.
pub(crate) const MAX_TURNS: u64 = 1024;

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        gcd(b, a % b)
    }
}

/// How weights become numbers of turns.
struct Scale {
    divisor: u64,
    total: u64,
}

impl Scale {
    fn of(weights: impl Iterator<Item = u32>) -> Self {
        let (divisor, sum) = weights.fold((0, 0u64), |(divisor, sum), weight| {
            let weight = u64::from(weight.max(1));
            (gcd(weight, divisor), sum + weight)
        });
        let divisor = divisor.max(1);
        Self {
            divisor,
            total: sum / divisor,
        }
    }

    fn turns(&self, weight: u32) -> u64 {
        let turns = u64::from(weight.max(1)) / self.divisor;
        if self.total <= MAX_TURNS {
            turns
        } else {
            (turns * MAX_TURNS / self.total).max(1)
        }
    }
}

/// Room for a list of turns, and to compute it in.
pub(crate) struct Turns<P> {
    list: KVec<P>,
    credits: KVec<i64>,
}

impl<P: Clone> Turns<P> {
    /// Room for paths of these weights, and for any part of them. `ENOMEM`. May sleep.
    pub(crate) fn with_room(weights: impl Iterator<Item = u32> + Clone) -> Result<Self> {
        let scale = Scale::of(weights.clone());
        let paths = weights.count();
        let turns = scale.total.min(MAX_TURNS + paths as u64) as usize;
        Ok(Self {
            list: KVec::with_capacity(turns, GFP_KERNEL)?,
            credits: KVec::with_capacity(paths, GFP_KERNEL)?,
        })
    }

    /// Lists each path as often as its weight says. Does not sleep. If there is not enough room, it
    /// lists each once, and returns `false`.
    #[must_use]
    pub(crate) fn fill(&mut self, paths: &[P], weight: impl Fn(&P) -> u32) -> bool {
        self.list.clear();
        self.credits.clear();
        let scale = Scale::of(paths.iter().map(&weight));
        let turns = |path: &P| scale.turns(weight(path));
        let total: u64 = paths.iter().map(turns).sum();
        let fits = total <= self.list.capacity() as u64 && paths.len() <= self.credits.capacity();
        if !fits || total == paths.len() as u64 {
            for path in paths {
                let _ = self.list.push_within_capacity(path.clone());
            }
            return fits;
        }
        for _ in paths {
            let _ = self.credits.push_within_capacity(0);
        }
        for _ in 0..total {
            // Each earns what it is owed per turn; the one with the most pays for the turn.
            let mut richest: Option<(i64, usize)> = None;
            for (index, (credit, path)) in self.credits.iter_mut().zip(paths).enumerate() {
                *credit += turns(path) as i64;
                if richest.is_none_or(|(most, _)| *credit > most) {
                    richest = Some((*credit, index));
                }
            }
            let index = richest.map_or(0, |(_, index)| index);
            if let (Some(credit), Some(path)) = (self.credits.get_mut(index), paths.get(index)) {
                *credit -= total as i64;
                let _ = self.list.push_within_capacity(path.clone());
            }
        }
        true
    }

    /// The paths, each as often as it has a turn.
    #[inline]
    pub(crate) fn list(&self) -> &[P] {
        &self.list
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_turns)]
mod tests {
    use super::*;

    /// The turns of paths that are told apart by their index.
    fn turns(weights: &[u32]) -> Result<KVec<usize>> {
        let mut turns = Turns::with_room(weights.iter().copied())?;
        let mut paths = KVec::new();
        for index in 0..weights.len() {
            paths.push(index, GFP_KERNEL)?;
        }
        let fits = turns.fill(&paths, |path| weights[*path]);
        if fits {
            Ok(turns.list)
        } else {
            Err(ENOSPC)
        }
    }

    fn share(turns: &[usize], path: usize) -> usize {
        turns.iter().filter(|turn| **turn == path).count()
    }

    #[test]
    fn equal_weights_are_no_weights() -> Result {
        let (plain, heavy) = (turns(&[1, 1, 1])?, turns(&[7, 7, 7])?);
        let right = plain.as_slice() == [0, 1, 2] && heavy.as_slice() == [0, 1, 2];
        let one = turns(&[1000])?.len();
        let none = turns(&[])?.len();
        drop((plain, heavy));
        assert!(right);
        assert_eq!([one, none], [1, 0]);
        Ok(())
    }

    #[test]
    fn weights_are_smooth() -> Result {
        let (three, five) = (turns(&[3, 1])?, turns(&[10, 2, 2])?);
        let right = three.as_slice() == [0, 0, 1, 0] && five.as_slice() == [0, 0, 1, 0, 2, 0, 0];
        drop((three, five));
        assert!(right);
        Ok(())
    }

    #[test]
    fn long_lists_are_rounded() -> Result {
        let extreme = turns(&[1000, 1])?;
        let shares = [share(&extreme, 0), share(&extreme, 1)];
        let many = turns(&[1000, 999, 997, 1])?;
        let rounded: [usize; 4] = core::array::from_fn(|path| share(&many, path));
        drop((extreme, many));
        assert_eq!(shares, [1000, 1]);
        assert!(rounded.iter().sum::<usize>() <= MAX_TURNS as usize + 4);
        assert!(rounded[..3].iter().all(|share| (335..=345).contains(share)));
        assert_eq!(rounded[3], 1);
        Ok(())
    }

    #[test]
    fn without_room_all_are_equal() -> Result {
        let mut turns = Turns::with_room([1, 1].into_iter())?;
        // More than the allocator may give beyond what it was asked for.
        let fits = turns.fill(&[0, 1], |path| if *path == 0 { 1000 } else { 1 });
        let listed = [0, 1].map(|path| share(turns.list(), path));
        drop(turns);
        assert!(!fits);
        assert_eq!(listed, [1, 1]);
        Ok(())
    }

    #[test]
    fn a_part_has_room() -> Result {
        let weights = [1000, 500, 3, 250, 1];
        let mut turns = Turns::with_room(weights.into_iter())?;
        let mut short = 0;
        for left_out in 0..weights.len() {
            let mut paths = KVec::new();
            for index in (0..weights.len()).filter(|index| *index != left_out) {
                paths.push(index, GFP_KERNEL)?;
            }
            short += usize::from(!turns.fill(&paths, |path| weights[*path]));
        }
        drop(turns);
        assert_eq!(short, 0);
        Ok(())
    }
}
