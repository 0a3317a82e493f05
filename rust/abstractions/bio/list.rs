// SPDX-License-Identifier: GPL-2.0

//! A list of bios, through their own `bi_next`: nothing is allocated.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h), `struct bio_list`

use crate::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// Something that owns a bio and can be kept in a [`BioList`].
///
/// # Safety
///
/// `from_raw` must be the inverse of `into_raw`, and between the two nobody may use `bi_next` but
/// the list.
pub(crate) unsafe trait Listed: Sized + Send {
    /// Gives up the value, but not the bio.
    fn into_raw(self) -> NonNull<bindings::bio>;

    /// Makes the value again.
    ///
    /// # Safety
    ///
    /// `bio` must come from `into_raw` of the same type, and be taken once.
    unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self;
}

/// First in, first out. Dropping the list drops what is in it.
///
/// # Invariants
///
/// `head` is the first of a chain of bios from [`Listed::into_raw`], linked by `bi_next` and ended
/// by null; `tail` is the last of them, or meaningless if `head` is null.
pub(crate) struct BioList<B: Listed> {
    head: *mut bindings::bio,
    tail: *mut bindings::bio,
    len: usize,
    _owns: PhantomData<B>,
}

// SAFETY: The list owns values that are `Send`.
unsafe impl<B: Listed> Send for BioList<B> {}

// What is in the list does not move when the list does.
impl<B: Listed> Unpin for BioList<B> {}

impl<B: Listed> BioList<B> {
    /// An empty list.
    pub(crate) const fn new() -> Self {
        // INVARIANT: An empty chain.
        Self {
            head: core::ptr::null_mut(),
            tail: core::ptr::null_mut(),
            len: 0,
            _owns: PhantomData,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Adds one at the end.
    pub(crate) fn push(&mut self, bio: B) {
        let bio = bio.into_raw().as_ptr();
        // SAFETY: `into_raw` gave us a valid bio whose `bi_next` is ours.
        unsafe { (*bio).bi_next = core::ptr::null_mut() };
        if self.head.is_null() {
            self.head = bio;
        } else {
            // SAFETY: By the type invariant `tail` is a valid bio of the chain.
            unsafe { (*self.tail).bi_next = bio };
        }
        // INVARIANT: The chain ends with `bio`, whose `bi_next` is null.
        self.tail = bio;
        self.len += 1;
    }

    /// Takes the first one out.
    pub(crate) fn pop(&mut self) -> Option<B> {
        let bio = NonNull::new(self.head)?;
        // SAFETY: By the type invariant `head` is a valid bio of the chain.
        // INVARIANT: The chain begins with the next one.
        self.head = unsafe { (*bio.as_ptr()).bi_next };
        // SAFETY: As above; the bio leaves the chain.
        unsafe { (*bio.as_ptr()).bi_next = core::ptr::null_mut() };
        self.len -= 1;
        // SAFETY: It came from `into_raw`, and has just left the chain.
        Some(unsafe { B::from_raw(bio) })
    }

    /// Adds all of another list at the end.
    pub(crate) fn append(&mut self, mut other: Self) {
        let head = core::mem::replace(&mut other.head, core::ptr::null_mut());
        if head.is_null() {
            return;
        }
        if self.head.is_null() {
            self.head = head;
        } else {
            // SAFETY: By the type invariant `tail` is a valid bio of the chain.
            unsafe { (*self.tail).bi_next = head };
        }
        // INVARIANT: The chain ends with that of the other list, which is empty now.
        self.tail = other.tail;
        self.len += core::mem::take(&mut other.len);
    }

    /// Takes all of them out.
    pub(crate) fn take(&mut self) -> Self {
        core::mem::replace(self, Self::new())
    }
}

impl<B: Listed> Drop for BioList<B> {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            drop(bio);
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kernel::prelude::kunit_tests(rmpath_bio_list)]
mod tests {
    use super::*;
    use kernel::prelude::*;

    /// A bio that is never submitted: memory to link.
    struct Dummy(KBox<bindings::bio>);

    // SAFETY: The box is given up and made again; `bi_next` is used by nobody else.
    unsafe impl Listed for Dummy {
        fn into_raw(self) -> NonNull<bindings::bio> {
            NonNull::from(KBox::leak(self.0))
        }

        unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
            // SAFETY: The caller promises that it came from `into_raw`, once.
            Self(unsafe { KBox::from_raw(bio.as_ptr()) })
        }
    }

    // SAFETY: It owns its memory alone.
    unsafe impl Send for Dummy {}

    impl Dummy {
        fn new(number: u64) -> Result<Self> {
            let mut bio = KBox::new(bindings::bio::default(), GFP_KERNEL)?;
            bio.bi_iter.bi_sector = number;
            Ok(Self(bio))
        }
    }

    #[test]
    fn a_list_is_appended_in_order() -> Result {
        let mut list = BioList::new();
        list.append(BioList::new());
        let mut one = BioList::new();
        one.push(Dummy::new(1)?);
        list.append(one);
        let mut others = BioList::new();
        others.push(Dummy::new(2)?);
        others.push(Dummy::new(3)?);
        list.append(others);
        list.append(BioList::new());
        list.push(Dummy::new(4)?);
        let len = list.len();
        let mut sum = 0;
        while let Some(dummy) = list.pop() {
            sum = sum * 10 + dummy.0.bi_iter.bi_sector;
        }

        assert_eq!(len, 4);
        assert_eq!(sum, 1234);
        Ok(())
    }

    #[test]
    fn first_in_first_out() -> Result {
        let mut list = BioList::new();
        for number in 0..3 {
            list.push(Dummy::new(number)?);
        }
        let len = list.len();
        let mut taken = list.take();
        let left = list.len();
        list.push(Dummy::new(9)?);
        let mut sum = 0;
        let mut order = 0;
        while let Some(dummy) = taken.pop() {
            sum = sum * 10 + dummy.0.bi_iter.bi_sector;
            order += 1;
        }
        let last = list.pop().map(|dummy| dummy.0.bi_iter.bi_sector);

        assert_eq!(len, 3);
        assert_eq!(left, 0);
        assert_eq!(sum, 12);
        assert_eq!(order, 3);
        assert_eq!(last, Some(9));
        assert!(list.is_empty());
        Ok(())
    }
}
