// SPDX-License-Identifier: GPL-2.0

//! The words of a table line: dm-multipath's grammar.
//!
//! ```text
//! <#features> [<feature> [<value>]]...
//! <#hardware handler words> [<word>]...
//! <#groups> <initial group>
//!     [<selector> <#selector words> [<word>]...
//!      <#paths> <#words per path>
//!         [<device> [<word>]...]...]...
//! ```
//!
//! The reasons for which a line is refused are dm-multipath's too, word for word where it has one.
//! Nothing is opened here, so a mistake anywhere in the line is found before any device is.

use super::selector::{
    Kind,
    Selector, //
};
use crate::abstractions::device_mapper::Arg;
use kernel::{
    alloc::AllocError,
    prelude::*, //
};

/// Why a line is refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// For `ti->error`.
    pub(crate) reason: &'static CStr,
    /// For the caller.
    pub(crate) error: Error,
}

impl Refused {
    pub(super) fn because(reason: &'static CStr) -> Self {
        Self {
            reason,
            error: EINVAL,
        }
    }

    pub(super) fn no_memory() -> Self {
        Self {
            reason: c"out of memory",
            error: ENOMEM,
        }
    }
}

impl From<AllocError> for Refused {
    fn from(_: AllocError) -> Self {
        Self::no_memory()
    }
}

/// The features, as far as they are kept for `dmsetup table` or have an effect.
#[derive(Default)]
pub(crate) struct Features {
    /// Keep I/O when there is no path.
    pub(crate) queue_if_no_path: bool,
    /// 1 to 50, or 0 if not given. Without effect.
    pub(crate) pg_init_retries: u32,
    /// Milliseconds. Without effect.
    pub(crate) pg_init_delay_msecs: Option<u32>,
    /// Seconds; 0: without an end. If not given, what holds for all maps.
    pub(crate) no_path_timeout: Option<u32>,
    /// Seconds after which a path that has failed by itself is probed; 0: never.
    pub(crate) probe_secs: u32,
    /// `queue_mode bio` was given, which is what we do anyway.
    pub(crate) queue_mode_bio: bool,
    /// Without effect, in dm-multipath too.
    pub(crate) retain_attached_hw_handler: bool,
}

/// A group.
pub(crate) struct GroupSpec<'a> {
    /// How it chooses; knows as many paths as there are.
    pub(crate) selector: Selector,
    /// The device of each path: `major:minor`, or a name.
    pub(crate) devices: KVec<&'a CStr>,
    /// Whether a repeat count was above 1, which has no effect.
    repeat_count_ignored: bool,
}

/// A table line.
pub(crate) struct Table<'a> {
    /// The features.
    pub(crate) features: Features,
    /// Whether there was a hardware handler. Without effect.
    pub(crate) hw_handler: bool,
    /// The number of the group to use first; 0 if there is none.
    pub(crate) initial_group: u32,
    /// The groups.
    pub(crate) groups: KVec<GroupSpec<'a>>,
    /// Whether a repeat count was above 1, which has no effect.
    pub(crate) repeat_count_ignored: bool,
}

