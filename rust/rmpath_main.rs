// SPDX-License-Identifier: GPL-2.0

//! rmpath: one multipath core with a device-mapper target and a head node on top.
//!
//! The order of the fields of [`RmpathModule`] is the order in which the module is torn down.

#![deny(unsafe_code)]

mod abstractions;
mod bindings;
mod dm;
mod mpath;

use kernel::prelude::*;

module! {
    type: RmpathModule,
    name: "rmpath",
    authors: ["The rmpath developers"],
    description: "Multipath block device: a head node and a device-mapper target over one core",
    license: "GPL",
    alias: ["dm-rmpath"],
}

struct RmpathModule {
    _dm: dm::Front,
}

impl kernel::Module for RmpathModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        abstractions::module::record_during_init();
        Ok(Self {
            _dm: dm::register()?,
        })
    }
}
