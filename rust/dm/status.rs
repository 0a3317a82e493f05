// SPDX-License-Identifier: GPL-2.0

//! What `dmsetup status` and `dmsetup table` show: dm-multipath's format, so that programs that read
//! one read the other.
//!
//! Follows `multipath_status()` in drivers/md/dm-mpath.c for a map in bio mode. One thing differs on
//! purpose: `queue_mode bio` is shown only if the table had it.

use super::{
    selector::Selector,
    table::Features, //
};
use crate::{
    abstractions::device_mapper::{
        DeviceName,
        StatusKind,
        StatusWriter, //
    },
    mpath::{
        group::{
            Groups,
            Member,
            Standing, //
        },
        queue::HasQueue,
        selector::HasState, //
    },
};
use core::{
    fmt::Write,
    ops::Deref, //
};
use kernel::prelude::*;

/// What is shown of a path.
pub(crate) trait PathStatus: HasState + HasQueue {
    /// The name dm core knows its device by.
    fn name(&self) -> &DeviceName;
}

/// What is shown of a map, besides its groups: a snapshot taken under its lock.
pub(crate) struct View<'a> {
    /// The features of the table.
    pub(crate) features: &'a Features,
    /// Whether I/O is kept when there is no path: not while a suspend overrides what is configured.
    pub(crate) queue_if_no_path: bool,
    /// Whether a group was ever chosen.
    pub(crate) has_chosen: bool,
    /// The number of the group that is used, or will be.
    pub(crate) group: u32,
}

/// Writes the status of a map of that name and version.
pub(crate) fn write<P: Member<Target: PathStatus>>(
    out: &mut StatusWriter<'_>,
    kind: StatusKind,
    target: (&CStr, [u32; 3]),
    view: &View<'_>,
    groups: &Groups<P, Selector>,
) {
    // Writing does not fail, it cuts off.
    let _ = match kind {
        StatusKind::Info => info(out, view, groups),
        StatusKind::Table => table(out, view, groups),
        StatusKind::Ima => ima(out, target, groups),
    };
}

fn letter(standing: Standing) -> char {
    match standing {
        Standing::Active => 'A',
        Standing::Enabled => 'E',
        Standing::Disabled => 'D',
    }
}

fn path_letter(path: &(impl HasState + ?Sized)) -> char {
    if path.state().is_usable() {
        'A'
    } else {
        'F'
    }
}

fn info<P: Member<Target: PathStatus>>(
    out: &mut StatusWriter<'_>,
    view: &View<'_>,
    groups: &Groups<P, Selector>,
) -> core::fmt::Result {
    // dm-multipath's `queue_io` and `pg_init_count`. It holds I/O until the first group is chosen.
    let queue_io = u32::from(!view.has_chosen);
    write!(out, "2 {queue_io} 0 0 {} {} ", groups.len(), view.group)?;
    for (standing, selector, paths) in groups.iter() {
        write!(out, "{} ", letter(standing))?;
        selector.write_args(out)?;
        write!(out, "{} {} ", paths.len(), selector.kind().info_args())?;
        for (index, path) in paths.iter().map(Deref::deref).enumerate() {
            let failures = path.state().failures();
            write!(
                out,
                "{} {} {failures} ",
                path.name().as_str(),
                path_letter(path)
            )?;
            selector.write_info(index, path.queue(), out)?;
        }
    }
    Ok(())
}

fn table<P: Member<Target: PathStatus>>(
    out: &mut StatusWriter<'_>,
    view: &View<'_>,
    groups: &Groups<P, Selector>,
) -> core::fmt::Result {
    let features = view.features;
    let words = u32::from(view.queue_if_no_path)
        + 2 * u32::from(features.pg_init_retries > 0)
        + 2 * u32::from(features.pg_init_delay_msecs.is_some())
        + 2 * u32::from(features.queue_mode_bio)
        + 2 * u32::from(features.no_path_timeout.is_some())
        + 2 * u32::from(features.probe_secs > 0);
    write!(out, "{words} ")?;
    if view.queue_if_no_path {
        out.push("queue_if_no_path ");
    }
    if features.pg_init_retries > 0 {
        write!(out, "pg_init_retries {} ", features.pg_init_retries)?;
    }
    if let Some(delay) = features.pg_init_delay_msecs {
        write!(out, "pg_init_delay_msecs {delay} ")?;
    }
    if features.queue_mode_bio {
        out.push("queue_mode bio ");
    }
    if let Some(secs) = features.no_path_timeout {
        write!(out, "no_path_timeout {secs} ")?;
    }
    if features.probe_secs > 0 {
        write!(out, "probe_secs {} ", features.probe_secs)?;
    }
    write!(out, "0 {} {} ", groups.len(), view.group)?;
    for (_, selector, paths) in groups.iter() {
        let kind = selector.kind();
        write!(out, "{} ", kind.name())?;
        selector.write_args(out)?;
        write!(out, "{} {} ", paths.len(), kind.table_args())?;
        for (index, path) in paths.iter().map(Deref::deref).enumerate() {
            write!(out, "{} ", path.name().as_str())?;
            selector.write_table(index, out)?;
        }
    }
    Ok(())
}

