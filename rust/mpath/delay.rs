// SPDX-License-Identifier: GPL-2.0

//! Where bios wait that are not to be sent again before a certain time.
//!
//! One timer serves all of them. It is armed for the one that is due first, under the lock, so that
//! of two who arm it the one with the later time cannot be the last.

use crate::abstractions::{
    bio::list::{
        BioList,
        Listed, //
    },
    clock::now_ns,
    spinlock::{
        new_spinlock_irq,
        SpinLockIrq, //
    },
};
use kernel::prelude::*;

/// A bio that knows when it is due.
pub(crate) trait Due {
    /// Nanoseconds of the monotonic clock.
    fn due(&self) -> u64;
}

struct Waiting<B: Listed> {
    bios: BioList<B>,
    /// What the timer is armed for.
    next: Option<u64>,
}

/// A list of bios that wait for their time. What is left in it when it is dropped ends with an
/// error.
#[pin_data]
pub(crate) struct DelayLot<B: Listed + Due> {
    #[pin]
    waiting: SpinLockIrq<Waiting<B>>,
}

impl<B: Listed + Due> DelayLot<B> {
    /// An empty one.
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            waiting <- new_spinlock_irq!(
                Waiting { bios: BioList::new(), next: None },
                "rmpath_delay_lot"
            ),
        })
    }

    /// Keeps a bio until it is due. If it is due before all others, `arm` is called with the time
    /// until then, in nanoseconds, under the lock; what it returns comes back after that. Any
    /// context.
    pub(crate) fn hold<R>(&self, bio: B, arm: impl FnOnce(u64) -> R) -> Option<R> {
        let due = bio.due();
        let mut waiting = self.waiting.lock();
        waiting.bios.push(bio);
        if !is_first(due, waiting.next) {
            return None;
        }
        waiting.next = Some(due);
        Some(arm(due.saturating_sub(now_ns())))
    }

    /// Takes those out that are due. If others are left, `arm` is called as by [`DelayLot::hold`].
    /// Any context.
    pub(crate) fn take_due<R>(&self, arm: impl FnOnce(u64) -> R) -> (BioList<B>, Option<R>) {
        let now = now_ns();
        let mut ready = BioList::new();
        let mut waiting = self.waiting.lock();
        let mut all = waiting.bios.take();
        waiting.next = None;
        while let Some(bio) = all.pop() {
            let due = bio.due();
            if due <= now {
                ready.push(bio);
                continue;
            }
            if is_first(due, waiting.next) {
                waiting.next = Some(due);
            }
            waiting.bios.push(bio);
        }
        let armed = waiting.next.map(|next| arm(next - now));
        (ready, armed)
    }

    /// Takes those out of which this is true, due or not. The timer may find nothing then. Any context.
    pub(crate) fn take_if(&self, is_wanted: impl Fn(&B) -> bool) -> BioList<B> {
        let mut wanted = BioList::new();
        let mut waiting = self.waiting.lock();
        let mut all = waiting.bios.take();
        while let Some(bio) = all.pop() {
            if is_wanted(&bio) {
                wanted.push(bio);
            } else {
                waiting.bios.push(bio);
            }
        }
        wanted
    }

    /// Takes all of them out, due or not. The timer finds nothing then. Any context.
    pub(crate) fn take(&self) -> BioList<B> {
        let mut waiting = self.waiting.lock();
        waiting.next = None;
        waiting.bios.take()
    }

    /// How many wait now. Any context.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().bios.len()
    }
}

/// Whether the timer has to be armed for `due`, when it is armed for `next`.
fn is_first(due: u64, next: Option<u64>) -> bool {
    next.is_none_or(|next| due < next)
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_delay)]
mod tests {
    use super::*;

    #[test]
    fn the_timer_is_for_the_first() {
        assert!(is_first(5, None));
        assert!(is_first(5, Some(6)));
        assert!(!is_first(5, Some(5)));
        assert!(!is_first(6, Some(5)));
    }
}
