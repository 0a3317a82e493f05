// SPDX-License-Identifier: GPL-2.0

//! Messages to a map (`dmsetup message`): dm-multipath's.

use super::table::number;
use crate::abstractions::device_mapper::Arg;
use kernel::prelude::*;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Message<'a> {
    /// `queue_if_no_path`, `fail_if_no_path`: whether to keep I/O when there is no path.
    QueueIfNoPath(bool),
    /// `fail_path <device>`
    FailPath(&'a CStr),
    /// `reinstate_path <device>`
    ReinstatePath(&'a CStr),
    /// `disable_group <number>`, `enable_group <number>`: whether to bypass it.
    BypassGroup(u32, bool),
    /// `switch_group <number>`
    SwitchGroup(u32),
}

impl<'a> Message<'a> {
    /// Understands the words of a message. `EINVAL` with one line in the log. Any context.
    pub(crate) fn parse(words: &[Arg<'a>]) -> Result<Self> {
        let is = |word: Arg<'_>, name: &str| {
            word.as_cstr()
                .to_bytes()
                .eq_ignore_ascii_case(name.as_bytes())
        };
        match *words {
            [word] if is(word, "queue_if_no_path") => Ok(Self::QueueIfNoPath(true)),
            [word] if is(word, "fail_if_no_path") => Ok(Self::QueueIfNoPath(false)),
            [word, group] if is(word, "disable_group") => {
                Ok(Self::BypassGroup(group_number(group)?, true))
            }
            [word, group] if is(word, "enable_group") => {
                Ok(Self::BypassGroup(group_number(group)?, false))
            }
            [word, group] if is(word, "switch_group") => {
                Ok(Self::SwitchGroup(group_number(group)?))
            }
            [word, device] if is(word, "fail_path") => Ok(Self::FailPath(device.as_cstr())),
            [word, device] if is(word, "reinstate_path") => {
                Ok(Self::ReinstatePath(device.as_cstr()))
            }
            [word, _] => {
                let word = word.as_cstr();
                pr_warn!("message: unrecognised: {word}\n");
                Err(EINVAL)
            }
            _ => {
                let got = words.len();
                pr_warn!("message: invalid arguments, expected 2, got {got}\n");
                Err(EINVAL)
            }
        }
    }
}

/// The number of a group; whether there is one is for the map to say.
fn group_number(word: Arg<'_>) -> Result<u32> {
    number(word.as_cstr()).ok_or_else(|| {
        let word = word.as_cstr();
        pr_warn!("message: invalid group number: {word}\n");
        EINVAL
    })
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_message)]
mod tests {
    use super::*;

    fn one(word: &CStr) -> Option<Message<'_>> {
        Message::parse(&[Arg::from(word)]).ok()
    }

    fn two<'a>(word: &'a CStr, second: &'a CStr) -> Option<Message<'a>> {
        Message::parse(&[Arg::from(word), Arg::from(second)]).ok()
    }

    #[test]
    fn messages_are_understood() {
        assert_eq!(one(c"queue_if_no_path"), Some(Message::QueueIfNoPath(true)));
        assert_eq!(one(c"FAIL_IF_NO_PATH"), Some(Message::QueueIfNoPath(false)));
        assert_eq!(two(c"fail_path", c"8:0"), Some(Message::FailPath(c"8:0")));
        assert_eq!(
            two(c"Reinstate_Path", c"/dev/a"),
            Some(Message::ReinstatePath(c"/dev/a"))
        );
        assert_eq!(
            two(c"disable_group", c"2"),
            Some(Message::BypassGroup(2, true))
        );
        assert_eq!(
            two(c"enable_group", c"2"),
            Some(Message::BypassGroup(2, false))
        );
        assert_eq!(two(c"switch_group", c"1"), Some(Message::SwitchGroup(1)));
    }

    #[test]
    fn others_are_refused() {
        assert_eq!(one(c"fail_path"), None);
        assert_eq!(one(c"nonsense"), None);
        assert_eq!(two(c"queue_if_no_path", c"1"), None);
        assert_eq!(two(c"switch_group", c"1x"), None);
        assert_eq!(two(c"enable_group", c""), None);
        assert_eq!(two(c"nonsense", c"8:0"), None);
        assert!(Message::parse(&[]).is_err());
        assert!(Message::parse(&[Arg::from(c"fail_path"); 3]).is_err());
    }
}
