// SPDX-License-Identifier: GPL-2.0

//! The multipath core: what a path is, how one is chosen, and what an error means.
//!
//! Both front ends use it, and nothing here knows which of them does.

pub(crate) mod deadline;
pub(crate) mod delay;
pub(crate) mod error;
pub(crate) mod group;
pub(crate) mod load;
pub(crate) mod marginal;
pub(crate) mod park;
pub(crate) mod path;
pub(crate) mod probe;
pub(crate) mod queue;
pub(crate) mod selector;
