// SPDX-License-Identifier: GPL-2.0

//! The device-mapper front end: a target that takes dm-multipath's tables.

mod io;
mod message;
mod path;
mod probe;
mod revive;
mod selector;
mod status;
mod table;
mod target;
mod timeout;

pub(crate) use self::timeout::QUEUE_IF_NO_PATH_TIMEOUT_SECS;

use self::target::Multipath;
use crate::abstractions::{
    device_mapper::{
        Registration,
        TargetType, //
    },
    workqueue::{
        Queue,
        QueueKind, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

static TARGET_TYPE: TargetType<Multipath> = TargetType::new();

/// The same for programs that know dm-multipath only.
static MULTIPATH_TYPE: TargetType<Multipath> = TargetType::named(c"multipath");

/// The queues that all maps share.
pub(crate) struct Queues {
    /// Submits I/O again. Has a rescuer: memory may not be had before that I/O has ended.
    requeue: Queue,
    /// Raises events, which takes memory and waits for it: not on the queue that I/O waits for. On the
    /// same CPU all the same, where it comes after I/O that was to be submitted first.
    events: Queue,
    /// Sends the reads that ask whether a path is well: a device may keep whoever does that.
    probes: Queue,
}

/// The front end, as long as there is this.
pub(crate) struct Front {
    // Dropped first: then no map can come to be. The maps that there are hold the module, so at its
    // exit there are none; the queues, which each map holds too, go with the last.
    _registration: Registration<Multipath>,
    _multipath: Option<Registration<Multipath>>,
}

/// Makes the target known to device-mapper, also as `multipath` if `as_multipath`. May sleep.
///
/// Fails with `ENOMEM`, or with `EBUSY` if there is a target of that name. The last step of the
/// module's init: from then on tables can be loaded.
pub(crate) fn register(as_multipath: bool) -> Result<Front> {
    let queues = Queues {
        requeue: Queue::new(c"rmpath_dm_requeue", QueueKind::Reclaim)?,
        events: Queue::new(c"rmpath_dm_events", QueueKind::Reclaim)?,
        probes: Queue::new(c"rmpath_dm_probes", QueueKind::Unbound)?,
    };
    let queues = Arc::new(queues, GFP_KERNEL)?;
    let multipath = if as_multipath {
        let registration = Registration::new(&MULTIPATH_TYPE, queues.clone());
        Some(registration.inspect_err(|error| {
            if *error == EBUSY || *error == EEXIST {
                pr_err!("there is a device-mapper target multipath already\n");
            }
        })?)
    } else {
        None
    };
    Ok(Front {
        _registration: Registration::new(&TARGET_TYPE, queues)?,
        _multipath: multipath,
    })
}
