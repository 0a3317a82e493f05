// SPDX-License-Identifier: GPL-2.0

//! What `dmsetup status` and `dmsetup table` show.

use crate::bindings;
use core::{
    fmt,
    marker::PhantomData, //
};
use kernel::{
    ffi::c_char,
    prelude::*, //
};

/// What is asked for.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum StatusKind {
    /// The state (`dmsetup status`).
    Info,
    /// The words that would make the target again (`dmsetup table`).
    Table,
    /// What the integrity measurement architecture records.
    Ima,
}

impl StatusKind {
    pub(super) fn from_raw(raw: bindings::status_type_t) -> Option<Self> {
        match raw {
            bindings::status_type_t_STATUSTYPE_INFO => Some(Self::Info),
            bindings::status_type_t_STATUSTYPE_TABLE => Some(Self::Table),
            bindings::status_type_t_STATUSTYPE_IMA => Some(Self::Ima),
            _ => None,
        }
    }
}

/// A buffer of dm core's for a string. What does not fit is cut off silently, as `DMEMIT` does:
/// dm core sees that the buffer is full and asks again with a larger one.
///
/// # Invariants
///
/// `buffer` is valid for writes of `len` bytes for `'a`; if `len` is not zero then `used` is less,
/// and the byte at `used` is 0.
pub(crate) struct StatusWriter<'a> {
    buffer: *mut u8,
    len: usize,
    used: usize,
    _buffer: PhantomData<&'a mut [u8]>,
}

impl StatusWriter<'_> {
    /// # Safety
    ///
    /// `buffer` must be valid for writes of `len` bytes for `'a`.
    pub(super) unsafe fn new(buffer: *mut c_char, len: usize) -> Self {
        let buffer = buffer.cast::<u8>();
        if len > 0 {
            // SAFETY: By this function's requirements there is room for it.
            unsafe { *buffer = 0 };
        }
        // INVARIANT: Nothing is used, and the byte there is 0.
        Self {
            buffer,
            len,
            used: 0,
            _buffer: PhantomData,
        }
    }

    /// How many bytes were written, without the terminating 0.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Adds `text`, as far as it fits.
    pub(crate) fn push(&mut self, text: &str) {
        let room = self.len.saturating_sub(self.used + 1);
        let count = text.len().min(room);
        if count == 0 {
            return;
        }
        // SAFETY: By the type invariant the buffer has `len` bytes, of which `used`, `count` and
        // one more are at most all. A buffer of dm core's does not overlap a `str`.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), self.buffer.add(self.used), count) };
        // INVARIANT: `count` is at most `len - used - 1`, and the byte there is written below.
        self.used += count;
        // SAFETY: By the type invariant `used` is less than `len`.
        unsafe { *self.buffer.add(self.used) = 0 };
    }
}

impl fmt::Write for StatusWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text);
        Ok(())
    }
}

/// Room for a test to write a status to.
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) struct TestBuffer<const N: usize>([u8; N]);

#[cfg(CONFIG_KUNIT = "y")]
impl<const N: usize> TestBuffer<N> {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self([0xff; N])
    }

    /// The writer to it, which starts from its beginning.
    pub(crate) fn writer(&mut self) -> StatusWriter<'_> {
        // SAFETY: The array is borrowed for as long as the writer lives.
        unsafe { StatusWriter::new(self.0.as_mut_ptr().cast(), N) }
    }

    /// What was written.
    pub(crate) fn text(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(N);
        core::str::from_utf8(&self.0[..end]).unwrap_or("not UTF-8")
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_writer)]
mod tests {
    use super::*;
    use core::fmt::Write as _;

    #[test]
    fn writes_and_terminates() {
        let mut buffer = TestBuffer::<16>::new();
        let mut out = buffer.writer();
        let _ = write!(out, "{} ab ", 1 + 1);
        let used = out.used();

        assert_eq!(used, 5);
        assert_eq!(buffer.text(), "2 ab ");
    }

    #[test]
    fn cuts_off_at_the_last_byte_but_one() {
        let mut buffer = TestBuffer::<4>::new();
        let mut out = buffer.writer();
        out.push("ab");
        out.push("cdef");
        out.push("g");
        let used = out.used();

        // dm core takes a string that leaves no byte but the 0 for one that was cut off.
        assert_eq!(used, 3);
        assert_eq!(buffer.text(), "abc");
    }

    #[test]
    fn writes_nothing_to_no_room() {
        let mut buffer = TestBuffer::<1>::new();
        let mut out = buffer.writer();
        out.push("ab");
        let used = out.used();

        assert_eq!(used, 0);
        assert_eq!(buffer.text(), "");
        // SAFETY: Nothing may be written.
        let mut none = unsafe { StatusWriter::new(core::ptr::null_mut(), 0) };
        none.push("ab");
        assert_eq!(none.used(), 0);
    }
}
