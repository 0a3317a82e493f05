// SPDX-License-Identifier: GPL-2.0

//! The map: where its I/O goes, and what becomes of I/O that fails.
//!
//! Groups and paths do not change in the life of a map, and dm core keeps the devices open until its
//! I/O has ended, so a clone is mapped by looking at atomics only. A clone that finds no path in the
//! current group takes the lock, under which groups are switched, paths are failed and reinstated,
//! and the list of parked clones lies: a clone is parked in the same critical section in which it
//! was seen that there is no path, and who makes a path usable does so under the lock and lets the
//! parked ones go afterwards.

use super::{
    io::{
        BioData,
        Kept, //
    },
    message::Message,
    path::Path,
    revive::Revivals,
    selector::Selector,
    status,
    table::{
        Features,
        Table, //
    },
    timeout::QUEUE_IF_NO_PATH_TIMEOUT_SECS,
    Queues, //
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        bio::{
            list::BioList,
            status::BlkStatus, //
        },
        device_mapper::{
            self,
            devt_from_path,
            Arg,
            Ended,
            FailedBio,
            Ioctl,
            MapBio,
            Mapped,
            PathEvent,
            Setup,
            StatusKind,
            StatusWriter,
            SucceededBio,
            TableEvents,
            Target,
            TargetInfo, //
        },
        spinlock::{
            new_spinlock_irq,
            SpinLockIrq, //
        },
        workqueue::{
            cancel_sync,
            disarm_sync,
            flush,
            impl_has_token_work,
            impl_runs_on,
            Token, //
        },
    },
    mpath::{
        deadline::Deadline,
        group::{
            Builder,
            Counts,
            Demand,
            Groups,
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
use kernel::{
    impl_has_delayed_work, new_delayed_work, new_mutex, new_work,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow,
        Mutex, //
    },
    workqueue::{
        DelayedWork,
        Work,
        WorkItem, //
    },
};

/// Works of a map.
pub(super) const REQUEUE: u64 = 0;
pub(super) const RETRY: u64 = 1;
const EVENT: u64 = 2;
pub(super) const NO_PATH: u64 = 3;
pub(super) const REVIVE: u64 = 4;

/// Groups count their I/O in the queues of their paths.
pub(super) const QUEUES: u32 = 1 << 0;
/// A group wants to be told when its I/O ends.
pub(super) const TIMES: u32 = 1 << 1;
/// A path may have had a soft error since it last worked.
pub(super) const SUSPECTS: u32 = 1 << 2;

/// What changes in a map.
pub(super) struct State {
    pub(super) switch: Switch,
    /// Keep I/O when there is no path, as configured.
    pub(super) queue_if_no_path: bool,
    /// There is no path, I/O is kept, and that has an end.
    pub(super) wait: Option<Deadline>,
    pub(super) suspend: Suspend,
    /// Clones without a path, or on their way to another one.
    pub(super) parked: BioList<Kept>,
    /// Clones that wait for resources.
    pub(super) delayed: BioList<Kept>,
    /// When paths that have failed are probed.
    pub(super) revivals: Revivals,
}

/// Whether a suspend is under way or done: it would wait for I/O that is kept.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Suspend {
    None,
    /// I/O without a path fails.
    Flush,
    /// dm core takes it back. When it no longer does, the suspend was interrupted, and we are about
    /// to be told.
    NoFlush,
}

impl State {
    /// Whether a clone without a path may wait for one.
    pub(super) fn may_park(&self, info: &TargetInfo) -> bool {
        self.queue_if_no_path
            && match self.suspend {
                Suspend::None => true,
                Suspend::Flush => false,
                Suspend::NoFlush => !info.noflush_suspending(),
            }
    }
}

/// A map.
#[pin_data]
pub(crate) struct Multipath {
    /// As dm core calls the map in the log: `major:minor`.
    pub(super) name: CString,
    pub(super) features: Features,
    pub(super) groups: Groups<Arc<Path>, Selector>,
    #[pin]
    pub(super) state: SpinLockIrq<State>,
    /// What is to be noted when a clone succeeds: for the map's life one of [`QUEUES`] and [`TIMES`], or
    /// none, and now and then [`SUSPECTS`].
    pub(super) notes: Atomic<u32>,
    /// The number of the group that was probed last; held while one is.
    #[pin]
    pub(super) probed: Mutex<Option<u32>>,
    pub(super) queues: Arc<Queues>,
    pub(super) events: Arc<TableEvents>,
    #[pin]
    requeue: Work<Self, REQUEUE>,
    #[pin]
    retry: DelayedWork<Self, RETRY>,
    #[pin]
    event: Work<Self, EVENT>,
    #[pin]
    no_path: DelayedWork<Self, NO_PATH>,
    #[pin]
    revive: DelayedWork<Self, REVIVE>,
}

