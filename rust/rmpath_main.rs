// SPDX-License-Identifier: GPL-2.0

//! rmpath: one multipath core with a device-mapper target and a head node on top.
//!
//! The order of the fields of [`RmpathModule`] is the order in which the module is torn down.

#![deny(unsafe_code, unused_must_use)]

mod abstractions;
mod bindings;
mod dm;
mod head;
mod mpath;

use kernel::{
    prelude::*,
    sync::atomic::Relaxed, //
};

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
            description: "0: off; 1: a returning disk whose head exists rejoins it by itself (default); 2: new NVMe namespaces also form heads",
        },
        delayed_removal_secs: u32 {
            default: 0,
            description: "delayed_removal_secs of new heads: how long a head waits for a path after its last (default 0)",
        },
        dm_multipath: u32 {
            default: 0,
            description: "1: the device-mapper target is known as multipath too; dm-multipath must not be loaded",
        },
        queue_if_no_path_timeout_secs: u32 {
            default: 0,
            description: "seconds for which maps without a path keep I/O; 0: without an end (default)",
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
        let auto_attach = *module_parameters::auto_attach.value();
        let Some(auto_attach) = head::AutoAttach::from_number(auto_attach) else {
            pr_err!("auto_attach={} is not known; 0, 1 and 2 are\n", auto_attach);
            return Err(EINVAL);
        };
        let dm_multipath = match *module_parameters::dm_multipath.value() {
            0 => false,
            1 => true,
            other => {
                pr_err!("dm_multipath={} is not supported; 0 and 1 are\n", other);
                return Err(EINVAL);
            }
        };
        dm::QUEUE_IF_NO_PATH_TIMEOUT_SECS.store(
            *module_parameters::queue_if_no_path_timeout_secs.value(),
            Relaxed,
        );
        let delay = *module_parameters::delayed_removal_secs.value();
        abstractions::module::record_during_init();
        let callbacks = Callbacks;
        // In this order: should the next step fail, they are dropped in the reverse one.
        let (heads, control) = head::new(auto_attach, delay)?;
        // The last step that can fail: dm may make maps as soon as it knows the target.
        let dm = dm::register(dm_multipath)?;
        Ok(Self {
            _control: control,
            _dm: dm,
            _heads: heads,
            _callbacks: callbacks,
        })
    }
}
