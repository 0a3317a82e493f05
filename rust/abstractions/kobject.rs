// SPDX-License-Identifier: GPL-2.0

//! Folders in sysfs.
//!
//! A [`Folder`] owns a `struct kobject` and the files in it. The kobject is one that the kernel
//! allocates and frees itself (`kobject_create_and_add()`), so there is no release callback that
//! could run after the module, and nothing to wait for when somebody else still has a reference:
//! removal from sysfs waits for the files' functions, and nothing else ever leads from the kobject
//! to us.
//!
//! C header: [`include/linux/kobject.h`](srctree/include/linux/kobject.h)
//!
//! # Examples
//!
//! ```ignore
//! static PATH_ATTRIBUTES: [Attribute<Path>; 2] = [
//!     Attribute::ro(c"inflight", |path, out| writeln!(out, "{}", path.inflight())),
//!     Attribute::wo(c"delete", |path, text| match parse_u32(text)? {
//!         1 => {
//!             // Not `drop(folder)`: the folder waits for this function.
//!             REMOVAL.arm(Arc::from(path));
//!             Ok(())
//!         }
//!         _ => Err(EINVAL),
//!     }),
//! ];
//!
//! let inner = Folder::new(folder.as_parent(), fmt!("path{}", id), path, &PATH_ATTRIBUTES)?;
//! inner.link(c"device", path_disk.kobject())?;
//! ```

use core::ptr::NonNull;
use kernel::{
    error::to_result,
    fmt,
    prelude::*,
    str::CString,
    sync::Arc,
    types::Opaque, //
};

use super::sysfs::{
    Attribute,
    File, //
};
use crate::bindings;

/// Somebody's kobject, which may have a folder in sysfs, and lose it any time.
///
/// # Invariants
///
/// While there is a reference to it, the `struct kobject` is valid and initialised.
#[repr(transparent)]
pub(crate) struct Kobject(Opaque<bindings::kobject>);

// SAFETY: What can be done with it, making a link to it, takes the C side's locks.
unsafe impl Sync for Kobject {}

impl Kobject {
    /// Makes a reference of a pointer.
    ///
    /// # Safety
    ///
    /// `kobj` must be initialised, and valid for `'a`.
    pub(super) unsafe fn from_raw<'a>(kobj: *mut bindings::kobject) -> &'a Self {
        // INVARIANT: By this function's requirements.
        // SAFETY: The type is transparent, and `kobj` is valid, by this function's requirements.
        unsafe { &*kobj.cast::<Self>() }
    }

    /// The pointer that the C side uses.
    pub(super) fn as_ptr(&self) -> *mut bindings::kobject {
        self.0.get()
    }
}

/// A folder in sysfs to put others into.
///
/// # Invariants
///
/// The kobject has been added, and nobody begins to remove it before `'a` ends.
#[derive(Clone, Copy)]
pub(crate) struct Parent<'a>(&'a Kobject);

impl<'a> Parent<'a> {
    /// # Safety
    ///
    /// The kobject must have been added, and `kobject_del()` (or what implies it, such as
    /// `del_gendisk()`) must not begin before `'a` ends. That the kobject itself is still valid
    /// is not enough: the C side looks at the parent's folder without a lock.
    pub(super) unsafe fn new(kobj: &'a Kobject) -> Self {
        // INVARIANT: By this function's requirements.
        Self(kobj)
    }
}

/// A folder of ours in sysfs, with a file for each attribute of a `T`.
///
/// It comes and goes without a uevent. Dropping it takes it out of sysfs with all that is in it,
/// waits for the files' functions that are running, and only then gives up its `Arc<T>`. So it must
/// not be dropped
///
/// - in a store or show of its own files, or of a folder in it: that waits for itself (lockdep
///   tells);
/// - under a lock that one of those functions takes.
///
/// Folders inside may outlive it, or go at the same time: they and their files are gone from sysfs,
/// and dropping them still waits for their functions. The same holds for the disk that it is in. A
/// `T` that owns its own folder is a cycle, which somebody has to break. Context: may sleep.
///
/// # Invariants
///
/// `kobj` is a kobject of `kobject_create_and_add()` that we added, hold a reference to and alone
/// take out of sysfs. Its only files are those in `files`, whose data is that of `_data`.
pub(crate) struct Folder<T: 'static> {
    kobj: NonNull<bindings::kobject>,
    files: KVec<File<bindings::kobj_attribute, T>>,
    _data: Arc<T>,
}

