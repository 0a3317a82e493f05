// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations.
//!
//! C header: [`include/linux/pr.h`](srctree/include/linux/pr.h)
//!
//! The seven operations of a disk are one here: a [`Command`], which one disk receives and has others
//! carry out.

use super::{
    Operations,
    Table, //
};
use crate::{
    abstractions::block_device::Bdev,
    bindings, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    sync::ArcBorrow, //
};

/// The largest number of keys that anybody asks for.
pub(crate) const MAX_KEYS: u32 = 1 << 16;

/// Do not look at the old key: `PR_FL_IGNORE_KEY`.
pub(crate) const IGNORE_KEY: u32 = bindings::PR_FL_IGNORE_KEY;

/// How a device can be reserved: `enum pr_type`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind(bindings::pr_type);

/// Something that can be done about reservations.
pub(crate) enum Command<'a> {
    /// Registers `new` in place of `old`; 0 is no key.
    Register { old: u64, new: u64, flags: u32 },
    /// Reserves the device for who has registered `key`.
    Reserve { key: u64, kind: Kind, flags: u32 },
    /// Gives the reservation up.
    Release { key: u64, kind: Kind },
    /// Takes the registrations with the key `victim` away, and the reservation if it is theirs.
    Preempt {
        key: u64,
        victim: u64,
        kind: Kind,
        abort: bool,
    },
    /// Takes all registrations away, and the reservation.
    Clear { key: u64 },
    /// Which keys are registered.
    ReadKeys(Keys<'a>),
    /// Whose the reservation is.
    ReadReservation(&'a mut Held),
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The device, or the way there, says so: an `enum pr_status` that is not success.
    Status(u32),
    /// The kernel says so.
    Errno(Error),
}

impl Failure {
    /// Somebody else's key, or reservation, is in the way.
    pub(crate) const CONFLICT: Self = Self::Status(bindings::pr_status_PR_STS_RESERVATION_CONFLICT);

    fn check(result: c_int) -> Result<(), Self> {
        match result {
            0 => Ok(()),
            1.. => Err(Self::Status(result as u32)),
            _ => Err(Self::Errno(Error::from_errno(result))),
        }
    }

    fn as_raw(self) -> c_int {
        match self {
            Self::Status(status) => status as c_int,
            Self::Errno(error) => error.to_errno(),
        }
    }

    /// Whether another way to the same device may do.
    pub(crate) fn is_path_failure(self) -> bool {
        match self {
            Self::Status(status) => matches!(
                status,
                bindings::pr_status_PR_STS_RETRY_PATH_FAILURE
                    | bindings::pr_status_PR_STS_PATH_FAST_FAILED
                    | bindings::pr_status_PR_STS_PATH_FAILED
            ),
            Self::Errno(error) => [ENODEV, ENXIO, EAGAIN].contains(&error),
        }
    }
}

impl Failure {
    /// Whether the driver says that the path will not come back by itself.
    pub(crate) fn has_failed_the_path(self) -> bool {
        matches!(
            self,
            Self::Status(
                bindings::pr_status_PR_STS_PATH_FAST_FAILED
                    | bindings::pr_status_PR_STS_PATH_FAILED
            )
        )
    }

    /// As an error of the kernel's: `EBUSY` for a conflict, else `EIO` for what the device says.
    pub(crate) fn to_error(self) -> Error {
        match self {
            Self::Errno(error) => error,
            Self::CONFLICT => EBUSY,
            Self::Status(_) => EIO,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Errno(error)
    }
}

/// Room for keys.
///
/// # Invariants
///
/// `raw` is valid for `'a`, has room for `room` keys, and is nobody else's meanwhile.
pub(crate) struct Keys<'a> {
    raw: NonNull<bindings::pr_keys>,
    room: u32,
    _words: PhantomData<&'a mut [u64]>,
}

/// Room for keys that is ours.
///
/// # Invariants
///
/// `words` begins with a [`pr_keys`](bindings::pr_keys), behind which there is room for `room` keys.
pub(crate) struct KeyBuffer {
    words: KVVec<u64>,
    room: u32,
}

impl KeyBuffer {
    /// Room for so many keys. `ENOMEM`; may sleep.
    pub(crate) fn new(room: u32) -> Result<Self> {
        const { assert!(size_of::<bindings::pr_keys>() == size_of::<u64>()) };
        // INVARIANT: The header is as large as one word, and each key is one.
        Ok(Self {
            words: KVVec::from_elem(0u64, room as usize + 1, GFP_KERNEL)?,
            room,
        })
    }

    /// To be filled.
    pub(crate) fn keys(&mut self) -> Keys<'_> {
        // INVARIANT: By our invariant there is that room, and `self` is borrowed for as long.
        Keys {
            // SAFETY: There is at least one word, so that it is allocated.
            raw: unsafe { NonNull::new_unchecked(self.words.as_mut_ptr().cast()) },
            room: self.room,
            _words: PhantomData,
        }
    }

    /// How many keys the device has, which may be more than there was room for.
    pub(crate) fn count(&self) -> u32 {
        // SAFETY: By the type invariant that is what they begin with.
        unsafe { (*self.words.as_ptr().cast::<bindings::pr_keys>()).num_keys }
    }

    /// Whether it has this key, as far as there was room.
    pub(crate) fn contains(&self, key: u64) -> bool {
        let count = self.count().min(self.room) as usize;
        self.words
            .iter()
            .skip(1)
            .take(count)
            .any(|word| *word == key)
    }
}

