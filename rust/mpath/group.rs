// SPDX-License-Identifier: GPL-2.0

//! Priority groups: paths of which those of one group at a time are used.
//!
//! Groups and their paths do not change once they are made; what changes is which group is the
//! current one, and the states of the paths. The common case of choosing a path, that the current
//! group has one, looks at both without a lock. All changes are made under a lock of the owner's, in
//! which the [`Switch`] lies, so that "there is no path" can be decided and acted on in one critical
//! section.
//!
//! The rules are those of `choose_pgpath()` in drivers/md/dm-mpath.c: the current group stays as long
//! as it has a path, even if a better one has one again; then it is the turn of the group that was
//! asked for, then of each in order, and of the bypassed ones at last.

use super::{
    path::PathState,
    selector::{
        round_robin::RoundRobin,
        HasState, //
    },
};
use crate::abstractions::atomic::LoadOnce;
use core::ops::Deref;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// No group; a group is its index and one more.
const NONE: u32 = 0;

/// A group.
struct Group<P> {
    paths: KVec<P>,
    selector: RoundRobin,
    /// Whether it is to be used only if no other has a path. Changed under the owner's lock.
    bypassed: Atomic<bool>,
}

/// What changes with the choice of a group; lies in the owner's lock.
pub(crate) struct Switch {
    next: Option<usize>,
    chosen: bool,
}

impl Switch {
    /// The group with this number (from 1) is to be used first; 0 or one that there is not: none.
    pub(crate) fn new(initial: u32, groups: &Groups<impl Member>) -> Self {
        let next = groups.index(initial);
        Self {
            next,
            chosen: false,
        }
    }

    /// Whether a group was ever chosen, or found to have no path.
    pub(crate) fn has_chosen(&self) -> bool {
        self.chosen
    }
}

/// Something that owns the state of one path.
pub(crate) trait Member: Deref<Target: HasState> {}

impl<P: Deref<Target: HasState>> Member for P {}

/// Groups that are still being made.
pub(crate) struct Builder<P>(KVec<Group<P>>);

impl<P: Member> Builder<P> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self(KVec::new())
    }

    /// Adds a group of `paths`. `ENOMEM`. May sleep.
    pub(crate) fn push(&mut self, paths: KVec<P>) -> Result {
        let group = Group {
            paths,
            selector: RoundRobin::new()?,
            bypassed: Atomic::new(false),
        };
        Ok(self.0.push(group, GFP_KERNEL)?)
    }

    /// How many paths there are by now: the number that the next one will have.
    pub(crate) fn paths(&self) -> usize {
        self.0.iter().map(|group| group.paths.len()).sum()
    }

    /// Makes them what they are.
    pub(crate) fn build(self) -> Groups<P> {
        Groups {
            groups: self.0,
            current: Atomic::new(NONE),
        }
    }
}

/// How a group stands, as status shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Standing {
    /// It is used.
    Active,
    /// It may be used.
    Enabled,
    /// It is bypassed.
    Disabled,
}

/// Priority groups, numbered from 1, and their paths, numbered from 0 throughout.
pub(crate) struct Groups<P> {
    groups: KVec<Group<P>>,
    /// [`NONE`], or the index and one more. Changed under the owner's lock.
    current: Atomic<u32>,
}

