// SPDX-License-Identifier: GPL-2.0

//! `/sys/class/rmpath`, and the front end as a whole.

use super::{
    attach::{
        add_path,
        Refusal, //
    },
    discover::{
        Discovery,
        Running, //
    },
    path::PathHandle,
    registry::{
        AutoAttach,
        Shared, //
    },
    spec::Spec,
    CLOSE, //
};
use crate::abstractions::{
    block_device::DevT,
    class::Class,
    class_interface::BlockInterface,
    gendisk::{
        Limits,
        NewDisk, //
    },
    sysfs::{
        parse_u32,
        trimmed,
        Attribute, //
    },
    workqueue::flush, //
};
use crate::dm::QUEUE_IF_NO_PATH_TIMEOUT_SECS;
use crate::mpath::selector::Policy;
use kernel::{
    prelude::*,
    str::CString,
    sync::{
        atomic::Relaxed,
        Arc, //
    }, //
};

static CONTROL: [Attribute<Shared>; 6] = [
    Attribute::ro(c"auto_attach", |shared, out| {
        out.write_fmt(fmt!("{}\n", shared.auto_attach as u32))
    }),
    Attribute::rw(
        c"delayed_removal_secs",
        |shared, out| out.write_fmt(fmt!("{}\n", shared.default_delay.load(Relaxed))),
        |shared, text| {
            shared.default_delay.store(parse_u32(text)?, Relaxed);
            Ok(())
        },
    ),
    Attribute::rw(
        c"iopolicy",
        |shared, out| out.write_fmt(fmt!("{}\n", shared.default_policy().name())),
        |shared, text| {
            shared.set_default_policy(Policy::from_name(trimmed(text))?);
            Ok(())
        },
    ),
    Attribute::rw(
        c"queue_if_no_path_timeout_secs",
        |_, out| {
            let secs = QUEUE_IF_NO_PATH_TIMEOUT_SECS.load(Relaxed);
            out.write_fmt(fmt!("{secs}\n"))
        },
        |_, text| {
            QUEUE_IF_NO_PATH_TIMEOUT_SECS.store(parse_u32(text)?, Relaxed);
            Ok(())
        },
    ),
    Attribute::wo(c"add_path", |shared, text| {
        let shared: Arc<Shared> = shared.into();
        report("add_path", text, |spec| add_path(&shared, spec))
    }),
    Attribute::wo(c"remove_path", |shared, text| {
        report("remove_path", text, |spec| remove_path(&shared, &spec))
    }),
];

/// Runs a command, and logs why it is refused: one line, whatever was written.
fn report(command: &str, text: &[u8], run: impl FnOnce(Spec) -> Result<(), Refusal>) -> Result {
    let spec = Spec::parse(text).map_err(|(error, why)| {
        pr_warn!("{}: {}\n", command, why);
        error
    })?;
    // Kept for the message: the command consumes the rest.
    let device = CString::try_from_fmt(fmt!("{}", &*spec.device))?;
    run(spec).map_err(|refusal| {
        pr_warn!("{}: {}: {}\n", command, &*device, refusal);
        refusal.errno()
    })
}

/// Closes the path on a device. The device can be used by others when this returns.
///
/// `ENODEV` if it is no path, `EINVAL` if more than the device is given.
fn remove_path(shared: &Shared, spec: &Spec) -> Result<(), Refusal> {
    if spec.extra {
        return Err(Refusal::Unsuitable(EINVAL, "only device= is known here"));
    }
    let dev = DevT::lookup(&spec.device).map_err(Refusal::Lookup)?;
    let handle = shared.member_of(dev).ok_or(Refusal::NotAPath)?;
    PathHandle::kill(handle.as_arc_borrow());
    flush::<CLOSE, _>(&*handle);
    Ok(())
}

/// What lets heads be made. Dropped in this order: no more commands, no more new disks.
pub(crate) struct Control {
    _class: Class<Shared>,
    _interface: Option<BlockInterface<Discovery>>,
}

/// What heads share. Dropped in this order: nothing looks at disks any more, and then the queues
/// go, on which nothing can be, for every head has a reference on the module.
pub(crate) struct Heads {
    running: Running,
    _shared: Arc<Shared>,
}

/// Makes the front end. `auto_attach`: what becomes of new disks by itself. `delay`: how long a new
/// head waits for a path to return, in seconds, unless it is told otherwise.
///
/// `ENOMEM`, or `EEXIST` if there is a class called rmpath.
pub(crate) fn new(auto_attach: AutoAttach, delay: u32) -> Result<(Heads, Control)> {
    let shared = Shared::new(auto_attach, delay)?;
    let heads = Heads {
        running: Running(Discovery::new(shared.clone())?),
        _shared: shared.clone(),
    };
    let interface = if auto_attach != AutoAttach::Off {
        let class = NewDisk::new(Limits::stacking())?.block_class();
        let discovery = heads.running.0.clone();
        Some(BlockInterface::register(class, discovery)?)
    } else {
        None
    };
    let control = Control {
        _class: Class::new(c"rmpath", shared, &CONTROL)?,
        _interface: interface,
    };
    Ok((heads, control))
}
