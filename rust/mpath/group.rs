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
    queue::HasQueue,
    selector::HasState, //
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

/// What a path is wanted for.
#[derive(Clone, Copy)]
pub(crate) enum Demand {
    /// I/O of so many bytes, which is counted on the path, if its group counts, until
    /// [`Groups::ended`] or [`Groups::count_out`].
    Io(u32),
    /// Something that nobody counts.
    Other,
}

impl Demand {
    /// What it adds to a path's load: for I/O of so many bytes what `of` says.
    #[inline]
    pub(crate) fn load(self, of: impl Fn(u32) -> u32) -> u32 {
        match self {
            Self::Io(bytes) => of(bytes),
            Self::Other => 0,
        }
    }
}

/// A path that was chosen.
pub(crate) struct Picked<'a, P: Deref> {
    pub(crate) path: &'a P::Target,
    /// What the group wants to know when the I/O ends.
    pub(crate) kept: u64,
}

impl<'a, P: Member> Picked<'a, P> {
    /// `path`, in whose queue it is counted with this load ([`Demand::load`]). Any context.
    #[inline]
    pub(crate) fn counted(path: &'a P::Target, load: u32) -> Self {
        path.queue().begin(load);
        Self {
            path,
            kept: load.into(),
        }
    }
}

/// Whether I/O is counted, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Counts {
    /// It is not.
    Nothing,
    /// In the paths' queues, and what is kept of it is its load: [`Groups::count_out`].
    Queues,
    /// As the selector has it, which wants to know when: [`Groups::ended`].
    Times,
}

/// How a group chooses among its paths, and what it has to know for that. Paths are told apart by
/// their index in the group. All methods: any context.
pub(crate) trait Chooser {
    /// A usable path. Somebody may come by meanwhile who makes one usable, so that finding none
    /// decides nothing: [`Chooser::choose`] does.
    fn pick<'a, P: Member>(&self, paths: &'a [P], demand: Demand) -> Option<Picked<'a, P>>;

    /// As [`Chooser::pick`], and a path of which `wanted` is true if there is such a one. If not, it may
    /// be another one, or none.
    fn pick_if<'a, P: Member>(
        &self,
        paths: &'a [P],
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>>;

    /// As [`Chooser::pick`], under the lock of the groups' owner: what it finds is so.
    fn choose<'a, P: Member>(&self, paths: &'a [P], demand: Demand) -> Option<Picked<'a, P>> {
        self.pick(paths, demand)
    }

    /// Whether I/O is counted.
    fn counts(&self) -> Counts {
        Counts::Nothing
    }

    /// The I/O of which this was kept has ended, however that was.
    fn ended<P: Member>(&self, _path: &P, _index: usize, _kept: u64) {}

    /// A path has failed. Under the owner's lock.
    fn failed(&self, _index: usize) {}

    /// A path can be used again. Under the owner's lock.
    fn reinstated<P: Member>(&self, _paths: &[P], _index: usize) {}
}

/// A group.
pub(crate) struct Group<P, S> {
    paths: KVec<P>,
    selector: S,
    /// Whether it is to be used only if no other has a path. Changed under the owner's lock.
    bypassed: Atomic<bool>,
}

impl<P: Member, S: Chooser> Group<P, S> {
    /// A path, if there is one. Any context, no lock needed.
    ///
    /// `None` decides nothing: [`Groups::choose`] does.
    #[inline(always)]
    pub(crate) fn pick(&self, demand: Demand) -> Option<Picked<'_, P>> {
        self.selector.pick(&self.paths, demand)
    }
}

/// What changes with the choice of a group; lies in the owner's lock.
pub(crate) struct Switch {
    next: Option<usize>,
    chosen: bool,
    hold: Hold,
}

/// Whether messages may take the current group out of use.
#[derive(Clone, Copy, PartialEq)]
enum Hold {
    /// At once.
    Not,
    /// Later: somebody looks at its paths.
    Held,
    /// Later, and one has come.
    Due,
}

impl Switch {
    /// The group with this number (from 1) is to be used first; 0 or one that there is not: none.
    pub(crate) fn new(initial: u32, groups: &Groups<impl Member, impl Chooser>) -> Self {
        let next = groups.index(initial);
        Self {
            next,
            chosen: false,
            hold: Hold::Not,
        }
    }

    /// Whether a group was ever chosen, or found to have no path.
    pub(crate) fn has_chosen(&self) -> bool {
        self.chosen
    }
}