impl<P: Member> Groups<P> {
    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// All paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &P> {
        self.groups.iter().flat_map(|group| group.paths.iter())
    }

    /// The path with this number.
    pub(crate) fn path(&self, number: usize) -> Option<&P> {
        let mut index = number;
        self.groups.iter().find_map(|group| {
            let path = group.paths.get(index);
            index = index.wrapping_sub(group.paths.len());
            path
        })
    }

    /// How many paths are usable.
    pub(crate) fn usable(&self) -> usize {
        self.paths().filter(|path| path.state().is_usable()).count()
    }

    /// The index of the group with this number.
    fn index(&self, number: u32) -> Option<usize> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        (index < self.groups.len()).then_some(index)
    }

    /// The groups, in order: how they stand, and their paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Standing, &[P])> {
        let current = self.current.load(Relaxed) as usize;
        self.groups.iter().enumerate().map(move |(index, group)| {
            let standing = if group.bypassed.load(Relaxed) {
                Standing::Disabled
            } else if current == index + 1 {
                Standing::Active
            } else {
                Standing::Enabled
            };
            (standing, group.paths.as_slice())
        })
    }

    /// The current group.
    #[inline]
    fn current(&self) -> Option<&Group<P>> {
        self.groups
            .get((self.current.load_once() as usize).wrapping_sub(1))
    }

    /// A path of the current group, if there is one. Any context, no lock needed.
    ///
    /// `None` decides nothing: [`Self::choose`] does.
    #[inline]
    pub(crate) fn pick(&self) -> Option<&P> {
        let group = self.current()?;
        group.selector.select(&group.paths)
    }

    /// As [`Self::pick`], and a path of which `wanted` is true if the group has such a one.
    pub(crate) fn pick_if(&self, wanted: impl Fn(&P) -> bool) -> Option<&P> {
        let group = self.current()?;
        group.selector.select_if(&group.paths, wanted)
    }

    /// A path, of another group if the current one has none. Any context.
    ///
    /// `None` if no path is usable, and none becomes so while the lock of `switch` is held.
    pub(crate) fn choose(&self, switch: &mut Switch) -> Option<&P> {
        switch.chosen = true;
        if !self.paths().any(|path| path.state().is_usable()) {
            self.current.store(NONE, Relaxed);
            return None;
        }
        if let Some(path) = self.pick() {
            return Some(path);
        }
        if let Some(index) = switch.next.take() {
            if let Some(path) = self.use_group(index) {
                return Some(path);
            }
        }
        [false, true].into_iter().find_map(|bypassed| {
            (0..self.groups.len())
                .filter(|&index| self.is_bypassed(index) == bypassed)
                .find_map(|index| self.use_group(index))
        })
    }

    fn is_bypassed(&self, index: usize) -> bool {
        self.groups
            .get(index)
            .is_some_and(|group| group.bypassed.load(Relaxed))
    }

    /// Makes a group the current one, if it has a path.
    fn use_group(&self, index: usize) -> Option<&P> {
        let group = self.groups.get(index)?;
        let path = group.selector.select(&group.paths)?;
        self.current.store(index as u32 + 1, Relaxed);
        Some(path)
    }

    /// Has the group with this number used from the next choice on, and all bypassed ones allowed
    /// again. `EINVAL` if there is none.
    pub(crate) fn switch_to(&self, switch: &mut Switch, number: u32) -> Result {
        let index = self.index(number).ok_or(EINVAL)?;
        for group in &self.groups {
            group.bypassed.store(false, Relaxed);
        }
        switch.next = Some(index);
        self.current.store(NONE, Relaxed);
        Ok(())
    }

    /// Sets whether the group with this number is bypassed. `EINVAL` if there is none.
    ///
    /// The `switch` is there to show that the lock is held.
    pub(crate) fn bypass(&self, _switch: &mut Switch, number: u32, bypassed: bool) -> Result {
        let index = self.index(number).ok_or(EINVAL)?;
        let group = self.groups.get(index).ok_or(EINVAL)?;
        group.bypassed.store(bypassed, Relaxed);
        self.current.store(NONE, Relaxed);
        Ok(())
    }

    /// The number of the group that is used now, or will be.
    pub(crate) fn shown(&self, switch: &Switch) -> u32 {
        match (self.current.load(Relaxed), switch.next) {
            (NONE, Some(next)) => next as u32 + 1,
            (NONE, None) => (!self.groups.is_empty()).into(),
            (current, _) => current,
        }
    }
}

/// A path of tests.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) struct TestPath(pub(crate) u32, pub(crate) PathState);

#[cfg(CONFIG_KUNIT = "y")]
impl HasState for TestPath {
    fn state(&self) -> &PathState {
        &self.1
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_group)]
mod tests {
    use super::*;
    use crate::mpath::path::{
        AccessState,
        FailReason, //
    };

    /// Groups of two paths each, which are numbered throughout.
    fn groups(count: u32) -> Result<Groups<KBox<TestPath>>> {
        let mut builder = Builder::new();
        for group in 0..count {
            let mut paths = KVec::new();
            for number in [2 * group, 2 * group + 1] {
                let path = TestPath(number, PathState::new(AccessState::Optimized));
                paths.push(KBox::new(path, GFP_KERNEL)?, GFP_KERNEL)?;
            }
            builder.push(paths)?;
        }
        Ok(builder.build())
    }

    /// The number of the group (from 1) of the chosen path; 0 is none.
    fn chosen(groups: &Groups<KBox<TestPath>>, switch: &mut Switch) -> u32 {
        groups.choose(switch).map_or(0, |path| path.0 / 2 + 1)
    }

    fn picked(groups: &Groups<KBox<TestPath>>) -> u32 {
        groups.pick().map_or(0, |path| path.0 / 2 + 1)
    }

    fn set(groups: &Groups<KBox<TestPath>>, group: u32, usable: bool) {
        for path in groups.paths().filter(|path| path.0 / 2 + 1 == group) {
            if usable {
                path.1.reinstate();
            } else {
                path.1.fail(FailReason::Io);
            }
        }
    }

    fn fail(groups: &Groups<KBox<TestPath>>, number: usize) {
        if let Some(path) = groups.path(number) {
            path.1.fail(FailReason::Io);
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
        assert!(groups.pick_if(|_| true).is_none());
        assert_eq!(groups.path(3).map(|path| path.0), Some(3));
        assert!(groups.path(4).is_none());
        assert!(groups.path(usize::MAX).is_none());
        groups.choose(&mut switch);
        let number = |avoid| groups.pick_if(|path| path.0 != avoid).map(|path| path.0);
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
        let standings = groups.iter().map(|(standing, _)| standing);
        assert!(standings.eq([Standing::Disabled, Standing::Enabled]));
        assert!(groups.bypass(&mut switch, 1, false).is_ok());
        assert_eq!(chosen(&groups, &mut switch), 1);
        let standings = groups.iter().map(|(standing, _)| standing);
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
            .all(|(standing, _)| standing == Standing::Enabled));
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
        let groups = Builder::<KBox<TestPath>>::new().build();
        let mut switch = Switch::new(0, &groups);
        assert_eq!(groups.len(), 0);
        assert_eq!(groups.shown(&switch), 0);
        assert!(groups.choose(&mut switch).is_none());
        assert!(groups.pick().is_none());
        Ok(())
    }
}
