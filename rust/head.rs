// SPDX-License-Identifier: GPL-2.0

//! The head node: one disk, `/dev/rmpathN`, over all the paths with one identity.
//!
//! A head comes into being with its first path and goes some time after its last. In between
//!
//! * I/O takes no lock: it reads the path set under RCU ([`io`]);
//! * who changes the set of members holds `setup`, and may sleep meanwhile ([`attach`],
//!   [`detach`]);
//! * what is decided about the head as a whole, above all that it has lost its last path, is
//!   decided and acted on under the head's lock, `inner` ([`removal`]).
//!
//! Lock order: `registrations`, `setup`, the registry, `inner`; `telling`, then `inner`.

mod attach;
mod choice;
mod control;
mod counters;
mod debug;
mod detach;
mod discover;
mod disk;
mod event;
mod fit;
mod io;
mod ioctl;
mod judge;
mod no_path;
mod path;
mod probe;
mod refresh;
mod registry;
mod removal;
mod reservation;
mod spec;
mod sysfs;
mod timers;
mod weight;
mod wwid;

pub(crate) use control::{
    new,
    Control,
    Heads, //
};
pub(crate) use registry::AutoAttach;

use crate::{
    abstractions::{
        bio::{
            clone::{
                BioSet,
                Clone as BioClone, //
            },
            flags::Flags, //
        },
        debugfs,
        gendisk::{
            Disk,
            Limits, //
        },
        idr::Idr,
        kobject::Folder,
        module::ModuleRef,
        rcu::RcuCell,
        spinlock::{
            new_spinlock_irq,
            SpinLockIrq, //
        },
        workqueue::{
            impl_has_token_work,
            impl_runs_on,
            Token, //
        },
        xarray::{
            IdTable,
            Published,
            Reservation, //
        },
    },
    mpath::{
        deadline::Deadline,
        delay::DelayLot,
        park::ParkingLot,
        selector::{
            numa::Numa,
            turns::Turns, //
        },
    },
};
use choice::Choice;
use counters::HeadCounters;
use io::HeadIo;
use kernel::{
    impl_has_delayed_work, new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    workqueue::{
        new_delayed_work,
        new_work,
        DelayedWork,
        Work, //
    },
};
use path::{
    ArcPath,
    PathHandle, //
};
use registry::{
    Listing,
    Shared, //
};
use wwid::{
    Identity,
    Wwid, //
};

/// How many heads there can be.
const MAX_HEADS: u32 = 1 << 20;

/// How many paths a head can have.
const MAX_PATHS: u32 = 1 << 16;

/// Numbers of the work items of a head.
const REQUEUE: u64 = 0;
const RETRY: u64 = 1;
const REMOVAL: u64 = 2;
const NO_PATH: u64 = 3;
const SCAN: u64 = 4;
const REAP: u64 = 5;
const JUDGE: u64 = 6;
const PLAN: u64 = 7;
const REFRESH: u64 = 8;
const EVENT: u64 = 9;
/// Of a path.
const CLOSE: u64 = 0;
const PROBE: u64 = 1;

/// What stage of its life a head is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its first path is being attached; it may or may not be visible yet.
    Building,
    /// It has paths.
    Live,
    /// It has none, or none that is not being closed: its removal is pending.
    Pending,
    /// It is being removed, or has been. Opening it is `ENXIO`.
    Dying,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Live => "live",
            Self::Pending => "removal-pending",
            Self::Dying => "dying",
        }
    }

    /// Whether the disk may be opened: `ENXIO` if not.
    fn may_be_opened(self) -> Result {
        match self {
            Self::Building | Self::Live | Self::Pending => Ok(()),
            Self::Dying => Err(ENXIO),
        }
    }
}

/// A path as the head lists it, from the moment it is attached to the moment it is closed.
struct Member {
    id: u32,
    handle: Arc<PathHandle>,
    /// It did not fit its head when that was looked at last.
    misfit: bool,
    /// `None` while it is being closed.
    open: Option<OpenMember>,
    /// The state that user space was told last.
    told: Option<&'static str>,
}

/// What a member has as long as it is in use. Dropped in this order.
struct OpenMember {
    listing: Listing,
    folder: Folder<PathHandle>,
    path: ArcPath,
}

/// What everybody can see of a head. Dropped in this order.
struct Visible {
    debug: Option<debugfs::File<Head>>,
    folder: Arc<Folder<Head>>,
    disk: Disk<Head>,
    published: Published<Head>,
}

