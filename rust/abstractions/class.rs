// SPDX-License-Identifier: GPL-2.0

//! A folder in `/sys/class` with attributes of the module as a whole.
//!
//! C header: [`include/linux/device/class.h`](srctree/include/linux/device/class.h)
//!
//! # Examples
//!
//! ```ignore
//! static CONTROL: [Attribute<Registry>; 2] = [
//!     Attribute::wo(c"add_path", |registry, text| registry.add_path(text)),
//!     Attribute::wo(c"remove_path", |registry, text| registry.remove_path(text)),
//! ];
//!
//! let class = Class::new(c"rmpath", registry, &CONTROL)?;
//! ```

use core::ptr::NonNull;
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::Arc, //
};

use super::{
    module::ModuleRef,
    sysfs::{
        Attribute,
        File, //
    },
};
use crate::bindings;

/// The class of all disks and partitions.
///
/// # Invariants
///
/// `class` is the kernel's `block_class`, and `disk` the `device_type` of whole disks.
#[derive(Clone, Copy)]
pub(crate) struct BlockClass {
    pub(super) class: *const bindings::class,
    pub(super) disk: *const bindings::device_type,
}

impl BlockClass {
    /// What a disk's device says of its class.
    ///
    /// # Safety
    ///
    /// `dev` must be the device of an allocated disk (added or not), that is of its `part0`.
    pub(super) unsafe fn from_device(dev: *const bindings::device) -> Self {
        // INVARIANT: Allocating a disk sets both, and nobody changes them.
        Self {
            // SAFETY: The device is valid, by this function's requirements.
            class: unsafe { (*dev).class },
            // SAFETY: As above.
            disk: unsafe { (*dev).type_ },
        }
    }
}

/// A class of our own, without devices: a folder in `/sys/class`, with a file for each attribute
/// of a `T`.
///
/// Each store holds a [`ModuleRef`] while it runs, so what it makes may rely on the module: it
/// fails with [`ENODEV`] before the module's init has succeeded and once its unload has begun.
/// A show does not, and runs at any time.
///
/// Dropping it removes the folder, waits for the files' functions that are running, and only then
/// gives up its `Arc<T>`. So it must not be dropped under a lock that one of them takes. Context:
/// may sleep.
///
/// # Invariants
///
/// `class` is a class of `class_create()` that we have not destroyed. Its only files are those in
/// `files`, whose data is that of `_data`.
pub(crate) struct Class<T: 'static> {
    class: NonNull<bindings::class>,
    files: KVec<File<bindings::class_attribute, T>>,
    _data: Arc<T>,
}

// SAFETY: It owns an `Arc<T>`, whose `T` the functions get on any thread; the class is not bound
// to one.
unsafe impl<T: Send + Sync> Send for Class<T> {}

// SAFETY: A shared class can do nothing.
unsafe impl<T: Send + Sync> Sync for Class<T> {}

impl<T: Send + Sync> Class<T> {
    /// Adds a class, whose files serve `data`. They may be used before this returns.
    ///
    /// # Errors
    ///
    /// [`EEXIST`] if there is a class of this name, or two attributes have one name; [`ENOMEM`].
    pub(crate) fn new(
        name: &'static CStr,
        data: Arc<T>,
        attributes: &'static [Attribute<T>],
    ) -> Result<Self> {
        // SAFETY: The class keeps `data` until its destructor has removed the files.
        let files = unsafe { File::table(&data, attributes, raw_attribute) }?;

        // The kernel allocates and frees this class by itself: no release callback of ours.
        // SAFETY: The name is static.
        let class = from_err_ptr(unsafe { bindings::class_create(name.as_char_ptr()) })?;
        // INVARIANT: The class is new, and nobody else knows it.
        let class = Self {
            class: NonNull::new(class).ok_or(ENOMEM)?,
            files,
            _data: data,
        };
        for file in &class.files {
            // SAFETY: The class exists; the file does not move any more and stays until the class
            // is destroyed.
            to_result(unsafe {
                bindings::class_create_file_ns(class.class.as_ptr(), file.raw(), core::ptr::null())
            })?;
        }
        Ok(class)
    }
}

impl<T> Drop for Class<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is ours, and has not been destroyed.
        unsafe { bindings::class_destroy(self.class.as_ptr()) };
        // No function of a file runs any more: the files may go, then the data.
    }
}

fn raw_attribute<T>(attribute: &'static Attribute<T>) -> bindings::class_attribute {
    bindings::class_attribute {
        attr: attribute.raw(),
        show: Some(show::<T>),
        store: Some(store::<T>),
    }
}

