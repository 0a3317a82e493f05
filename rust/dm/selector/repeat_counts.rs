// SPDX-License-Identifier: GPL-2.0

//! The repeat counts of the paths of a group, where a table says nothing else of them.

use super::{
    super::table::Refused,
    repeat_count, //
};
use crate::abstractions::device_mapper::Arg;
use core::fmt::{
    self,
    Write, //
};
use kernel::prelude::*;

/// Of each path: 0 or 1. Without effect.
pub(super) struct RepeatCounts(KVec<u32>);

impl RepeatCounts {
    /// Those of no path.
    pub(super) fn new() -> Self {
        Self(KVec::new())
    }

    /// `[<repeat count>]` of the next path. `EINVAL` for the reason `too_many` if there are more words,
    /// and for `invalid` if it is no number; `ENOMEM`. May sleep.
    pub(super) fn add(
        &mut self,
        words: &[Arg<'_>],
        too_many: &'static CStr,
        invalid: &'static CStr,
    ) -> Result<(), Refused> {
        if words.len() > 1 {
            return Err(Refused::because(too_many));
        }
        Ok(self.0.push(repeat_count(words, invalid)?, GFP_KERNEL)?)
    }

    /// Writes that of a path, as `dmsetup table` shows it.
    pub(super) fn write(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        write!(out, "{} ", self.0.get(index).unwrap_or(&1))
    }
}
