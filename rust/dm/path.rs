// SPDX-License-Identifier: GPL-2.0

//! A path of a map.

use super::status::PathStatus;
use crate::{
    abstractions::{
        block_device::DevT,
        device_mapper::{
            DeviceId,
            DeviceName,
            Holdable, //
        },
    },
    mpath::{
        path::PathState,
        queue::{
            HasQueue,
            Queue, //
        },
        selector::HasState, //
    },
};
use core::mem::offset_of;
use kernel::prelude::*;

/// A path of a map. In this order, for what is looked at for each I/O to be in one cache line: it is in
/// the second 32 bytes of an [`Arc`], whose memory is a multiple of that.
#[repr(C)]
pub(super) struct Path {
    pub(super) name: DeviceName,
    pub(super) devt: DevT,
    pub(super) queue: Queue,
    /// Among all paths of the map.
    pub(super) number: u32,
    pub(super) device: DeviceId,
    pub(super) state: PathState,
    /// The same device, for what is not in a callback.
    pub(super) holdable: Holdable,
}

// An `Arc` has its count before it.
const _: () = assert!(size_of::<usize>() + offset_of!(Path, queue) >= 32);
const _: () = assert!(size_of::<usize>() + offset_of!(Path, holdable) <= 64);

impl HasState for Path {
    #[inline]
    fn state(&self) -> &PathState {
        &self.state
    }
}

impl HasQueue for Path {
    #[inline]
    fn queue(&self) -> &Queue {
        &self.queue
    }
}

impl PathStatus for Path {
    fn name(&self) -> &DeviceName {
        &self.name
    }
}
