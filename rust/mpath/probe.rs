// SPDX-License-Identifier: GPL-2.0

//! When a failed path is asked whether it is well again, and what its answer means.
//!
//! The pause before a probe is the head's `probe_secs`. It doubles each time the probe fails, and
//! when a path that a probe has reinstated fails again soon, up to [`MAX_FACTOR`] times that: as
//! often as multipathd looks at a path at most and at least.

use super::error::{
    verdict,
    Verdict, //
};
use crate::abstractions::bio::status::BlkStatus;
use kernel::time::{
    Delta,
    Instant,
    Monotonic, //
};

/// How much longer than the first pause the longest is.
const MAX_FACTOR: u32 = 4;

/// What a probe has found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The path leads to its disk, even if that cannot read the block.
    Alive,
    /// It does not.
    Broken,
    /// The read did not get that far.
    Unclear,
}

/// What the status of a probe's read says about the path. Any context.
pub(crate) fn answer(status: BlkStatus) -> Answer {
    match verdict(status) {
        Verdict::Done | Verdict::Return => Answer::Alive,
        Verdict::RetryLater => Answer::Unclear,
        Verdict::RetryElsewhere | Verdict::FailPath => Answer::Broken,
    }
}

/// Why a path is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It has failed.
    Reinstate,
    /// It is suspected, and the only one: it fails if the probe does.
    Verify,
}

/// Where the probing of one path stands.
pub(crate) struct Probing {
    /// How many times `probe_secs` the pause is: a power of two.
    factor: u32,
    /// When a probe has reinstated the path.
    reinstated: Option<Instant<Monotonic>>,
    /// It is suspected, and to be probed though it has not failed.
    verify: bool,
    /// A read is on its way. There is never more than one.
    in_flight: bool,
    /// How it has ended, until somebody has looked at that.
    answer: Option<BlkStatus>,
}

impl Probing {
    /// Of a path that has never failed: no read under way, and the first pause will be the shortest.
    pub(crate) const fn new() -> Self {
        Self {
            factor: 1,
            reinstated: None,
            verify: false,
            in_flight: false,
            answer: None,
        }
    }

    fn pause(&self, secs: u32) -> u32 {
        secs.saturating_mul(self.factor)
    }

    fn double(&mut self) {
        self.factor = (self.factor * 2).min(MAX_FACTOR);
    }

    /// The path has failed. Returns how many seconds later it is probed.
    pub(crate) fn failed(&mut self, secs: u32, now: Instant<Monotonic>) -> u32 {
        let long = Delta::from_secs(i64::from(secs.saturating_mul(MAX_FACTOR)));
        match self.reinstated {
            Some(then) if now - then < long => self.double(),
            _ => self.factor = 1,
        }
        self.pause(secs)
    }

    /// The probe has failed. Returns in how many seconds the next one is due.
    pub(crate) fn missed(&mut self, secs: u32) -> u32 {
        self.double();
        self.pause(secs)
    }

    /// The probe could not be made, or says nothing. Returns in how many seconds the next is due.
    pub(crate) fn again(&self, secs: u32) -> u32 {
        self.pause(secs)
    }

    /// Begins anew with short pauses: `probe_secs` has changed.
    pub(crate) fn restart(&mut self) {
        self.factor = 1;
        self.reinstated = None;
    }

    /// The probe has reinstated the path.
    pub(crate) fn reinstated(&mut self, now: Instant<Monotonic>) {
        self.reinstated = Some(now);
    }

    /// The path is suspected: a probe shall tell.
    pub(crate) fn suspect(&mut self) {
        self.verify = true;
    }

    /// Whether a probe is to be made now, if the path has `failed` or not: then it is the caller's
    /// to make, and to tell its end by [`Probing::answered`] or [`Probing::abandoned`].
    pub(crate) fn begin(&mut self, failed: bool) -> bool {
        let begin = !self.in_flight && self.answer.is_none() && (failed || self.verify);
        self.in_flight |= begin;
        begin
    }

    /// The probe could not be made.
    pub(crate) fn abandoned(&mut self) {
        self.in_flight = false;
        self.verify = false;
    }

