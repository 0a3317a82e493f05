// SPDX-License-Identifier: GPL-2.0

//! Devices of a target that are used outside of its callbacks.
//!
//! dm core knows of clones and callbacks, and puts the devices when there are none any more. What a
//! target sends to a device by itself it has to wait for: who holds a device is waited for before
//! the devices are put, and afterwards nobody comes to hold one.

use crate::{
    abstractions::{
        block_device::Bdev,
        spinlock::{
            new_spinlock_irq,
            SpinLockIrq, //
        }, //
    },
    bindings, //
};
use core::ptr::NonNull;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        Completion, //
    },
};

/// How many hold a device, and whether one more may.
struct Count {
    holders: u32,
    shut: bool,
}

/// Those who hold a device of one target.
#[pin_data]
pub(super) struct Holders {
    #[pin]
    count: SpinLockIrq<Count>,
    #[pin]
    none_left: Completion,
}

impl Holders {
    pub(super) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                count <- new_spinlock_irq!(
                    Count { holders: 0, shut: false },
                    "device_mapper::Holders"
                ),
                none_left <- Completion::new(),
            }),
            GFP_KERNEL,
        )
    }

    fn enter(&self) -> bool {
        let mut count = self.count.lock();
        if !count.shut {
            count.holders += 1;
        }
        !count.shut
    }

    fn leave(&self) {
        let mut count = self.count.lock();
        count.holders -= 1;
        let last = count.shut && count.holders == 0;
        drop(count);
        if last {
            self.none_left.complete_all();
        }
    }

    /// Lets nobody in any more, and waits for those who are there. May sleep.
    pub(super) fn shut(&self) {
        let mut count = self.count.lock();
        count.shut = true;
        let wait = count.holders > 0;
        drop(count);
        if wait {
            self.none_left.wait_for_completion();
        }
    }
}

/// A device of a target that can be held.
///
/// # Invariants
///
/// `bdev` is open until [`Holders::shut`] has returned.
#[derive(Clone)]
pub(crate) struct Holdable {
    bdev: NonNull<bindings::block_device>,
    holders: Arc<Holders>,
}

// SAFETY: A block device may be used by any thread.
unsafe impl Send for Holdable {}

// SAFETY: As above, by several at a time.
unsafe impl Sync for Holdable {}

impl Holdable {
    /// # Safety
    ///
    /// `bdev` must be open until [`Holders::shut`] of `holders` has returned.
    pub(super) unsafe fn new(
        bdev: NonNull<bindings::block_device>,
        holders: &Arc<Holders>,
    ) -> Self {
        // INVARIANT: The caller promises it.
        Self {
            bdev,
            holders: holders.clone(),
        }
    }

    /// Holds it, unless the target is on its way out. Any context.
    pub(crate) fn hold(&self) -> Option<Hold> {
        // INVARIANT: Entered, and left when this is dropped.
        self.holders.enter().then(|| Hold(self.clone()))
    }
}

/// A device that is held: the target's end waits until this is dropped, in whatever context.
///
/// # Invariants
///
/// The holders have been entered, and will be left once.
pub(crate) struct Hold(Holdable);

impl AsRef<Bdev> for Hold {
    fn as_ref(&self) -> &Bdev {
        // SAFETY: By the type invariants the device is open as long as `shut` has not returned,
        // which waits for this.
        unsafe { Bdev::from_raw(self.0.bdev.as_ptr()) }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holders.leave();
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_hold)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::Thread;
    use kernel::sync::atomic::{
        Atomic,
        Full, //
    };

    #[test]
    fn the_end_waits_for_holders_and_lets_nobody_in() -> Result {
        let holders = Holders::new()?;
        // SAFETY: Nobody looks at the device.
        let device = unsafe { Holdable::new(NonNull::dangling(), &holders) };
        let first = device.hold();
        let second = device.hold();
        let entered = first.is_some() && second.is_some();
        drop(first);
        let left = Arc::new(Atomic::new(0u32), GFP_KERNEL)?;
        let theirs = left.clone();
        let started = Arc::pin_init(Completion::new(), GFP_KERNEL)?;
        let begun = started.clone();
        let thread = Thread::spawn(move || {
            begun.wait_for_completion();
            theirs.xchg(1, Full);
            drop(second);
        })?;
        started.complete_all();
        holders.shut();
        let had_left = left.xchg(2, Full);
        thread.join();
        let late = device.hold().is_some();
        // Again it waits for nobody.
        holders.shut();
        drop((device, holders));

        assert!(entered);
        assert_eq!(had_left, 1);
        assert!(!late);
        Ok(())
    }
}