/// A number from 0 to [`u32::MAX`], in decimal digits and nothing else.
pub(crate) fn number(word: &CStr) -> Option<u32> {
    let digits = word.to_bytes();
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Words that have not been looked at yet.
struct Words<'a>(&'a [Arg<'a>]);

impl<'a> Words<'a> {
    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    fn next(&mut self) -> Option<&'a CStr> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first.as_cstr())
    }

    /// The next `count` words, which must be there.
    fn take(&mut self, count: u32, reason: &'static CStr) -> Result<Self, Refused> {
        let (taken, rest) = self
            .0
            .split_at_checked(count as usize)
            .ok_or(Refused::because(reason))?;
        self.0 = rest;
        Ok(Self(taken))
    }

    /// The next word as a number from `min` to `max`.
    fn number(&mut self, min: u32, max: u32, reason: &'static CStr) -> Result<u32, Refused> {
        self.next()
            .and_then(number)
            .filter(|value| (min..=max).contains(value))
            .ok_or(Refused::because(reason))
    }

    /// A number of up to `max` words, and these words.
    fn group(&mut self, max: u32, reason: &'static CStr) -> Result<Self, Refused> {
        let count = self.number(0, max, reason)?;
        self.take(count, reason)
    }
}

/// The longest pause before a path is probed, in seconds: a day.
const MAX_PROBE_SECS: u32 = 86400;

fn is(word: &CStr, name: &str) -> bool {
    word.to_bytes().eq_ignore_ascii_case(name.as_bytes())
}

fn parse_features(mut words: Words<'_>) -> Result<Features, Refused> {
    let mut features = Features::default();
    while let Some(word) = words.next() {
        let has_value = words.len() > 0;
        if is(word, "queue_if_no_path") {
            features.queue_if_no_path = true;
        } else if is(word, "retain_attached_hw_handler") {
            features.retain_attached_hw_handler = true;
        } else if is(word, "pg_init_retries") && has_value {
            features.pg_init_retries =
                words.number(1, 50, c"pg_init_retries must be between 1 and 50")?;
        } else if is(word, "pg_init_delay_msecs") && has_value {
            let delay =
                words.number(0, 60000, c"pg_init_delay_msecs must be between 0 and 60000")?;
            features.pg_init_delay_msecs = Some(delay);
        } else if is(word, "no_path_timeout") && has_value {
            let secs = words.number(0, u32::MAX, c"no_path_timeout must be a number of seconds")?;
            features.no_path_timeout = Some(secs);
        } else if is(word, "probe_secs") && has_value {
            features.probe_secs =
                words.number(0, MAX_PROBE_SECS, c"probe_secs must be between 0 and 86400")?;
        } else if is(word, "queue_mode") && has_value {
            match words.next() {
                Some(mode) if is(mode, "bio") => features.queue_mode_bio = true,
                Some(mode) if is(mode, "rq") || is(mode, "mq") => {
                    return Err(Refused::because(
                        c"queue_mode must be bio, request-based mode is not supported",
                    ))
                }
                _ => return Err(Refused::because(c"Unknown 'queue_mode' requested")),
            }
        } else {
            return Err(Refused::because(c"Unrecognised multipath feature request"));
        }
    }
    Ok(features)
}

fn parse_group<'a>(words: &mut Words<'a>) -> Result<GroupSpec<'a>, Refused> {
    if words.len() < 2 {
        return Err(Refused::because(c"not enough priority group arguments"));
    }
    let kind = words
        .next()
        .and_then(Kind::from_name)
        .ok_or(Refused::because(c"unknown path selector type"))?;
    let args = words.group(1024, c"invalid number of path selector args")?;
    let mut group = GroupSpec {
        selector: Selector::new(kind, args.0)?,
        devices: KVec::new(),
        repeat_count_ignored: false,
    };
    let nr_paths = words.number(1, 1024, c"invalid number of paths")?;
    let nr_args = words.number(0, 1024, c"invalid number of selector args")?;
    for _ in 0..nr_paths {
        let mut words = words.take(1 + nr_args, c"not enough path parameters")?;
        let device = words.next().ok_or(Refused::because(c"no device given"))?;
        group.repeat_count_ignored |= group.selector.ignores(words.0);
        group.selector.add_path(words.0)?;
        group.devices.push(device, GFP_KERNEL)?;
    }
    Ok(group)
}

impl<'a> Table<'a> {
    /// Understands a table line. May sleep.
    pub(crate) fn parse(words: &'a [Arg<'a>]) -> Result<Self, Refused> {
        let mut words = Words(words);
        let features = parse_features(words.group(12, c"invalid number of feature args")?)?;
        let hw_handler = words
            .group(1024, c"invalid number of hardware handler args")?
            .len()
            > 0;
        let nr_groups = words.number(0, 1024, c"invalid number of priority groups")?;
        let initial_group = words.number(0, 1024, c"invalid initial priority group number")?;
        if (nr_groups == 0) != (initial_group == 0) {
            return Err(Refused::because(c"invalid initial priority group"));
        }

        let mut groups = KVec::new();
        let mut repeat_count_ignored = false;
        while words.len() > 0 {
            let group = parse_group(&mut words)?;
            repeat_count_ignored |= group.repeat_count_ignored;
            groups.push(group, GFP_KERNEL)?;
        }
        if groups.len() != nr_groups as usize {
            return Err(Refused::because(c"priority group count mismatch"));
        }
        Ok(Self {
            features,
            hw_handler,
            initial_group,
            groups,
            repeat_count_ignored,
        })
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_table)]
mod tests {
    use super::*;

    /// Most words that a line of the tests has.
    const WORDS: usize = 24;

    /// Splits a line at its blanks, as dm core does, and hands the words to `f`.
    fn with_words<R>(line: &str, f: impl FnOnce(&[Arg<'_>]) -> R) -> Result<R> {
        let mut strings = KVec::new();
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            strings.push(
                kernel::str::CString::try_from_fmt(fmt!("{word}"))?,
                GFP_KERNEL,
            )?;
        }
        let mut words = KVec::with_capacity(WORDS, GFP_KERNEL)?;
        for string in &strings {
            words.push(Arg::from(&**string), GFP_KERNEL)?;
        }
        Ok(f(&words))
    }

    /// The reason for which a line is refused; empty if it is not.
    fn reason(line: &str) -> Result<&'static CStr> {
        with_words(line, |words| match Table::parse(words) {
            Ok(_) => c"",
            Err(refused) if refused.error == EINVAL => refused.reason,
            Err(_) => c"not EINVAL",
        })
    }

