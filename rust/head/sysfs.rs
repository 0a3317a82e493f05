// SPDX-License-Identifier: GPL-2.0

//! What a head and its paths show in sysfs, and take there.
//!
//! A store never removes the object it belongs to: it arms or queues the removal.

use super::{
    path::PathHandle,
    Head, //
};
use crate::{
    abstractions::{
        device_attr::attribute_groups,
        sysfs::{
            parse_u32,
            trimmed,
            Attribute,
            Output, //
        },
    },
    mpath::path::{
        AccessState,
        FailReason, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        ArcBorrow, //
    }, //
};

attribute_groups! {
    /// In `/sys/block/rmpathN`: what nvme has there too.
    pub(super) static DISK: AttributeGroups<Head> = [
        Attribute::rw(c"delayed_removal_secs", show_delay, store_delay),
    ];
}

/// In `/sys/block/rmpathN/rmpath`.
pub(super) static HEAD: [Attribute<Head>; 9] = [
    Attribute::ro(c"wwid", |head, out| out.write_fmt(fmt!("{}\n", head.wwid))),
    Attribute::rw(c"delayed_removal_secs", show_delay, store_delay),
    Attribute::rw(
        c"iopolicy",
        |_, out| out.write_fmt(fmt!("round-robin\n")),
        |_, text| match trimmed(text) {
            b"round-robin" => Ok(()),
            _ => Err(EINVAL),
        },
    ),
    Attribute::ro(c"state", |head, out| {
        let state = head.inner.lock().state;
        out.write_fmt(fmt!("{}\n", state.name()))
    }),
    Attribute::wo(c"delete", |head, text| match trimmed(text) {
        b"1" => Head::doom(head),
        _ => Err(EINVAL),
    }),
    Attribute::ro(c"requeued", |head, out| {
        out.write_fmt(fmt!("{}\n", head.parked.len() + head.delayed.len()))
    }),
    Attribute::ro(c"io_requeue_no_usable_path_count", |head, out| {
        out.write_fmt(fmt!("{}\n", head.requeued.load(Relaxed)))
    }),
    Attribute::ro(c"io_fail_no_available_path_count", |head, out| {
        out.write_fmt(fmt!("{}\n", head.refused.load(Relaxed)))
    }),
    Attribute::ro(c"failovers", |head, out| {
        out.write_fmt(fmt!("{}\n", head.failovers.load(Relaxed)))
    }),
];

/// In `/sys/block/rmpathN/rmpath/pathM`.
pub(super) static PATH: [Attribute<PathHandle>; 5] = [
    Attribute::rw(
        c"state",
        |path, out| out.write_fmt(fmt!("{}\n", path.state.name())),
        store_state,
    ),
    Attribute::ro(c"inflight", |path, out| {
        out.write_fmt(fmt!("{}\n", path.inflight()))
    }),
    Attribute::ro(c"failures", |path, out| {
        out.write_fmt(fmt!("{}\n", path.state.failures()))
    }),
    Attribute::ro(c"weight", |path, out| {
        out.write_fmt(fmt!("{}\n", path.weight))
    }),
    Attribute::wo(c"delete", |path, text| match trimmed(text) {
        b"1" => {
            PathHandle::kill(path);
            Ok(())
        }
        _ => Err(EINVAL),
    }),
];

fn show_delay(head: &Head, out: &mut Output<'_>) -> Result {
    out.write_fmt(fmt!("{}\n", head.delay.load(Relaxed)))
}

fn store_delay(head: ArcBorrow<'_, Head>, text: &[u8]) -> Result {
    Head::set_delay(head, parse_u32(text)?);
    Ok(())
}

/// `failed` fails the path until it is told otherwise; an access state sets that and reinstates it.
fn store_state(path: ArcBorrow<'_, PathHandle>, text: &[u8]) -> Result {
    if path.state.is_dead() {
        return Err(ENODEV);
    }
    match trimmed(text) {
        b"failed" => {
            path.state.fail(FailReason::Admin);
        }
        name => {
            path.state.set_access(AccessState::from_name(name)?);
            path.state.reinstate();
        }
    }
    if let Some(head) = path.head() {
        Head::path_changed(head.as_arc_borrow());
    }
    Ok(())
}
