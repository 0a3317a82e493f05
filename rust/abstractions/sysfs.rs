// SPDX-License-Identifier: GPL-2.0

//! Sysfs attributes: functions that show and store a text, in static tables.
//!
//! A table says what its files are called and which functions of a `T` serve them. It becomes files
//! in a folder of ours ([`Folder`]), in the folder of a disk ([`attribute_groups!`]) or of a class
//! ([`Class`]).
//!
//! C headers: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`include/linux/kstrtox.h`](srctree/include/linux/kstrtox.h)
//!
//! [`Class`]: crate::abstractions::class::Class
//! [`Folder`]: crate::abstractions::kobject::Folder
//! [`attribute_groups!`]: crate::abstractions::device_attr::attribute_groups
//!
//! # Examples
//!
//! ```ignore
//! struct Path {
//!     weight: Atomic<u32>,
//! }
//!
//! fn show_weight(path: &Path, out: &mut Output<'_>) -> Result {
//!     writeln!(out, "{}", path.weight.load(Relaxed))
//! }
//!
//! fn store_weight(path: ArcBorrow<'_, Path>, text: &[u8]) -> Result {
//!     path.weight.store(parse_u32(text)?, Relaxed);
//!     Ok(())
//! }
//!
//! static PATH_ATTRIBUTES: [Attribute<Path>; 1] =
//!     [Attribute::rw(c"weight", show_weight, store_weight)];
//! ```