/// Room for a reservation's description.
#[repr(transparent)]
pub(crate) struct Held(bindings::pr_held_reservation);

impl Command<'_> {
    /// Has the disk of `bdev` carry it out. May sleep, for as long as the device takes.
    /// `EOPNOTSUPP` if it knows nothing of reservations.
    pub(crate) fn forward(&mut self, bdev: &Bdev) -> Result<(), Failure> {
        let raw = bdev.as_ptr();
        // SAFETY: An open device's disk is valid, and so are its operations.
        let ops = unsafe { (*(*(*raw).bd_disk).fops).pr_ops }.cast::<bindings::pr_ops>();
        // SAFETY: They are valid as long as the disk is, if there are any.
        let ops = unsafe { ops.as_ref() }.ok_or(super::eopnotsupp())?;
        let unsupported = super::eopnotsupp;
        Failure::check(match self {
            Self::Register { old, new, flags } => {
                let register = ops.pr_register.ok_or_else(unsupported)?;
                // SAFETY: The device is open.
                unsafe { register(raw, *old, *new, *flags) }
            }
            Self::Reserve { key, kind, flags } => {
                let reserve = ops.pr_reserve.ok_or_else(unsupported)?;
                // SAFETY: The device is open.
                unsafe { reserve(raw, *key, kind.0, *flags) }
            }
            Self::Release { key, kind } => {
                let release = ops.pr_release.ok_or_else(unsupported)?;
                // SAFETY: The device is open.
                unsafe { release(raw, *key, kind.0) }
            }
            Self::Preempt {
                key,
                victim,
                kind,
                abort,
            } => {
                let preempt = ops.pr_preempt.ok_or_else(unsupported)?;
                // SAFETY: The device is open.
                unsafe { preempt(raw, *key, *victim, kind.0, *abort) }
            }
            Self::Clear { key } => {
                let clear = ops.pr_clear.ok_or_else(unsupported)?;
                // SAFETY: The device is open.
                unsafe { clear(raw, *key) }
            }
            Self::ReadKeys(keys) => {
                let read_keys = ops.pr_read_keys.ok_or_else(unsupported)?;
                // An earlier try may have put the number of keys there.
                // SAFETY: By the type invariant it is valid.
                unsafe { (*keys.raw.as_ptr()).num_keys = keys.room };
                // SAFETY: The device is open, and there is room for so many keys.
                unsafe { read_keys(raw, keys.raw.as_ptr()) }
            }
            Self::ReadReservation(held) => {
                let read = ops.pr_read_reservation.ok_or_else(unsupported)?;
                // SAFETY: The device is open, and `held` valid.
                unsafe { read(raw, &mut held.0) }
            }
        })
    }
}

impl<T: Operations> Table<T> {
    pub(super) const PR_OPS: bindings::pr_ops = bindings::pr_ops {
        pr_register: Some(Self::pr_register),
        pr_reserve: Some(Self::pr_reserve),
        pr_release: Some(Self::pr_release),
        pr_preempt: Some(Self::pr_preempt),
        pr_clear: Some(Self::pr_clear),
        pr_read_keys: Some(Self::pr_read_keys),
        pr_read_reservation: Some(Self::pr_read_reservation),
    };

