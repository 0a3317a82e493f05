// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes in the folder of a device, for which the driver core makes and removes the
//! files with the device.
//!
//! C header: [`include/linux/device.h`](srctree/include/linux/device.h)
//!
//! # Examples
//!
//! ```ignore
//! attribute_groups! {
//!     /// What stands in /sys/block/rmpath0 itself.
//!     static DISK_GROUPS: AttributeGroups<Head> = [
//!         Attribute::rw(c"delayed_removal_secs", show_removal, store_removal),
//!     ];
//! }
//!
//! // In gendisk.rs; the files are there before the disk's uevent.
//! device_add_disk(null_mut(), disk, groups.as_ptr())
//! ```

use core::{
    marker::PhantomData,
    ptr::null_mut, //
};
use kernel::{
    prelude::*,
    sync::ArcBorrow,
    types::Opaque, //
};

use super::sysfs::Attribute;
use crate::bindings;

/// Data that a kind of device leads to, and whose attributes stand in the device's folder.
///
/// # Safety
///
/// For a device of this kind [`DeviceData::from_device`] must return what [`Arc::as_ptr`] or
/// [`Arc::into_raw`] returned, and that `Arc` must be kept from before the device is added until
/// it has been removed (for a disk: from `device_add_disk()` until `del_gendisk()` has returned).
///
/// [`Arc::as_ptr`]: kernel::sync::Arc::as_ptr
/// [`Arc::into_raw`]: kernel::sync::Arc::into_raw
pub(crate) unsafe trait DeviceData: Sized + Send + Sync + 'static {
    /// The data of a device.
    ///
    /// # Safety
    ///
    /// `dev` must be a device of this kind that has been added, and not yet removed.
    unsafe fn from_device(dev: *mut bindings::device) -> *const Self;
}

/// The attributes of a kind of device; made by [`attribute_groups!`].
///
/// # Invariants
///
/// A list, ended by null, of groups whose attributes are all [`DeviceFile`]s of `T` in statics.
pub(crate) struct AttributeGroups<T: DeviceData> {
    groups: [*const bindings::attribute_group; 2],
    _device: PhantomData<T>,
}

// SAFETY: It is only read.
unsafe impl<T: DeviceData> Sync for AttributeGroups<T> {}

impl<T: DeviceData> AttributeGroups<T> {
    /// For [`attribute_groups!`].
    pub(crate) const fn new(group: &'static Group<T>) -> Self {
        // INVARIANT: By the invariant of `Group`.
        Self {
            groups: [&group.raw, core::ptr::null()],
            _device: PhantomData,
        }
    }

    /// The groups, for a function that adds a device that leads to a `T`, as `device_add_disk()`.
    ///
    /// To use them for another kind of device is not sound.
    pub(super) fn as_ptr(&'static self) -> *mut *const bindings::attribute_group {
        self.groups.as_ptr().cast_mut()
    }
}

/// One file of a kind of device; made by [`attribute_groups!`].
#[repr(C)]
pub(crate) struct DeviceFile<T: DeviceData> {
    raw: Opaque<bindings::device_attribute>,
    attribute: Attribute<T>,
}

// SAFETY: Only the C side uses `raw`, under its locks, and `Attribute` is `Sync`.
unsafe impl<T: DeviceData> Sync for DeviceFile<T> {}

impl<T: DeviceData> DeviceFile<T> {
    /// For [`attribute_groups!`], which puts it into a static.
    pub(crate) const fn new(attribute: Attribute<T>) -> Self {
        let raw = bindings::device_attribute {
            attr: attribute.raw_static(),
            __bindgen_anon_1: bindings::device_attribute__bindgen_ty_1 {
                show: Some(Self::show),
            },
            __bindgen_anon_2: bindings::device_attribute__bindgen_ty_2 {
                store: Some(Self::store),
            },
        };
        Self {
            raw: Opaque::new(raw),
            attribute,
        }
    }

    /// # Safety
    ///
    /// Only for the driver core, which passes a device of kind `T` that is in sysfs, the `raw` of a
    /// static of this type, and a page of its own.
    unsafe extern "C" fn show(
        dev: *mut bindings::device,
        raw: *mut bindings::device_attribute,
        page: *mut c_char,
    ) -> isize {
        // SAFETY: By this function's requirements; `raw` is the first field.
        let file = unsafe { &*raw.cast::<Self>() };
        // SAFETY: By this function's requirements.
        let data = unsafe { T::from_device(dev) };
        // SAFETY: By the promise of `DeviceData` it is alive: removing the device waits for us.
        let data = unsafe { &*data };
        // SAFETY: By this function's requirements.
        unsafe { file.attribute.show(data, page) }
    }