use core::marker::PhantomData;
use kernel::{
    fmt,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

use crate::bindings;

/// Writes the text of an attribute.
///
/// An error goes to the reader as the result of its read. Context: may sleep.
pub(crate) type Show<T> = fn(&T, &mut Output<'_>) -> Result;

/// Takes the bytes of one write; [`Ok`] accepts all of them.
///
/// An error goes to the writer. One write is at most a page long, of a longer one only the first
/// page arrives here. The bytes are the user's: anything may be in them, and mostly a newline ends
/// them.
///
/// The store keeps its file from going away, and its folder with it, so it must never wait for the
/// end of either: it arms the removal instead, for which it can make an [`Arc`] of the object.
/// Context: may sleep.
pub(crate) type Store<T> = fn(ArcBorrow<'_, T>, &[u8]) -> Result;

/// One file: its name and what reads and writes it.
///
/// It has to stand in a `static`, because lockdep gives each attribute a lock class by its address.
pub(crate) struct Attribute<T: 'static> {
    name: &'static CStr,
    show: Option<Show<T>>,
    store: Option<Store<T>>,
    #[cfg_attr(not(CONFIG_DEBUG_LOCK_ALLOC), allow(dead_code))]
    key: Opaque<bindings::lock_class_key>,
}

// SAFETY: Nothing in it is changed but the key, which lockdep guards by itself.
unsafe impl<T> Sync for Attribute<T> {}

impl<T> Attribute<T> {
    /// A file that everybody reads and nobody writes (mode 0444).
    pub(crate) const fn ro(name: &'static CStr, show: Show<T>) -> Self {
        Self::new(name, Some(show), None)
    }

    /// A file that everybody reads and root writes (mode 0644).
    pub(crate) const fn rw(name: &'static CStr, show: Show<T>, store: Store<T>) -> Self {
        Self::new(name, Some(show), Some(store))
    }

    /// A file that nobody reads and root writes (mode 0200).
    pub(crate) const fn wo(name: &'static CStr, store: Store<T>) -> Self {
        Self::new(name, None, Some(store))
    }

    const fn new(name: &'static CStr, show: Option<Show<T>>, store: Option<Store<T>>) -> Self {
        Self {
            name,
            show,
            store,
            key: Opaque::zeroed(),
        }
    }

    /// What every kind of file has, in a static: its lock class is then its own address.
    pub(super) const fn raw_static(&self) -> bindings::attribute {
        // SAFETY: Null pointers, zero and false are values of the fields.
        let mut raw: bindings::attribute = unsafe { core::mem::zeroed() };
        raw.name = kernel::str::as_char_ptr_in_const_context(self.name);
        raw.mode = match (self.show, self.store) {
            (Some(_), Some(_)) => 0o644,
            (Some(_), None) => 0o444,
            (None, _) => 0o200,
        };
        raw
    }

    /// What every kind of file has, in allocated memory: its lock class is the attribute's.
    pub(super) fn raw(&'static self) -> bindings::attribute {
        #[allow(unused_mut)]
        let mut raw = self.raw_static();
        #[cfg(CONFIG_DEBUG_LOCK_ALLOC)]
        {
            raw.key = self.key.get();
        }
        raw
    }

    /// Shows the attribute of `data` in the page that sysfs gives, for the result that sysfs takes.
    ///
    /// # Safety
    ///
    /// `page` must be initialised, and valid for reads and writes of `PAGE_SIZE` bytes by us alone.
    pub(super) unsafe fn show(&self, data: &T, page: *mut c_char) -> isize {
        let Some(show) = self.show else {
            return EIO.to_errno() as isize;
        };
        // SAFETY: By this function's requirements.
        let mut out = unsafe { Output::from_page(page.cast()) };
        match show(data, &mut out) {
            Ok(()) => out.len as isize,
            Err(e) => e.to_errno() as isize,
        }
    }

    /// Stores `len` bytes at `text` in the attribute of `data`, for the result that sysfs takes.
    ///
    /// # Safety
    ///
    /// `text` must be valid for reads of `len` bytes, and nobody may write them meanwhile.
    pub(super) unsafe fn store(
        &self,
        data: ArcBorrow<'_, T>,
        text: *const c_char,
        len: usize,
    ) -> isize {
        let Some(store) = self.store else {
            return EIO.to_errno() as isize;
        };
        // SAFETY: By this function's requirements.
        let text = unsafe { core::slice::from_raw_parts(text.cast::<u8>(), len) };
        match store(data, text) {
            Ok(()) => len as isize,
            Err(e) => e.to_errno() as isize,
        }
    }
}

/// A file of one object: the C side's structure `C`, and from there the way to the object and its
/// attribute.
///
/// # Invariants
///
/// `data` comes from [`Arc::as_ptr`], and is alive for as long as the C side may call the file's
/// functions.
#[repr(C)]
pub(super) struct File<C, T: 'static> {
    raw: Opaque<C>,
    attribute: &'static Attribute<T>,
    data: *const T,
}

impl<C, T> File<C, T> {
    /// The files of `data`, one for each of `attributes`; `raw` makes the structures.
    ///
    /// # Safety
    ///
    /// The caller keeps `data` (an [`Arc`] of the same object) until the files are no longer
    /// reachable.
    pub(super) unsafe fn table(
        data: &Arc<T>,
        attributes: &'static [Attribute<T>],
        raw: impl Fn(&'static Attribute<T>) -> C,
    ) -> Result<KVec<Self>> {
        let mut files = KVec::with_capacity(attributes.len(), GFP_KERNEL)?;
        for attribute in attributes {
            files.push(
                // INVARIANT: The caller keeps `data` for as long as there are calls.
                Self {
                    raw: Opaque::new(raw(attribute)),
                    attribute,
                    data: Arc::as_ptr(data),
                },
                GFP_KERNEL,
            )?;
        }
        Ok(files)
    }

    /// The structure to hand to the C side.
    pub(super) fn raw(&self) -> *mut C {
        self.raw.get()
    }

    /// The file that a structure is in.
    ///
    /// # Safety
    ///
    /// `raw` must come from [`File::raw`], and the C side must keep the file alive for `'a` (it
    /// does so during a call of one of the file's functions).
    unsafe fn of<'a>(raw: *const C) -> &'a Self {
        // SAFETY: `raw` is the first field, and the file is alive, by this function's requirements.
        unsafe { &*raw.cast::<Self>() }
    }

    fn data(&self) -> ArcBorrow<'_, T> {
        // SAFETY: By the type invariant. No `UniqueArc` exists beside the `Arc` that is being kept.
        unsafe { ArcBorrow::from_raw(self.data) }
    }

    /// Serves a read of the file.
    ///
    /// # Safety
    ///
    /// Only for the C side's calls: `raw` as for [`File::of`], `page` as for [`Attribute::show`].
    pub(super) unsafe fn show(raw: *const C, page: *mut c_char) -> isize {
        // SAFETY: By this function's requirements, for the time of the call.
        let file = unsafe { Self::of(raw) };
        // SAFETY: By this function's requirements.
        unsafe { file.attribute.show(&file.data(), page) }
    }

    /// Serves a write to the file.
    ///
    /// # Safety
    ///
    /// Only for the C side's calls: `raw` as for [`File::of`], the text as for
    /// [`Attribute::store`].
    pub(super) unsafe fn store(raw: *const C, text: *const c_char, len: usize) -> isize {
        // SAFETY: By this function's requirements, for the time of the call.
        let file = unsafe { Self::of(raw) };
        // SAFETY: By this function's requirements.
        unsafe { file.attribute.store(file.data(), text, len) }
    }
}

/// The page that a read of an attribute fills.
///
/// What does not fit is cut off, as `sysfs_emit()` does it, so that writing never fails.
///
/// # Invariants
///
/// `page` is valid for writes of [`Output::CAPACITY`] bytes for `'a`, and `len` is no more than
/// that.
pub(crate) struct Output<'a> {
    page: *mut u8,
    len: usize,
    _page: PhantomData<&'a mut [u8]>,
}