    /// # Safety
    ///
    /// `bdev` must be open, of a disk with data of type `T`.
    unsafe fn reservation(bdev: *mut bindings::block_device, command: &mut Command<'_>) -> c_int {
        // SAFETY: The caller promises that the device is open.
        let disk = unsafe { (*bdev).bd_disk };
        // SAFETY: The data of an open disk is there, and came from `Arc::into_raw`.
        let data = unsafe { ArcBorrow::from_raw((*disk).private_data.cast_const().cast::<T>()) };
        match T::reservation(data, command) {
            Ok(()) => 0,
            Err(failure) => failure.as_raw(),
        }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn pr_register(
        bdev: *mut bindings::block_device,
        old: u64,
        new: u64,
        flags: u32,
    ) -> c_int {
        // SAFETY: As this is called.
        unsafe { Self::reservation(bdev, &mut Command::Register { old, new, flags }) }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn pr_reserve(
        bdev: *mut bindings::block_device,
        key: u64,
        kind: bindings::pr_type,
        flags: u32,
    ) -> c_int {
        let kind = Kind(kind);
        // SAFETY: As this is called.
        unsafe { Self::reservation(bdev, &mut Command::Reserve { key, kind, flags }) }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn pr_release(
        bdev: *mut bindings::block_device,
        key: u64,
        kind: bindings::pr_type,
    ) -> c_int {
        let kind = Kind(kind);
        // SAFETY: As this is called.
        unsafe { Self::reservation(bdev, &mut Command::Release { key, kind }) }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn pr_preempt(
        bdev: *mut bindings::block_device,
        key: u64,
        victim: u64,
        kind: bindings::pr_type,
        abort: bool,
    ) -> c_int {
        let mut command = Command::Preempt {
            key,
            victim,
            kind: Kind(kind),
            abort,
        };
        // SAFETY: As this is called.
        unsafe { Self::reservation(bdev, &mut command) }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn pr_clear(bdev: *mut bindings::block_device, key: u64) -> c_int {
        // SAFETY: As this is called.
        unsafe { Self::reservation(bdev, &mut Command::Clear { key }) }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn pr_read_keys(
        bdev: *mut bindings::block_device,
        raw: *mut bindings::pr_keys,
    ) -> c_int {
        // SAFETY: The caller's room is valid, and says for how many keys it is.
        let room = unsafe { (*raw).num_keys };
        // SAFETY: As above.
        let raw = unsafe { NonNull::new_unchecked(raw) };
        // INVARIANT: As above.
        let keys = Keys {
            raw,
            room,
            _words: PhantomData,
        };
        // SAFETY: As this is called.
        unsafe { Self::reservation(bdev, &mut Command::ReadKeys(keys)) }
    }

    /// # Safety
    ///
    /// As the block layer calls it.
    unsafe extern "C" fn pr_read_reservation(
        bdev: *mut bindings::block_device,
        held: *mut bindings::pr_held_reservation,
    ) -> c_int {
        // SAFETY: The caller's room is valid; `Held` is transparent.
        let held = unsafe { &mut *held.cast::<Held>() };
        // SAFETY: As this is called.
        unsafe { Self::reservation(bdev, &mut Command::ReadReservation(held)) }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_pr)]
mod tests {
    use super::*;

    /// As a driver fills it: with more keys than there is room for.
    fn fill(buffer: &mut KeyBuffer, count: u32, keys: &[u64]) {
        let raw = buffer.keys().raw.as_ptr();
        // SAFETY: The buffer is valid.
        unsafe { (*raw).num_keys = count };
        // SAFETY: As above.
        let first = unsafe { (*raw).keys.as_mut_ptr() };
        for (i, key) in keys.iter().enumerate() {
            // SAFETY: There is room for so many.
            unsafe { first.add(i).write(*key) };
        }
    }

    #[test]
    fn keys_are_found_as_far_as_there_was_room() -> Result {
        let mut buffer = KeyBuffer::new(3)?;
        let empty = (buffer.count(), buffer.contains(0));
        fill(&mut buffer, 2, &[7, 8, 9]);
        let some = [7, 8, 9].map(|key| buffer.contains(key));
        fill(&mut buffer, 5, &[7, 8, 9]);
        let more = (buffer.count(), [7, 8, 9, 0].map(|key| buffer.contains(key)));

        assert_eq!(empty, (0, false));
        assert_eq!(some, [true, true, false]);
        assert_eq!(more, (5, [true, true, true, false]));
        Ok(())
    }

    #[test]
    fn answers_are_told_apart() {
        assert!(Failure::check(0).is_ok());
        assert_eq!(Failure::check(0x18), Err(Failure::CONFLICT));
        assert_eq!(Failure::check(-22), Err(Failure::Errno(EINVAL)));
        assert!(!Failure::CONFLICT.is_path_failure());
        for (status, failed) in [(0xe0000, false), (0xf0000, true), (0x10000, true)] {
            assert!(Failure::Status(status).is_path_failure());
            assert_eq!(Failure::Status(status).has_failed_the_path(), failed);
        }
        assert!(Failure::Errno(ENODEV).is_path_failure());
        assert!(!Failure::Errno(EINVAL).is_path_failure());
        assert_eq!(Failure::CONFLICT.as_raw(), 0x18);
        assert_eq!(Failure::Errno(EINVAL).as_raw(), -22);
    }
}