    /// The read has ended.
    pub(crate) fn answered(&mut self, status: BlkStatus) {
        self.answer = Some(status);
    }

    /// How a read has ended that nobody has looked at yet, and what it was for, if the path has
    /// `failed` or not.
    pub(crate) fn conclude(&mut self, failed: bool) -> Option<(BlkStatus, Option<Purpose>)> {
        let status = self.answer.take()?;
        self.in_flight = false;
        let verify = core::mem::take(&mut self.verify);
        let purpose = match (failed, verify) {
            (true, _) => Some(Purpose::Reinstate),
            (false, true) => Some(Purpose::Verify),
            (false, false) => None,
        };
        Some((status, purpose))
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_probe)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_is_alive() {
        for status in [
            BlkStatus::OK,
            BlkStatus::MEDIUM,
            BlkStatus::TARGET,
            BlkStatus::RESV_CONFLICT,
            BlkStatus::NOSPC,
            BlkStatus::PROTECTION,
        ] {
            assert_eq!(answer(status), Answer::Alive);
        }
        for status in [
            BlkStatus::TRANSPORT,
            BlkStatus::OFFLINE,
            BlkStatus::TIMEOUT,
            BlkStatus::IOERR,
        ] {
            assert_eq!(answer(status), Answer::Broken);
        }
        for status in [BlkStatus::RESOURCE, BlkStatus::DEV_RESOURCE] {
            assert_eq!(answer(status), Answer::Unclear);
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut probing = Probing::new();
        let now = Instant::now();
        assert_eq!(probing.failed(5, now), 5);
        assert_eq!(probing.missed(5), 10);
        assert_eq!(probing.again(5), 10);
        assert_eq!(probing.missed(5), 20);
        assert_eq!(probing.missed(5), 20);
        assert_eq!(probing.missed(u32::MAX), u32::MAX);
        // It fails anew: from the beginning.
        assert_eq!(probing.failed(5, now), 5);
    }

    #[test]
    fn a_relapse_goes_on_with_long_pauses() {
        let mut probing = Probing::new();
        let start = Instant::now();
        let after = |secs| start + Delta::from_secs(secs);
        assert_eq!(probing.failed(5, start), 5);
        probing.reinstated(after(5));
        assert_eq!(probing.failed(5, after(6)), 10);
        probing.reinstated(after(16));
        assert_eq!(probing.failed(5, after(35)), 20);
        probing.reinstated(after(55));
        // It has been well for as long as the longest pause.
        assert_eq!(probing.failed(5, after(75)), 5);
        probing.reinstated(after(80));
        probing.restart();
        assert_eq!(probing.failed(5, after(81)), 5);
    }

    #[test]
    fn there_is_one_probe_at_a_time() {
        let mut probing = Probing::new();
        assert!(!probing.begin(false));
        assert!(probing.begin(true));
        assert!(!probing.begin(true));
        probing.suspect();
        assert!(!probing.begin(true));
        probing.answered(BlkStatus::OK);
        assert!(!probing.begin(true));
        let (status, purpose) = probing.conclude(true).unwrap();
        assert_eq!(status, BlkStatus::OK);
        assert_eq!(purpose, Some(Purpose::Reinstate));
        assert!(probing.conclude(true).is_none());
        assert!(probing.begin(true));
        probing.abandoned();
        assert!(probing.begin(true));
    }

    #[test]
    fn a_suspect_is_probed_once() {
        let mut probing = Probing::new();
        probing.suspect();
        assert!(probing.begin(false));
        probing.answered(BlkStatus::IOERR);
        let purpose = probing.conclude(false).and_then(|(_, purpose)| purpose);
        assert_eq!(purpose, Some(Purpose::Verify));
        assert!(!probing.begin(false));
        // Reinstated by hand while the probe was on its way: nobody wants to know any more.
        assert!(probing.begin(true));
        probing.answered(BlkStatus::IOERR);
        assert!(probing
            .conclude(false)
            .is_some_and(|(_, purpose)| purpose.is_none()));
    }
}
