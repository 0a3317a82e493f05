// SPDX-License-Identifier: GPL-2.0

//! Objects that are kept for the next who needs one, by the CPU that had the last.
//!
//! What is allocated for each I/O and freed when it ends is wanted again at once. The kernel's
//! allocator is fast, but for that it does too much.
//!
//! Each CPU has one word: the head of a list. Whoever wants an object takes the whole list in one
//! step, and with that it is the taker's alone; so does who has an object to spare. Nothing can come
//! between the steps but an interrupt, or another thread of this CPU, that finds no list and thinks
//! that there is none. What cannot be put back since there is another list by then is handed to the
//! caller, to be freed. That is rare, needs no lock and no interrupts to be disabled, and a list that
//! was carried to another CPU meanwhile is as good there.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)

use super::percpu::PerCpuPtr;
use core::ptr::{
    null_mut,
    NonNull, //
};
use kernel::prelude::*;

/// How many objects a CPU keeps at most.
pub(super) const MAX_SPARE: usize = 64;

/// What a spare object begins with.
struct Link {
    next: *mut Link,
    /// How many there are from here on.
    count: usize,
}

/// How large an object must be, and as what it must be aligned.
pub(super) type Room = [usize; 2];

/// Objects that are not in use, per CPU.
///
/// # Invariants
///
/// Each word is null or points to a list of [`Link`]s, each in memory that belongs to `self`, whose
/// `count` is that of the links from it on.
pub(super) struct PerCpuSpare {
    lists: PerCpuPtr<Link>,
}

/// Objects that found no place, to be freed one by one.
///
/// # Invariants
///
/// Null, or a list of [`Link`]s in memory that belongs to `self`.
#[must_use = "the objects have to be freed"]
pub(super) struct Spill(*mut Link);

impl Spill {
    const NONE: Self = Self(null_mut());
}

impl Iterator for Spill {
    type Item = NonNull<Room>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let link = NonNull::new(self.0)?;
        // SAFETY: By the type invariant it is a link of ours.
        // INVARIANT: The first is the caller's from here on.
        self.0 = unsafe { (*link.as_ptr()).next };
        Some(link.cast())
    }
}

impl PerCpuSpare {
    /// Nothing. May sleep. Fails with [`ENOMEM`].
    pub(super) fn new() -> Result<Self> {
        // INVARIANT: All are null.
        Ok(Self {
            lists: PerCpuPtr::new()?,
        })
    }

    /// An object, if this CPU has one. Any context.
    #[inline]
    pub(super) fn pop(&self) -> (Option<NonNull<Room>>, Spill) {
        let first = self.lists.take();
        let Some(link) = NonNull::new(first) else {
            return (None, Spill::NONE);
        };
        // SAFETY: By the type invariant it is a link, and with the whole list now ours.
        let rest = unsafe { (*link.as_ptr()).next };
        if !rest.is_null() && !self.lists.put(rest) {
            // INVARIANT: The rest is a list of ours.
            return (Some(link.cast()), Spill(rest));
        }
        (Some(link.cast()), Spill::NONE)
    }

    /// Keeps an object for the next, or returns what is too much. Any context.
    ///
    /// # Safety
    ///
    /// `object` must point to as much memory as a [`Room`], aligned as one, which the caller gives up.
    #[inline]
    pub(super) unsafe fn push(&self, object: NonNull<Room>) -> Spill {
        let link = object.cast::<Link>().as_ptr();
        let alone = Link {
            next: null_mut(),
            count: 1,
        };
        // SAFETY: The caller promises that there is room.
        unsafe { link.write(alone) };
        // INVARIANT: It is a list of one.
        if self.lists.put(link) {
            return Spill::NONE;
        }
        self.push_before(link)
    }

    /// The same for a link where there may be others.
    #[inline(never)]
    fn push_before(&self, link: *mut Link) -> Spill {
        let next = self.lists.take();
        let mut spill = Spill::NONE;
        let mut list = link;
        if !next.is_null() {
            // SAFETY: By the type invariant it is a link, and now ours.
            let count = unsafe { (*next).count };
            if count < MAX_SPARE {
                // SAFETY: The link is ours.
                unsafe {
                    link.write(Link {
                        next,
                        count: count + 1,
                    })
                };
            } else {
                // INVARIANT: It is a list of one.
                spill = Spill(link);
                list = next;
            }
        }
        // INVARIANT: Its counts are right.
        if self.lists.put(list) {
            return spill;
        }
        if spill.0.is_null() {
            // INVARIANT: Nobody else has the list.
            return Spill(list);
        }
        // SAFETY: The one link is ours, and is put before the rest.
        unsafe { (*spill.0).next = list };
        spill
    }

    /// Everything that is left. Nobody else uses it meanwhile.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = NonNull<Room>> + '_ {
        // INVARIANT: What was in a word is in the spill instead.
        self.lists.take_all().flat_map(Spill)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_percpu_spare)]
