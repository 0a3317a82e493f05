// SPDX-License-Identifier: GPL-2.0

//! The state of one path: whether it can be used, and how well.
//!
//! It is one word of flags, so that a submitter sees with one load whether the path is usable and
//! what it is worth. Every change is one atomic step, and says whether it changed anything, so that
//! of many who notice the same failure one reports it.

use crate::abstractions::atomic::LoadOnce;
use kernel::{
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    }, //
};

/// How well a path leads to its disk, as its device sees it (ANA, ALUA).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessState {
    /// Use it.
    Optimized,
    /// Use it when there is no optimized one.
    NonOptimized,
    /// Do not use it.
    Inaccessible,
}

impl AccessState {
    /// As sysfs shows and takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Optimized => "optimized",
            Self::NonOptimized => "non-optimized",
            Self::Inaccessible => "inaccessible",
        }
    }

    /// The state of that name. `EINVAL` if there is none.
    pub(crate) fn from_name(name: &[u8]) -> Result<Self> {
        [Self::Optimized, Self::NonOptimized, Self::Inaccessible]
            .into_iter()
            .find(|state| state.name().as_bytes() == name)
            .ok_or(EINVAL)
    }
}

/// Why a path was failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailReason {
    /// Its I/O fails.
    Io,
    /// Somebody said so: it stays failed until somebody says otherwise.
    Admin,
}

const NON_OPTIMIZED: u32 = 1 << 0;
const INACCESSIBLE: u32 = 1 << 1;
const FAILED_IO: u32 = 1 << 2;
const FAILED_ADMIN: u32 = 1 << 3;
const DEAD: u32 = 1 << 4;
const MARGINAL: u32 = 1 << 5;

const ACCESS: u32 = NON_OPTIMIZED | INACCESSIBLE;
const FAILED: u32 = FAILED_IO | FAILED_ADMIN;
const UNUSABLE: u32 = INACCESSIBLE | FAILED | DEAD;

/// Beside the number of soft errors: no I/O has come by the path since a probe has reinstated it.
const PROBATION: u32 = 1 << 31;

/// How many ranks usable paths have: see [`PathState::rank`].
pub(crate) const RANKS: u32 = 4;

/// The state of a path. All methods: any context.
pub(crate) struct PathState {
    flags: Atomic<u32>,
    failures: Atomic<u32>,
    soft_errors: Atomic<u32>,
}

impl PathState {
    /// That of a path that has not failed yet.
    pub(crate) fn new(access: AccessState) -> Self {
        Self {
            flags: Atomic::new(Self::bits(access)),
            failures: Atomic::new(0),
            soft_errors: Atomic::new(0),
        }
    }

    fn bits(access: AccessState) -> u32 {
        match access {
            AccessState::Optimized => 0,
            AccessState::NonOptimized => NON_OPTIMIZED,
            AccessState::Inaccessible => INACCESSIBLE,
        }
    }

    /// Clears and sets flags in one step; returns what they were before.
    fn change(&self, clear: u32, set: u32) -> u32 {
        let mut old = self.flags.load(Relaxed);
        loop {
            match self.flags.cmpxchg(old, (old & !clear) | set, Full) {
                Ok(_) => return old,
                Err(now) => old = now,
            }
        }
    }

