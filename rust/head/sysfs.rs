// SPDX-License-Identifier: GPL-2.0

//! What a head and its paths show in sysfs, and take there.
//!
//! A store never removes the object it belongs to: it arms or queues the removal.

use super::{
    choice::NodeList,
    io::MAX_RETRY_DELAY,
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
    mpath::{
        path::{
            AccessState,
            FailReason, //
        },
        selector::{
            Policy,
            MAX_WEIGHT, //
        },
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

/// An attribute that shows one of the object's counters, and sets it, as nvme's do.
macro_rules! counter {
    ($name:literal, $($field:ident).+) => {
        Attribute::rw(
            $name,
            |object, out| out.write_fmt(fmt!("{}\n", object.$($field).+)),
            |object, text| object.$($field).+.set(text),
        )
    };
}

/// In `/sys/block/rmpathN/rmpath`.
pub(super) static HEAD: [Attribute<Head>; 18] = [
    Attribute::ro(c"wwid", |head, out| out.write_fmt(fmt!("{}\n", head.wwid))),
    Attribute::rw(c"delayed_removal_secs", show_delay, store_delay),
    Attribute::rw(
        c"no_path_timeout_secs",
        |head, out| out.write_fmt(fmt!("{}\n", head.no_path_secs.load(Relaxed))),
        |head, text| {
            Head::set_no_path_timeout(head, parse_u32(text)?);
            Ok(())
        },
    ),
    Attribute::rw(
        c"path_fail_threshold",
        |head, out| out.write_fmt(fmt!("{}\n", head.fail_threshold.load(Relaxed))),
        |head, text| match parse_u32(text)? {
            0 => Err(EINVAL),
            errors => {
                head.fail_threshold.store(errors, Relaxed);
                Ok(())
            }
        },
    ),
    Attribute::rw(
        c"probe_secs",
        |head, out| out.write_fmt(fmt!("{}\n", head.probe_secs.load(Relaxed))),
        |head, text| {
            head.set_probe_secs(parse_u32(text)?);
            Ok(())
        },
    ),
    Attribute::rw(
        c"retry_delay_ms",
        |head, out| out.write_fmt(fmt!("{}\n", head.retry_delay.load(Relaxed))),
        |head, text| match parse_u32(text)? {
            ms if ms > MAX_RETRY_DELAY => Err(ERANGE),
            ms => {
                head.retry_delay.store(ms, Relaxed);
                Ok(())
            }
        },
    ),
    Attribute::rw(
        c"iopolicy",
        |head, out| out.write_fmt(fmt!("{}\n", head.choice.mode().policy().name())),
        |head, text| {
            head.set_policy(Policy::from_name(trimmed(text))?);
            Ok(())
        },
    ),
    Attribute::rw(
        c"marginal_path_err_sample_time",
        |head, out| out.write_fmt(fmt!("{}\n", head.choice.watch.sample_time())),
        |head, text| {
            Head::set_sample_time(head, parse_u32(text)?);
            Ok(())
        },
    ),
    Attribute::rw(
        c"marginal_path_err_rate_threshold",
        |head, out| out.write_fmt(fmt!("{}\n", head.choice.watch.err_rate.load(Relaxed))),
        |head, text| {
            let rate = parse_u32(text)?;
            if rate > 1000 {
                return Err(ERANGE);
            }
            head.choice.watch.err_rate.store(rate, Relaxed);
            Ok(())
        },
    ),
    Attribute::rw(
        c"marginal_path_latency_pct",
        |head, out| out.write_fmt(fmt!("{}\n", head.choice.watch.latency_pct.load(Relaxed))),
        |head, text| {
            let percent = parse_u32(text)?;
            if (1..=100).contains(&percent) {
                return Err(ERANGE);
            }
            head.choice.watch.latency_pct.store(percent, Relaxed);
            Ok(())
        },
    ),
    Attribute::rw(
        c"marginal_path_err_recheck_gap_time",
        |head, out| out.write_fmt(fmt!("{}\n", head.choice.watch.recheck_gap.load(Relaxed))),
        |head, text| {
            head.choice
                .watch
                .recheck_gap
                .store(parse_u32(text)?, Relaxed);
            Ok(())
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
    // Soon, and not here: whoever makes or unmakes this folder may have what that needs.
    Attribute::wo(c"rescan", |head, text| match trimmed(text) {
        b"1" => {
            Head::refresh_in(head, 0);
            Ok(())
        }
        _ => Err(EINVAL),
    }),
    Attribute::ro(c"requeued", |head, out| {
        out.write_fmt(fmt!("{}\n", head.parked.len() + head.delayed.len()))
    }),
    counter!(c"io_requeue_no_usable_path_count", counters.requeued),
    counter!(c"io_fail_no_available_path_count", counters.refused),
    Attribute::ro(c"failovers", |head, out| {
        out.write_fmt(fmt!("{}\n", head.counters.failovers))
    }),
];

/// In `/sys/block/rmpathN/rmpath/pathM`.
pub(super) static PATH: [Attribute<PathHandle>; 10] = [
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
    counter!(c"command_retries_count", history.counters.retries),
    counter!(c"command_error_count", history.counters.errors),
    counter!(c"multipath_failover_count", history.counters.failovers),
    Attribute::rw(
        c"weight",
        |path, out| out.write_fmt(fmt!("{}\n", path.weight.load(Relaxed))),
        store_weight,
    ),
    // As nvme's, these two are empty unless their policy is in force.
    Attribute::ro(c"queue_depth", |path, out| match path.policy() {
        Some(Policy::QueueDepth) => out.write_fmt(fmt!("{}\n", path.load.bios())),
        _ => Ok(()),
    }),
    Attribute::ro(c"numa_nodes", |path, out| {
        match (path.policy(), path.head()) {
            (Some(Policy::Numa), Some(head)) => {
                out.write_fmt(fmt!("{}\n", NodeList(head.nodes_of(path))))
            }
            _ => Ok(()),
        }
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

fn store_weight(path: ArcBorrow<'_, PathHandle>, text: &[u8]) -> Result {
    let weight = match parse_u32(text)? {
        0 => return Err(EINVAL),
        weight @ 1..=MAX_WEIGHT => weight,
        _ => return Err(ERANGE),
    };
    if path.state.is_dead() {
        return Err(ENODEV);
    }
    let head = path.head().ok_or(ENODEV)?;
    Head::set_weight(head.as_arc_borrow(), &path, weight);
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
            let access = AccessState::from_name(name)?;
            if path.state.is_failed() {
                PathHandle::readmit(path)?;
            } else {
                path.state.note_success(); // It may be under suspicion.
            }
            PathHandle::set_access(path, access);
        }
    }
    if let Some(head) = path.head() {
        Head::path_changed(head.as_arc_borrow());
    }
    Ok(())
}
