// SPDX-License-Identifier: GPL-2.0

//! round-robin: each path in turn. Follows drivers/md/dm-ps-round-robin.c, with a turn per CPU.

use super::{
    super::table::Refused,
    repeat_counts::RepeatCounts, //
};
use crate::{
    abstractions::device_mapper::Arg,
    mpath::{
        group::{
            Member,
            Picked, //
        },
        selector::round_robin::RoundRobin as Turns, //
    },
};
use core::fmt::{
    self,
    Write, //
};
use kernel::prelude::*;

/// The selector.
pub(crate) struct RoundRobin {
    turns: Turns,
    repeat_counts: RepeatCounts,
}

impl RoundRobin {
    pub(super) fn new() -> Result<Self, Refused> {
        Ok(Self {
            turns: Turns::new().map_err(|_| Refused::no_memory())?,
            repeat_counts: RepeatCounts::new(),
        })
    }

    /// `[<repeat count>]`
    pub(super) fn add_path(&mut self, words: &[Arg<'_>]) -> Result<(), Refused> {
        self.repeat_counts.add(
            words,
            c"round-robin ps: incorrect number of arguments",
            c"round-robin ps: invalid repeat count",
        )
    }

    pub(super) fn write_table(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        self.repeat_counts.write(index, out)
    }

    #[inline]
    pub(super) fn pick<'a, P: Member>(&self, paths: &'a [P]) -> Option<Picked<'a, P>> {
        let path = self.turns.select(paths)?;
        Some(Picked { path, kept: 0 })
    }

    pub(super) fn pick_if<'a, P: Member>(
        &self,
        paths: &'a [P],
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        let path = self.turns.select_if(paths, wanted)?;
        Some(Picked { path, kept: 0 })
    }
}