impl Output<'_> {
    /// The longest text, in bytes: sysfs takes a full page for an overrun and warns.
    pub(crate) const CAPACITY: usize = PAGE_SIZE - 1;

    /// # Safety
    ///
    /// `page` must be valid for writes of `PAGE_SIZE` bytes by nobody else while the output exists.
    unsafe fn from_page(page: *mut u8) -> Self {
        // INVARIANT: By this function's requirements.
        Self {
            page,
            len: 0,
            _page: PhantomData,
        }
    }

    /// Appends bytes, as many as fit.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(Self::CAPACITY - self.len);
        // SAFETY: `len` bytes in, the page has room for `count`, by the type invariant.
        let end = unsafe { self.page.add(self.len) };
        // SAFETY: Both are valid for `count` bytes, and the page is ours alone.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), end, count) };
        // INVARIANT: `count` is at most what `len` lacks of the capacity.
        self.len += count;
    }

    /// For `write!` and `writeln!`: appends a formatted text.
    ///
    /// # Errors
    ///
    /// [`EINVAL`] if one of the arguments cannot be formatted.
    pub(crate) fn write_fmt(&mut self, args: fmt::Arguments<'_>) -> Result {
        Ok(fmt::Write::write_fmt(self, args)?)
    }
}

impl fmt::Write for Output<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.write_bytes(s.as_bytes());
        Ok(())
    }
}

/// The text without the newline that `echo` puts at its end: what `sysfs_streq()` compares.
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

/// As [`parse_u64`], of 32 bits.
pub(crate) fn parse_u32(text: &[u8]) -> Result<u32> {
    u32::try_from(parse_u64(text)?).or(Err(ERANGE))
}

/// Reads a number as `kstrtoull(text, 0)` does: decimal, 0x-hexadecimal or 0-octal, perhaps with a
/// plus sign and a newline around it.
///
/// # Errors
///
/// [`EINVAL`] if it is not a number, [`ERANGE`] if it is one of more than 64 bits.
pub(crate) fn parse_u64(text: &[u8]) -> Result<u64> {
    let text = trimmed(text);
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let (radix, digits) = match text {
        [] => return Err(EINVAL),
        [b'0', b'x' | b'X', digits @ ..] if !digits.is_empty() => (16, digits),
        [b'0', ..] => (8, text),
        _ => (10, text),
    };
    // Something that is not a number stays so when its first digits are out of range already.
    let mut value = Some(0u64);
    for digit in digits {
        let digit = char::from(*digit).to_digit(radix).ok_or(EINVAL)?;
        value = value.and_then(|v| v.checked_mul(radix.into())?.checked_add(digit.into()));
    }
    value.ok_or(ERANGE)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_sysfs)]
mod tests {
    use super::*;

    /// What the C side makes of it.
    fn theirs(text: &CStr) -> Result<u32> {
        let mut value = 0;
        // SAFETY: The text is terminated, and the result has a place.
        let ret = unsafe { bindings::kstrtouint(text.as_char_ptr(), 0, &mut value) };
        kernel::error::to_result(ret).map(|()| value)
    }

