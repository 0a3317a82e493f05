// SPDX-License-Identifier: GPL-2.0

//! What is counted per head and per path, mostly under the names that nvme has for it.

use crate::abstractions::sysfs::parse_u64;
use kernel::{
    fmt,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};

/// A number that grows by itself; users may set it, mostly to 0.
pub(super) struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds one. Any context.
    pub(super) fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// Sets it to the number that this is. `EINVAL` if it is none, `ERANGE` if it is too large. Any
    /// context.
    pub(super) fn set(&self, text: &[u8]) -> Result {
        self.0.store(parse_u64(text)?, Relaxed);
        Ok(())
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.load(Relaxed).fmt(f)
    }
}

/// What became of bios that came back from a path with an error. Each is counted in one of these.
pub(super) struct PathCounters {
    /// Sent again, for a reason that does not speak for another path.
    pub(super) retries: Counter,
    /// Ended with the error.
    pub(super) errors: Counter,
    /// Sent again by another path, or made to wait for one.
    pub(super) failovers: Counter,
}

impl PathCounters {
    pub(super) const fn new() -> Self {
        Self {
            retries: Counter::new(),
            errors: Counter::new(),
            failovers: Counter::new(),
        }
    }
}

/// What became of a head's bios.
pub(super) struct HeadCounters {
    /// Made to wait, for no path was usable.
    pub(super) requeued: Counter,
    /// Ended, for no path was usable, and none was waited for.
    pub(super) refused: Counter,
    /// Sent again after an error that speaks for another path.
    pub(super) failovers: Counter,
}

impl HeadCounters {
    pub(super) const fn new() -> Self {
        Self {
            requeued: Counter::new(),
            refused: Counter::new(),
            failovers: Counter::new(),
        }
    }
}
