// SPDX-License-Identifier: GPL-2.0

//! Error numbers that the kernel crate does not name.
//!
//! C header: [`include/uapi/asm-generic/errno.h`](srctree/include/uapi/asm-generic/errno.h)

use crate::bindings;
use kernel::prelude::*;

macro_rules! errnos {
    ($($(#[$meta:meta])* $name:ident = $raw:ident;)*) => {$(
        $(#[$meta])*
        pub(crate) fn $name() -> Error {
            Error::from_errno(-(bindings::$raw as i32))
        }
    )*};
}

errnos! {
    /// `ELOOP`: what leads to itself.
    eloop = ELOOP;
    /// `ENODATA`: something that is needed is not there.
    enodata = ENODATA;
    /// `ENOTCONN`: no way there now.
    enotconn = ENOTCONN;
    /// `EOPNOTSUPP`: not supported on this kind of device.
    eopnotsupp = EOPNOTSUPP;
}
