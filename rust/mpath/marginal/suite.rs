// SPDX-License-Identifier: GPL-2.0

//! Which paths are marked, and which are not, after what they have shown.

use super::*;

#[kunit_tests(rmpath_marginal)]
mod tests {
    use super::*;
    use crate::mpath::path::{
        AccessState,
        FailReason, //
    };

    const MS: u64 = 1_000_000;
    const SEC: u64 = NS_PER_SEC;
    const RULES: Rules = Rules {
        err_rate: 10,
        latency_pct: 300,
        recheck_gap: 60,
    };

    struct Path {
        state: PathState,
        vitals: Vitals,
    }

    impl Judged for Path {
        fn state(&self) -> &PathState {
            &self.state
        }
        fn vitals(&self) -> &Vitals {
            &self.vitals
        }
    }

    impl Path {
        fn new() -> Result<Self> {
            Ok(Self {
                state: PathState::new(AccessState::Optimized),
                vitals: Vitals::new(0)?,
            })
        }

        /// So many bios of so many nanoseconds, and so many errors.
        fn carries(&self, bios: u32, time: u64, errors: u32) {
            for _ in 0..bios {
                if self.vitals.begin() {
                    self.vitals.sample(time);
                }
            }
            for _ in 0..errors {
                self.vitals.error();
            }
        }
    }