impl_has_token_work! {
    impl HasPlainWork<REQUEUE> for Multipath { self.requeue }
    impl HasPlainWork<EVENT> for Multipath { self.event }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Self, RETRY> for Multipath { self.retry }
    impl HasDelayedWork<Self, NO_PATH> for Multipath { self.no_path }
    impl HasDelayedWork<Self, REVIVE> for Multipath { self.revive }
}
impl_runs_on! {
    impl RunsOn<RETRY> for Multipath { self.queues.requeue }
    impl RunsOn<NO_PATH> for Multipath { self.queues.requeue }
    impl RunsOn<REVIVE> for Multipath { self.queues.events }
}

impl WorkItem<EVENT> for Multipath {
    type Pointer = Token<Self>;

    fn run(this: Self::Pointer) {
        this.events.raise();
    }
}

impl Multipath {
    /// For how many seconds it waits for a path; 0: without an end.
    pub(super) fn no_path_timeout(&self) -> u32 {
        self.features
            .no_path_timeout
            .unwrap_or_else(|| QUEUE_IF_NO_PATH_TIMEOUT_SECS.load(Relaxed))
    }

    fn new(
        setup: &mut Setup<'_>,
        table: Table<'_>,
        queues: ArcBorrow<'_, Queues>,
    ) -> Result<Arc<Self>> {
        let mut builder = Builder::new();
        for group in table.groups {
            let mut paths = KVec::with_capacity(group.devices.len(), GFP_KERNEL)?;
            for name in group.devices {
                let number = u32::try_from(builder.paths() + paths.len())?;
                let device = setup
                    .get_device(name)
                    .map_err(|error| setup.fail(c"error getting device", error))?;
                let (name, devt, zoned) = setup
                    .device(device)
                    .map(|device| (device.name(), device.bdev().dev(), device.bdev().is_zoned()))
                    .ok_or(ENODEV)?;
                let holdable = setup.holdable(device).ok_or(ENODEV)?;
                if zoned {
                    return Err(setup.fail(c"zoned devices are not supported", EINVAL));
                }
                let path = Path {
                    name,
                    devt,
                    queue: Queue::new(),
                    number,
                    device,
                    state: PathState::new(AccessState::Optimized),
                    holdable,
                };
                paths.push(Arc::new(path, GFP_KERNEL)?, GFP_KERNEL)?;
            }
            builder.push(paths, group.selector)?;
        }
        let groups = builder.build();
        let state = State {
            switch: Switch::new(table.initial_group, &groups),
            queue_if_no_path: table.features.queue_if_no_path,
            wait: None,
            suspend: Suspend::None,
            parked: BioList::new(),
            delayed: BioList::new(),
            revivals: Revivals::new(table.features.probe_secs, groups.paths().count())?,
        };
        let notes = match groups.counts() {
            Counts::Nothing => 0,
            Counts::Queues => QUEUES,
            Counts::Times => TIMES,
        };
        let name = CString::try_from_fmt(fmt!("{}", setup.device_name()))?;
        Arc::pin_init(
            pin_init!(Self {
                name,
                features: table.features,
                groups,
                state <- new_spinlock_irq!(state, "rmpath_dm_state"),
                notes: Atomic::new(notes),
                probed <- new_mutex!(None, "rmpath_dm_probed"),
                queues: queues.into(),
                events: setup.events().clone(),
                requeue <- new_work!("rmpath_dm_requeue"),
                retry <- new_delayed_work!("rmpath_dm_retry"),
                event <- new_work!("rmpath_dm_event"),
                no_path <- new_delayed_work!("rmpath_dm_no_path"),
                revive <- new_delayed_work!("rmpath_dm_revive"),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets the parked clones go, wherever they can. Any context, not under the lock.
    pub(super) fn kick(this: ArcBorrow<'_, Self>) {
        // If it is pending it will see what we have done: the token comes back.
        let _ = this
            .queues
            .requeue
            .enqueue::<REQUEUE, _, _>(Token::of(this.into()));
    }

    /// Has an event raised. Any context, not under the lock.
    fn note_event(this: ArcBorrow<'_, Self>) {
        // If it is pending the event is still to come.
        let _ = this
            .queues
            .events
            .enqueue::<EVENT, _, _>(Token::of(this.into()));
    }

    /// Takes a path out of use.
    pub(super) fn fail_path(
        this: ArcBorrow<'_, Self>,
        info: &TargetInfo,
        path: &Path,
        reason: FailReason,
    ) {
        // So that what others decide under the lock about paths stays true while they hold it.
        let mut state = this.state.lock();
        let newly = path.state.fail(reason);
        if newly {
            this.groups.failed(path.number as usize);
            info.path_event(PathEvent::Failed, &path.name, this.groups.usable() as u32);
        }
        let superseded = Self::review_wait(this, &mut state);
        let revival = Self::note_failure(this, &mut state, path, newly && reason == FailReason::Io);
        drop(state);
        drop((superseded, revival));
        if newly {
            let map = info.device_name();
            pr_warn!("{map}: failing path {}\n", path.name);
            Self::note_event(this);
        }
    }

    /// Takes a path into use again, if `reinstate` says that it had failed and has not now.
    pub(super) fn reinstate_path(
        this: ArcBorrow<'_, Self>,
        info: &TargetInfo,
        path: &Path,
        reinstate: fn(&PathState) -> bool,
    ) {
        // So that nobody who saw no path parks a clone after the kick below.
        let mut state = this.state.lock();
        let had_failed = reinstate(&path.state);
        if had_failed {
            this.groups.reinstated(path.number as usize);
            let valid_paths = this.groups.usable() as u32;
            info.path_event(PathEvent::Reinstated, &path.name, valid_paths);
        }
        let superseded = Self::review_wait(this, &mut state);
        drop(state);
        drop(superseded);
        if had_failed {
            // What waits goes first.
            Self::kick(this);
            let map = info.device_name();
            pr_warn!("{map}: reinstating path {}\n", path.name);
            Self::note_event(this);
        }
    }

    /// The suspend is over, or has failed.
    fn end_suspend(this: ArcBorrow<'_, Self>) {
        let mut state = this.state.lock();
        state.suspend = Suspend::None;
        let superseded = Self::plan_revivals(this, &mut state);
        drop(state);
        drop(superseded);
    }

    /// Does `action` with every path whose device is `device`. `EINVAL` if there is none.
    fn each_path(&self, device: &CStr, action: impl Fn(&Path)) -> Result {
        let devt = devt_from_path(device).inspect_err(|_| {
            pr_warn!("message: error getting device {device}\n");
        })?;
        let mut paths = self
            .groups
            .paths()
            .filter(|path| path.devt == devt)
            .peekable();
        paths.peek().ok_or(EINVAL)?;
        paths.for_each(|path| action(path));
        Ok(())
    }
}

#[vtable]
impl Target for Multipath {
    type Context = Queues;
    type BioData = BioData;

    const NAME: &'static CStr = c"rmpath";
    // dm-multipath's, whose tables and messages these are: multipath-tools look at it.
    const VERSION: [u32; 3] = [1, 15, 0];
    const FEATURES: device_mapper::Features = device_mapper::Features::SINGLETON
        .and(device_mapper::Features::PASSES_INTEGRITY)
        .and(device_mapper::Features::NOWAIT)
        .and(device_mapper::Features::ATOMIC_WRITES);

    fn ctr(
        setup: &mut Setup<'_>,
        words: &[Arg<'_>],
        queues: ArcBorrow<'_, Queues>,
    ) -> Result<Arc<Self>> {
        let table =
            Table::parse(words).map_err(|refused| setup.fail(refused.reason, refused.error))?;
        let ignored = [
            (table.hw_handler, "a hardware handler"),
            (table.features.pg_init_retries > 0, "pg_init_retries"),
            (
                table.features.pg_init_delay_msecs.is_some(),
                "pg_init_delay_msecs",
            ),
            (
                table.features.retain_attached_hw_handler,
                "retain_attached_hw_handler",
            ),
            (table.repeat_count_ignored, "a repeat count above 1"),
        ];
        let this = Self::new(setup, table, queues)?;
        let map = setup.device_name();
        for (_, word) in ignored.iter().filter(|(given, _)| *given) {
            pr_info!("{map}: {word} is without effect\n");
        }
        setup.pass_flushes();
        setup.pass_discards();
        setup.pass_write_zeroes();
        // There may be no path from the beginning.
        let mut state = this.state.lock();
        let superseded = Self::review_wait(this.as_arc_borrow(), &mut state);
        drop(state);
        drop(superseded);
        Ok(this)
    }

    fn dtr(this: ArcBorrow<'_, Self>) {
        this.stop_revivals();
        // Its timer arms itself as long as there is a wait.
        let superseded = this.end_wait(&mut this.state.lock());
        drop(superseded);
        // The others may queue the requeue.
        drop(disarm_sync::<NO_PATH, _, _>(&*this));
        drop(disarm_sync::<RETRY, _, _>(&*this));
        drop(cancel_sync::<REQUEUE, _, _>(&*this));
        drop(cancel_sync::<EVENT, _, _>(&*this));
    }

    #[inline]
    fn map<'a>(this: ArcBorrow<'_, Self>, bio: MapBio<'a, Self>) -> Mapped<'a> {
        let Some(group) = this.groups.current() else {
            return this.map_otherwise(bio);
        };
        let Some(picked) = group.pick(Demand::Io(bio.bytes())) else {
            return this.map_otherwise(bio);
        };
        Self::send(bio, &picked)
    }

    #[inline]
    fn succeeded(this: ArcBorrow<'_, Self>, bio: SucceededBio<'_, Self>) {
        match this.notes.load_once() {
            0 => (),
            QUEUES => this.count_out(bio),
            notes => this.note_success(notes, bio),
        }
    }

    fn failed<'a>(
        this: ArcBorrow<'_, Self>,
        bio: FailedBio<'a, Self>,
        status: BlkStatus,
    ) -> Ended<'a> {
        Self::fail(this, bio, status)
    }

    fn presuspend(this: ArcBorrow<'_, Self>, info: &TargetInfo) {
        this.state.lock().suspend = match info.noflush_suspending() {
            true => Suspend::NoFlush,
            false => Suspend::Flush,
        };
        Self::kick(this);
    }

    fn presuspend_undo(this: ArcBorrow<'_, Self>, _info: &TargetInfo) {
        Self::end_suspend(this);
    }

    fn postsuspend(this: ArcBorrow<'_, Self>, _info: &TargetInfo) {
        // Afterwards nothing of the map runs, but for reads of paths that have failed.
        flush::<REQUEUE, _>(&*this);
        flush::<EVENT, _>(&*this);
    }

    fn resume(this: ArcBorrow<'_, Self>, _info: &TargetInfo) {
        Self::end_suspend(this);
    }

    fn status(
        this: ArcBorrow<'_, Self>,
        info: &TargetInfo,
        kind: StatusKind,
        out: &mut StatusWriter<'_>,
    ) {
        let target = (info.type_name(), Self::VERSION);
        // Until all is written, so that what is shown was true at one time.
        let state = this.state.lock();
        let view = status::View {
            features: &this.features,
            queue_if_no_path: state.queue_if_no_path && state.suspend == Suspend::None,
            has_chosen: state.switch.has_chosen(),
            group: this.groups.shown(&state.switch),
        };
        status::write(out, kind, target, &view, &this.groups);
    }

    fn message(this: ArcBorrow<'_, Self>, info: &TargetInfo, words: &[Arg<'_>]) -> Result {
        if info.suspended() {
            return Err(EBUSY);
        }
        match Message::parse(words)? {
            Message::QueueIfNoPath(queue) => {
                let mut state = this.state.lock();
                state.queue_if_no_path = queue;
                let superseded = Self::restart_wait(this, &mut state);
                drop(state);
                drop(superseded);
                if !queue {
                    Self::kick(this);
                }
                Ok(())
            }
            Message::FailPath(device) => this.each_path(device, |path| {
                Self::fail_path(this, info, path, FailReason::Admin);
            }),
            Message::ReinstatePath(device) => this.each_path(device, |path| {
                Self::reinstate_path(this, info, path, PathState::reinstate);
            }),
            Message::BypassGroup(number, bypassed) => {
                let mut state = this.state.lock();
                this.groups.bypass(&mut state.switch, number, bypassed)?;
                drop(state);
                Self::note_event(this);
                Ok(())
            }
            Message::SwitchGroup(number) => {
                let mut state = this.state.lock();
                this.groups.switch_to(&mut state.switch, number)?;
                drop(state);
                Self::note_event(this);
                Ok(())
            }
        }
    }

    fn prepare_ioctl(this: ArcBorrow<'_, Self>, _info: &TargetInfo) -> Result<Ioctl> {
        if let Some(picked) = this.groups.pick(Demand::Other) {
            return Ok(Ioctl::Forward(picked.path.device));
        }
        let mut state = this.state.lock();
        match this.groups.choose(&mut state.switch, Demand::Other) {
            Some(picked) => Ok(Ioctl::Forward(picked.path.device)),
            None if state.queue_if_no_path => Ok(Ioctl::Wait),
            None => Err(EIO),
        }
    }

    fn probe_paths(this: ArcBorrow<'_, Self>, info: &TargetInfo) -> Result {
        Self::probe(this, info)
    }
}
