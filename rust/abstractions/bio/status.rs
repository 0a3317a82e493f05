// SPDX-License-Identifier: GPL-2.0

//! How a bio ended.
//!
//! C header: [`include/linux/blk_types.h`](srctree/include/linux/blk_types.h)

use crate::bindings;

/// A `blk_status_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct BlkStatus(u8);

macro_rules! statuses {
    ($($(#[$meta:meta])* $name:ident = $raw:ident,)*) => {
        #[allow(dead_code)]
        impl BlkStatus {
            $($(#[$meta])* pub(crate) const $name: Self = Self(bindings::$raw as u8);)*
        }
    };
}

statuses! {
    /// No error.
    OK = RMPATH_BLK_STS_OK,
    /// The device does not support the operation.
    NOTSUPP = RMPATH_BLK_STS_NOTSUPP,
    /// It took too long.
    TIMEOUT = RMPATH_BLK_STS_TIMEOUT,
    /// The device is full.
    NOSPC = RMPATH_BLK_STS_NOSPC,
    /// The way to the device is broken.
    TRANSPORT = RMPATH_BLK_STS_TRANSPORT,
    /// The device itself refuses.
    TARGET = RMPATH_BLK_STS_TARGET,
    /// A reservation of somebody else is in the way.
    RESV_CONFLICT = RMPATH_BLK_STS_RESV_CONFLICT,
    /// The medium is damaged there.
    MEDIUM = RMPATH_BLK_STS_MEDIUM,
    /// The integrity data does not fit.
    PROTECTION = RMPATH_BLK_STS_PROTECTION,
    /// The host is short of something.
    RESOURCE = RMPATH_BLK_STS_RESOURCE,
    /// Any other error.
    IOERR = RMPATH_BLK_STS_IOERR,
    /// It would have to wait, and `REQ_NOWAIT` was set.
    AGAIN = RMPATH_BLK_STS_AGAIN,
    /// The device is short of something, for a while.
    DEV_RESOURCE = RMPATH_BLK_STS_DEV_RESOURCE,
    /// No more zones can be open.
    ZONE_OPEN_RESOURCE = RMPATH_BLK_STS_ZONE_OPEN_RESOURCE,
    /// No more zones can be active.
    ZONE_ACTIVE_RESOURCE = RMPATH_BLK_STS_ZONE_ACTIVE_RESOURCE,
    /// The device has been taken offline.
    OFFLINE = RMPATH_BLK_STS_OFFLINE,
    /// It took longer than its submitter allowed.
    DURATION_LIMIT = RMPATH_BLK_STS_DURATION_LIMIT,
    /// The bio makes no sense.
    INVAL = RMPATH_BLK_STS_INVAL,
}

impl BlkStatus {
    /// The status with this number.
    pub(crate) const fn from_raw(raw: u8) -> Self {
        Self(raw)
    }

    /// The number of this status.
    pub(crate) const fn as_raw(self) -> u8 {
        self.0
    }
}