    /// # Safety
    ///
    /// Only for the driver core, which passes a device of kind `T` that is in sysfs, the `raw` of a
    /// static of this type, and a buffer of its own.
    unsafe extern "C" fn store(
        dev: *mut bindings::device,
        raw: *mut bindings::device_attribute,
        text: *const c_char,
        len: usize,
    ) -> isize {
        // SAFETY: By this function's requirements; `raw` is the first field.
        let file = unsafe { &*raw.cast::<Self>() };
        // SAFETY: By this function's requirements.
        let data = unsafe { T::from_device(dev) };
        // SAFETY: By the promise of `DeviceData` it comes from an `Arc`, which is kept: removing
        // the device waits for us.
        let data = unsafe { ArcBorrow::from_raw(data) };
        // SAFETY: By this function's requirements.
        unsafe { file.attribute.store(data, text, len) }
    }
}

/// The list of a group's files; made by [`attribute_groups!`].
///
/// # Invariants
///
/// It ends with null; all before comes from a [`DeviceFile`] of `T` in a static.
pub(crate) struct FileList<T: DeviceData, const LEN: usize> {
    raw: [*mut bindings::attribute; LEN],
    _device: PhantomData<T>,
}

// SAFETY: It is only read.
unsafe impl<T: DeviceData, const LEN: usize> Sync for FileList<T, LEN> {}

impl<T: DeviceData, const LEN: usize> FileList<T, LEN> {
    /// For [`attribute_groups!`]. `LEN` must be `FILES + 1`.
    pub(crate) const fn new<const FILES: usize>(files: &'static [DeviceFile<T>; FILES]) -> Self {
        const { assert!(LEN == FILES + 1) };
        let mut raw = [null_mut(); LEN];
        let mut i = 0;
        while i < FILES {
            // `attr` is the first field.
            raw[i] = Opaque::cast_into(&files[i].raw).cast();
            i += 1;
        }
        // INVARIANT: The last one has been left null.
        Self {
            raw,
            _device: PhantomData,
        }
    }
}

/// A group of files; made by [`attribute_groups!`].
///
/// # Invariants
///
/// The attributes are those of a [`FileList`] of `T`.
pub(crate) struct Group<T: DeviceData> {
    raw: bindings::attribute_group,
    _device: PhantomData<T>,
}

// SAFETY: It is only read.
unsafe impl<T: DeviceData> Sync for Group<T> {}

impl<T: DeviceData> Group<T> {
    /// For [`attribute_groups!`].
    pub(crate) const fn new<const LEN: usize>(files: &'static FileList<T, LEN>) -> Self {
        // SAFETY: Null pointers are values of all fields.
        let mut raw: bindings::attribute_group = unsafe { core::mem::zeroed() };
        raw.__bindgen_anon_2.attrs = files.raw.as_ptr().cast_mut();
        // INVARIANT: Just set.
        Self {
            raw,
            _device: PhantomData,
        }
    }
}

/// Defines a static [`AttributeGroups`] from a list of [`Attribute`]s.
macro_rules! attribute_groups {
    (
        $(#[$meta:meta])*
        $vis:vis static $name:ident: AttributeGroups<$data:ty> = [$($attribute:expr),+ $(,)?];
    ) => {
        $(#[$meta])*
        $vis static $name: $crate::abstractions::device_attr::AttributeGroups<$data> = {
            const FILES: usize = [$(stringify!($attribute)),+].len();
            static TABLE: [$crate::abstractions::device_attr::DeviceFile<$data>; FILES] =
                [$($crate::abstractions::device_attr::DeviceFile::<$data>::new($attribute)),+];
            static LIST: $crate::abstractions::device_attr::FileList<$data, { FILES + 1 }> =
                $crate::abstractions::device_attr::FileList::new(&TABLE);
            static GROUP: $crate::abstractions::device_attr::Group<$data> =
                $crate::abstractions::device_attr::Group::new(&LIST);
            $crate::abstractions::device_attr::AttributeGroups::new(&GROUP)
        };
    };
}
pub(crate) use attribute_groups;

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_device_attr)]
mod tests {
    use super::*;
    use crate::abstractions::sysfs::parse_u32;
    use core::ops::Deref;
    use kernel::{
        error::{
            from_err_ptr,
            to_result, //
        },
        page::PAGE_SIZE,
        sync::{
            atomic::{
                Atomic,
                Relaxed, //
            },
            Arc, //
        },
    };

    struct Value(Atomic<u32>);

    impl Deref for Value {
        type Target = Atomic<u32>;

        fn deref(&self) -> &Self::Target {
            &self.0
        }
    }

    // SAFETY: The only devices with these attributes are those of `TestDevice`.
    unsafe impl DeviceData for Value {
        unsafe fn from_device(dev: *mut bindings::device) -> *const Self {
            // SAFETY: The device is valid, by this function's requirements.
            unsafe { (*dev).driver_data }.cast_const().cast()
        }
    }

    /// A device of /sys/devices whose driver's data is its `Arc<Value>`.
    struct TestDevice {
        dev: *mut bindings::device,
        data: Arc<Value>,
    }