/// What all paths of a head have in common.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Geometry {
    /// Sectors of 512 bytes.
    sectors: u64,
    /// Bytes.
    logical_block_size: u32,
}

/// What the head's lock protects.
struct Inner {
    state: State,
    /// The state that user space was told last.
    told: State,
    members: KVec<Member>,
    geometry: Option<Geometry>,
    /// As they were made of its paths the last time that they changed.
    limits: Option<Limits>,
    /// All paths are smaller than the head, and that has been said.
    shrunk: bool,
    /// Of its number, until it is published.
    reservation: Option<Reservation<Head>>,
    visible: Option<Visible>,
    /// Of the pending removal.
    deadline: Option<Deadline>,
    /// The user has asked for the head's removal: no path keeps it.
    doomed: bool,
    /// I/O has waited long enough.
    expired: bool,
}

/// The paths that I/O may use.
struct PathSet {
    paths: KVec<ArcPath>,
    /// How bios are sent there.
    flags: Flags,
    /// The same, each as often as its weight says.
    turns: Turns<ArcPath>,
    /// Which is nearest to whom.
    near: Numa,
    /// Not 0 if it is not all the same to which path a flush goes: some have a write cache and some
    /// have none, or the cache of a path that is leaving has still to be emptied.
    mixed_caches: Atomic<u32>,
}

/// A head node.
///
/// References: the registry has one while it is live, the ID table one while it is published, the
/// disk one until its last opener has gone, each path, folder and pending work item one. The cycles
/// through paths and folders are broken by detaching and by removal.
#[pin_data]
pub(crate) struct Head {
    id: u32,
    wwid: Wwid,
    identity: Option<Identity>,

    paths: RcuCell<PathSet>,
    choice: Choice,
    /// `delayed_removal_secs`: seconds. Written under the head's lock.
    delay: Atomic<u32>,
    /// What becomes of I/O without a path: [`io::Gate`].
    gate: Atomic<u32>,
    /// `no_path_timeout_secs`: seconds. Written under the head's lock.
    no_path_secs: Atomic<u32>,
    /// The wait for a path that is there: `Some` as long as its timer is pending. The locks of what is
    /// parked and held back are taken under it, and no others.
    #[pin]
    waiting: SpinLockIrq<Option<Deadline>>,
    /// `path_fail_threshold`: soft errors in a row.
    fail_threshold: Atomic<u32>,
    /// `probe_secs`: seconds.
    probe_secs: Atomic<u32>,
    /// `retry_delay_ms`: milliseconds.
    retry_delay: Atomic<u32>,
    /// Paths with a write cache that are leaving and have not emptied it yet.
    leaving_caches: Atomic<u32>,
    /// Among what is `delayed` there may be a flush that a change of paths helps.
    flush_waits: Atomic<bool>,
    #[pin]
    parked: ParkingLot<BioClone<HeadIo>>,
    #[pin]
    delayed: DelayLot<BioClone<HeadIo>>,
    #[pin]
    bios: BioSet<HeadIo>,
    counters: HeadCounters,

    #[pin]
    ids: Idr<PathHandle>,
    #[pin]
    setup: Mutex<()>,
    /// Who holds it may change what is registered with the devices, and let a path into use.
    #[pin]
    registrations: Mutex<()>,
    /// The reservation key that is registered on every path in use; 0 is none.
    pr_key: Atomic<u64>,
    /// One that a path may still have that has left; 0 is none. The first there was, until the head
    /// hears that all have been taken away.
    stale_key: Atomic<u64>,
    #[pin]
    inner: Mutex<Inner>,
    /// Who holds it tells user space something.
    #[pin]
    telling: Mutex<()>,

    #[pin]
    requeue: Work<Self, REQUEUE>,
    #[pin]
    retry: DelayedWork<Self, RETRY>,
    #[pin]
    removal: DelayedWork<Self, REMOVAL>,
    #[pin]
    no_path: DelayedWork<Self, NO_PATH>,
    #[pin]
    judge: DelayedWork<Self, JUDGE>,
    #[pin]
    plan: Work<Self, PLAN>,
    #[pin]
    refresh: DelayedWork<Self, REFRESH>,
    #[pin]
    scan: Work<Self, SCAN>,
    #[pin]
    reap: Work<Self, REAP>,
    #[pin]
    event: Work<Self, EVENT>,

    // The last two, in this order: the queues go before the reference that keeps the module's
    // exit from destroying them under us.
    shared: Arc<Shared>,
    module: ModuleRef,
}

