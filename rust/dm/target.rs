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
    message::Message,
    status::{
        self,
        PathStatus, //
    },
    table::{
        Features,
        Table, //
    },
    Queues, //
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        bio::{
            list::BioList,
            status::BlkStatus, //
        },
        block_device::DevT,
        device_mapper::{
            self,
            devt_from_path,
            Arg,
            DeviceId,
            DeviceName,
            Ended,
            FailedBio,
            Ioctl,
            KeptBio,
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
            Token, //
        },
    },
    mpath::{
        error::{
            verdict,
            Verdict, //
        },
        group::{
            Builder,
            Groups,
            Switch, //
        },
        path::{
            AccessState,
            FailReason,
            PathState, //
        },
        selector::HasState, //
    },
};
use kernel::{
    impl_has_delayed_work, new_delayed_work, new_work,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Full, //
        },
        Arc,
        ArcBorrow, //
    },
    time::{
        msecs_to_jiffies,
        Msecs, //
    },
    workqueue::{
        DelayedWork,
        Work,
        WorkItem, //
    },
};

/// How often a bio is tried again after errors that do not fail a path.
const MAX_SOFT_RETRIES: u8 = 3;

/// How often a bio is tried again after paths have failed, unless I/O is to wait for a path anyway.
const MAX_RETRIES: u8 = 32;

/// How long a bio waits that was refused for want of resources, in milliseconds.
const RETRY_DELAY: Msecs = 100;

/// Works of a map.
const REQUEUE: u64 = 0;
const RETRY: u64 = 1;
const EVENT: u64 = 2;

/// A path of a map.
struct Path {
    /// Among all paths of the map.
    number: usize,
    device: DeviceId,
    devt: DevT,
    name: DeviceName,
    repeat_count: u32,
    state: PathState,
}

impl HasState for Path {
    #[inline]
    fn state(&self) -> &PathState {
        &self.state
    }
}

impl PathStatus for Path {
    fn name(&self) -> &DeviceName {
        &self.name
    }

    fn repeat_count(&self) -> u32 {
        self.repeat_count
    }
}

/// The number of no path.
const NO_PATH: usize = usize::MAX;

/// What is kept with each clone.
pub(crate) struct BioData {
    /// The path that it was sent to last, or [`NO_PATH`].
    path: usize,
    /// How often it was tried again after a path had failed.
    retries: u8,
    /// How often it was tried again after another error.
    soft_retries: u8,
    /// What it ends with if there is no path for it any more.
    error: BlkStatus,
}

impl Default for BioData {
    #[inline]
    fn default() -> Self {
        Self {
            path: NO_PATH,
            retries: 0,
            soft_retries: 0,
            error: BlkStatus::IOERR,
        }
    }
}

type Kept = KeptBio<Multipath>;

/// What changes in a map.
struct State {
    switch: Switch,
    /// Keep I/O when there is no path, as configured.
    queue_if_no_path: bool,
    /// A suspend is under way or done: it would wait for I/O that is kept.
    suspended: bool,
    /// Clones without a path, or on their way to another one.
    parked: BioList<Kept>,
    /// Clones that wait for resources.
    delayed: BioList<Kept>,
}

impl State {
    /// Whether a clone without a path may wait for one.
    fn may_park(&self) -> bool {
        self.queue_if_no_path && !self.suspended
    }
}

/// A map.
#[pin_data]
pub(crate) struct Multipath {
    features: Features,
    groups: Groups<KBox<Path>>,
    #[pin]
    state: SpinLockIrq<State>,
    /// Whether a path may have had a soft error since it last worked: only then is there something
    /// to note when a clone succeeds.
    suspects: Atomic<u32>,
    queues: Arc<Queues>,
    events: Arc<TableEvents>,
    #[pin]
    requeue: Work<Self, REQUEUE>,
    #[pin]
    retry: DelayedWork<Self, RETRY>,
    #[pin]
    event: Work<Self, EVENT>,
}

impl_has_token_work! {
    impl HasPlainWork<REQUEUE> for Multipath { self.requeue }
    impl HasPlainWork<EVENT> for Multipath { self.event }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Self, RETRY> for Multipath { self.retry }
}

impl WorkItem<REQUEUE> for Multipath {
    type Pointer = Token<Self>;