fn ima<P: Member<Target: PathStatus>>(
    out: &mut StatusWriter<'_>,
    (name, [major, minor, patch]): (&CStr, [u32; 3]),
    groups: &Groups<P, Selector>,
) -> core::fmt::Result {
    let name = name.to_str().unwrap_or("?");
    write!(
        out,
        "target_name={name},target_version={major}.{minor}.{patch}"
    )?;
    write!(out, ",nr_priority_groups={}", groups.len())?;
    for (g, (standing, selector, paths)) in groups.iter().enumerate() {
        write!(out, ",pg_state_{g}={}", letter(standing))?;
        write!(out, ",nr_pgpaths_{g}={}", paths.len())?;
        write!(out, ",path_selector_name_{g}={}", selector.kind().name())?;
        for (p, path) in paths.iter().map(Deref::deref).enumerate() {
            write!(out, ",path_name_{g}_{p}={}", path.name().as_str())?;
            write!(out, ",is_active_{g}_{p}={}", path_letter(path))?;
            write!(out, ",fail_count_{g}_{p}={}", path.state().failures())?;
            // None of the selectors has anything to say here.
            write!(out, ",path_selector_status_{g}_{p}=")?;
        }
    }
    out.push(";");
    Ok(())
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_status)]
mod tests {
    use super::*;
    use crate::{
        abstractions::device_mapper::{
            Arg,
            TestBuffer, //
        },
        dm::selector::Kind,
        mpath::{
            group::{
                Builder,
                Demand,
                Switch, //
            },
            path::{
                AccessState,
                FailReason,
                PathState, //
            },
            queue::Queue,
        },
    };
    use kernel::sync::Arc;

    struct Path(DeviceName, PathState, Queue);

    impl HasQueue for Path {
        fn queue(&self) -> &Queue {
            &self.2
        }
    }

    impl HasState for Path {
        fn state(&self) -> &PathState {
            &self.1
        }
    }

    impl PathStatus for Path {
        fn name(&self) -> &DeviceName {
            &self.0
        }
    }

    type PathGroups = Groups<Arc<Path>, Selector>;