    #[test]
    fn one_group_of_two() -> Result {
        let seen = with_words("0 0 1 1 round-robin 0 2 1 8:0 1000 8:16 0", |words| {
            let table = Table::parse(words).ok()?;
            let group = table.groups.first()?;
            let [first, second] = group.devices.as_slice() else {
                return None;
            };
            Some((
                table.groups.len(),
                table.initial_group,
                table.repeat_count_ignored,
                first.to_bytes() == b"8:0" && second.to_bytes() == b"8:16",
                group.selector.kind() == Kind::RoundRobin,
                table.features.queue_if_no_path || table.hw_handler,
            ))
        })?;
        assert_eq!(seen, Some((1, 1, true, true, true, false)));
        Ok(())
    }

    #[test]
    fn groups_with_and_without_words_per_path() -> Result {
        let seen = with_words(
            "0 0 2 2 round-robin 0 1 0 /dev/a round-robin 2 x y 2 1 /dev/b 1 /dev/c 1",
            |words| {
                let table = Table::parse(words).ok()?;
                let sizes = (
                    table.groups.first()?.devices.len(),
                    table.groups.get(1)?.devices.len(),
                );
                Some((sizes, table.initial_group, table.repeat_count_ignored))
            },
        )?;
        assert_eq!(seen, Some(((1, 2), 2, false)));
        Ok(())
    }

    #[test]
    fn features_are_understood() -> Result {
        let seen = with_words(
            "12 QUEUE_IF_NO_PATH retain_attached_hw_handler pg_init_retries 50 probe_secs 86400 \
             pg_init_delay_msecs 0 queue_mode BIO no_path_timeout 30 2 1 alua 0 0",
            |words| {
                let table = Table::parse(words).ok()?;
                let features = table.features;
                Some((
                    features.queue_if_no_path,
                    features.retain_attached_hw_handler,
                    features.pg_init_retries,
                    features.pg_init_delay_msecs,
                    features.queue_mode_bio,
                    (features.no_path_timeout, features.probe_secs),
                    table.hw_handler,
                    table.groups.len(),
                ))
            },
        )?;
        assert_eq!(
            seen,
            Some((true, true, 50, Some(0), true, (Some(30), 86400), true, 0))
        );
        Ok(())
    }

    #[test]
    fn features_are_refused() -> Result {
        assert_eq!(reason("")?, c"invalid number of feature args");
        assert_eq!(reason("x")?, c"invalid number of feature args");
        assert_eq!(
            reason("13 1 2 3 4 5 6 7 8 9 10 11 12 13")?,
            c"invalid number of feature args"
        );
        assert_eq!(
            reason("2 queue_if_no_path")?,
            c"invalid number of feature args"
        );
        assert_eq!(
            reason("1 nonsense 0 0 0")?,
            c"Unrecognised multipath feature request"
        );
        // Without its value it is a word like any other.
        assert_eq!(
            reason("1 pg_init_retries 0 0 0")?,
            c"Unrecognised multipath feature request"
        );
        assert_eq!(
            reason("2 no_path_timeout -1 0 0 0")?,
            c"no_path_timeout must be a number of seconds"
        );
        assert_eq!(
            reason("2 probe_secs 86401 0 0 0")?,
            c"probe_secs must be between 0 and 86400"
        );
        assert_eq!(
            reason("1 no_path_timeout 0 0 0")?,
            c"Unrecognised multipath feature request"
        );
        assert_eq!(
            reason("2 pg_init_retries 0 0 0 0")?,
            c"pg_init_retries must be between 1 and 50"
        );
        assert_eq!(
            reason("2 pg_init_delay_msecs 60001 0 0 0")?,
            c"pg_init_delay_msecs must be between 0 and 60000"
        );
        assert_eq!(
            reason("2 queue_mode rq 0 0 0")?,
            c"queue_mode must be bio, request-based mode is not supported"
        );
        assert_eq!(
            reason("2 queue_mode tape 0 0 0")?,
            c"Unknown 'queue_mode' requested"
        );
        Ok(())
    }

