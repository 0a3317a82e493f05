// SPDX-License-Identifier: GPL-2.0

//! The identity by which paths are grouped.

use crate::abstractions::block_device::{
    Bdev,
    IdKind,
    UniqueId, //
};
use core::cmp::Ordering;
use kernel::{
    fmt,
    prelude::*, //
};

/// A name for a disk that all its paths agree on: `eui.` or `naa.` and hexadecimal digits if the
/// disk told it, anything printable if the user did.
#[derive(PartialEq, Eq)]
pub(super) struct Wwid(KVec<u8>);

impl Ord for Wwid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0[..].cmp(&other.0[..])
    }
}

impl PartialOrd for Wwid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Wwid {
    /// The longest one, in bytes.
    const MAX: usize = 127;

    /// One that the user gives. `EINVAL` if it is empty, too long, or would not make one word in a
    /// log, a path or a table.
    pub(super) fn from_user(name: &[u8]) -> Result<Self> {
        let word = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
        if name.is_empty() || name.len() > Self::MAX || !name.iter().all(word) {
            return Err(EINVAL);
        }
        let mut copy = KVec::with_capacity(name.len(), GFP_KERNEL)?;
        copy.extend_from_slice(name, GFP_KERNEL)?;
        Ok(Self(copy))
    }

    /// One that a disk reports. `ENOMEM`.
    fn from_disk(kind: IdKind, id: &UniqueId) -> Result<Self> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut name = KVec::with_capacity(4 + 2 * id.bytes().len(), GFP_KERNEL)?;
        let prefix = match kind {
            IdKind::Eui64 => b"eui.",
            IdKind::Naa => b"naa.",
        };
        name.extend_from_slice(prefix, GFP_KERNEL)?;
        for byte in id.bytes() {
            let digits = [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ];
            name.extend_from_slice(&digits, GFP_KERNEL)?;
        }
        Ok(Self(name))
    }

    /// A copy. `ENOMEM`.
    pub(super) fn try_clone(&self) -> Result<Self> {
        let mut copy = KVec::with_capacity(self.0.len(), GFP_KERNEL)?;
        copy.extend_from_slice(&self.0, GFP_KERNEL)?;
        Ok(Self(copy))
    }
}

impl fmt::Display for Wwid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // ASCII, by construction.
        f.write_str(core::str::from_utf8(&self.0).unwrap_or("?"))
    }
}

/// What a disk says of its identity.
pub(super) struct Identity {
    /// Which kind it is.
    pub(super) kind: IdKind,
    /// Its bytes.
    pub(super) id: UniqueId,
}

impl Identity {
    /// Asks the disk: EUI-64 or NGUID first, then NAA. T10 identifiers can be a vendor's name
    /// alone and are not asked for. May sleep.
    pub(super) fn of(bdev: &Bdev) -> Option<Self> {
        [IdKind::Eui64, IdKind::Naa]
            .into_iter()
            .find_map(|kind| bdev.unique_id(kind).map(|id| Self { kind, id }))
    }

    /// Answers who asks the head for it: how many bytes there are. `EINVAL` for another kind. Any
    /// context.
    pub(super) fn answer(&self, kind: IdKind, id: &mut [u8; 16]) -> Result<usize> {
        if self.kind != kind {
            return Err(EINVAL);
        }
        let bytes = self.id.bytes();
        id.get_mut(..bytes.len())
            .ok_or(EINVAL)?
            .copy_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Its name. `ENOMEM`.
    pub(super) fn wwid(&self) -> Result<Wwid> {
        Wwid::from_disk(self.kind, &self.id)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_wwid)]
mod tests {
    use super::*;

    #[test]
    fn users_names_are_words() {
        assert!(Wwid::from_user(b"shelf-3.disk_7").is_ok());
        assert!(Wwid::from_user(&[b'x'; Wwid::MAX]).is_ok());
        assert!(Wwid::from_user(&[b'x'; Wwid::MAX + 1]).err() == Some(EINVAL));
        for bad in [&b""[..], b"a b", b"a/b", b"a\n", b"\xffa", b"a\0"] {
            assert!(Wwid::from_user(bad).err() == Some(EINVAL));
        }
    }

    #[test]
    fn a_head_says_what_its_paths_say() -> Result {
        let identity = Identity {
            kind: IdKind::Naa,
            id: UniqueId::of(b"\x33rmpath!"),
        };
        let mut id = [0; 16];
        assert_eq!(identity.answer(IdKind::Naa, &mut id), Ok(8));
        assert_eq!(&id[..9], b"\x33rmpath!\0");
        assert_eq!(identity.answer(IdKind::Eui64, &mut id), Err(EINVAL));
        Ok(())
    }

    #[test]
    fn names_compare_as_bytes() -> Result {
        let one = Wwid::from_user(b"eui.01")?;
        assert!(one == one.try_clone()?);
        assert!(one < Wwid::from_user(b"eui.02")?);
        Ok(())
    }
}
