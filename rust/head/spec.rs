// SPDX-License-Identifier: GPL-2.0

//! What is written to `add_path` and `remove_path`.

use super::wwid::Wwid;
use crate::{
    abstractions::sysfs::trimmed,
    mpath::{
        path::AccessState,
        selector::MAX_WEIGHT, //
    },
};
use kernel::{
    prelude::*,
    str::CString, //
};

/// The longest line, in bytes.
const MAX: usize = 1023;

/// `device=PATH[ wwid=NAME][ state=STATE][ weight=N]`, in any order.
pub(super) struct Spec {
    /// The device's file, in the writer's mount namespace.
    pub(super) device: CString,
    /// The identity, if the device's own is not to be asked for.
    pub(super) wwid: Option<Wwid>,
    /// How well the path leads to the disk.
    pub(super) access: AccessState,
    /// Whether there was more than the device.
    pub(super) extra: bool,
    /// How much of the I/O the path gets, in relation to others, under policies that weigh.
    pub(super) weight: u32,
}

/// Why a line is refused: the errno, and what to tell the user.
pub(super) type Refused = (Error, &'static str);

impl Spec {
    /// Reads a line.
    ///
    /// `E2BIG` if it is too long, `EINVAL` for anything else that is wrong, `ENOMEM`.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Refused> {
        let no_memory = |_| (ENOMEM, "out of memory");
        if text.len() > MAX {
            return Err((E2BIG, "longer than 1023 bytes"));
        }
        let text = trimmed(text);
        if text.is_empty() {
            return Err((EINVAL, "empty; device=PATH is needed"));
        }
        if !text.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Err((EINVAL, "holds bytes that are not printable ASCII"));
        }

        let (mut device, mut wwid, mut access, mut weight) = (None, None, None, None);
        for word in text
            .split(|byte| *byte == b' ')
            .filter(|word| !word.is_empty())
        {
            let Some(equals) = word.iter().position(|byte| *byte == b'=') else {
                return Err((EINVAL, "not of the form KEY=VALUE"));
            };
            let (key, value) = (&word[..equals], &word[equals + 1..]);
            let repeated = match key {
                b"device" => {
                    let name = core::str::from_utf8(value).map_err(|_| (EINVAL, "bad device"))?;
                    if !name.starts_with('/') {
                        return Err((EINVAL, "device= is not an absolute path"));
                    }
                    let name = CString::try_from_fmt(fmt!("{name}")).map_err(no_memory)?;
                    device.replace(name).is_some()
                }
                b"wwid" => {
                    let name = Wwid::from_user(value).map_err(|error| {
                        (
                            error,
                            "wwid= is not 1 to 127 characters without blanks or '/'",
                        )
                    })?;
                    wwid.replace(name).is_some()
                }
                b"state" => {
                    let state = AccessState::from_name(value).map_err(|error| {
                        (
                            error,
                            "state= is not optimized, non-optimized or inaccessible",
                        )
                    })?;
                    access.replace(state).is_some()
                }
                b"weight" => {
                    let number = crate::abstractions::sysfs::parse_u32(value).unwrap_or(0);
                    if !(1..=MAX_WEIGHT).contains(&number) {
                        return Err((EINVAL, "weight= is not a number from 1 to 1000"));
                    }
                    weight.replace(number).is_some()
                }
                _ => {
                    return Err((
                        EINVAL,
                        "unknown key; device, wwid, state and weight are known",
                    ))
                }
            };
            if repeated {
                return Err((EINVAL, "a key is given twice"));
            }
        }
        Ok(Self {
            extra: wwid.is_some() || access.is_some() || weight.is_some(),
            device: device.ok_or((EINVAL, "device=PATH is missing"))?,
            wwid,
            access: access.unwrap_or(AccessState::Optimized),
            weight: weight.unwrap_or(1),
        })
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_spec)]
mod tests {
    use super::*;

    fn errno(text: &[u8]) -> Option<Error> {
        Spec::parse(text).err().map(|(error, _)| error)
    }

    #[test]
    fn reads_all_keys() {
        let spec = Spec::parse(b" weight=3 device=/dev/x  state=inaccessible wwid=w \n").ok();
        assert!(spec.is_some_and(|spec| {
            spec.device.to_bytes() == b"/dev/x"
                && spec.wwid == Wwid::from_user(b"w").ok()
                && spec.access == AccessState::Inaccessible
                && spec.weight == 3
        }));
    }

    #[test]
    fn has_defaults() {
        let spec = Spec::parse(b"device=/dev/x\n").ok();
        assert!(spec.is_some_and(|spec| {
            spec.wwid.is_none() && spec.access == AccessState::Optimized && spec.weight == 1
        }));
    }

    #[test]
    fn refuses_what_is_wrong() {
        for bad in [
            &b""[..],
            b"\n",
            b"   ",
            b"device",
            b"device=",
            b"device=nvme0n1",
            b"/dev/nvme0n1",
            b"wwid=x",
            b"device=/dev/x device=/dev/y",
            b"device=/dev/x state=good",
            b"device=/dev/x weight=0",
            b"device=/dev/x weight=1001",
            b"device=/dev/x weight=-1",
            b"device=/dev/x weight=99999999999",
            b"device=/dev/x wwid=",
            b"device=/dev/x wwid=a/b",
            b"device=/dev/x colour=red",
            b"device=/dev/x\tstate=optimized",
            b"device=/dev/x\0",
            b"device=/dev/\xff",
            b"=x",
        ] {
            assert_eq!(errno(bad), Some(EINVAL));
        }
        assert_eq!(errno(&[b'x'; MAX + 1]), Some(E2BIG));
    }
}