mod tests {
    use super::*;
    use crate::abstractions::kunit::Thread;
    use kernel::sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    };

    /// Objects whose first word is overwritten while they are spare, and the rest is not.
    type Object = [usize; 4];

    const MARK: usize = 0x5ca1ab1e;

    /// Frees what is spare when it is dropped, and says how many are missing then.
    struct Fixture {
        spare: PerCpuSpare,
        made: Atomic<i32>,
        broken: Arc<Atomic<i32>>,
        missing: Arc<Atomic<i32>>,
    }

    impl Drop for Fixture {
        fn drop(&mut self) {
            let mut freed = 0;
            for object in self.spare.drain() {
                freed += 1;
                // SAFETY: All that is spare here was made by `take`.
                drop(unsafe { KBox::<Object>::from_raw(object.cast().as_ptr()) });
            }
            self.missing.store(self.made.load(Relaxed) - freed, Relaxed);
        }
    }

    impl Fixture {
        fn new() -> Result<Self> {
            Ok(Self {
                spare: PerCpuSpare::new()?,
                made: Atomic::new(0),
                broken: Arc::new(Atomic::new(0), GFP_KERNEL)?,
                missing: Arc::new(Atomic::new(-1), GFP_KERNEL)?,
            })
        }

        fn free(&self, object: NonNull<Room>) {
            self.made.fetch_sub(1, Relaxed);
            // SAFETY: All that is spare here was made by `take`.
            drop(unsafe { KBox::<Object>::from_raw(object.cast().as_ptr()) });
        }

        fn take(&self) -> Result<KBox<Object>> {
            let (found, spill) = self.spare.pop();
            spill.for_each(|object| self.free(object));
            match found {
                // SAFETY: All that is spare here was made below.
                Some(object) => Ok(unsafe { KBox::from_raw(object.cast().as_ptr()) }),
                None => {
                    let object = KBox::new([0, 0, MARK, 0], GFP_KERNEL)?;
                    self.made.fetch_add(1, Relaxed);
                    Ok(object)
                }
            }
        }

        fn give(&self, object: KBox<Object>) {
            let object = NonNull::from(KBox::leak(object)).cast();
            // SAFETY: It is large enough, and given up.
            let spill = unsafe { self.spare.push(object) };
            spill.for_each(|object| self.free(object));
        }

        /// Takes several at once and gives them back, each in use by one only.
        fn work(&self, rounds: usize, several: usize) -> Result {
            for round in 0..rounds {
                let mut held = KVec::with_capacity(several, GFP_KERNEL)?;
                for _ in 0..several {
                    let mut object = self.take()?;
                    if object[2] != MARK {
                        self.broken.fetch_add(1, Relaxed);
                    }
                    object[2] = round;
                    object[3] = round;
                    held.push(object, GFP_KERNEL)?;
                }
                while let Some(mut object) = held.pop() {
                    if object[2] != round || object[3] != round {
                        self.broken.fetch_add(1, Relaxed);
                    }
                    object[2] = MARK;
                    self.give(object);
                }
            }
            Ok(())
        }
    }

    /// Ends it; returns how many are missing, and how often one was in two hands.
    fn end<T: core::ops::Deref<Target = Fixture>>(fixture: T) -> (i32, i32) {
        let (broken, missing) = (fixture.broken.clone(), fixture.missing.clone());
        drop(fixture);
        (missing.load(Relaxed), broken.load(Relaxed))
    }

    #[test]
    fn what_was_given_is_taken_again() -> Result {
        let fixture = KBox::new(Fixture::new()?, GFP_KERNEL)?;
        // The thread may change its CPU now and then, but not each time.
        fixture.work(1000, 1)?;
        let made = fixture.made.load(Relaxed);
        let ended = end(fixture);
        assert!(made < 100);
        assert_eq!(ended, (0, 0));
        Ok(())
    }

    #[test]
    fn no_more_are_kept_than_allowed() -> Result {
        let fixture = KBox::new(Fixture::new()?, GFP_KERNEL)?;
        let spill = 3 * MAX_SPARE;
        fixture.work(3, spill)?;
        let kept = fixture.made.load(Relaxed) as usize;
        let ended = end(fixture);
        // On each of two CPUs, should the thread have been moved.
        assert!(kept <= 2 * MAX_SPARE);
        assert_eq!(ended, (0, 0));
        Ok(())
    }

    #[test]
    fn each_is_in_use_by_one_only() -> Result {
        let fixture = Arc::new(Fixture::new()?, GFP_KERNEL)?;
        let mut threads = KVec::new();
        for several in [1, 2, 7] {
            let fixture = fixture.clone();
            let work = move || {
                if fixture.work(2000, several).is_err() {
                    fixture.broken.fetch_add(1, Relaxed);
                }
            };
            threads.push(Thread::spawn(work)?, GFP_KERNEL)?;
        }
        for thread in threads {
            thread.join();
        }
        let ended = end(fixture);
        assert_eq!(ended, (0, 0));
        Ok(())
    }
}