    /// Groups of paths: the kind, its words, and for each path its name and words.
    type Given<'a> = (Kind, &'a [&'a CStr], &'a [(&'a str, &'a [&'a CStr])]);

    /// At most so many words.
    fn args<'a>(words: &[&'a CStr]) -> [Arg<'a>; 2] {
        core::array::from_fn(|index| Arg::from(words.get(index).copied().unwrap_or(c"")))
    }

    fn groups_of(given: &[Given<'_>]) -> Result<PathGroups> {
        let mut builder = Builder::new();
        for (kind, words, members) in given {
            let mut selector = Selector::new(*kind, &args(words)[..words.len()])
                .map_err(|refused| refused.error)?;
            let mut paths = KVec::new();
            for (name, words) in *members {
                selector
                    .add_path(&args(words)[..words.len()])
                    .map_err(|refused| refused.error)?;
                let path = Path(
                    DeviceName::for_test(name),
                    PathState::new(AccessState::Optimized),
                    Queue::new(),
                );
                paths.push(Arc::new(path, GFP_KERNEL)?, GFP_KERNEL)?;
            }
            builder.push(paths, selector)?;
        }
        Ok(builder.build())
    }

    /// Two groups: of 8:0 and 8:16, and of 259:3.
    fn groups() -> Result<PathGroups> {
        groups_of(&[
            (Kind::RoundRobin, &[], &[("8:0", &[]), ("8:16", &[c"1"])]),
            (Kind::RoundRobin, &[], &[("259:3", &[])]),
        ])
    }

    type Text = TestBuffer<512>;

    fn shown(kind: StatusKind, features: &Features, switch: &Switch, groups: &PathGroups) -> Text {
        let mut text = Text::new();
        let view = View {
            features,
            queue_if_no_path: features.queue_if_no_path,
            has_chosen: switch.has_chosen(),
            group: groups.shown(switch),
        };
        let target = (c"rmpath", [1, 0, 0]);
        write(&mut text.writer(), kind, target, &view, groups);
        text
    }

    #[test]
    fn info_follows_the_history() -> Result {
        let groups = groups()?;
        let features = Features::default();
        let mut switch = Switch::new(2, &groups);

        let fresh = shown(StatusKind::Info, &features, &switch, &groups);
        assert_eq!(
            fresh.text(),
            "2 1 0 0 2 2 E 0 2 0 8:0 A 0 8:16 A 0 E 0 1 0 259:3 A 0 "
        );

        groups.choose(&mut switch, Demand::Other);
        let used = shown(StatusKind::Info, &features, &switch, &groups);
        assert_eq!(
            used.text(),
            "2 0 0 0 2 2 E 0 2 0 8:0 A 0 8:16 A 0 A 0 1 0 259:3 A 0 "
        );

        let last = &groups.path(2).ok_or(EINVAL)?.1;
        last.fail(FailReason::Io);
        last.reinstate();
        last.fail(FailReason::Io);
        groups.choose(&mut switch, Demand::Other);
        groups.bypass(&mut switch, 2, true)?;
        groups.choose(&mut switch, Demand::Other);
        let failed = shown(StatusKind::Info, &features, &switch, &groups);
        assert_eq!(
            failed.text(),
            "2 0 0 0 2 1 A 0 2 0 8:0 A 0 8:16 A 0 D 0 1 0 259:3 F 2 "
        );
        Ok(())
    }

    #[test]
    fn table_makes_the_map_again() -> Result {
        let groups = groups()?;
        let mut features = Features::default();
        let switch = Switch::new(1, &groups);

        let plain = shown(StatusKind::Table, &features, &switch, &groups);
        assert_eq!(
            plain.text(),
            "0 0 2 1 round-robin 0 2 1 8:0 1 8:16 1 round-robin 0 1 1 259:3 1 "
        );

        features.queue_if_no_path = true;
        features.retain_attached_hw_handler = true;
        features.pg_init_retries = 50;
        features.pg_init_delay_msecs = Some(0);
        features.queue_mode_bio = true;
        let all = shown(StatusKind::Table, &features, &switch, &groups);
        assert_eq!(
            all.text(),
            "7 queue_if_no_path pg_init_retries 50 pg_init_delay_msecs 0 queue_mode bio 0 2 1 \
             round-robin 0 2 1 8:0 1 8:16 1 round-robin 0 1 1 259:3 1 "
        );
        Ok(())
    }

    #[test]
    fn ima_measures_states() -> Result {
        let groups = groups()?;
        let mut switch = Switch::new(1, &groups);
        groups.choose(&mut switch, Demand::Other);
        groups.path(1).ok_or(EINVAL)?.1.fail(FailReason::Admin);

        let ima = shown(StatusKind::Ima, &Features::default(), &switch, &groups);
        assert_eq!(
            ima.text(),
            "target_name=rmpath,target_version=1.0.0,nr_priority_groups=2,pg_state_0=A,\
             nr_pgpaths_0=2,path_selector_name_0=round-robin,\
             path_name_0_0=8:0,is_active_0_0=A,fail_count_0_0=0,path_selector_status_0_0=,\
             path_name_0_1=8:16,is_active_0_1=F,fail_count_0_1=1,path_selector_status_0_1=,\
             pg_state_1=E,nr_pgpaths_1=1,path_selector_name_1=round-robin,\
             path_name_1_0=259:3,is_active_1_0=A,fail_count_1_0=0,path_selector_status_1_0=;"
        );
        Ok(())
    }

    #[test]
    fn a_map_without_groups() -> Result {
        let groups = Builder::<Arc<Path>, Selector>::new().build();
        let switch = Switch::new(0, &groups);
        let features = Features::default();
        let info = shown(StatusKind::Info, &features, &switch, &groups);
        let table = shown(StatusKind::Table, &features, &switch, &groups);

        assert_eq!(info.text(), "2 1 0 0 0 0 ");
        assert_eq!(table.text(), "0 0 0 0 ");
        Ok(())
    }

    #[test]
    fn each_selector_has_its_own() -> Result {
        let groups = groups_of(&[
            (Kind::QueueLength, &[], &[("1:0", &[]), ("1:1", &[c"0"])]),
            (
                Kind::ServiceTime,
                &[],
                &[("2:0", &[c"9", c"100"]), ("2:1", &[])],
            ),
            (
                Kind::HistoricalServiceTime,
                &[c"500", c"3"],
                &[("3:0", &[c"9"])],
            ),
            (Kind::HistoricalServiceTime, &[], &[("4:0", &[])]),
            (Kind::IoAffinity, &[], &[("5:0", &[c"1"])]),
        ])?;
        let mut switch = Switch::new(1, &groups);
        let features = Features::default();
        for demand in [Demand::Io(512), Demand::Io(512), Demand::Other] {
            groups.choose(&mut switch, demand);
        }
        groups.ended(1, 1);
        groups.switch_to(&mut switch, 2)?;
        groups.choose(&mut switch, Demand::Io(4096));
        let table = shown(StatusKind::Table, &features, &switch, &groups);
        let info = shown(StatusKind::Info, &features, &switch, &groups);
        drop(groups);

        assert_eq!(
            info.text(),
            "2 0 0 0 5 2 E 0 2 1 1:0 A 0 1 1:1 A 0 0 \
             A 0 2 2 2:0 A 0 4096 100 2:1 A 0 0 1 \
             E 2 500 3 1 3 3:0 A 0 1024 0 0 E 2 972 0 1 3 4:0 A 0 1024 0 0 \
             E 0 1 1 5:0 A 0 0 "
        );
        // How many digits the mask has depends on the machine.
        assert!(table.text().starts_with(
            "0 0 5 2 queue-length 0 2 1 1:0 1 1:1 0 service-time 0 2 2 2:0 1 100 2:1 1 1 \
             historical-service-time 2 500 3 1 1 3:0 0 historical-service-time 2 972 0 1 1 4:0 0 \
             io-affinity 0 1 1 5:0 "
        ));
        assert!(table.text().ends_with("1 "));
        Ok(())
    }
}
