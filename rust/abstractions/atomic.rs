// SPDX-License-Identifier: GPL-2.0

//! A load that is one instruction.
//!
//! `Atomic::load` calls a C function, which is more than all the rest when a word is looked at for
//! each I/O. `READ_ONCE()` is a volatile load, and so is this.
//!
//! C header: [`include/asm-generic/rwonce.h`](srctree/include/asm-generic/rwonce.h)
//!
//! # Examples
//!
//! ```ignore
//! let flags = Atomic::new(5u32);
//! assert_eq!(flags.load_once(), 5);
//! ```

use kernel::sync::atomic::Atomic;

/// The inline form of a relaxed load.
pub(crate) trait LoadOnce<T> {
    /// As `load(Relaxed)`. Any context.
    fn load_once(&self) -> T;
}

macro_rules! impl_load_once {
    ($($word:ty),*) => {$(
        impl LoadOnce<$word> for Atomic<$word> {
            #[inline]
            fn load_once(&self) -> $word {
                // SAFETY: The pointer is valid and aligned while `self` is borrowed. As
                // `READ_ONCE()` does, a volatile load of a word may race with atomic stores to it.
                unsafe { self.as_ptr().read_volatile() }
            }
        }
    )*};
}
impl_load_once!(u32, u64);

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_atomic)]
mod tests {
    use super::*;
    use kernel::sync::atomic::Relaxed;

    #[test]
    fn it_sees_what_was_stored() {
        let word = Atomic::new(1u32);
        assert_eq!(word.load_once(), 1);
        word.store(u32::MAX, Relaxed);
        assert_eq!(word.load_once(), u32::MAX);
    }
}