// SAFETY: It owns an `Arc<T>`, whose `T` the functions get on any thread; the kobject is not bound
// to one.
unsafe impl<T: Send + Sync> Send for Folder<T> {}

// SAFETY: A shared folder only adds to sysfs, which takes the C side's locks.
unsafe impl<T: Send + Sync> Sync for Folder<T> {}

impl<T: Send + Sync> Folder<T> {
    /// Adds a folder, whose files serve `data`. They are there, and may be used, before this
    /// returns.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if there is no memory, and also for what makes the kernel refuse the folder (it
    /// logs which): there is one of this name, the name is empty, or the parent's own parent has
    /// gone. [`EEXIST`] if two attributes have one name.
    pub(crate) fn new(
        parent: Parent<'_>,
        name: fmt::Arguments<'_>,
        data: Arc<T>,
        attributes: &'static [Attribute<T>],
    ) -> Result<Self> {
        let name = CString::try_from_fmt(name)?;
        // SAFETY: The folder keeps `data` until its destructor has taken the files out of sysfs.
        let files = unsafe { File::table(&data, attributes, raw_attribute) }?;

        // SAFETY: The name is copied, and the parent is in sysfs, by the invariant of `Parent`.
        let kobj =
            unsafe { bindings::kobject_create_and_add(name.as_char_ptr(), parent.0.as_ptr()) };
        // INVARIANT: The kobject is new, and nobody else knows it.
        let folder = Self {
            kobj: NonNull::new(kobj).ok_or(ENOMEM)?,
            files,
            _data: data,
        };
        for file in &folder.files {
            // SAFETY: The kobject is in sysfs; the file does not move any more and stays until it
            // is out of it.
            let attr = unsafe { &raw const (*file.raw()).attr };
            // SAFETY: As above.
            to_result(unsafe { bindings::sysfs_create_file_ns(kobj, attr, core::ptr::null()) })?;
        }
        Ok(folder)
    }

    /// Adds a symbolic link to `target`'s folder, which stays as long as this folder, even if the
    /// target goes.
    ///
    /// # Errors
    ///
    /// [`EEXIST`] if there is a file of this name; [`ENOENT`] if the target has no folder (any
    /// more), or one that this folder is in has gone; [`ENOMEM`].
    pub(crate) fn link(&self, name: &CStr, target: &Kobject) -> Result {
        // SAFETY: Both are valid by their invariants, and the name is copied.
        to_result(unsafe {
            bindings::sysfs_create_link(self.kobj.as_ptr(), target.as_ptr(), name.as_char_ptr())
        })
    }
}

impl<T> Folder<T> {
    /// The folder as the target of a link.
    pub(crate) fn kobject(&self) -> &Kobject {
        // SAFETY: By the type invariant we have a reference to it.
        unsafe { Kobject::from_raw(self.kobj.as_ptr()) }
    }

    /// The folder as one to put others into.
    pub(crate) fn as_parent(&self) -> Parent<'_> {
        // SAFETY: By the type invariant only the destructor takes it out of sysfs.
        unsafe { Parent::new(self.kobject()) }
    }
}

impl<T> Drop for Folder<T> {
    fn drop(&mut self) {
        // When a parent goes at the same time, kernfs_remove() still returns only after it has seen
        // each file of this folder drained.
        // SAFETY: By the type invariant it is in sysfs and ours to take out.
        unsafe { bindings::kobject_del(self.kobj.as_ptr()) };
        // SAFETY: By the type invariant the reference is ours. This is its last use.
        unsafe { bindings::kobject_put(self.kobj.as_ptr()) };
        // No function of a file runs any more: the files may go, then the data.
    }
}