    fn run(this: Self::Pointer) {
        this.resubmit();
    }
}

impl WorkItem<RETRY> for Multipath {
    type Pointer = Token<Self>;

    fn run(this: Self::Pointer) {
        this.hurry();
        this.resubmit();
    }
}

impl WorkItem<EVENT> for Multipath {
    type Pointer = Token<Self>;

    fn run(this: Self::Pointer) {
        this.events.raise();
    }
}

/// What a failed clone waits for.
#[derive(Clone, Copy, PartialEq)]
enum Retry {
    /// A path.
    Now,
    /// Resources.
    Later,
}

impl Multipath {
    fn new(
        setup: &mut Setup<'_>,
        table: Table<'_>,
        queues: ArcBorrow<'_, Queues>,
    ) -> Result<Arc<Self>> {
        let mut builder = Builder::new();
        for specs in table.groups {
            let mut paths = KVec::with_capacity(specs.len(), GFP_KERNEL)?;
            for spec in specs {
                let number = builder.paths() + paths.len();
                let device = setup
                    .get_device(spec.device)
                    .map_err(|error| setup.fail(c"error getting device", error))?;
                let (name, devt, zoned) = setup
                    .device(device)
                    .map(|device| (device.name(), device.bdev().dev(), device.bdev().is_zoned()))
                    .ok_or(ENODEV)?;
                if zoned {
                    return Err(setup.fail(c"zoned devices are not supported", EINVAL));
                }
                let path = Path {
                    number,
                    device,
                    devt,
                    name,
                    repeat_count: spec.repeat_count,
                    state: PathState::new(AccessState::Optimized),
                };
                paths.push(KBox::new(path, GFP_KERNEL)?, GFP_KERNEL)?;
            }
            builder.push(paths)?;
        }
        let groups = builder.build();
        let state = State {
            switch: Switch::new(table.initial_group, &groups),
            queue_if_no_path: table.features.queue_if_no_path,
            suspended: false,
            parked: BioList::new(),
            delayed: BioList::new(),
        };
        Arc::pin_init(
            pin_init!(Self {
                features: table.features,
                groups,
                state <- new_spinlock_irq!(state, "rmpath_dm_state"),
                suspects: Atomic::new(0),
                queues: queues.into(),
                events: setup.events().clone(),
                requeue <- new_work!("rmpath_dm_requeue"),
                retry <- new_delayed_work!("rmpath_dm_retry"),
                event <- new_work!("rmpath_dm_event"),
            }),
            GFP_KERNEL,
        )
    }

