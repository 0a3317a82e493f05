// SPDX-License-Identifier: GPL-2.0

//! A wait of so many seconds, for timers whose work looks again how much of it is left: a timer may
//! be early, or have expired just when somebody moved its time.

use kernel::{
    fmt,
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
};

/// When a wait began, and how many seconds it takes. Time in which the machine sleeps does not
/// count.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    start: Instant<Monotonic>,
    secs: u32,
}

impl Deadline {
    /// So many seconds from now.
    pub(crate) fn from_now(secs: u32) -> Self {
        Self {
            start: Instant::now(),
            secs,
        }
    }

    /// How many seconds are left, rounded up: never 0, so that a timer that is armed for them again
    /// and again comes to an end. `None` when it is over.
    pub(crate) fn left(&self) -> Option<u32> {
        Self::left_after(self.secs, self.start.elapsed())
    }

    fn left_after(secs: u32, elapsed: Delta) -> Option<u32> {
        let left = Delta::from_secs(i64::from(secs)) - elapsed;
        (!left.is_negative() && !left.is_zero())
            .then(|| u32::try_from(left.as_millis() / 1000 + 1).unwrap_or(u32::MAX))
    }
}

/// What the work of such a timer finds when it runs. It may have waited for the very lock under which
/// somebody ended the wait, and cancelled it in vain, or moved its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expiry {
    /// Nobody waits.
    Ended,
    /// So many seconds are left.
    Later(u32),
    /// It is over.
    Now,
}

impl Expiry {
    /// `wait`: if somebody waits, what [`Deadline::left`] says of that, in seconds. Under the lock of
    /// the wait.
    pub(crate) fn of(wait: Option<Option<u32>>) -> Self {
        match wait {
            None => Self::Ended,
            Some(Some(secs)) => Self::Later(secs),
            Some(None) => Self::Now,
        }
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waited = self.start.elapsed().as_millis();
        write!(f, "{waited} of {}000 ms", self.secs)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_deadline)]
mod tests {
    use super::*;

    fn left(secs: u32, elapsed_ms: i64) -> Option<u32> {
        Deadline::left_after(secs, Delta::from_millis(elapsed_ms))
    }

    #[test]
    fn it_is_over_when_its_time_has_passed() {
        assert_eq!(left(0, 0), None);
        assert_eq!(left(3, 3000), None);
        assert_eq!(left(3, 3_000_000), None);
    }

    #[test]
    fn what_is_left_is_rounded_up() {
        assert_eq!(left(3, 0), Some(4));
        assert_eq!(left(3, 2500), Some(1));
        assert_eq!(left(3, 2999), Some(1));
    }

    #[test]
    fn long_waits_do_not_wrap() {
        assert_eq!(left(u32::MAX, 0), Some(u32::MAX));
        assert_eq!(left(u32::MAX, 10_000), Some(u32::MAX - 9));
        assert!(Deadline::from_now(u32::MAX).left().is_some());
        assert!(Deadline::from_now(0).left().is_none());
    }

    #[test]
    fn a_wait_that_has_ended_does_not_expire() {
        assert_eq!(Expiry::of(None), Expiry::Ended);
        assert_eq!(Expiry::of(Some(left(3, 1000))), Expiry::Later(3));
        assert_eq!(Expiry::of(Some(left(3, 3000))), Expiry::Now);
    }
}
