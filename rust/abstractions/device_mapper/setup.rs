// SPDX-License-Identifier: GPL-2.0

//! The construction of a target.

use super::{
    hold::{
        Holdable,
        Holders, //
    },
    info::{
        Common,
        Device,
        DeviceId,
        TableEvents, //
    }, //
};
use crate::bindings;
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::{
        null_mut,
        NonNull, //
    },
};
use kernel::{
    error::to_result,
    ffi::{
        c_char,
        c_uint, //
    },
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc, //
    },
};

/// A word of a table line or message.
///
/// # Invariants
///
/// Points to a string that does not change for `'a`.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Arg<'a>(*const c_char, PhantomData<&'a CStr>);

impl<'a> Arg<'a> {
    /// The word.
    pub(crate) fn as_cstr(self) -> &'a CStr {
        // SAFETY: By the type invariant it is a string.
        unsafe { CStr::from_char_ptr(self.0) }
    }

    /// The words of dm core.
    ///
    /// # Safety
    ///
    /// `argv` must point to `argc` strings, or `argc` be zero, and nothing of it may change for
    /// `'a`.
    pub(super) unsafe fn slice(argc: c_uint, argv: *mut *mut c_char) -> &'a [Self] {
        if argc == 0 {
            return &[];
        }
        // SAFETY: The caller promises it; the type is transparent.
        // INVARIANT: The caller promises that they are strings.
        unsafe { core::slice::from_raw_parts(argv.cast::<Self>(), argc as usize) }
    }
}

impl<'a> From<&'a CStr> for Arg<'a> {
    fn from(word: &'a CStr) -> Self {
        // INVARIANT: It is a string that is borrowed for `'a`.
        Self(word.as_char_ptr(), PhantomData)
    }
}

/// What [`Target::ctr`] has to do with dm core.
///
/// Devices that were opened are put when this is dropped, unless the target has come to be.
///
/// [`Target::ctr`]: super::Target::ctr
///
/// # Invariants
///
/// `ti` is valid for `'a`, and ours alone; `devices` came from `dm_get_device` for it.
pub(crate) struct Setup<'a> {
    ti: *mut bindings::dm_target,
    devices: KVec<Device>,
    events: Arc<TableEvents>,
    holders: Arc<Holders>,
    _ti: PhantomData<&'a mut ()>,
}

