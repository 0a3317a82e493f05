// SPDX-License-Identifier: GPL-2.0

//! What the work of a head's timers does when it runs. Nothing of what was true when a timer was armed
//! need be true by then: its work may have waited for the very lock under which somebody cancelled it in
//! vain. So all is decided here, from what is true under the locks now.

use super::State;
use crate::mpath::deadline::Expiry;

/// What the pending removal's work does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// It was cancelled: a path has returned, or the head dies already.
    Nothing,
    /// Its deadline was moved: so many seconds are left.
    Later(u32),
    /// It is over, but devices are still in use; whoever closes the last one comes back to this.
    DevicesFirst,
    /// The head dies.
    Die,
}

impl Removal {
    /// `left`: how many seconds until the deadline, if it is not over; `members`: whether there are any.
    /// Under `inner`.
    pub(super) fn of(state: State, left: Option<u32>, members: bool) -> Self {
        match (state, left, members) {
            (State::Pending, Some(secs), _) => Self::Later(secs),
            (State::Pending, None, true) => Self::DevicesFirst,
            (State::Pending, None, false) => Self::Die,
            _ => Self::Nothing,
        }
    }
}

/// How the paths of a head stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// None is usable.
    Unusable,
    /// Some are, and nothing has come by them since probes have reinstated them.
    OnProbation,
    /// One is that has shown that it works.
    Usable,
}

/// What the no-path timer's work does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPath {
    /// It was cancelled: nobody waits.
    Nothing,
    /// The time was moved, or another wait has begun: so many seconds are left.
    Later(u32),
    /// The wait is over, for there is a path, or the pending removal ends it.
    Over,
    /// I/O has waited long enough.
    Expire,
}

impl NoPath {
    /// `wait`: if somebody waits, how many seconds are left, unless the time is over; `standing`:
    /// whether there is a path; `busy`: whether anything is under way, or waits, which takes a while to
    /// find out. Under `inner`, and the lock of the wait.
    pub(super) fn of(
        state: State,
        standing: Standing,
        busy: impl FnOnce() -> bool,
        wait: Option<Option<u32>>,
    ) -> Self {
        match Expiry::of(wait) {
            Expiry::Ended => Self::Nothing,
            _ if state != State::Live => Self::Over,
            Expiry::Later(secs) => Self::Later(secs),
            Expiry::Now => match standing {
                Standing::Unusable => Self::Expire,
                // What is on its way there tells.
                Standing::OnProbation if busy() => Self::Later(1),
                Standing::OnProbation | Standing::Usable => Self::Over,
            },
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_timers)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_removal_does_nothing() {
        for state in [State::Building, State::Live, State::Dying] {
            for left in [None, Some(3)] {
                assert_eq!(Removal::of(state, left, false), Removal::Nothing);
                assert_eq!(Removal::of(state, left, true), Removal::Nothing);
            }
        }
    }

    #[test]
    fn a_removal_waits_for_its_deadline_and_then_for_the_devices() {
        let pending = |left, members| Removal::of(State::Pending, left, members);
        assert_eq!(pending(Some(3), false), Removal::Later(3));
        assert_eq!(pending(Some(3), true), Removal::Later(3));
        assert_eq!(pending(None, true), Removal::DevicesFirst);
        assert_eq!(pending(None, false), Removal::Die);
    }

    #[test]
    fn a_wait_that_has_ended_does_nothing() {
        for state in [State::Live, State::Pending, State::Dying] {
            for standing in [Standing::Unusable, Standing::OnProbation, Standing::Usable] {
                assert_eq!(NoPath::of(state, standing, || true, None), NoPath::Nothing);
            }
        }
    }

    #[test]
    fn a_wait_ends_io_only_when_it_is_over_and_there_is_no_path() {
        for busy in [false, true] {
            let live = |standing, left| NoPath::of(State::Live, standing, || busy, Some(left));
            assert_eq!(live(Standing::Unusable, Some(3)), NoPath::Later(3));
            assert_eq!(live(Standing::Unusable, None), NoPath::Expire);
            assert_eq!(live(Standing::OnProbation, Some(3)), NoPath::Later(3));
            assert_eq!(live(Standing::Usable, None), NoPath::Over);
            // The pending removal ends it.
            let pending = NoPath::of(State::Pending, Standing::Unusable, || busy, Some(None));
            assert_eq!(pending, NoPath::Over);
        }
    }

    #[test]
    fn a_path_on_probation_has_until_what_is_under_way_has_ended() {
        let live = |busy| NoPath::of(State::Live, Standing::OnProbation, || busy, Some(None));
        assert_eq!(live(true), NoPath::Later(1));
        assert_eq!(live(false), NoPath::Over);
    }
}
