// SPDX-License-Identifier: GPL-2.0

//! Choosing among paths, one policy a file.

pub(crate) mod round_robin;

use super::path::PathState;

/// Something whose state as a path is known.
pub(crate) trait HasState {
    /// Its state.
    fn state(&self) -> &PathState;
}