impl_has_token_work! {
    impl HasPlainWork<REQUEUE> for Head { self.requeue }
    impl HasPlainWork<PLAN> for Head { self.plan }
    impl HasPlainWork<SCAN> for Head { self.scan }
    impl HasPlainWork<REAP> for Head { self.reap }
    impl HasPlainWork<EVENT> for Head { self.event }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Self, RETRY> for Head { self.retry }
    impl HasDelayedWork<Self, REMOVAL> for Head { self.removal }
    impl HasDelayedWork<Self, NO_PATH> for Head { self.no_path }
    impl HasDelayedWork<Self, JUDGE> for Head { self.judge }
    impl HasDelayedWork<Self, REFRESH> for Head { self.refresh }
}
impl_runs_on! {
    impl RunsOn<RETRY> for Head { self.shared.requeue }
    impl RunsOn<REMOVAL> for Head { self.shared.removal }
    impl RunsOn<NO_PATH> for Head { self.shared.requeue }
    impl RunsOn<JUDGE> for Head { self.shared.requeue }
    impl RunsOn<REFRESH> for Head { self.shared.refresh }
}

impl Head {
    /// A head without paths that nobody can see.
    ///
    /// `ENODEV` if the module is being unloaded, `EBUSY` if there are too many, `ENOMEM`.
    fn new(shared: &Arc<Shared>, wwid: Wwid, identity: Option<Identity>) -> Result<Arc<Self>> {
        let module = ModuleRef::try_get().ok_or(ENODEV)?;
        let reservation = IdTable::reserve(&shared.heads, MAX_HEADS, GFP_KERNEL)?;
        let empty = PathSet::with_room([].into_iter())?;
        let choice = Choice::new(shared.default_policy())?;
        let id = reservation.id();
        let delay = Atomic::new(shared.default_delay.load(Relaxed));
        let shared = shared.clone();
        let bios = shared.bios.clone();
        Arc::pin_init(
            try_pin_init!(Self {
                id,
                wwid,
                identity,
                paths: RcuCell::new(empty),
                choice,
                delay,
                gate: Atomic::new(io::Gate::Fail as u32),
                no_path_secs: Atomic::new(no_path::DEFAULT_SECS),
                waiting <- new_spinlock_irq!(None, "rmpath_waiting"),
                fail_threshold: Atomic::new(io::DEFAULT_FAIL_THRESHOLD),
                probe_secs: Atomic::new(probe::DEFAULT_SECS),
                retry_delay: Atomic::new(0),
                leaving_caches: Atomic::new(0),
                flush_waits: Atomic::new(false),
                parked <- ParkingLot::new(),
                delayed <- DelayLot::new(),
                bios <- BioSet::new(bios),
                counters: HeadCounters::new(),
                ids <- Idr::new(),
                setup <- new_mutex!((), "rmpath_head_setup"),
                registrations <- new_mutex!((), "rmpath_head_registrations"),
                pr_key: Atomic::new(0),
                stale_key: Atomic::new(0),
                inner <- new_mutex!(Inner {
                    state: State::Building,
                    told: State::Live,
                    members: KVec::new(),
                    geometry: None,
                    limits: None,
                    shrunk: false,
                    reservation: Some(reservation),
                    visible: None,
                    deadline: None,
                    doomed: false,
                    expired: false,
                }, "rmpath_head"),
                telling <- new_mutex!((), "rmpath_head_telling"),
                requeue <- new_work!("rmpath_requeue"),
                retry <- new_delayed_work!("rmpath_retry"),
                removal <- new_delayed_work!("rmpath_removal"),
                no_path <- new_delayed_work!("rmpath_no_path"),
                judge <- new_delayed_work!("rmpath_judge"),
                plan <- new_work!("rmpath_plan"),
                refresh <- new_delayed_work!("rmpath_refresh"),
                scan <- new_work!("rmpath_scan"),
                reap <- new_work!("rmpath_reap"),
                event <- new_work!("rmpath_event"),
                shared,
                module,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// What a pending removal, or no-path timer, owns.
    fn pinned(this: &Arc<Self>) -> Token<Self, ModuleRef> {
        Token::new(this.clone(), this.module.clone())
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_head)]
mod tests {
    use super::*;

    #[test]
    fn only_a_dying_head_refuses_its_openers() {
        for state in [State::Building, State::Live, State::Pending] {
            assert_eq!(state.may_be_opened(), Ok(()));
        }
        assert_eq!(State::Dying.may_be_opened(), Err(ENXIO));
    }
}