/// Something that owns one path.
pub(crate) trait Member: Deref<Target: HasState + HasQueue> {}

impl<P: Deref<Target: HasState + HasQueue>> Member for P {}

/// A path among all, and where it is.
struct Placed<P> {
    path: P,
    group: u32,
    index: u32,
}

/// Groups that are still being made.
pub(crate) struct Builder<P, S> {
    groups: KVec<KBox<Group<P, S>>>,
    paths: KVec<Placed<P>>,
}

impl<P: Member + Clone, S: Chooser> Builder<P, S> {
    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            groups: KVec::new(),
            paths: KVec::new(),
        }
    }

    /// Adds a group of `paths`. `ENOMEM`. May sleep.
    pub(crate) fn push(&mut self, paths: KVec<P>, selector: S) -> Result {
        self.paths.reserve(paths.len(), GFP_KERNEL)?;
        for (index, path) in paths.iter().enumerate() {
            let placed = Placed {
                path: path.clone(),
                group: self.groups.len() as u32,
                index: index as u32,
            };
            self.paths.push(placed, GFP_KERNEL)?;
        }
        let group = Group {
            paths,
            selector,
            bypassed: Atomic::new(false),
        };
        Ok(self
            .groups
            .push(KBox::new(group, GFP_KERNEL)?, GFP_KERNEL)?)
    }

    /// How many paths there are by now: the number that the next one will have.
    pub(crate) fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Makes them what they are.
    pub(crate) fn build(self) -> Groups<P, S> {
        Groups {
            groups: self.groups,
            paths: self.paths,
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
pub(crate) struct Groups<P, S> {
    groups: KVec<KBox<Group<P, S>>>,
    /// All paths, by their numbers.
    paths: KVec<Placed<P>>,
    /// [`NONE`], or the index and one more. Changed under the owner's lock.
    current: Atomic<u32>,
}

impl<P: Member, S: Chooser> Groups<P, S> {
    /// How many groups there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// All paths.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &P> {
        self.paths.iter().map(|placed| &placed.path)
    }

    /// The path with this number, its group, and its index there.
    #[inline]
    fn place(&self, number: usize) -> Option<(&P, &Group<P, S>, usize)> {
        let placed = self.paths.get(number)?;
        let group = self.groups.get(placed.group as usize)?;
        Some((&placed.path, group, placed.index as usize))
    }

    /// The path with this number.
    #[inline]
    pub(crate) fn path(&self, number: usize) -> Option<&P> {
        self.paths.get(number).map(|placed| &placed.path)
    }

    /// How I/O is counted, that of the group for which there is most to do.
    pub(crate) fn counts(&self) -> Counts {
        let counts = self.groups.iter().map(|group| group.selector.counts());
        counts.max().unwrap_or(Counts::Nothing)
    }

    /// I/O has ended on the path with this number: for each time that one was chosen for I/O, once.
    /// `kept` is what [`Picked`] said. Any context.
    #[inline]
    pub(crate) fn ended(&self, number: usize, kept: u64) {
        if let Some((path, group, index)) = self.place(number) {
            group.selector.ended(path, index, kept);
        }
    }

    /// The same where all groups count [in queues](Counts::Queues), or not at all.
    #[inline]
    pub(crate) fn count_out(&self, number: usize, kept: u64) {
        if let Some(path) = self.path(number) {
            path.queue().end(kept as u32);
        }
    }

    /// The path with this number has failed. Under the owner's lock.
    pub(crate) fn failed(&self, number: usize) {
        if let Some((_, group, index)) = self.place(number) {
            group.selector.failed(index);
        }
    }

    /// The path with this number can be used again. Under the owner's lock.
    pub(crate) fn reinstated(&self, number: usize) {
        if let Some((_, group, index)) = self.place(number) {
            group.selector.reinstated(&group.paths, index);
        }
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

    /// The groups, in order: how they stand, how they choose, and their paths.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Standing, &S, &[P])> {
        let current = self.current.load(Relaxed) as usize;
        self.groups.iter().enumerate().map(move |(index, group)| {
            let standing = if group.bypassed.load(Relaxed) {
                Standing::Disabled
            } else if current == index + 1 {
                Standing::Active
            } else {
                Standing::Enabled
            };
            (standing, &group.selector, group.paths.as_slice())
        })
    }

    /// The current group, if there is one. Any context, no lock needed.
    #[inline]
    pub(crate) fn current(&self) -> Option<&Group<P, S>> {
        self.groups
            .get((self.current.load_once() as usize).wrapping_sub(1))
            .map(|group| &**group)
    }

    /// A path of the current group, if there is one. Any context, no lock needed.
    ///
    /// `None` decides nothing: [`Self::choose`] does.
    pub(crate) fn pick(&self, demand: Demand) -> Option<Picked<'_, P>> {
        self.current()?.pick(demand)
    }

    /// As [`Self::pick`], and a path of which `wanted` is true if the group has such a one. If not, it may
    /// be another one, or none.
    pub(crate) fn pick_if(
        &self,
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'_, P>> {
        let group = self.current()?;
        group.selector.pick_if(&group.paths, demand, wanted)
    }

    /// A path, of another group if the current one has none. Any context.
    ///
    /// `None` if no path is usable, and none becomes so while the lock of `switch` is held.
    pub(crate) fn choose(&self, switch: &mut Switch, demand: Demand) -> Option<Picked<'_, P>> {
        switch.chosen = true;
        if !self.paths().any(|path| path.state().is_usable()) {
            self.current.store(NONE, Relaxed);
            return None;
        }
        if let Some(group) = self.current() {
            if let Some(picked) = group.selector.choose(&group.paths, demand) {
                return Some(picked);
            }
        }
        if let Some(index) = switch.next.take() {
            if let Some(picked) = self.use_group(index, demand) {
                return Some(picked);
            }
        }
        [false, true].into_iter().find_map(|bypassed| {
            (0..self.groups.len())
                .filter(|&index| self.is_bypassed(index) == bypassed)
                .find_map(|index| self.use_group(index, demand))
        })
    }

    fn is_bypassed(&self, index: usize) -> bool {
        self.groups
            .get(index)
            .is_some_and(|group| group.bypassed.load(Relaxed))
    }

    /// Makes a group the current one, if it has a path.
    fn use_group(&self, index: usize, demand: Demand) -> Option<Picked<'_, P>> {
        let group = self.groups.get(index)?;
        let picked = group.selector.choose(&group.paths, demand)?;
        self.current.store(index as u32 + 1, Relaxed);
        Some(picked)
    }

    /// Has no group be the current one, so that the next choice is made anew.
    fn leave(&self, switch: &mut Switch) {
        match switch.hold {
            Hold::Not => self.current.store(NONE, Relaxed),
            Hold::Held | Hold::Due => switch.hold = Hold::Due,
        }
    }

    /// Has the group with this number used from the next choice on, and all bypassed ones allowed
    /// again. `EINVAL` if there is none.
    pub(crate) fn switch_to(&self, switch: &mut Switch, number: u32) -> Result {
        let index = self.index(number).ok_or(EINVAL)?;
        for group in &self.groups {
            group.bypassed.store(false, Relaxed);
        }
        switch.next = Some(index);
        self.leave(switch);
        Ok(())
    }

    /// Sets whether the group with this number is bypassed. `EINVAL` if there is none.
    pub(crate) fn bypass(&self, switch: &mut Switch, number: u32, bypassed: bool) -> Result {
        let index = self.index(number).ok_or(EINVAL)?;
        let group = self.groups.get(index).ok_or(EINVAL)?;
        group.bypassed.store(bypassed, Relaxed);
        self.leave(switch);
        Ok(())
    }

    /// The number of the current group, if there is one.
    pub(crate) fn current_number(&self) -> Option<u32> {
        match self.current.load(Relaxed) {
            NONE => None,
            number => Some(number),
        }
    }

    /// The paths of the group with this number.
    pub(crate) fn paths_of(&self, number: u32) -> &[P] {
        self.index(number)
            .and_then(|index| self.groups.get(index))
            .map_or(&[], |group| &group.paths)
    }

    /// Until [`Self::release`] the current group stays that, whatever messages say, as long as it has
    /// a path.
    pub(crate) fn hold(&self, switch: &mut Switch) {
        switch.hold = Hold::Held;
    }

    /// What messages have said since [`Self::hold`] comes true.
    pub(crate) fn release(&self, switch: &mut Switch) {
        let hold = core::mem::replace(&mut switch.hold, Hold::Not);
        if hold == Hold::Due {
            self.leave(switch);
        }
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

#[cfg(CONFIG_KUNIT = "y")]
mod suite;
