// SPDX-License-Identifier: GPL-2.0

//! Events for user space.
//!
//! C header: [`include/linux/kobject.h`](srctree/include/linux/kobject.h)

use super::{
    device_of,
    DiskRef, //
};
use crate::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    str::CString, //
};

/// How many variables an event can have.
pub(crate) const MAX_VARIABLES: usize = 8;

impl DiskRef {
    /// Tells user space that the disk has changed (`KOBJ_CHANGE`), and in what: `NAME=value` each,
    /// at most [`MAX_VARIABLES`] of them.
    ///
    /// `ENODEV` if the disk is gone, or going; `ENOMEM`, `E2BIG` if they are too many. The disk is
    /// not removed meanwhile. May sleep.
    pub(crate) fn changed_in(&self, variables: &[CString]) -> Result {
        let mut list = [core::ptr::null_mut(); MAX_VARIABLES + 1];
        let room = list.get_mut(..variables.len()).ok_or(E2BIG)?;
        if variables.len() > MAX_VARIABLES {
            return Err(E2BIG);
        }
        for (slot, variable) in room.iter_mut().zip(variables) {
            *slot = variable.as_char_ptr().cast_mut();
        }
        self.with_links(|disk| {
            // SAFETY: The disk is valid.
            let kobj = unsafe { core::ptr::addr_of_mut!((*device_of(disk)).kobj) };
            // SAFETY: The disk was added, and its removal waits. The list is terminated, and the
            // strings in it are only read.
            to_result(unsafe {
                bindings::kobject_uevent_env(
                    kobj,
                    bindings::kobject_action_KOBJ_CHANGE,
                    list.as_mut_ptr(),
                )
            })
        })
    }
}