    attribute_groups! {
        static GROUPS: AttributeGroups<Value> = [
            Attribute::rw(
                c"value",
                |value, out| writeln!(out, "{}", value.load(Relaxed)),
                |value, text| {
                    value.store(parse_u32(text)?, Relaxed);
                    Ok(())
                },
            ),
            Attribute::ro(c"twice", |value, out| writeln!(out, "{}", 2 * value.load(Relaxed))),
            Attribute::wo(c"keep", |value, _| {
                // What a store makes of its argument may outlive the call.
                let kept: Arc<Value> = value.into();
                kept.store(99, Relaxed);
                Ok(())
            }),
        ];
    }

    impl TestDevice {
        fn new(value: u32) -> Result<Self> {
            let data = Arc::new(Value(Atomic::new(value)), GFP_KERNEL)?;
            // SAFETY: The name is copied.
            let dev = from_err_ptr(unsafe {
                bindings::__root_device_register(
                    c"rmpath-kunit".as_char_ptr(),
                    crate::THIS_MODULE.as_ptr(),
                )
            })?;
            // SAFETY: Nobody else uses the field.
            unsafe { (*dev).driver_data = Arc::as_ptr(&data).cast_mut().cast() };
            let device = Self { dev, data };
            // SAFETY: The device is valid, of this kind, and its data is set.
            to_result(unsafe { bindings::device_add_groups(dev, GROUPS.as_ptr()) })?;
            Ok(device)
        }

        fn raw(&self, file: usize) -> *mut bindings::attribute {
            // SAFETY: There is one group.
            let group = unsafe { &**GROUPS.as_ptr() };
            // SAFETY: The list is what the field is used for.
            let list = unsafe { group.__bindgen_anon_2.attrs };
            // SAFETY: The tests do not ask for more than there is.
            unsafe { *list.add(file) }
        }

        fn read(&self, file: usize) -> Result<KVec<u8>> {
            let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
            // SAFETY: Valid until the test device is dropped.
            let kobj = unsafe { &raw mut (*self.dev).kobj };
            // SAFETY: A device's type has operations.
            let show = unsafe { (*(*(*kobj).ktype).sysfs_ops).show }.ok_or(EIO)?;
            // SAFETY: The file belongs to the device, and there is a page to write to.
            let len = unsafe { show(kobj, self.raw(file), page.as_mut_ptr().cast()) };
            to_result(len.min(0) as c_int)?;
            page.truncate(len as usize);
            Ok(page)
        }

        fn write(&self, file: usize, text: &[u8]) -> Result<usize> {
            // SAFETY: Valid until the test device is dropped.
            let kobj = unsafe { &raw mut (*self.dev).kobj };
            // SAFETY: A device's type has operations.
            let store = unsafe { (*(*(*kobj).ktype).sysfs_ops).store }.ok_or(EIO)?;
            // SAFETY: The file belongs to the device, and there is a text to read.
            let len = unsafe { store(kobj, self.raw(file), text.as_ptr().cast(), text.len()) };
            to_result(len.min(0) as c_int)?;
            Ok(len as usize)
        }
    }

    impl Drop for TestDevice {
        fn drop(&mut self) {
            // SAFETY: They were added, or adding them failed, which this tolerates.
            unsafe { bindings::device_remove_groups(self.dev, GROUPS.as_ptr()) };
            // SAFETY: It was registered, and nobody else removes it.
            unsafe { bindings::root_device_unregister(self.dev) };
        }
    }

    #[test]
    fn list_ends_with_null_and_has_names_and_modes() -> Result {
        let device = TestDevice::new(0)?;
        let files = [0, 1, 2].map(|file| {
            // SAFETY: There are three files.
            let attr = unsafe { &*device.raw(file) };
            // SAFETY: Names are terminated.
            (unsafe { CStr::from_char_ptr(attr.name) }, attr.mode)
        });
        let end = device.raw(3);
        // SAFETY: There is a second entry.
        let groups_end = unsafe { *GROUPS.as_ptr().add(1) };
        drop(device);
        assert!(files == [(c"value", 0o644), (c"twice", 0o444), (c"keep", 0o200)]);
        assert!(end.is_null());
        assert!(groups_end.is_null());
        Ok(())
    }

    #[test]
    fn files_lead_to_the_data_of_their_device() -> Result {
        let device = TestDevice::new(21)?;
        let twice = device.read(1)?;
        let stored = device.write(0, b"0x20\n");
        let value = device.read(0)?;
        let refused = device.write(0, b"4294967296\n");
        let kept = device.write(2, b"1");
        let after = device.data.load(Relaxed);
        let wrong_way = (device.read(2).err(), device.write(1, b"1"));
        drop(device);
        assert!(twice[..] == *b"42\n");
        assert_eq!(stored, Ok(5));
        assert!(value[..] == *b"32\n");
        assert_eq!(refused, Err(ERANGE));
        assert_eq!(kept, Ok(1));
        assert_eq!(after, 99);
        assert_eq!(wrong_way, (Some(EIO), Err(EIO)));
        Ok(())
    }
}
