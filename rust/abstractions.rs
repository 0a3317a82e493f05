// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of the kernel's C interfaces: the only place with unsafe code.
//!
//! One file per kernel interface, named as it would be upstream.

#![allow(unsafe_code)]

pub(crate) mod module;
pub(crate) mod workqueue;
