// SPDX-License-Identifier: GPL-2.0

//! Which group is used, and which path of it, after what has happened.

use super::*;

#[kunit_tests(rmpath_group)]
mod tests {
    use super::*;
    use crate::mpath::{
        path::FailReason,
        selector::TestPath, //
    };
    use kernel::sync::Arc;

    /// The first usable path. Notes which one was told what.
    struct First {
        events: Atomic<u32>,
    }

    impl First {
        fn new() -> Self {
            Self {
                events: Atomic::new(0),
            }
        }

        fn note(&self, event: u32) {
            let before = self.events.load(Relaxed);
            self.events.store(before * 10 + event, Relaxed);
        }
    }

    impl Chooser for First {
        fn pick<'a, P: Member>(&self, paths: &'a [P], demand: Demand) -> Option<Picked<'a, P>> {
            self.pick_if(paths, demand, |_| true)
        }

        fn pick_if<'a, P: Member>(
            &self,
            paths: &'a [P],
            _demand: Demand,
            wanted: impl Fn(&P) -> bool,
        ) -> Option<Picked<'a, P>> {
            let usable = |path: &&P| path.state().is_usable();
            let path = paths
                .iter()
                .filter(usable)
                .find(|path| wanted(path))
                .or_else(|| paths.iter().find(usable))?;
            Some(Picked { path, kept: 7 })
        }

        fn counts(&self) -> Counts {
            Counts::Times
        }

        fn ended<P: Member>(&self, path: &P, index: usize, kept: u64) {
            path.queue().begin(1);
            self.note(index as u32 + kept as u32);
        }

        fn failed(&self, index: usize) {
            self.note(index as u32 + 3);
        }

        fn reinstated<P: Member>(&self, _paths: &[P], index: usize) {
            self.note(index as u32 + 5);
        }
    }

    type TestGroups = Groups<Arc<TestPath>, First>;

    /// Groups of two paths each, which are numbered throughout.
    fn groups(count: usize) -> Result<TestGroups> {
        let mut builder = Builder::new();
        for group in 0..count {
            let mut paths = KVec::new();
            for number in [2 * group, 2 * group + 1] {
                paths.push(Arc::new(TestPath::new(number), GFP_KERNEL)?, GFP_KERNEL)?;
            }
            builder.push(paths, First::new())?;
        }
        Ok(builder.build())
    }

    /// The number of the group (from 1) of the chosen path; 0 is none.
    fn chosen(groups: &TestGroups, switch: &mut Switch) -> usize {
        groups
            .choose(switch, Demand::Other)
            .map_or(0, |picked| picked.path.number / 2 + 1)
    }

    fn picked(groups: &TestGroups) -> usize {
        groups
            .pick(Demand::Io(4096))
            .map_or(0, |picked| picked.path.number / 2 + 1)
    }

    fn set(groups: &TestGroups, group: usize, usable: bool) {
        for path in groups.paths().filter(|path| path.number / 2 + 1 == group) {
            if usable {
                path.state.reinstate();
            } else {
                path.state.fail(FailReason::Io);
            }
        }
    }

    fn fail(groups: &TestGroups, number: usize) {
        if let Some(path) = groups.path(number) {
            path.state.fail(FailReason::Io);
        }
    }

    #[test]
    fn the_initial_group_is_used_first() -> Result {
        let groups = groups(3)?;
        let mut switch = Switch::new(2, &groups);
        assert!(!switch.has_chosen());
        assert_eq!(picked(&groups), 0);
        assert_eq!(groups.shown(&switch), 2);
        assert_eq!(chosen(&groups, &mut switch), 2);
        assert!(switch.has_chosen());
        assert_eq!(picked(&groups), 2);
        assert_eq!(groups.shown(&switch), 2);
        Ok(())
    }

    #[test]
    fn an_initial_group_that_is_not_there_is_the_first() -> Result {
        let groups = groups(2)?;
        let mut switch = Switch::new(9, &groups);
        assert_eq!(groups.shown(&switch), 1);
        assert_eq!(chosen(&groups, &mut switch), 1);
        Ok(())
    }

    #[test]
    fn another_path_is_one_of_the_same_group() -> Result {
        let groups = groups(2)?;
        let mut switch = Switch::new(1, &groups);
        assert!(groups.pick_if(Demand::Other, |_| true).is_none());
        assert_eq!(groups.path(3).map(|path| path.number), Some(3));
        assert!(groups.path(4).is_none());
        assert!(groups.path(usize::MAX).is_none());
        groups.choose(&mut switch, Demand::Other);
        let number = |avoid| {
            groups
                .pick_if(Demand::Other, |path| path.number != avoid)
                .map(|picked| picked.path.number)
        };
        for _ in 0..10 {
            assert_eq!(number(0), Some(1));
            assert_eq!(number(1), Some(0));
        }
        fail(&groups, 1);
        assert_eq!(number(0), Some(0));
        fail(&groups, 0);
        assert_eq!(number(0), None);
        Ok(())
    }

    #[test]
    fn the_next_group_takes_over_and_stays() -> Result {
        let groups = groups(3)?;
        let mut switch = Switch::new(1, &groups);
        assert_eq!(chosen(&groups, &mut switch), 1);
        set(&groups, 1, false);
        assert_eq!(picked(&groups), 0);
        assert_eq!(chosen(&groups, &mut switch), 2);
        // One group has paths again: no reason to leave the other.
        set(&groups, 1, true);
        assert_eq!(picked(&groups), 2);
        assert_eq!(chosen(&groups, &mut switch), 2);
        set(&groups, 2, false);
        assert_eq!(chosen(&groups, &mut switch), 1);
        Ok(())
    }

    #[test]
    fn the_initial_group_is_passed_over_without_a_path() -> Result {
        let groups = groups(3)?;
        let mut switch = Switch::new(3, &groups);
        set(&groups, 3, false);
        assert_eq!(chosen(&groups, &mut switch), 1);
        // The wish was granted as far as possible, and is not remembered.
        set(&groups, 3, true);
        set(&groups, 1, false);
        assert_eq!(chosen(&groups, &mut switch), 2);
        Ok(())
    }

    #[test]
    fn without_any_path_there_is_no_group() -> Result {
        let groups = groups(2)?;
        let mut switch = Switch::new(2, &groups);
        set(&groups, 1, false);
        set(&groups, 2, false);
        assert_eq!(groups.usable(), 0);
        assert_eq!(chosen(&groups, &mut switch), 0);
        assert!(switch.has_chosen());
        // The wish is still there when a path is.
        assert_eq!(groups.shown(&switch), 2);
        set(&groups, 1, true);
        set(&groups, 2, true);
        assert_eq!(groups.usable(), 4);
        assert_eq!(chosen(&groups, &mut switch), 2);
        Ok(())
    }

    #[test]
    fn bypassed_groups_come_last() -> Result {
        let groups = groups(2)?;
        let mut switch = Switch::new(1, &groups);
        assert_eq!(chosen(&groups, &mut switch), 1);
        assert!(groups.bypass(&mut switch, 1, true).is_ok());
        // Neither is current now; status shows the first.
        assert_eq!(picked(&groups), 0);
        assert_eq!(groups.shown(&switch), 1);
        assert_eq!(chosen(&groups, &mut switch), 2);
        set(&groups, 2, false);
        assert_eq!(chosen(&groups, &mut switch), 1);
        let standings = groups.iter().map(|(standing, _, _)| standing);
        assert!(standings.eq([Standing::Disabled, Standing::Enabled]));
        assert!(groups.bypass(&mut switch, 1, false).is_ok());
        assert_eq!(chosen(&groups, &mut switch), 1);
        let standings = groups.iter().map(|(standing, _, _)| standing);
        assert!(standings.eq([Standing::Active, Standing::Enabled]));
        Ok(())
    }

    #[test]
    fn switching_lifts_all_bypasses() -> Result {
        let groups = groups(3)?;
        let mut switch = Switch::new(1, &groups);
        for number in 1..=3 {
            assert!(groups.bypass(&mut switch, number, true).is_ok());
        }
        assert!(groups.switch_to(&mut switch, 2).is_ok());
        assert_eq!(groups.shown(&switch), 2);
        assert!(groups
            .iter()
            .all(|(standing, _, _)| standing == Standing::Enabled));
        assert_eq!(chosen(&groups, &mut switch), 2);
        Ok(())
    }

    #[test]
    fn numbers_that_are_not_there_are_refused() -> Result {
        let groups = groups(2)?;
        let mut switch = Switch::new(1, &groups);
        for number in [0, 3, u32::MAX] {
            assert!(groups.switch_to(&mut switch, number) == Err(EINVAL));
            assert!(groups.bypass(&mut switch, number, true) == Err(EINVAL));
        }
        assert_eq!(chosen(&groups, &mut switch), 1);
        Ok(())
    }

    #[test]
    fn there_may_be_no_groups() -> Result {
        let groups = Builder::<Arc<TestPath>, First>::new().build();
        let mut switch = Switch::new(0, &groups);
        assert_eq!(groups.len(), 0);
        assert_eq!(groups.shown(&switch), 0);
        assert!(groups.choose(&mut switch, Demand::Other).is_none());
        assert!(groups.pick(Demand::Other).is_none());
        Ok(())
    }

    #[test]
    fn what_concerns_a_path_comes_to_its_group() -> Result {
        let groups = groups(2)?;
        groups.ended(0, 1);
        groups.ended(3, 1);
        groups.failed(3);
        groups.reinstated(2);
        for number in [4, usize::MAX] {
            groups.ended(number, 1);
            groups.count_out(number, 1);
            groups.failed(number);
            groups.reinstated(number);
        }
        let heard: [u32; 2] =
            core::array::from_fn(|group| groups.groups[group].selector.events.load(Relaxed));
        let loads = || -> [u32; 4] {
            core::array::from_fn(|number| groups.path(number).map_or(9, |path| path.queue.load()))
        };
        let told = loads();
        groups.count_out(3, 1);
        let counted_out = loads();
        let counts = groups.counts();
        drop(groups);
        assert_eq!(heard, [1, 245]);
        assert_eq!(told, [1, 0, 0, 1]);
        assert_eq!(counted_out, [1, 0, 0, 0]);
        assert_eq!(counts, Counts::Times);
        Ok(())
    }

    #[test]
    fn while_it_is_held_a_group_stays() -> Result {
        let groups = groups(2)?;
        let mut switch = Switch::new(1, &groups);
        assert_eq!(chosen(&groups, &mut switch), 1);
        groups.hold(&mut switch);
        assert!(groups.switch_to(&mut switch, 2).is_ok());
        assert_eq!(groups.current_number(), Some(1));
        assert_eq!(chosen(&groups, &mut switch), 1);
        groups.release(&mut switch);
        assert_eq!(groups.current_number(), None);
        assert_eq!(chosen(&groups, &mut switch), 2);
        groups.hold(&mut switch);
        groups.release(&mut switch);
        assert_eq!(groups.current_number(), Some(2));
        assert_eq!(groups.paths_of(2).len(), 2);
        assert_eq!(groups.paths_of(0).len() + groups.paths_of(3).len(), 0);
        Ok(())
    }
}
