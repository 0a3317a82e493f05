// SPDX-License-Identifier: GPL-2.0

//! What an error says about the path it came by.
//!
//! `blk_path_error()` calls too much a path error (AGAIN, INVAL and RESOURCE among it), so this is
//! a table of our own.

use crate::abstractions::bio::status::BlkStatus;

/// What to do with a bio that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It succeeded.
    Done,
    /// The error is the submitter's: any path would give it. Says nothing about the path.
    Return,
    /// The host or the device is short of something: any path, in a while.
    RetryLater,
    /// It may be the path or not: another path, and this one fails if it repeats.
    RetryElsewhere,
    /// The path is broken: fail it, and use another one.
    FailPath,
}

/// The verdict on a status. Any context.
pub(crate) fn verdict(status: BlkStatus) -> Verdict {
    match status {
        BlkStatus::OK => Verdict::Done,
        BlkStatus::AGAIN
        | BlkStatus::INVAL
        | BlkStatus::NOTSUPP
        | BlkStatus::NOSPC
        | BlkStatus::TARGET
        | BlkStatus::MEDIUM
        | BlkStatus::PROTECTION
        | BlkStatus::RESV_CONFLICT
        | BlkStatus::DURATION_LIMIT
        | BlkStatus::ZONE_OPEN_RESOURCE
        | BlkStatus::ZONE_ACTIVE_RESOURCE => Verdict::Return,
        BlkStatus::RESOURCE | BlkStatus::DEV_RESOURCE => Verdict::RetryLater,
        BlkStatus::TRANSPORT | BlkStatus::OFFLINE | BlkStatus::TIMEOUT => Verdict::FailPath,
        // IOERR, and what the kernel may come up with.
        _ => Verdict::RetryElsewhere,
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_error)]
mod tests {
    use super::*;

    #[test]
    fn success_is_done() {
        assert_eq!(verdict(BlkStatus::OK), Verdict::Done);
    }

    #[test]
    fn the_submitters_errors_fail_no_path() {
        for status in [
            BlkStatus::AGAIN,
            BlkStatus::INVAL,
            BlkStatus::NOTSUPP,
            BlkStatus::NOSPC,
            BlkStatus::TARGET,
            BlkStatus::MEDIUM,
            BlkStatus::PROTECTION,
            BlkStatus::RESV_CONFLICT,
        ] {
            assert_eq!(verdict(status), Verdict::Return);
        }
    }

    #[test]
    fn shortage_waits() {
        assert_eq!(verdict(BlkStatus::RESOURCE), Verdict::RetryLater);
        assert_eq!(verdict(BlkStatus::DEV_RESOURCE), Verdict::RetryLater);
    }

    #[test]
    fn a_broken_path_fails() {
        for status in [BlkStatus::TRANSPORT, BlkStatus::OFFLINE, BlkStatus::TIMEOUT] {
            assert_eq!(verdict(status), Verdict::FailPath);
        }
    }

    #[test]
    fn what_is_unknown_is_tried_elsewhere() {
        assert_eq!(verdict(BlkStatus::IOERR), Verdict::RetryElsewhere);
        assert_eq!(verdict(BlkStatus::from_raw(200)), Verdict::RetryElsewhere);
    }
}