/// # Safety
///
/// Only for the driver core, which passes a page of its own and an attribute of [`Class::new`] that
/// is active.
unsafe extern "C" fn show<T: 'static>(
    _class: *const bindings::class,
    attr: *const bindings::class_attribute,
    page: *mut c_char,
) -> isize {
    // SAFETY: By this function's requirements.
    unsafe { File::<_, T>::show(attr, page) }
}

/// # Safety
///
/// Only for the driver core, which passes a buffer of its own and an attribute of [`Class::new`]
/// that is active.
unsafe extern "C" fn store<T: 'static>(
    _class: *const bindings::class,
    attr: *const bindings::class_attribute,
    text: *const c_char,
    len: usize,
) -> isize {
    // Put after the store has returned; what then still runs here is protected by the file being
    // active, for which `class_destroy()` waits.
    let Some(_module) = ModuleRef::try_get() else {
        return ENODEV.to_errno() as isize;
    };
    // SAFETY: By this function's requirements.
    unsafe { File::<_, T>::store(attr, text, len) }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_class)]
mod tests {
    use super::*;
    use crate::abstractions::{
        module::refcount,
        sysfs::parse_u32, //
    };
    use kernel::{
        page::PAGE_SIZE,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };

    struct State {
        value: Atomic<u32>,
        refcount: Atomic<i32>,
        gone: Arc<Atomic<bool>>,
    }

    impl Drop for State {
        fn drop(&mut self) {
            self.gone.store(true, Relaxed);
        }
    }

    static STATE: [Attribute<State>; 2] = [
        Attribute::wo(c"set", |state, text| {
            state.refcount.store(refcount(), Relaxed);
            state.value.store(parse_u32(text)?, Relaxed);
            Ok(())
        }),
        Attribute::ro(c"get", |state, out| {
            writeln!(out, "{}", state.value.load(Relaxed))
        }),
    ];

    fn state() -> Result<(Arc<State>, Arc<Atomic<bool>>)> {
        let gone = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        let state = State {
            value: Atomic::new(5),
            refcount: Atomic::new(-1),
            gone: gone.clone(),
        };
        Ok((Arc::new(state, GFP_KERNEL)?, gone))
    }

    fn read(class: &Class<State>, file: usize) -> Result<KVec<u8>> {
        let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        let raw = class.files[file].raw();
        // SAFETY: The file belongs to the class, and there is a page to write to.
        let len = unsafe { show::<State>(class.class.as_ptr(), raw, page.as_mut_ptr().cast()) };
        to_result(len.min(0) as c_int)?;
        page.truncate(len as usize);
        Ok(page)
    }

    fn write(class: &Class<State>, file: usize, text: &[u8]) -> Result<usize> {
        let raw = class.files[file].raw();
        let text_ptr = text.as_ptr().cast();
        // SAFETY: The file belongs to the class, and there is a text to read.
        let len = unsafe { store::<State>(class.class.as_ptr(), raw, text_ptr, text.len()) };
        to_result(len.min(0) as c_int)?;
        Ok(len as usize)
    }

    #[test]
    fn store_holds_the_module() -> Result {
        let before = refcount();
        let (state, _) = state()?;
        let class = Class::new(c"rmpath-kunit", state.clone(), &STATE)?;
        let idle = refcount();
        let stored = write(&class, 0, b"17\n");
        let during = state.refcount.load(Relaxed);
        let after = refcount();
        let refused = write(&class, 0, b"-1");
        let text = read(&class, 1)?;
        drop(class);
        let end = refcount();
        // The class itself does not keep the module: it goes with it.
        assert_eq!(idle, before);
        assert_eq!(stored, Ok(3));
        assert_eq!(during, before + 1);
        assert_eq!(after, before);
        assert_eq!(refused, Err(EINVAL));
        assert!(text[..] == *b"17\n");
        assert_eq!(end, before);
        Ok(())
    }

    #[test]
    fn comes_and_goes_with_its_data() -> Result {
        let (first, first_gone) = state()?;
        let class = Class::new(c"rmpath-kunit", first, &STATE)?;
        let early = first_gone.load(Relaxed);
        drop(class);
        let late = first_gone.load(Relaxed);
        // The name is free again.
        let (second, second_gone) = state()?;
        let again = Class::new(c"rmpath-kunit", second, &STATE).map(drop);
        assert!(!early);
        assert!(late);
        assert_eq!(again, Ok(()));
        assert!(second_gone.load(Relaxed));
        Ok(())
    }
}