    /// Lets the parked clones go, wherever they can. Any context, not under the lock.
    fn kick(this: ArcBorrow<'_, Self>) {
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

    /// Has clones that wait for resources wait for a path only.
    fn hurry(&self) {
        let mut state = self.state.lock();
        let mut delayed = state.delayed.take();
        while let Some(bio) = delayed.pop() {
            state.parked.push(bio);
        }
    }

    /// Submits the parked clones again. May sleep.
    fn resubmit(&self) {
        let mut bios = self.state.lock().parked.take();
        while let Some(bio) = bios.pop() {
            self.submit(bio);
        }
    }

    /// Submits a clone, rather not to the path that it comes from; or parks it, or ends it.
    fn submit(&self, mut bio: Kept) {
        let last = bio.data_mut().path;
        let mut path = self.groups.pick_if(|path| path.number != last);
        if path.is_none() {
            let mut state = self.state.lock();
            path = self.groups.choose(&mut state.switch);
            if path.is_none() && state.may_park() {
                state.parked.push(bio);
                return;
            }
        }
        if let Some(path) = path {
            bio.data_mut().path = path.number;
            bio.submit(path.device);
            return;
        }
        let error = bio.data_mut().error;
        if let Err(bio) = bio.push_back() {
            bio.end(error);
        }
    }

    /// Maps a clone for which the current group has no path.
    #[cold]
    fn map_otherwise<'a>(&self, mut bio: MapBio<'a, Self>) -> Mapped<'a> {
        let mut state = self.state.lock();
        if let Some(path) = self.groups.choose(&mut state.switch) {
            drop(state);
            bio.data_mut().path = path.number;
            return bio.remap(path.device);
        }
        let may_park = state.may_park();
        if bio.is_nowait() {
            drop(state);
            return match may_park || bio.info().noflush_suspending() {
                true => bio.end(BlkStatus::AGAIN),
                false => bio.kill(),
            };
        }
        if !may_park {
            drop(state);
            return bio.push_back().unwrap_or_else(MapBio::kill);
        }
        let (kept, mapped) = bio.keep();
        state.parked.push(kept);
        mapped
    }

    /// Takes a path out of use.
    fn fail_path(this: ArcBorrow<'_, Self>, info: &TargetInfo, path: &Path, reason: FailReason) {
        let newly = {
            // So that what others decide under the lock about paths stays true while they hold it.
            let _state = this.state.lock();
            let newly = path.state.fail(reason);
            if newly {
                info.path_event(PathEvent::Failed, &path.name, this.groups.usable() as u32);
            }
            newly
        };
        if newly {
            let map = info.device_name();
            pr_warn!("{map}: failing path {}\n", path.name);
            Self::note_event(this);
        }
    }

    /// Takes a path into use again.
    fn reinstate_path(this: ArcBorrow<'_, Self>, info: &TargetInfo, path: &Path) {
        let had_failed = {
            // So that nobody who saw no path parks a clone after the kick below.
            let _state = this.state.lock();
            let had_failed = path.state.reinstate();
            if had_failed {
                info.path_event(
                    PathEvent::Reinstated,
                    &path.name,
                    this.groups.usable() as u32,
                );
            }
            had_failed
        };
        if had_failed {
            let map = info.device_name();
            pr_warn!("{map}: reinstating path {}\n", path.name);
            Self::kick(this);
            Self::note_event(this);
        }
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

    /// Notes an error that may or may not be the path's fault. Returns whether it is one too many.
    fn suspect(&self, path: &Path) -> bool {
        let fails = path.state.note_soft_error();
        self.suspects.xchg(1, Full);
        fails
    }

    /// A clone has succeeded while a path is under suspicion: the one it came by is not any more.
    #[cold]
    fn clear(&self, data: Option<&BioData>) {
        if let Some(path) = data.and_then(|data| self.groups.path(data.path)) {
            path.state.note_success();
        }
        // Who notes an error meanwhile does so before he sets this: one of us sees the other.
        self.suspects.xchg(0, Full);
        if self.groups.paths().any(|path| path.state.is_suspect()) {
            self.suspects.xchg(1, Full);
        }
    }

    /// Keeps a failed clone to try it again, or lets it end with the error it has.
    fn retry<'a>(
        this: ArcBorrow<'_, Self>,
        mut bio: FailedBio<'a, Self>,
        retry: Retry,
    ) -> Ended<'a> {
        let BioData { error, retries, .. } = *bio.data_mut();
        let mut state = this.state.lock();
        let may_park = state.may_park();
        let go_on = may_park || (retries <= MAX_RETRIES && this.groups.usable() > 0);
        if bio.is_nowait() {
            drop(state);
            // The submitter would rather come again than wait for the work item.
            return match go_on || bio.info().noflush_suspending() {
                true => bio.done(BlkStatus::AGAIN),
                false => bio.done(error),
            };
        }
        if !go_on {
            drop(state);
            return bio.push_back().unwrap_or_else(|bio| bio.done(error));
        }
        let (kept, ended) = bio.keep();
        if retry == Retry::Later && !state.suspended {
            let first = state.delayed.is_empty();
            state.delayed.push(kept);
            drop(state);
            if first {
                // Only if none waits yet, or a stream of them would move the time away for ever.
                let token = Token::of(this.into());
                let delay = msecs_to_jiffies(RETRY_DELAY);
                drop(this.queues.requeue.arm::<RETRY, _, _>(token, delay));
            }
        } else {
            state.parked.push(kept);
            drop(state);
            Self::kick(this);
        }
        ended
    }
}

#[vtable]
impl Target for Multipath {
    type Context = Queues;
    type BioData = BioData;

