// SPDX-License-Identifier: GPL-2.0

//! Where bios wait that have no path.
//!
//! Whoever parks a bio must do so where it is certain that somebody who makes a path usable will
//! still come by: inside the read section that saw no path (he waits for a grace period between
//! publishing the path and taking the bios out), or with a kick of his own afterwards.

use crate::abstractions::{
    bio::list::{
        BioList,
        Listed, //
    },
    spinlock::{
        new_spinlock_irq,
        SpinLockIrq, //
    },
};
use kernel::prelude::*;

/// A list of waiting bios. What is left in it when it is dropped ends with an error.
#[pin_data]
pub(crate) struct ParkingLot<B: Listed> {
    #[pin]
    bios: SpinLockIrq<BioList<B>>,
}

impl<B: Listed> ParkingLot<B> {
    /// An empty one.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            bios <- new_spinlock_irq!(BioList::new(), "rmpath_parking_lot"),
        })
    }

    /// Parks a bio. Returns whether it is the only one. Any context.
    pub(crate) fn park(&self, bio: B) -> bool {
        let mut bios = self.bios.lock();
        bios.push(bio);
        bios.len() == 1
    }

    /// Takes all of them out. Any context.
    pub(crate) fn take(&self) -> BioList<B> {
        self.bios.lock().take()
    }

    /// How many wait now. Any context.
    pub(crate) fn len(&self) -> usize {
        self.bios.lock().len()
    }
}
