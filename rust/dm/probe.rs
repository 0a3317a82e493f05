// SPDX-License-Identifier: GPL-2.0

//! Finding out which paths of the current group work (`DM_MPATH_PROBE_PATHS`).
//!
//! Follows `probe_active_paths()` in drivers/md/dm-mpath.c: each path of the current group that is in
//! use reads a block, and fails if it cannot. Who is told so while another one does it waits for
//! that, and does not do it again. Messages that would have another group used take effect after it.

use super::target::Multipath;
use crate::{
    abstractions::{
        device_mapper::TargetInfo,
        errno::enotconn, //
    },
    mpath::{
        path::FailReason,
        probe::{
            answer,
            Answer, //
        }, //
    },
};
use kernel::{
    prelude::*,
    sync::ArcBorrow, //
};

impl Multipath {
    /// Fails what does not work of the current group. `ENOTCONN` if no path is usable then, in
    /// whatever group; `ENOMEM`. Sleeps for as long as the slowest device needs.
    pub(super) fn probe(this: ArcBorrow<'_, Self>, info: &TargetInfo) -> Result {
        let (mut probed, waited) = match this.probed.try_lock() {
            Some(probed) => (probed, false),
            None => (this.probed.lock(), true),
        };
        let mut state = this.state.lock();
        let was_probed = |group| waited && *probed == Some(group);
        let group = this
            .groups
            .current_number()
            .filter(|group| !(was_probed(*group) || info.suspended()));
        let result = if let Some(group) = group {
            this.groups.hold(&mut state.switch);
            drop(state);
            *probed = Some(group);
            let result = Self::probe_group(this, info, group);
            state = this.state.lock();
            this.groups.release(&mut state.switch);
            result
        } else {
            Ok(())
        };
        let any = this.groups.usable() > 0;
        drop(state);
        result.and_then(|()| if any { Ok(()) } else { Err(enotconn()) })
    }

    fn probe_group(this: ArcBorrow<'_, Self>, info: &TargetInfo, group: u32) -> Result {
        for path in this.groups.paths_of(group) {
            // I/O may have found that all of them have failed.
            if this.groups.current_number() != Some(group) || info.suspended() {
                break;
            }
            if !path.state.is_usable() {
                continue;
            }
            let device = info.device(path.device).ok_or(ENODEV)?;
            if answer(device.read_block()?) == Answer::Broken {
                Self::fail_path(this, info, path, FailReason::Io);
            }
        }
        Ok(())
    }
}
