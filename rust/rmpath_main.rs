// SPDX-License-Identifier: GPL-2.0

//! rmpath: one multipath core with a device-mapper target and a head node on top.
//!
//! The order of the fields of [`RmpathModule`] is the order in which the module is torn down.

#![deny(unsafe_code)]

mod abstractions;
mod bindings;
mod dm;
mod head;
mod mpath;

use kernel::prelude::*;

module! {
    type: RmpathModule,
    name: "rmpath",
    authors: ["The rmpath developers"],
    description: "Multipath block device: a head node and a device-mapper target over one core",
    license: "GPL",
    alias: ["dm-rmpath"],
    params: {
        auto_attach: u32 {
            default: 1,
            description: "0: off; 1: a returning disk whose head exists rejoins it by itself (default)",
        },
    },
}

struct RmpathModule {
    // No more commands and no more new disks ...
    _control: head::Control,
    // ... no more maps ...
    _dm: dm::Front,
    // ... nothing left to do, and no queue to do it on ...
    _heads: head::Heads,
    // ... and no callback that RCU still has to run.
    _callbacks: Callbacks,
}

/// Waits, when dropped, for callbacks of this module that RCU still has to run.
struct Callbacks;

impl Drop for Callbacks {
    fn drop(&mut self) {
        abstractions::rcu::rcu_barrier();
    }
}

impl kernel::Module for RmpathModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let auto_attach = match *module_parameters::auto_attach.value() {
            0 => false,
            1 => true,
            other => {
                pr_err!("auto_attach={} is not supported; 0 and 1 are\n", other);
                return Err(EINVAL);
            }
        };
        abstractions::module::record_during_init();
        let callbacks = Callbacks;
        // In this order: should the next step fail, they are dropped in the reverse one.
        let (heads, control) = head::new(auto_attach)?;
        // The last step that can fail: dm may make maps as soon as it knows the target.
        let dm = dm::register()?;
        Ok(Self {
            _control: control,
            _dm: dm,
            _heads: heads,
            _callbacks: callbacks,
        })
    }
}