    /// Whether I/O may be sent that way.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        self.flags.load_once() & UNUSABLE == 0
    }

    /// Whether there is none better: it is usable, optimized, and not marginal.
    #[inline]
    pub(crate) fn is_optimized(&self) -> bool {
        self.flags.load_once() & (UNUSABLE | NON_OPTIMIZED | MARGINAL) == 0
    }

    /// How good it is, if it is usable: 0 if there is none better, then those that are not
    /// optimized, and at last the marginal ones, in the same order. Below [`RANKS`].
    pub(crate) fn rank(&self) -> Option<u32> {
        let flags = self.flags.load_once();
        let bit = |flag: u32| u32::from(flags & flag != 0);
        (flags & UNUSABLE == 0).then(|| 2 * bit(MARGINAL) + bit(NON_OPTIMIZED))
    }

    /// Whether it has failed, for whatever reason.
    pub(crate) fn is_failed(&self) -> bool {
        self.flags.load(Relaxed) & FAILED != 0
    }

    /// Whether its device is gone for good.
    pub(crate) fn is_dead(&self) -> bool {
        self.flags.load(Relaxed) & DEAD != 0
    }

    /// One word for all of it.
    pub(crate) fn name(&self) -> &'static str {
        let flags = self.flags.load(Relaxed);
        if flags & DEAD != 0 {
            "dead"
        } else if flags & FAILED != 0 {
            "failed"
        } else if flags & INACCESSIBLE != 0 {
            AccessState::Inaccessible.name()
        } else if flags & MARGINAL != 0 {
            "marginal"
        } else if flags & NON_OPTIMIZED != 0 {
            AccessState::NonOptimized.name()
        } else {
            AccessState::Optimized.name()
        }
    }

    /// Fails the path. Returns whether it had not failed before: one of many callers is told so,
    /// and that counts one failure.
    pub(crate) fn fail(&self, reason: FailReason) -> bool {
        let flag = match reason {
            FailReason::Io => FAILED_IO,
            FailReason::Admin => FAILED_ADMIN,
        };
        let newly = self.change(0, flag) & FAILED == 0;
        if newly {
            self.failures.fetch_add(1, Relaxed);
        }
        newly
    }

    /// Forgives the path its failures. Returns whether it had failed.
    pub(crate) fn reinstate(&self) -> bool {
        self.soft_errors.store(0, Relaxed);
        self.change(FAILED, 0) & FAILED != 0
    }

    /// A probe has found the path well: forgives it the failures of its I/O, if that is all that keeps
    /// it from being used. Returns whether it is usable now and was not before.
    pub(crate) fn reinstate_probed(&self) -> bool {
        self.reinstate_with(0)
    }

    /// The same, and [`PathState::note_success`] says when the first I/O has come that way: a probe
    /// reads a block, which does not show that what failed will work.
    pub(crate) fn reinstate_on_probation(&self) -> bool {
        self.reinstate_with(PROBATION)
    }

    fn reinstate_with(&self, soft_errors: u32) -> bool {
        let mut old = self.flags.load(Relaxed);
        while old & UNUSABLE == FAILED_IO {
            // Errors from before say nothing about the path as it is now; later ones count.
            self.soft_errors.store(soft_errors, Relaxed);
            match self.flags.cmpxchg(old, old & !FAILED_IO, Full) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
        false
    }

    /// Whether errors of its I/O, and nothing else, keep the path from being used: so that a probe
    /// may reinstate it.
    pub(crate) fn wants_probe(&self) -> bool {
        self.flags.load(Relaxed) & UNUSABLE == FAILED_IO
    }

    /// Sets the access state. Who says how good a path is knows better than what was measured: it is
    /// not marginal any more.
    pub(crate) fn set_access(&self, access: AccessState) {
        self.change(ACCESS | MARGINAL, Self::bits(access));
    }

    /// Has it used after all others: it stands out by its errors or its slowness. Returns whether
    /// this is news.
    pub(crate) fn mark_marginal(&self) -> bool {
        self.change(0, MARGINAL) & MARGINAL == 0
    }

    /// It is as good as its access state says again. Returns whether it was not.
    pub(crate) fn forgive(&self) -> bool {
        self.change(MARGINAL, 0) & MARGINAL != 0
    }

    /// Whether it is used after all others.
    pub(crate) fn is_marginal(&self) -> bool {
        self.flags.load_once() & MARGINAL != 0
    }

    /// The device is gone: nothing makes the path usable again. Returns whether this is news.
    pub(crate) fn kill(&self) -> bool {
        self.change(0, DEAD) & DEAD == 0
    }

    /// Notes an error that may or may not be the path's fault. Returns whether that makes `threshold`
    /// or more in a row, so that the path should be failed.
    pub(crate) fn note_soft_error(&self, threshold: u32) -> bool {
        (self.soft_errors.fetch_add(1, Relaxed) & !PROBATION) + 1 >= threshold
    }

    /// Notes that a path that [is suspect](PathState::is_suspect) works. Returns whether it was on
    /// probation: one of many callers is told so.
    pub(crate) fn note_success(&self) -> bool {
        self.soft_errors.xchg(0, Relaxed) & PROBATION != 0
    }

    /// Notes that the path has answered a probe: forgives it errors that may be the medium's, and no
    /// more.
    pub(crate) fn note_answer(&self) {
        let mut old = self.soft_errors.load(Relaxed);
        while let Err(now) = self.soft_errors.cmpxchg(old, old & PROBATION, Relaxed) {
            old = now;
        }
    }

    /// Whether it has yet to show that it works, since a probe has reinstated it.
    pub(crate) fn is_on_probation(&self) -> bool {
        self.soft_errors.load(Relaxed) & PROBATION != 0
    }

    /// Whether there was an error that may be its fault since it last worked, or it has yet to show
    /// that it works.
    #[inline]
    pub(crate) fn is_suspect(&self) -> bool {
        self.soft_errors.load_once() != 0
    }

    /// How many times the path went from working to failed.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_path)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_transitions() {
        let path = PathState::new(AccessState::Optimized);
        assert!(path.is_usable());
        assert!(path.fail(FailReason::Io));
        assert!(!path.fail(FailReason::Io));
        assert!(!path.fail(FailReason::Admin));
        assert_eq!(path.failures(), 1);
        assert_eq!(path.name(), "failed");
        assert!(path.reinstate());
        assert!(!path.reinstate());
        assert!(path.is_usable());
        assert!(path.fail(FailReason::Admin));
        assert_eq!(path.failures(), 2);
    }

    #[test]
    fn access_is_apart_from_failure() {
        let path = PathState::new(AccessState::NonOptimized);
        assert!(path.is_usable());
        assert!(!path.is_optimized());
        assert!(path.fail(FailReason::Io));
        path.set_access(AccessState::Optimized);
        assert!(!path.is_usable());
        assert!(path.reinstate());
        assert!(path.is_optimized());
        path.set_access(AccessState::Inaccessible);
        assert!(!path.is_usable());
        assert!(!path.is_failed());
        assert_eq!(path.name(), "inaccessible");
    }

    #[test]
    fn a_marginal_path_is_the_last_choice() {
        let path = PathState::new(AccessState::NonOptimized);
        assert_eq!(path.rank(), Some(1));
        assert!(path.mark_marginal());
        assert!(!path.mark_marginal());
        assert_eq!(path.rank(), Some(RANKS - 1));
        assert!(path.is_usable());
        assert_eq!(path.name(), "marginal");
        path.set_access(AccessState::Optimized);
        assert_eq!(path.rank(), Some(0));
        assert!(path.mark_marginal());
        assert!(!path.is_optimized());
        assert_eq!(path.rank(), Some(2));
        path.fail(FailReason::Io);
        assert_eq!(path.rank(), None);
        assert_eq!(path.name(), "failed");
        path.reinstate();
        assert!(path.is_marginal());
        assert!(path.forgive());
        assert!(!path.forgive());
        assert!(path.is_optimized());
    }

    #[test]
    fn the_dead_do_not_return() {
        let path = PathState::new(AccessState::Optimized);
        assert!(path.kill());
        assert!(!path.kill());
        path.reinstate();
        path.set_access(AccessState::Optimized);
        assert!(!path.is_usable());
        assert!(path.is_dead());
        assert_eq!(path.name(), "dead");
    }

    #[test]
    fn one_soft_error_is_forgiven() {
        let path = PathState::new(AccessState::Optimized);
        assert!(!path.note_soft_error(2));
        path.note_success();
        assert!(!path.note_soft_error(2));
        path.note_answer();
        assert!(!path.note_soft_error(2));
        assert!(path.note_soft_error(2));
    }

    #[test]
    fn the_threshold_is_reached_in_a_row_only() {
        let path = PathState::new(AccessState::Optimized);
        assert!(path.note_soft_error(1));
        path.note_success();
        for _ in 0..4 {
            assert!(!path.note_soft_error(5));
        }
        assert!(path.note_soft_error(5));
        assert!(path.note_soft_error(5));
        path.note_success();
        assert!(!path.note_soft_error(5));
    }

    #[test]
    fn a_probe_forgives_errors_of_io_only() {
        let path = PathState::new(AccessState::NonOptimized);
        assert!(!path.wants_probe());
        assert!(!path.reinstate_probed());
        assert!(path.fail(FailReason::Io));
        assert!(path.wants_probe());
        assert!(path.reinstate_probed());
        assert!(path.is_usable());
        assert!(!path.is_optimized());
        // By hand, before or after.
        for reasons in [
            [FailReason::Io, FailReason::Admin],
            [FailReason::Admin, FailReason::Io],
        ] {
            for reason in reasons {
                path.fail(reason);
            }
            assert!(!path.wants_probe());
            assert!(!path.reinstate_probed());
            assert!(path.is_failed());
            path.reinstate();
        }
        path.fail(FailReason::Io);
        path.set_access(AccessState::Inaccessible);
        assert!(!path.wants_probe());
        assert!(!path.reinstate_probed());
        path.set_access(AccessState::Optimized);
        assert!(path.wants_probe());
        path.kill();
        assert!(!path.wants_probe());
        assert!(!path.reinstate_probed());
    }

    #[test]
    fn reinstating_begins_the_count_anew() {
        let path = PathState::new(AccessState::Optimized);
        assert!(!path.note_soft_error(2));
        assert!(path.note_soft_error(2));
        path.fail(FailReason::Io);
        assert!(path.reinstate_probed());
        assert!(!path.note_soft_error(2));
    }

    #[test]
    fn probation_ends_with_the_first_success() {
        let path = PathState::new(AccessState::Optimized);
        assert!(!path.reinstate_on_probation());
        assert!(!path.is_suspect());
        path.fail(FailReason::Io);
        assert!(path.reinstate_on_probation());
        assert!(path.is_suspect());
        // It is no error.
        assert!(!path.note_soft_error(2));
        assert!(path.note_soft_error(2));
        path.note_answer();
        assert!(path.is_on_probation());
        assert!(!path.note_soft_error(2));
        assert!(path.note_success());
        assert!(!path.is_on_probation());
        assert!(!path.is_suspect());
        assert!(!path.note_success());
        // By hand there is none.
        path.fail(FailReason::Io);
        assert!(path.reinstate_on_probation());
        path.fail(FailReason::Io);
        assert!(path.reinstate());
        assert!(!path.note_success());
    }

    #[test]
    fn names_are_read_back() {
        for state in [
            AccessState::Optimized,
            AccessState::NonOptimized,
            AccessState::Inaccessible,
        ] {
            assert!(AccessState::from_name(state.name().as_bytes()) == Ok(state));
        }
        assert!(AccessState::from_name(b"optimised") == Err(EINVAL));
        assert!(AccessState::from_name(b"") == Err(EINVAL));
    }
}