/// How `kobj_sysfs_ops`, the operations of such kobjects, want to have it.
fn raw_attribute<T>(attribute: &'static Attribute<T>) -> bindings::kobj_attribute {
    bindings::kobj_attribute {
        attr: attribute.raw(),
        show: Some(show::<T>),
        store: Some(store::<T>),
    }
}

/// # Safety
///
/// Only for `kobj_sysfs_ops`, which passes a page of its own and an attribute of [`Folder::new`]
/// that is active.
unsafe extern "C" fn show<T: 'static>(
    _kobj: *mut bindings::kobject,
    attr: *mut bindings::kobj_attribute,
    page: *mut c_char,
) -> isize {
    // SAFETY: By this function's requirements.
    unsafe { File::<_, T>::show(attr, page) }
}

/// # Safety
///
/// Only for `kobj_sysfs_ops`, which passes a buffer of its own and an attribute of [`Folder::new`]
/// that is active.
unsafe extern "C" fn store<T: 'static>(
    _kobj: *mut bindings::kobject,
    attr: *mut bindings::kobj_attribute,
    text: *const c_char,
    len: usize,
) -> isize {
    // SAFETY: By this function's requirements.
    unsafe { File::<_, T>::store(attr, text, len) }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_kobject)]
mod tests {
    use super::*;
    use crate::abstractions::sysfs::{
        parse_u32,
        trimmed, //
    };
    use kernel::{
        page::PAGE_SIZE,
        sync::atomic::{
            Atomic,
            Relaxed, //
        },
    };

    struct Lamp {
        brightness: Atomic<u32>,
        gone: Arc<Atomic<bool>>,
    }

    impl Lamp {
        fn new() -> Result<(Arc<Self>, Arc<Atomic<bool>>)> {
            let gone = Arc::new(Atomic::new(false), GFP_KERNEL)?;
            let lamp = Self {
                brightness: Atomic::new(7),
                gone: gone.clone(),
            };
            Ok((Arc::new(lamp, GFP_KERNEL)?, gone))
        }
    }

    impl Drop for Lamp {
        fn drop(&mut self) {
            self.gone.store(true, Relaxed);
        }
    }

    static LAMP: [Attribute<Lamp>; 4] = [
        Attribute::rw(
            c"brightness",
            |lamp, out| writeln!(out, "{}", lamp.brightness.load(Relaxed)),
            |lamp, text| {
                lamp.brightness.store(parse_u32(text)?, Relaxed);
                Ok(())
            },
        ),
        Attribute::wo(c"colour", |_, text| match trimmed(text) {
            b"red" => Ok(()),
            _ => Err(EINVAL),
        }),
        Attribute::ro(c"broken", |_, _| Err(ENXIO)),
        Attribute::ro(c"endless", |_, out| {
            for _ in 0..PAGE_SIZE {
                write!(out, "xy")?;
            }
            Ok(())
        }),
    ];

