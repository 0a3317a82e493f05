// SPDX-License-Identifier: GPL-2.0

//! The path selectors of a group: dm-multipath's, one a file, with their words in tables, their
//! limits, their reasons, and what status shows of them.
//!
//! What each chooses is what drivers/md/dm-ps-*.c chooses after the same history. How it comes by
//! that is not: there is no list behind a lock, see [`queue`](crate::mpath::queue). round-robin keeps
//! turns per CPU, so which of its paths is next depends on the CPU.
//!
//! Each is made before its group's paths are, path by path; what it knows of a path has the path's
//! index in the group.

mod historical_service_time;
mod io_affinity;
mod queue_length;
mod repeat_counts;
mod round_robin;
mod service_time;

use self::{
    historical_service_time::HistoricalServiceTime,
    io_affinity::IoAffinity,
    queue_length::QueueLength,
    round_robin::RoundRobin,
    service_time::ServiceTime, //
};
use super::table::{
    number,
    Refused, //
};
use crate::{
    abstractions::device_mapper::Arg,
    mpath::{
        group::{
            Chooser,
            Counts,
            Demand,
            Member,
            Picked, //
        },
        queue::{
            move_to_end,
            HasQueue,
            Queue, //
        },
    },
};
use core::fmt::{
    self,
    Write, //
};
use kernel::prelude::*;

/// A kind of selector.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    RoundRobin,
    QueueLength,
    ServiceTime,
    HistoricalServiceTime,
    IoAffinity,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::RoundRobin,
        Self::QueueLength,
        Self::ServiceTime,
        Self::HistoricalServiceTime,
        Self::IoAffinity,
    ];

    /// As tables name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::QueueLength => "queue-length",
            Self::ServiceTime => "service-time",
            Self::HistoricalServiceTime => "historical-service-time",
            Self::IoAffinity => "io-affinity",
        }
    }

    /// The kind of that name.
    pub(crate) fn from_name(name: &CStr) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().as_bytes() == name.to_bytes())
    }

    /// How many words a path has in `dmsetup table`.
    pub(crate) fn table_args(self) -> u32 {
        match self {
            Self::ServiceTime => 2,
            _ => 1,
        }
    }

    /// How many words a path has in `dmsetup status`.
    pub(crate) fn info_args(self) -> u32 {
        match self {
            Self::RoundRobin => 0,
            Self::QueueLength | Self::IoAffinity => 1,
            Self::ServiceTime => 2,
            Self::HistoricalServiceTime => 3,
        }
    }
}

/// The selector of a group.
pub(crate) enum Selector {
    /// Each path in turn.
    RoundRobin(RoundRobin),
    /// The path with the fewest I/Os under way.
    QueueLength(QueueLength),
    /// The path that will have done the data that it would have first.
    ServiceTime(ServiceTime),
    /// The path that will be done first, going by what it needed until now.
    HistoricalServiceTime(HistoricalServiceTime),
    /// The path that belongs to the submitter's CPU.
    IoAffinity(IoAffinity),
}

