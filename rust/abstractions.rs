// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers of the kernel's C interfaces: the only place with unsafe code.
//!
//! One file per kernel interface, named as it would be upstream.

#![allow(unsafe_code)]

pub(crate) mod atomic;
pub(crate) mod bio;
pub(crate) mod block_device;
pub(crate) mod class;
pub(crate) mod class_interface;
pub(crate) mod clock;
pub(crate) mod cpumask;
pub(crate) mod debugfs;
pub(crate) mod device_attr;
pub(crate) mod device_mapper;
pub(crate) mod errno;
pub(crate) mod gendisk;
pub(crate) mod gfp;
pub(crate) mod idr;
pub(crate) mod kobject;
#[cfg(CONFIG_KUNIT = "y")]
pub(crate) mod kunit;
pub(crate) mod memalloc;
pub(crate) mod module;
pub(crate) mod numa;
pub(crate) mod percpu;
pub(crate) mod percpu_ref;
mod percpu_spare;
pub(crate) mod rcu;
pub(crate) mod spinlock;
pub(crate) mod sysfs;
pub(crate) mod workqueue;
pub(crate) mod xarray;
