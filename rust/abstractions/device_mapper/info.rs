// SPDX-License-Identifier: GPL-2.0

//! What a target can ask dm core about itself, its table and its devices.

use super::hold::Holders;
use crate::{
    abstractions::block_device::{
        Bdev,
        DevT, //
    },
    bindings, //
};
use core::ptr::NonNull;
use kernel::{
    error::to_result,
    ffi::c_uint,
    fmt,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    types::Opaque, //
};

/// The number of a device among those of its target, from [`Setup::get_device`].
///
/// [`Setup::get_device`]: super::Setup::get_device
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct DeviceId(pub(super) u32);

/// The name dm core knows a device by: `major:minor`.
#[derive(Clone, Copy)]
pub(crate) struct DeviceName([u8; 16]);

impl DeviceName {
    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(0);
        core::str::from_utf8(&self.0[..end]).unwrap_or("?")
    }

    /// A name for a test.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) fn for_test(name: &str) -> Self {
        let mut bytes = [0; 16];
        for (byte, &given) in bytes.iter_mut().zip(name.as_bytes()).take(15) {
            *byte = given;
        }
        Self(bytes)
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number of the device that `path` (`major:minor`, or a name in a file system) means.
///
/// May sleep. Fails as looking up the path does (`ENOENT`, `ENOTBLK`, ...), and with `EOVERFLOW` if
/// a number is too large.
pub(crate) fn devt_from_path(path: &CStr) -> Result<DevT> {
    let mut devt = 0;
    // SAFETY: `path` is a string, `devt` is valid for writes.
    to_result(unsafe { bindings::dm_devt_from_path(path.as_char_ptr(), &mut devt) })?;
    Ok(DevT::from_raw(devt))
}

/// One device of a target, opened by dm core.
///
/// # Invariants
///
/// `dev` came from `dm_get_device` for the target whose list this is in, and is put when that list
/// goes. `bdev` is its `bdev`, which does not change: all devices of a table are opened in the same
/// mode.
pub(crate) struct Device {
    dev: NonNull<bindings::dm_dev>,
    bdev: NonNull<bindings::block_device>,
}

impl Device {
    /// # Safety
    ///
    /// `dev` must come from `dm_get_device` and be put by whoever drops this.
    pub(super) unsafe fn new(dev: NonNull<bindings::dm_dev>) -> Result<Self> {
        // SAFETY: By this function's requirements it is valid.
        let bdev = NonNull::new(unsafe { (*dev.as_ptr()).bdev }).ok_or(ENODEV)?;
        // INVARIANT: The caller promises it.
        Ok(Self { dev, bdev })
    }

    pub(super) fn dev(&self) -> *mut bindings::dm_dev {
        self.dev.as_ptr()
    }

    pub(super) fn raw_bdev(&self) -> NonNull<bindings::block_device> {
        self.bdev
    }

    #[inline]
    pub(super) fn bdev_ptr(&self) -> *mut bindings::block_device {
        self.bdev.as_ptr()
    }

    /// The block device.
    pub(crate) fn bdev(&self) -> &Bdev {
        // SAFETY: By the type invariant it is open as long as `self` is there.
        unsafe { Bdev::from_raw(self.bdev_ptr()) }
    }

    /// The name.
    pub(crate) fn name(&self) -> DeviceName {
        // SAFETY: By the type invariant it is valid; dm core sets the name before it hands it out.
        DeviceName(unsafe { (*self.dev()).name })
    }
}

/// The part of a target's private data that does not depend on its type.
pub(super) struct Common {
    pub(super) devices: KVec<Device>,
    pub(super) events: Arc<TableEvents>,
    pub(super) holders: Arc<Holders>,
    /// Whether a clone has ever been kept: only then can a callback outlast the last clone.
    pub(super) has_kept: Atomic<bool>,
}

impl Common {
    #[inline]
    pub(super) fn device(&self, id: DeviceId) -> Option<&Device> {
        self.devices.get(id.0 as usize)
    }

    pub(super) fn note_kept(&self) {
        if !self.has_kept.load(Relaxed) {
            self.has_kept.store(true, Relaxed);
        }
    }
}

/// A kind of uevent that a path causes.
#[derive(Clone, Copy)]
pub(crate) enum PathEvent {
    /// `PATH_FAILED`
    Failed = 0,
    /// `PATH_REINSTATED`
    Reinstated = 1,
}

/// A target, as dm core sees it.
///
/// # Invariants
///
/// `ctr` has succeeded and `dtr` has not begun: `private` points to a [`Common`], `table` is valid.
#[repr(transparent)]
pub(crate) struct TargetInfo(Opaque<bindings::dm_target>);

impl TargetInfo {
    /// # Safety
    ///
    /// `ti` must be a target of a type made by [`TargetType::new`] whose `ctr` has succeeded and
    /// whose `dtr` does not begin for `'a`.
    ///
    /// [`TargetType::new`]: super::TargetType::new
    #[inline]
    pub(super) unsafe fn from_raw<'a>(ti: *mut bindings::dm_target) -> &'a Self {
        // SAFETY: The caller promises that it is valid; the type is transparent.
        // INVARIANT: The caller promises the rest.
        unsafe { &*ti.cast() }
    }

    #[inline]
    pub(super) fn as_ptr(&self) -> *mut bindings::dm_target {
        self.0.get()
    }

    #[inline]
    pub(super) fn common(&self) -> &Common {
        // SAFETY: By the type invariant `private` is set and does not change.
        let private = unsafe { (*self.as_ptr()).private };
        // SAFETY: By the type invariant it points to what begins with a `Common`.
        unsafe { &*private.cast::<Common>() }
    }