    /// The names of the states after the paths were judged, and whether to go on.
    fn judged(paths: &[Path], rules: &Rules, now: u64) -> ([&'static str; 3], bool) {
        let go_on = judge(paths.iter(), rules, now, |_, _| ());
        (
            core::array::from_fn(|index| paths[index].state.name()),
            go_on,
        )
    }

    const GOOD: [&str; 3] = ["optimized"; 3];
    const FIRST: [&str; 3] = ["marginal", "optimized", "optimized"];

    fn three() -> Result<[Path; 3]> {
        Ok([Path::new()?, Path::new()?, Path::new()?])
    }

    #[test]
    fn a_slow_path_is_marked() -> Result {
        let paths = three()?;
        paths[0].carries(100, 100 * MS, 0);
        paths[1].carries(100, 30 * MS, 0);
        paths[2].carries(100, 29 * MS, 0);
        let once = judged(&paths, &RULES, SEC);
        // With nothing to compare, and nothing to say.
        let idle = judged(&paths, &RULES, 60 * SEC);
        let over = judged(&paths, &RULES, 61 * SEC);
        let quiet = judged(&paths, &RULES, 62 * SEC);
        drop(paths);
        assert_eq!(once, (FIRST, true));
        assert_eq!(idle, (FIRST, true));
        assert_eq!(over, (GOOD, true));
        assert_eq!(quiet, (GOOD, false));
        Ok(())
    }

    #[test]
    fn small_differences_do_not_count() -> Result {
        let paths = three()?;
        paths[0].carries(100, 90_000, 0);
        paths[1].carries(100, 1_000, 0);
        paths[2].carries(100, 1_000, 0);
        let fast = judged(&paths, &RULES, SEC);
        paths[0].carries(100, 29 * MS, 0);
        paths[1].carries(100, 10 * MS, 0);
        let near = judged(&paths, &RULES, 2 * SEC);
        // Not enough to tell.
        paths[0].carries(10, 500 * MS, 0);
        paths[1].carries(100, 10 * MS, 0);
        let few = judged(&paths, &RULES, 3 * SEC);
        paths[0].carries(10, 500 * MS, 0);
        paths[1].carries(100, 10 * MS, 0);
        let enough = judged(&paths, &RULES, 4 * SEC);
        drop(paths);
        assert_eq!(fast.0, GOOD);
        assert_eq!(near.0, GOOD);
        assert_eq!(few.0, GOOD);
        assert_eq!(enough.0, FIRST);
        Ok(())
    }

    /// All are used alike, and the first one does not come to the end of its periods when the others do.
    fn in_turns(mut carries: impl FnMut(usize, u32), mut judged: impl FnMut(u64) -> bool) -> bool {
        carries(1, 8);
        carries(2, 8);
        (1..10).any(|second| {
            (0..3).for_each(|index| carries(index, 8));
            judged(second * SEC)
        })
    }

    #[test]
    fn periods_need_not_end_together() -> Result {
        let paths = three()?;
        let time = |index| if index == 0 { 100 * MS } else { MS };
        let slow = in_turns(
            |index, bios| paths[index].carries(bios, time(index), 0),
            |now| judged(&paths, &RULES, now).0 == FIRST,
        );
        let paths = three()?;
        let alike = in_turns(
            |index, bios| paths[index].carries(bios, MS, bios / 8),
            |now| judged(&paths, &RULES, now).0 != GOOD,
        );
        drop(paths);
        assert!(slow);
        assert!(!alike);
        Ok(())
    }

    #[test]
    fn what_becomes_bad_everywhere_is_nobodys() -> Result {
        let paths = three()?;
        let mut second = 0;
        let marked = in_turns(
            |index, bios| {
                // From the moment on in which the others have ended their second period.
                second += u32::from(index == 0);
                let (time, errors) = if second > 3 {
                    (100 * MS, bios)
                } else {
                    (MS, 0)
                };
                paths[index].carries(bios, time, errors);
            },
            |now| judged(&paths, &RULES, now).0 != GOOD,
        );
        drop(paths);
        assert!(!marked);
        Ok(())
    }

    #[test]
    fn what_was_before_does_not_count() -> Result {
        let slow = |paths: &[Path], now| {
            paths[0].carries(100, 100 * MS, 0);
            judged(paths, &RULES, now).0
        };
        // The others have shown how fast they are in this one's first period, but not in its second.
        let paths = three()?;
        paths[1].carries(100, MS, 0);
        let before = judged(&paths, &RULES, SEC).0;
        let first = slow(&paths, 2 * SEC);
        paths[0].state.forgive();
        let second = slow(&paths, 3 * SEC);
        // Nor does what was shown before somebody said how good a path is, of either.
        let mut reset = KVec::new();
        for index in [0, 1] {
            let paths = three()?;
            paths[1].carries(100, MS, 0);
            judged(&paths, &RULES, SEC);
            paths[index].vitals.reset(SEC);
            reset.push(slow(&paths, 2 * SEC), GFP_KERNEL)?;
        }
        let right = reset[..] == [GOOD, GOOD];
        drop((paths, reset));
        assert_eq!([before, first, second], [GOOD, FIRST, GOOD]);
        assert!(right);
        Ok(())
    }

    #[test]
    fn errors_that_all_have_are_nobodys() -> Result {
        let paths = three()?;
        for path in &paths {
            path.carries(100, MS, 10);
        }
        let all = judged(&paths, &RULES, SEC);
        paths[0].carries(100, MS, 10);
        paths[1].carries(100, MS, 9);
        paths[2].carries(100, MS, 0);
        let two = judged(&paths, &RULES, 2 * SEC);
        drop(paths);
        assert_eq!(all.0, GOOD);
        assert_eq!(two.0, ["marginal", "marginal", "optimized"]);
        Ok(())
    }

    #[test]
    fn one_error_is_none_and_the_last_path_is_not_marked() -> Result {
        let paths = three()?;
        paths[0].carries(20, MS, 1);
        let one = judged(&paths, &RULES, SEC);
        paths[1].state.fail(FailReason::Io);
        paths[2].state.set_access(AccessState::Inaccessible);
        paths[0].carries(100, MS, 50);
        let last = judged(&paths, &RULES, 2 * SEC);
        paths[1].state.reinstate();
        paths[0].carries(100, MS, 50);
        let other = judged(&paths, &RULES, 3 * SEC);
        drop(paths);
        assert_eq!(one.0, GOOD);
        assert_eq!(last.0, ["optimized", "failed", "inaccessible"]);
        assert_eq!(other.0, ["marginal", "optimized", "inaccessible"]);
        Ok(())
    }

    #[test]
    fn who_misbehaves_again_is_marked_for_longer() -> Result {
        let paths = three()?;
        let bad = |now| {
            paths[0].carries(100, MS, 20);
            paths[1].carries(100, MS, 0);
            judged(&paths, &RULES, now).0 == FIRST
        };
        let calm = |now| judged(&paths, &RULES, now).0 == GOOD;
        let mut right = true;
        right &= bad(SEC);
        // It is used, for want of others, and still bad: the time begins anew.
        right &= bad(31 * SEC);
        right &= !calm(90 * SEC);
        right &= calm(91 * SEC);
        right &= bad(92 * SEC);
        right &= !calm((92 + 119) * SEC);
        right &= calm((92 + 120) * SEC);
        // It has behaved for as long as it had been marked.
        right &= bad((92 + 120 + 121) * SEC);
        right &= calm((92 + 120 + 121 + 60) * SEC);
        drop(paths);
        assert!(right);
        Ok(())
    }

    #[test]
    fn nought_is_off() -> Result {
        let paths = three()?;
        let rules = |err_rate, latency_pct| Rules {
            err_rate,
            latency_pct,
            recheck_gap: 0,
        };
        let mut seen = KVec::new();
        for rules in [rules(0, 0), rules(0, 300), rules(10, 0)] {
            paths[0].carries(100, 50 * MS, 0);
            paths[1].carries(100, MS, 50);
            paths[2].carries(100, MS, 0);
            seen.push(judged(&paths, &rules, SEC).0, GFP_KERNEL)?;
        }
        let forever = judged(&paths, &rules(10, 300), u64::MAX - 1).0;
        let right = seen[0] == GOOD && seen[1] == FIRST;
        let both = [seen[2], forever];
        drop((paths, seen));
        assert!(right);
        assert_eq!(both, [["marginal", "marginal", "optimized"]; 2]);
        Ok(())
    }
}
