// SPDX-License-Identifier: GPL-2.0

//! The device-mapper front end: a target that takes dm-multipath's tables.

mod io;
mod message;
mod status;
mod table;
mod target;

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

/// The queues that all maps share.
pub(crate) struct Queues {
    /// Submits I/O again. Has a rescuer: memory may not be had before that I/O has ended.
    requeue: Queue,
    /// Raises events, which takes memory and waits for it: not on the queue that I/O waits for.
    events: Queue,
}

/// The front end, as long as there is this.
pub(crate) struct Front {
    // Dropped first: then no map can come to be. The maps that there are hold the module, so at its
    // exit there are none; the queues, which each map holds too, go with the last.
    _registration: Registration<Multipath>,
}

/// Makes the target known to device-mapper. May sleep.
///
/// Fails with `ENOMEM`, or with `EBUSY` if there is a target of that name. The last step of the
/// module's init: from then on tables can be loaded.
pub(crate) fn register() -> Result<Front> {
    let queues = Queues {
        requeue: Queue::new(c"rmpath_dm_requeue", QueueKind::Reclaim)?,
        events: Queue::new(c"rmpath_dm_events", QueueKind::Unbound)?,
    };
    Ok(Front {
        _registration: Registration::new(&TARGET_TYPE, Arc::new(queues, GFP_KERNEL)?)?,
    })
}