    const NAME: &'static CStr = c"rmpath";
    const VERSION: [u32; 3] = [1, 0, 0];
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
        Ok(this)
    }

    fn dtr(this: ArcBorrow<'_, Self>) {
        // The first may queue the second.
        drop(disarm_sync::<RETRY, _, _>(&*this));
        drop(cancel_sync::<REQUEUE, _, _>(&*this));
        drop(cancel_sync::<EVENT, _, _>(&*this));
    }

    #[inline]
    fn map<'a>(this: ArcBorrow<'_, Self>, mut bio: MapBio<'a, Self>) -> Mapped<'a> {
        let Some(path) = this.groups.pick() else {
            return this.map_otherwise(bio);
        };
        bio.data_mut().path = path.number;
        bio.remap(path.device)
    }

    #[inline]
    fn succeeded(this: ArcBorrow<'_, Self>, bio: SucceededBio<'_, Self>) {
        if this.suspects.load_once() != 0 {
            this.clear(bio.data());
        }
    }

    fn failed<'a>(
        this: ArcBorrow<'_, Self>,
        mut bio: FailedBio<'a, Self>,
        status: BlkStatus,
    ) -> Ended<'a> {
        let data = bio.data_mut();
        let Some(path) = this.groups.path(data.path) else {
            return bio.done(status);
        };
        data.error = status;
        let verdict = verdict(status);
        let fails = match verdict {
            Verdict::Done | Verdict::Return => return bio.done(status),
            Verdict::RetryLater => false,
            // A disk that is being removed ends what it still gets with IOERR.
            Verdict::RetryElsewhere => {
                this.suspect(path) || {
                    let device = bio.info().device(path.device);
                    !device.is_some_and(|device| device.bdev().is_live())
                }
            }
            Verdict::FailPath => true,
        };
        let data = bio.data_mut();
        if fails {
            data.retries = data.retries.saturating_add(1);
            Self::fail_path(this, bio.info(), path, FailReason::Io);
        } else if data.soft_retries < MAX_SOFT_RETRIES {
            data.soft_retries += 1;
        } else {
            return bio.done(status);
        }
        let retry = match verdict {
            Verdict::RetryLater => Retry::Later,
            _ => Retry::Now,
        };
        Self::retry(this, bio, retry)
    }

    fn presuspend(this: ArcBorrow<'_, Self>, _info: &TargetInfo) {
        this.state.lock().suspended = true;
        this.hurry();
        Self::kick(this);
    }

    fn presuspend_undo(this: ArcBorrow<'_, Self>, _info: &TargetInfo) {
        this.state.lock().suspended = false;
    }

    fn postsuspend(this: ArcBorrow<'_, Self>, _info: &TargetInfo) {
        // Afterwards nothing of the map runs.
        flush::<REQUEUE, _>(&*this);
        flush::<EVENT, _>(&*this);
    }

    fn resume(this: ArcBorrow<'_, Self>, _info: &TargetInfo) {
        this.state.lock().suspended = false;
    }

    fn status(
        this: ArcBorrow<'_, Self>,
        _info: &TargetInfo,
        kind: StatusKind,
        out: &mut StatusWriter<'_>,
    ) {
        let view = {
            let state = this.state.lock();
            status::View {
                features: &this.features,
                queue_if_no_path: state.may_park(),
                has_chosen: state.switch.has_chosen(),
                group: this.groups.shown(&state.switch),
            }
        };
        let target = (Self::NAME, Self::VERSION);
        status::write(out, kind, target, &view, &this.groups);
    }

    fn message(
        this: ArcBorrow<'_, Self>,
        info: &TargetInfo,
        words: &[Arg<'_>],
        _reply: &mut StatusWriter<'_>,
    ) -> Result {
        if info.suspended() {
            return Err(EBUSY);
        }
        match Message::parse(words)? {
            Message::QueueIfNoPath(queue) => {
                this.state.lock().queue_if_no_path = queue;
                if !queue {
                    Self::kick(this);
                }
                Ok(())
            }
            Message::FailPath(device) => this.each_path(device, |path| {
                Self::fail_path(this, info, path, FailReason::Admin);
            }),
            Message::ReinstatePath(device) => this.each_path(device, |path| {
                Self::reinstate_path(this, info, path);
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
        if let Some(path) = this.groups.pick() {
            return Ok(Ioctl::Forward(path.device));
        }
        let mut state = this.state.lock();
        match this.groups.choose(&mut state.switch) {
            Some(path) => Ok(Ioctl::Forward(path.device)),
            None if state.queue_if_no_path => Ok(Ioctl::Wait),
            None => Err(EIO),
        }
    }
}