    #[test]
    fn heads_are_refused() -> Result {
        assert_eq!(reason("0 0 0 0")?, c"");
        assert_eq!(reason("0")?, c"invalid number of hardware handler args");
        assert_eq!(reason("0 1")?, c"invalid number of hardware handler args");
        assert_eq!(reason("0 0 1025 1")?, c"invalid number of priority groups");
        assert_eq!(reason("0 0 1")?, c"invalid initial priority group number");
        assert_eq!(reason("0 0 0 1")?, c"invalid initial priority group");
        assert_eq!(reason("0 0 1 0")?, c"invalid initial priority group");
        assert_eq!(reason("0 0 1 1")?, c"priority group count mismatch");
        assert_eq!(
            reason("0 0 2 1 round-robin 0 1 0 8:0")?,
            c"priority group count mismatch"
        );
        // Accepted by dm-multipath, which then begins with the first.
        assert_eq!(reason("0 0 1 7 round-robin 0 1 0 8:0")?, c"");
        Ok(())
    }

    #[test]
    fn groups_are_refused() -> Result {
        let group = |words| {
            let line = kernel::str::CString::try_from_fmt(fmt!("0 0 1 1 {words}"))?;
            reason(line.to_str().map_err(|_| EINVAL)?)
        };
        assert_eq!(
            group("round-robin")?,
            c"not enough priority group arguments"
        );
        assert_eq!(group("fastest 0 1 0 8:0")?, c"unknown path selector type");
        assert_eq!(
            group("Round-Robin 0 1 0 8:0")?,
            c"unknown path selector type"
        );
        assert_eq!(
            group("round-robin 3 a b")?,
            c"invalid number of path selector args"
        );
        assert_eq!(group("round-robin 0 0 0")?, c"invalid number of paths");
        assert_eq!(group("round-robin 0 1025 0")?, c"invalid number of paths");
        assert_eq!(
            group("round-robin 0 1")?,
            c"invalid number of selector args"
        );
        assert_eq!(
            group("round-robin 0 2 0 8:0")?,
            c"not enough path parameters"
        );
        assert_eq!(
            group("round-robin 0 1 1 8:0")?,
            c"not enough path parameters"
        );
        assert_eq!(
            group("round-robin 0 1 2 8:0 1 1")?,
            c"round-robin ps: incorrect number of arguments"
        );
        assert_eq!(
            group("round-robin 0 1 1 8:0 1x")?,
            c"round-robin ps: invalid repeat count"
        );
        Ok(())
    }

    #[test]
    fn each_selector_has_its_words() -> Result {
        let group = |words| {
            let line = kernel::str::CString::try_from_fmt(fmt!("0 0 1 1 {words}"))?;
            reason(line.to_str().map_err(|_| EINVAL)?)
        };
        for taken in [
            "queue-length 0 2 1 8:0 1 8:16 5",
            "queue-length 1 x 1 0 8:0",
            "service-time 0 2 2 8:0 1 100 8:16 1 0",
            "service-time 0 1 1 8:0 1",
            "historical-service-time 0 1 1 8:0 7",
            "historical-service-time 2 1023 9 1 0 8:0",
            "io-affinity 0 1 1 8:0 1",
        ] {
            assert_eq!(group(taken)?, c"");
        }
        for (refused, reason) in [
            (
                "queue-length 0 1 2 8:0 1 1",
                c"queue-length ps: incorrect number of arguments",
            ),
            (
                "queue-length 0 1 1 8:0 x",
                c"queue-length ps: invalid repeat count",
            ),
            (
                "service-time 0 1 3 8:0 1 1 1",
                c"service-time ps: incorrect number of arguments",
            ),
            (
                "service-time 0 1 2 8:0 x 1",
                c"service-time ps: invalid repeat count",
            ),
            (
                "service-time 0 1 2 8:0 1 101",
                c"service-time ps: invalid relative_throughput value",
            ),
            (
                "historical-service-time 1 1024 1 0 8:0",
                c"path selector constructor failed",
            ),
            (
                "historical-service-time 0 1 2 8:0 1 1",
                c"historical-service-time ps: incorrect number of arguments",
            ),
            (
                "historical-service-time 0 1 1 8:0 -",
                c"historical-service-time ps: invalid repeat count",
            ),
            (
                "io-affinity 0 1 0 8:0",
                c"io-affinity ps: invalid number of arguments",
            ),
            (
                "io-affinity 0 1 1 8:0 z",
                c"io-affinity ps: invalid cpumask",
            ),
            (
                "io-affinity 0 2 1 8:0 1 8:16 1",
                c"io-affinity ps: No new/valid CPU mapping found",
            ),
            ("no-such 0 1 0 8:0", c"unknown path selector type"),
        ] {
            assert_eq!(group(refused)?, reason);
        }
        Ok(())
    }

    #[test]
    fn numbers_are_digits_only() {
        assert_eq!(number(c"0"), Some(0));
        assert_eq!(number(c"0017"), Some(17));
        assert_eq!(number(c"4294967295"), Some(u32::MAX));
        for word in [c"", c"4294967296", c"-1", c"+1", c"0x1", c"1 ", c"1:2"] {
            assert_eq!(number(word), None);
        }
    }
}