impl Selector {
    /// One without paths. `EINVAL` if its words are not right, `ENOMEM`. May sleep.
    pub(crate) fn new(kind: Kind, words: &[Arg<'_>]) -> Result<Self, Refused> {
        // Those that take no words ignore them, as the C modules do.
        match kind {
            Kind::RoundRobin => RoundRobin::new().map(Self::RoundRobin),
            Kind::QueueLength => Ok(Self::QueueLength(QueueLength::new())),
            Kind::ServiceTime => Ok(Self::ServiceTime(ServiceTime::new())),
            Kind::HistoricalServiceTime => {
                HistoricalServiceTime::new(words).map(Self::HistoricalServiceTime)
            }
            Kind::IoAffinity => IoAffinity::new().map(Self::IoAffinity),
        }
    }

    /// Adds the next path, of which a table says so. May sleep.
    pub(crate) fn add_path(&mut self, words: &[Arg<'_>]) -> Result<(), Refused> {
        match self {
            Self::RoundRobin(selector) => selector.add_path(words),
            Self::QueueLength(selector) => selector.add_path(words),
            Self::ServiceTime(selector) => selector.add_path(words),
            Self::HistoricalServiceTime(selector) => selector.add_path(words),
            Self::IoAffinity(selector) => selector.add_path(words),
        }
    }

    /// Whether a path that has these words has a repeat count for which it will be given 1.
    pub(crate) fn ignores(&self, words: &[Arg<'_>]) -> bool {
        let takes_one = matches!(
            self,
            Self::RoundRobin(_) | Self::QueueLength(_) | Self::ServiceTime(_)
        );
        let count = words.first().and_then(|word| number(word.as_cstr()));
        takes_one && count.is_some_and(|count| count > 1)
    }

    /// What it is.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::RoundRobin(_) => Kind::RoundRobin,
            Self::QueueLength(_) => Kind::QueueLength,
            Self::ServiceTime(_) => Kind::ServiceTime,
            Self::HistoricalServiceTime(_) => Kind::HistoricalServiceTime,
            Self::IoAffinity(_) => Kind::IoAffinity,
        }
    }

    /// Writes its own words, with their number.
    pub(crate) fn write_args(&self, out: &mut impl Write) -> fmt::Result {
        match self {
            Self::HistoricalServiceTime(selector) => selector.write_args(out),
            _ => out.write_str("0 "),
        }
    }

    /// Writes what `dmsetup table` shows of a path.
    pub(crate) fn write_table(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        match self {
            Self::RoundRobin(selector) => selector.write_table(index, out),
            Self::QueueLength(selector) => selector.write_table(index, out),
            Self::ServiceTime(selector) => selector.write_table(index, out),
            // dm-ps-historical-service-time takes a repeat count, and forgets it.
            Self::HistoricalServiceTime(_) => out.write_str("0 "),
            Self::IoAffinity(selector) => selector.write_table(index, out),
        }
    }

    /// Writes what `dmsetup status` shows of a path.
    pub(crate) fn write_info(
        &self,
        index: usize,
        queue: &Queue,
        out: &mut impl Write,
    ) -> fmt::Result {
        match self {
            Self::RoundRobin(_) => Ok(()),
            Self::QueueLength(_) => QueueLength::write_info(queue, out),
            Self::ServiceTime(selector) => selector.write_info(index, queue, out),
            Self::HistoricalServiceTime(selector) => selector.write_info(index, queue, out),
            Self::IoAffinity(selector) => selector.write_info(out),
        }
    }
}

impl Chooser for Selector {
    // Where I/O is mapped: with a call for each it takes longer to get there than to choose.
    #[inline(always)]
    fn pick<'a, P: Member>(&self, paths: &'a [P], demand: Demand) -> Option<Picked<'a, P>> {
        match self {
            Self::RoundRobin(selector) => selector.pick(paths),
            _ => self.pick_if(paths, demand, |_| true),
        }
    }

    #[inline(always)]
    fn pick_if<'a, P: Member>(
        &self,
        paths: &'a [P],
        demand: Demand,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        match self {
            Self::RoundRobin(selector) => selector.pick_if(paths, wanted),
            Self::QueueLength(_) => QueueLength::pick(paths, demand, wanted),
            Self::ServiceTime(selector) => selector.pick(paths, demand, wanted),
            Self::HistoricalServiceTime(selector) => selector.pick(paths, demand, wanted),
            Self::IoAffinity(selector) => selector.pick(paths, wanted),
        }
    }

    fn choose<'a, P: Member>(&self, paths: &'a [P], demand: Demand) -> Option<Picked<'a, P>> {
        let picked = self.pick(paths, demand);
        if let (Self::IoAffinity(selector), None) = (self, &picked) {
            selector.note_miss();
        }
        picked
    }

    fn counts(&self) -> Counts {
        match self {
            Self::RoundRobin(_) | Self::IoAffinity(_) => Counts::Nothing,
            Self::QueueLength(_) | Self::ServiceTime(_) => Counts::Queues,
            Self::HistoricalServiceTime(_) => Counts::Times,
        }
    }

    #[inline]
    fn ended<P: Member>(&self, path: &P, index: usize, kept: u64) {
        match self {
            Self::RoundRobin(_) | Self::IoAffinity(_) => (),
            Self::QueueLength(_) | Self::ServiceTime(_) => path.queue().end(kept as u32),
            Self::HistoricalServiceTime(selector) => selector.ended(path.queue(), index, kept),
        }
    }

    fn failed(&self, _index: usize) {
        if let Self::HistoricalServiceTime(selector) = self {
            selector.failed();
        }
    }

    fn reinstated<P: Member>(&self, paths: &[P], index: usize) {
        match self {
            Self::RoundRobin(_) | Self::IoAffinity(_) => (),
            Self::QueueLength(_) | Self::ServiceTime(_) => move_to_end(paths, index),
            Self::HistoricalServiceTime(selector) => selector.reinstated(paths, index),
        }
    }
}

/// A path's repeat count: 1 if it has none, or a larger one.
fn repeat_count(words: &[Arg<'_>], reason: &'static CStr) -> Result<u32, Refused> {
    let Some(word) = words.first() else {
        return Ok(1);
    };
    let count = number(word.as_cstr()).ok_or(Refused::because(reason))?;
    Ok(count.min(1))
}
