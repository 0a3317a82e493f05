// SPDX-License-Identifier: GPL-2.0

//! Files in debugfs that show something.
//!
//! C header: [`include/linux/debugfs.h`](srctree/include/linux/debugfs.h)
//!
//! The kernel crate has this too, but its `file_operations` have no owner: whoever keeps a file open
//! does not keep the module, and closing it after the module has gone calls through memory that is
//! not there any more. Here an open file is a reference on the module.
//!
//! Nothing fails for want of debugfs: what cannot be made is not shown.
//!
//! # Examples
//!
//! ```ignore
//! impl Show for Head {
//!     fn show(&self, out: &SeqFile) {
//!         seq_print!(out, "id {}\n", self.id);
//!     }
//! }
//!
//! let folder = Dir::new(c"rmpath");
//! let file = File::new(&folder, fmt!("rmpath{}", head.id), head.clone(), &module)?;
//! drop(file); // nobody is in `show` any more; who still has it open reads EIO
//! ```

use crate::{
    abstractions::module::ModuleRef,
    bindings, //
};
use core::{
    marker::PhantomData,
    mem::zeroed, //
};
use kernel::{
    fmt,
    prelude::*,
    seq_file::SeqFile,
    str::CString,
    sync::Arc, //
};

/// A folder at the top of debugfs, removed when dropped.
///
/// # Invariants
///
/// `0` is what `debugfs_create_dir()` returned: a folder that we own, or an error.
pub(crate) struct Dir(*mut bindings::dentry);

// SAFETY: The C functions that take the folder do their own locking, and care for no thread.
unsafe impl Send for Dir {}
// SAFETY: As above.
unsafe impl Sync for Dir {}

impl Dir {
    /// Makes a folder. May sleep.
    pub(crate) fn new(name: &CStr) -> Self {
        // SAFETY: The name is a valid string; no parent means the top.
        let dentry = unsafe {
            bindings::rmpath_debugfs_create_dir(name.as_char_ptr(), core::ptr::null_mut())
        };
        // INVARIANT: As returned.
        Self(dentry)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is a folder of ours, or an error, which is ignored. It is
        // empty: a file keeps its folder.
        unsafe { bindings::rmpath_debugfs_remove(self.0) };
    }
}

/// What can be shown in a file.
pub(crate) trait Show: Send + Sync + 'static {
    /// Writes all of it. Called anew, with more room, if it did not fit; may sleep.
    fn show(&self, out: &SeqFile);
}

/// A file that shows a `T`, removed when dropped: that waits until nobody reads it, and may sleep.
/// Not to be dropped in [`Show::show`], or under a lock that this takes.
///
/// # Invariants
///
/// `dentry` is what `debugfs_create_file()` returned for `data`'s address and the operations of `T`.
pub(crate) struct File<T: Show> {
    dentry: *mut bindings::dentry,
    // After the file, which leads to it.
    _data: Arc<T>,
    // So that the folder goes after what is in it.
    _dir: Arc<Dir>,
}

// SAFETY: It owns an `Arc<T>`, whose `T` is shown on any thread; files are removed by any.
unsafe impl<T: Show> Send for File<T> {}
// SAFETY: Nothing can be done with a shared one.
unsafe impl<T: Show> Sync for File<T> {}

impl<T: Show> File<T> {
    /// Makes a file that only root may read. `ENOMEM` for its name; may sleep.
    ///
    /// Not during the module's init, in which there is no reference on it: who opens the file then would
    /// have one that a failing init does not count.
    pub(crate) fn new(
        dir: Arc<Dir>,
        name: fmt::Arguments<'_>,
        data: Arc<T>,
        _module: &ModuleRef,
    ) -> Result<Self> {
        let name = CString::try_from_fmt(name)?;
        // SAFETY: The name is a valid string, and `dir` a folder or an error, for which nothing is
        // made. The operations are static; `data` stays until the file is removed.
        let dentry = unsafe {
            bindings::rmpath_debugfs_create_file(
                name.as_char_ptr(),
                bindings::RMPATH_DEBUGFS_MODE,
                dir.0,
                Arc::as_ptr(&data).cast_mut().cast(),
                &Operations::<T>::TABLE,
            )
        };
        // INVARIANT: As returned.
        Ok(Self {
            dentry,
            _data: data,
            _dir: dir,
        })
    }
}

impl<T: Show> Drop for File<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant it is a file of ours, or an error, which is ignored.
        unsafe { bindings::rmpath_debugfs_remove(self.dentry) };
    }
}

struct Operations<T>(PhantomData<T>);

impl<T: Show> Operations<T> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: crate::THIS_MODULE.as_ptr(),
        open: Some(Self::open),
        read: Some(bindings::seq_read),
        llseek: Some(bindings::seq_lseek),
        release: Some(bindings::single_release),
        // SAFETY: All zeroes are no operations.
        ..unsafe { zeroed() }
    };

    /// # Safety
    ///
    /// As debugfs calls it: the file is not removed before this returns.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: The inode is valid; debugfs has put there what the file was made with.
        let data = unsafe { (*inode).i_private };
        // SAFETY: The file is being opened.
        unsafe { bindings::single_open(file, Some(Self::show), data) }
    }

    /// # Safety
    ///
    /// As `seq_read()` calls it for a file that `open` opened. debugfs calls that for a file that
    /// has not been removed only, whose removal waits for it to return.
    unsafe extern "C" fn show(seq: *mut bindings::seq_file, _: *mut c_void) -> c_int {
        // SAFETY: `single_open()` has put there what it was given.
        let data = unsafe { (*seq).private }.cast_const().cast::<T>();
        // SAFETY: The file has not been removed, so `File` still has its `Arc<T>`.
        let data = unsafe { &*data };
        // SAFETY: The caller promises that it is valid, and it is locked.
        data.show(unsafe { SeqFile::from_raw(seq) });
        0
    }
}
