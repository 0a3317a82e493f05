// SPDX-License-Identifier: GPL-2.0

//! The C side: what the kernel crate binds, plus what bindgen makes of `bindings/rmpath_helper.h`.

#![allow(
    clippy::all,
    dead_code,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    non_snake_case,
    improper_ctypes,
    unreachable_pub,
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    unused_imports
)]

pub(crate) use kernel::bindings::*;
pub(crate) use raw::*;
// The kernel crate knows of these that they exist, and no more.
pub(crate) use raw::{
    pr_held_reservation,
    pr_keys,
    pr_ops, //
};

#[allow(
    clippy::as_ptr_cast_mut,
    clippy::as_underscore,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks
)]
#[cfg_attr(not(CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES), allow(unknown_lints))]
#[allow(unnecessary_transmutes)]
mod raw {
    use kernel::bindings::*;
    use kernel::ffi;
    use kernel::prelude::Zeroable;
    use pin_init::MaybeZeroable;

    include!(env!("RMPATH_BINDINGS"));
}