    fn table(&self) -> *mut bindings::dm_table {
        // SAFETY: Set before `ctr`, and not changed.
        unsafe { (*self.as_ptr()).table }
    }

    /// The first sector of the target in the mapped device.
    pub(crate) fn begin(&self) -> u64 {
        // SAFETY: Set before `ctr`, and not changed.
        unsafe { (*self.as_ptr()).begin }
    }

    /// The length in sectors of 512 bytes.
    pub(crate) fn len(&self) -> u64 {
        // SAFETY: Set before `ctr`, and not changed.
        unsafe { (*self.as_ptr()).len }
    }

    /// The name of the mapped device in messages: `major:minor`. As text, which is written faster.
    pub(crate) fn device_name(&self) -> &str {
        // SAFETY: By the type invariant the table is valid, and with it its mapped device.
        let name = unsafe { bindings::dm_table_device_name(self.table()) };
        // SAFETY: The mapped device outlives its table, and its name does not change.
        let name = unsafe { CStr::from_char_ptr(name) };
        name.to_str().unwrap_or("?")
    }

    /// The name of the target's type, as tables have it.
    pub(crate) fn type_name(&self) -> &CStr {
        // SAFETY: Set before `ctr`, and not changed; a type lives for ever.
        let name = unsafe { (*(*self.as_ptr()).type_).name };
        // SAFETY: As above, and so does its name.
        unsafe { CStr::from_char_ptr(name) }
    }

    /// The device with this number, if the target has it.
    pub(crate) fn device(&self, id: DeviceId) -> Option<&Device> {
        self.common().device(id)
    }

    /// Whether the mapped device is suspended: then no I/O runs, and messages have nothing to say.
    pub(crate) fn suspended(&self) -> bool {
        // SAFETY: By the type invariant the target is valid.
        unsafe { bindings::dm_suspended(self.as_ptr()) != 0 }
    }

    /// Whether a suspend is under way that takes unfinished bios back instead of waiting for them.
    pub(crate) fn noflush_suspending(&self) -> bool {
        // SAFETY: By the type invariant the target is valid.
        unsafe { bindings::dm_noflush_suspending(self.as_ptr()) != 0 }
    }

    /// Notes a uevent about a path, to be sent with the next table event. Any context.
    ///
    /// Without `CONFIG_DM_UEVENT` there are none.
    pub(crate) fn path_event(&self, event: PathEvent, path: &DeviceName, valid_paths: u32) {
        #[cfg(CONFIG_DM_UEVENT)]
        // SAFETY: By the type invariant the target is valid. The name is copied, and ends with a 0.
        unsafe {
            bindings::dm_path_uevent(
                event as c_uint,
                self.as_ptr(),
                path.0.as_ptr().cast(),
                valid_paths,
            )
        };
        #[cfg(not(CONFIG_DM_UEVENT))]
        let _ = (event, path, valid_paths);
    }
}

/// The right to raise events of a table, from anywhere that may sleep. After the target's `dtr`
/// nothing happens any more.
///
/// # Invariants
///
/// What is in the mutex is valid: it is taken out before it goes, which waits for the mutex.
#[pin_data]
pub(crate) struct TableEvents {
    #[pin]
    table: Mutex<Option<Table>>,
}

/// A table to raise events of, and its target.
///
/// # Invariants
///
/// If `made`, then `ctr` has succeeded for `ti`, and `dtr` has not begun.
struct Table {
    table: NonNull<bindings::dm_table>,
    ti: NonNull<bindings::dm_target>,
    made: bool,
}

// SAFETY: What is done with them may be done by any thread.
unsafe impl Send for Table {}

impl TableEvents {
    /// # Safety
    ///
    /// `ti` must be valid, and [`TableEvents::revoke`] must be called before its table goes.
    pub(super) unsafe fn new(ti: *mut bindings::dm_target) -> Result<Arc<Self>> {
        // SAFETY: The caller promises that it is valid.
        let table = NonNull::new(unsafe { (*ti).table }).ok_or(EINVAL)?;
        let ti = NonNull::new(ti).ok_or(EINVAL)?;
        // INVARIANT: `ctr` has not succeeded yet.
        let table = Table {
            table,
            ti,
            made: false,
        };
        // INVARIANT: The caller promises to take it out in time.
        Arc::pin_init(
            pin_init!(Self {
                table <- new_mutex!(Some(table), "TableEvents::table"),
            }),
            GFP_KERNEL,
        )
    }

    /// Wakes who waits for an event of the mapped device, and sends its uevents. May sleep.
    pub(crate) fn raise(&self) {
        if let Some(table) = &*self.table.lock() {
            // SAFETY: By the type invariant the table is valid as long as the mutex is held.
            unsafe { bindings::dm_table_event(table.table.as_ptr()) };
        }
    }

    /// Does `action` with the target, if it is there. `dtr` waits for that. May sleep.
    pub(crate) fn with(&self, action: impl FnOnce(&TargetInfo)) {
        if let Some(table) = &*self.table.lock() {
            if table.made {
                // SAFETY: By the type invariants it is there, as long as the mutex is held.
                action(unsafe { TargetInfo::from_raw(table.ti.as_ptr()) });
            }
        }
    }

    /// # Safety
    ///
    /// `ctr` must have succeeded, and [`TableEvents::revoke`] must be called when `dtr` begins.
    pub(super) unsafe fn made(&self) {
        if let Some(table) = &mut *self.table.lock() {
            // INVARIANT: The caller promises it.
            table.made = true;
        }
    }

    pub(super) fn revoke(&self) {
        *self.table.lock() = None;
    }
}
