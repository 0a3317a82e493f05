// SPDX-License-Identifier: GPL-2.0

//! The kernel crate's allocation flags as C wants them.
//!
//! C header: [`include/linux/gfp_types.h`](srctree/include/linux/gfp_types.h)
//!
//! # Examples
//!
//! ```
//! assert_eq!(as_raw(GFP_KERNEL), bindings::GFP_KERNEL);
//! ```

use crate::bindings::{
    self,
    gfp_t, //
};
use core::mem::transmute;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// Returns the flags as a number, which the kernel crate keeps to itself.
pub(super) const fn as_raw(flags: Flags) -> gfp_t {
    // SAFETY: `Flags` is a structure of one `gfp_t`. If it ever is not, the sizes differ, or the
    // comparisons below do: both stop the build.
    unsafe { transmute::<Flags, gfp_t>(flags) }
}

const _: () = {
    assert!(as_raw(GFP_KERNEL) == bindings::GFP_KERNEL);
    assert!(as_raw(GFP_NOWAIT) == bindings::GFP_NOWAIT);
    assert!(as_raw(GFP_ATOMIC) == bindings::GFP_ATOMIC);
};