impl Setup<'_> {
    /// # Safety
    ///
    /// `ti` must be a target whose `ctr` runs now, and does so longer than this lives.
    pub(super) unsafe fn new(ti: *mut bindings::dm_target) -> Result<Self> {
        // INVARIANT: The caller promises it.
        Ok(Self {
            ti,
            devices: KVec::new(),
            // SAFETY: It is valid; `drop` revokes, or `dtr` does so for a target that has come to be.
            events: unsafe { TableEvents::new(ti)? },
            holders: Holders::new()?,
            _ti: PhantomData,
        })
    }

    /// Sets the reason that dm core logs, and returns `error`.
    pub(crate) fn fail(&mut self, reason: &'static CStr, error: Error) -> Error {
        // SAFETY: By the type invariant it is ours to write. dm core only reads the string.
        unsafe { (*self.ti).error = reason.as_char_ptr().cast_mut() };
        error
    }

    /// Opens a device, by `major:minor` or by name, in the mode of the table. May sleep.
    ///
    /// The same device may be opened more than once, each time with a number of its own. Fails as
    /// opening fails (`EBUSY` if somebody else has claimed it), and with `EINVAL` if it is the
    /// mapped device itself.
    pub(crate) fn get_device(&mut self, path: &CStr) -> Result<DeviceId> {
        let id = DeviceId(u32::try_from(self.devices.len())?);
        self.devices.reserve(1, GFP_KERNEL)?;
        // SAFETY: By the type invariant `ti` is valid, and so is its table.
        let mode = unsafe { bindings::dm_table_get_mode((*self.ti).table) };
        let mut dev = null_mut();
        // SAFETY: `ti` is valid, `path` a string, `dev` valid for writes.
        to_result(unsafe { bindings::dm_get_device(self.ti, path.as_char_ptr(), mode, &mut dev) })?;
        let dev = NonNull::new(dev).ok_or(ENODEV)?;
        // SAFETY: It has just been got; `drop` puts it, or `dtr`.
        let device = unsafe { Device::new(dev)? };
        self.devices.push(device, GFP_KERNEL)?;
        Ok(id)
    }

    /// A device that was opened.
    pub(crate) fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id.0 as usize)
    }

    /// A device that was opened, to be held outside of callbacks.
    pub(crate) fn holdable(&self, id: DeviceId) -> Option<Holdable> {
        let device = self.device(id)?;
        // SAFETY: `drop` shuts the holders before it puts the device, or `dtr` does so for a target
        // that has come to be.
        Some(unsafe { Holdable::new(device.raw_bdev(), &self.holders) })
    }

    /// The name of the mapped device in messages: `major:minor`.
    pub(crate) fn device_name(&self) -> &CStr {
        // SAFETY: By the type invariant `ti` is valid, and so is its table.
        let name = unsafe { bindings::dm_table_device_name((*self.ti).table) };
        // SAFETY: The mapped device outlives its table, and its name does not change.
        unsafe { CStr::from_char_ptr(name) }
    }

    /// The right to raise events of the table.
    pub(crate) fn events(&self) -> &Arc<TableEvents> {
        &self.events
    }

    /// Lets flushes come to `map`, if a device needs them.
    pub(crate) fn pass_flushes(&mut self) {
        // SAFETY: By the type invariant it is ours to write.
        unsafe { (*self.ti).num_flush_bios = 1 };
    }

    /// Lets discards come to `map`, if all devices can do them.
    pub(crate) fn pass_discards(&mut self) {
        // SAFETY: By the type invariant it is ours to write.
        unsafe { (*self.ti).num_discard_bios = 1 };
    }

    /// Lets commands that write zeroes come to `map`, if all devices can do them.
    pub(crate) fn pass_write_zeroes(&mut self) {
        // SAFETY: By the type invariant it is ours to write.
        unsafe { (*self.ti).num_write_zeroes_bios = 1 };
    }

    pub(super) fn set_per_bio_size(&mut self, size: usize) -> Result {
        let size = u32::try_from(size)?;
        // SAFETY: By the type invariant it is ours to write.
        unsafe { (*self.ti).per_io_data_size = size };
        // What is submitted by [`KeptBio::submit`](super::KeptBio::submit) is accounted there.
        // SAFETY: As above.
        unsafe { (*self.ti).set_accounts_remapped_io(true) };
        Ok(())
    }

    /// The target has come to be: what was opened is its own now.
    pub(super) fn finish(self) -> Common {
        let this = ManuallyDrop::new(self);
        Common {
            // SAFETY: `this` is not used again.
            devices: unsafe { core::ptr::read(&this.devices) },
            // SAFETY: As above.
            events: unsafe { core::ptr::read(&this.events) },
            // SAFETY: As above.
            holders: unsafe { core::ptr::read(&this.holders) },
            has_kept: Atomic::new(false),
        }
    }
}

impl Drop for Setup<'_> {
    fn drop(&mut self) {
        self.events.revoke();
        self.holders.shut();
        // SAFETY: By the type invariant they are devices of this target, and nobody else puts them.
        unsafe { put_devices(self.ti, &self.devices) };
    }
}

/// Puts all of `devices`.
///
/// # Safety
///
/// They must come from `dm_get_device` for `ti`, whose table is valid, and must not be used after.
pub(super) unsafe fn put_devices(ti: *mut bindings::dm_target, devices: &[Device]) {
    for device in devices {
        // SAFETY: The caller promises it.
        unsafe { bindings::dm_put_device(ti, device.dev()) };
    }
}