    fn sys_kernel() -> &'static Kobject {
        // SAFETY: The kernel set it up at boot, and leaves it alone.
        let kobj = unsafe { bindings::kernel_kobj };
        // SAFETY: /sys/kernel never goes.
        unsafe { Kobject::from_raw(kobj) }
    }

    fn top() -> Parent<'static> {
        // SAFETY: As above.
        unsafe { Parent::new(sys_kernel()) }
    }

    fn lamp_folder(name: &'static str, parent: Parent<'_>) -> Result<Folder<Lamp>> {
        Folder::new(parent, fmt!("{}", name), Lamp::new()?.0, &LAMP)
    }

    /// Whether there is a file, link or folder of that name.
    fn has(kobj: &Kobject, name: &CStr) -> bool {
        // SAFETY: Valid while there is a reference.
        let folder = unsafe { (*kobj.as_ptr()).sd };
        // SAFETY: A kobject in sysfs has a node there.
        let node = unsafe {
            bindings::kernfs_find_and_get_ns(folder, name.as_char_ptr(), core::ptr::null())
        };
        // SAFETY: Null, or a reference from the call above.
        unsafe { bindings::kernfs_put(node) };
        !node.is_null()
    }

    /// Reads a file by the way that sysfs takes, from its kobject's operations.
    fn read(folder: &Folder<Lamp>, file: usize) -> Result<KVec<u8>> {
        let kobj = folder.kobj.as_ptr();
        let mut page = KVec::from_elem(0u8, PAGE_SIZE, GFP_KERNEL)?;
        // SAFETY: The kobject is valid, and the kernel's type of it has both operations.
        let show = unsafe { (*(*(*kobj).ktype).sysfs_ops).show }.ok_or(EIO)?;
        // SAFETY: The file belongs to the kobject, and there is a page to write to.
        let len = unsafe {
            show(
                kobj,
                &raw mut (*folder.files[file].raw()).attr,
                page.as_mut_ptr().cast(),
            )
        };
        to_result(len.min(0) as c_int)?;
        page.truncate(len as usize);
        Ok(page)
    }

    /// Writes a file by the way that sysfs takes.
    fn write(folder: &Folder<Lamp>, file: usize, text: &[u8]) -> Result<usize> {
        let kobj = folder.kobj.as_ptr();
        // SAFETY: The kobject is valid, and the kernel's type of it has both operations.
        let store = unsafe { (*(*(*kobj).ktype).sysfs_ops).store }.ok_or(EIO)?;
        // SAFETY: The file belongs to the kobject, and there is a text to read.
        let len = unsafe {
            store(
                kobj,
                &raw mut (*folder.files[file].raw()).attr,
                text.as_ptr().cast(),
                text.len(),
            )
        };
        to_result(len.min(0) as c_int)?;
        Ok(len as usize)
    }

    #[test]
    fn files_are_there_and_go_with_the_folder() -> Result {
        let folder = lamp_folder("rmpath-kunit", top())?;
        let there = has(sys_kernel(), c"rmpath-kunit");
        let mut files = true;
        for name in [c"brightness", c"colour", c"broken", c"endless"] {
            files &= has(folder.kobject(), name);
        }
        let other = has(folder.kobject(), c"other");
        drop(folder);
        let after = has(sys_kernel(), c"rmpath-kunit");
        assert!(there);
        assert!(files);
        assert!(!other);
        assert!(!after);
        Ok(())
    }

    #[test]
    fn show_and_store() -> Result {
        let folder = lamp_folder("rmpath-kunit", top())?;
        let before = read(&folder, 0)?;
        let stored = write(&folder, 0, b"0x10\n");
        let after = read(&folder, 0)?;
        let refused = [
            write(&folder, 0, b"4294967296"),
            write(&folder, 0, b"bright\n"),
            write(&folder, 1, b"blue\n"),
        ];
        let unchanged = read(&folder, 0)?;
        let red = [write(&folder, 1, b"red\n"), write(&folder, 1, b"red")];
        drop(folder);
        assert!(before[..] == *b"7\n");
        assert_eq!(stored, Ok(5));
        assert!(after[..] == *b"16\n");
        assert_eq!(refused, [Err(ERANGE), Err(EINVAL), Err(EINVAL)]);
        assert!(unchanged[..] == *b"16\n");
        assert_eq!(red, [Ok(4), Ok(3)]);
        Ok(())
    }

    #[test]
    fn errors_and_long_texts() -> Result {
        let folder = lamp_folder("rmpath-kunit", top())?;
        let broken = read(&folder, 2).err();
        let endless = read(&folder, 3)?;
        let unreadable = read(&folder, 1).err();
        let unwritable = write(&folder, 2, b"1");
        drop(folder);
        assert_eq!(broken, Some(ENXIO));
        // A full page would be taken for an overrun.
        assert_eq!(endless.len(), PAGE_SIZE - 1);
        assert!(endless
            .iter()
            .zip(b"xy".iter().cycle())
            .all(|(a, b)| a == b));
        assert_eq!(unreadable, Some(EIO));
        assert_eq!(unwritable, Err(EIO));
        Ok(())
    }

    #[test]
    fn data_lives_as_long_as_the_folder() -> Result {
        let (lamp, gone) = Lamp::new()?;
        let folder = Folder::new(top(), fmt!("rmpath-kunit"), lamp, &LAMP)?;
        let early = gone.load(Relaxed);
        let readable = read(&folder, 0).is_ok();
        drop(folder);
        assert!(!early);
        assert!(readable);
        assert!(gone.load(Relaxed));
        Ok(())
    }

    #[test]
    fn the_kobject_is_given_up_with_the_folder() -> Result {
        let folder = lamp_folder("rmpath-kunit", top())?;
        let kobj = folder.kobj.as_ptr();
        // SAFETY: The folder has a reference to it.
        unsafe { bindings::kobject_get(kobj) };
        // SAFETY: The reference is ours.
        let count = || unsafe { (*kobj).kref.refcount.refs.counter };
        let before = count();
        drop(folder);
        let after = count();
        // SAFETY: As above; this is its last use.
        unsafe { bindings::kobject_put(kobj) };
        assert_eq!([before, after], [2, 1]);
        Ok(())
    }

    #[test]
    fn data_goes_when_the_folder_cannot_be_made() -> Result {
        let (lamp, gone) = Lamp::new()?;
        let orphan = lamp_folder(
            "rmpath-kunit-inner",
            lamp_folder("rmpath-kunit", top())?.as_parent(),
        )?;
        // The parent's folder has gone, and taken this one along: nothing can be added to it.
        let refused = Folder::new(orphan.as_parent(), fmt!("late"), lamp, &LAMP).err();
        drop(orphan);
        assert_eq!(refused, Some(ENOMEM));
        assert!(gone.load(Relaxed));
        Ok(())
    }

    #[test]
    fn folders_go_in_any_order() -> Result {
        let outer = lamp_folder("rmpath-kunit", top())?;
        let (lamp, inner_gone) = Lamp::new()?;
        let inner = Folder::new(outer.as_parent(), fmt!("path{}", 3), lamp, &LAMP)?;
        let nested = has(outer.kobject(), c"path3");
        drop(outer);
        let outer_left = has(sys_kernel(), c"rmpath-kunit");
        let inner_early = inner_gone.load(Relaxed);
        drop(inner);

        let outer = lamp_folder("rmpath-kunit", top())?;
        let inner = lamp_folder("path3", outer.as_parent())?;
        drop(inner);
        let nested_left = has(outer.kobject(), c"path3");
        drop(outer);

        assert!(nested);
        assert!(!outer_left);
        assert!(!inner_early);
        assert!(inner_gone.load(Relaxed));
        assert!(!nested_left);
        Ok(())
    }

    #[test]
    fn links() -> Result {
        let target = lamp_folder("rmpath-kunit-target", top())?;
        let folder = lamp_folder("rmpath-kunit", top())?;
        let made = folder.link(c"device", target.kobject());
        let there = has(folder.kobject(), c"device");
        // The target does not wait for links to it, nor do they go with it.
        drop(target);
        let target_left = has(sys_kernel(), c"rmpath-kunit-target");
        let dangling = has(folder.kobject(), c"device");
        // A kobject that has left sysfs, or was never in it, is no target.
        let mut nowhere = KBox::new(bindings::kobject::default(), GFP_KERNEL)?;
        // SAFETY: Zeroes are enough for the one field that is looked at.
        let refused = folder.link(c"nothing", unsafe { Kobject::from_raw(&mut *nowhere) });
        drop(folder);
        assert_eq!(made, Ok(()));
        assert_eq!(refused, Err(ENOENT));
        assert!(there);
        assert!(!target_left);
        assert!(dangling);
        Ok(())
    }
}