    #[test]
    fn numbers() {
        for (text, value) in [
            (c"0", 0),
            (c"12\n", 12),
            (c"+12", 12),
            (c"0x1f\n", 31),
            (c"0XFF", 255),
            (c"017", 15),
            (c"4294967295\n", u32::MAX),
            (c"0xffffffff", u32::MAX),
        ] {
            assert_eq!(parse_u32(text.to_bytes()), Ok(value));
            assert_eq!(theirs(text), Ok(value));
        }
    }

    #[test]
    fn numbers_of_64_bits() {
        for (text, value) in [
            (c"4294967296\n", Ok(1 << 32)),
            (c"18446744073709551615", Ok(u64::MAX)),
            (c"0xffffffffffffffff", Ok(u64::MAX)),
            (c"18446744073709551616", Err(ERANGE)),
            (c"0x10000000000000000", Err(ERANGE)),
            (c"1x", Err(EINVAL)),
        ] {
            assert_eq!(parse_u64(text.to_bytes()), value);
            let mut theirs = 0;
            // SAFETY: The text is terminated, and the result has a place.
            let ret = unsafe { bindings::kstrtoull(text.as_char_ptr(), 0, &mut theirs) };
            assert_eq!(kernel::error::to_result(ret).map(|()| theirs), value);
        }
    }

    #[test]
    fn numbers_out_of_range() {
        for text in [
            c"4294967296",
            c"4294967300\n",
            c"0x100000000",
            c"17179869184",
            c"99999999999999999999999999",
        ] {
            assert_eq!(parse_u32(text.to_bytes()), Err(ERANGE));
            assert_eq!(theirs(text), Err(ERANGE));
        }
    }

    #[test]
    fn not_numbers() {
        for text in [
            c"",
            c"\n",
            c" 1",
            c"1 ",
            c"1\n\n",
            c"-1",
            c"-",
            c"+",
            c"++1",
            c"0x",
            c"0xg",
            c"0x-1",
            c"08",
            c"1a",
            c"a",
            c"\xff",
            c"4294967296x",
        ] {
            assert_eq!(parse_u32(text.to_bytes()), Err(EINVAL));
            assert_eq!(theirs(text), Err(EINVAL));
        }
        // The C side does not see what follows a zero byte.
        assert_eq!(parse_u32(b"1\0"), Err(EINVAL));
    }

    #[test]
    fn newline_at_the_end() {
        assert_eq!(trimmed(b"live\n"), b"live");
        assert_eq!(trimmed(b"live"), b"live");
        assert_eq!(trimmed(b"live\n\n"), b"live\n");
        assert_eq!(trimmed(b"\n"), b"");
        assert_eq!(trimmed(b""), b"");
    }

    #[test]
    fn output_never_overruns() -> Result {
        let mut page = KVec::from_elem(0xa5u8, PAGE_SIZE + 1, GFP_KERNEL)?;
        // SAFETY: There is a page, and it is ours.
        let mut out = unsafe { Output::from_page(page.as_mut_ptr()) };
        let mut results = Ok(());
        for _ in 0..PAGE_SIZE {
            results = results.and(write!(out, "abc"));
        }
        let len = out.len;
        assert_eq!(results, Ok(()));
        assert_eq!(len, Output::CAPACITY);
        assert!(page[..6] == *b"abcabc");
        assert_eq!(page[PAGE_SIZE - 2], b"abc"[(PAGE_SIZE - 2) % 3]);
        assert_eq!(page[PAGE_SIZE - 1], 0xa5);
        assert_eq!(page[PAGE_SIZE], 0xa5);
        Ok(())
    }

    #[test]
    fn modes_follow_from_the_functions() {
        fn show(_: &(), _: &mut Output<'_>) -> Result {
            Ok(())
        }
        fn store(_: ArcBorrow<'_, ()>, _: &[u8]) -> Result {
            Ok(())
        }
        static TABLE: [Attribute<()>; 3] = [
            Attribute::ro(c"ro", show),
            Attribute::rw(c"rw", show, store),
            Attribute::wo(c"wo", store),
        ];
        assert_eq!(TABLE[0].raw().mode, 0o444);
        assert_eq!(TABLE[1].raw().mode, 0o644);
        assert_eq!(TABLE[2].raw().mode, 0o200);
    }
}
