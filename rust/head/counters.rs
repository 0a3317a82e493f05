// SPDX-License-Identifier: GPL-2.0

//! What is counted per path, under the names that nvme has for it.

use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// A number that only grows.
pub(super) struct Counter(Atomic<u64>);

impl Counter {
    const fn new() -> Self {
        Self(Atomic::new(0))
    }

    /// Adds one. Any context.
    pub(super) fn inc(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// What it is now.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
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
