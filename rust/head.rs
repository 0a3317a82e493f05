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
//! Lock order: `setup`, then the registry, then `inner`.

mod attach;
mod control;
mod detach;
mod discover;
mod disk;
mod io;
mod path;
mod registry;
mod removal;
mod spec;
mod sysfs;
mod wwid;

pub(crate) use control::{
    new,
    Control,
    Heads, //
};

use crate::{
    abstractions::{
        bio::clone::{
            BioSet,
            Clone as BioClone, //
        },
        block_device::DevT,
        gendisk::{
            Disk,
            Limits, //
        },
        idr::Idr,
        kobject::Folder,
        module::ModuleRef,
        rcu::RcuCell,
        workqueue::{
            impl_has_token_work,
            Token, //
        },
        xarray::{
            IdTable,
            Published,
            Reservation, //
        },
    },
    mpath::{
        park::ParkingLot,
        selector::round_robin::RoundRobin, //
    },
};
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
    time::{
        Instant,
        Monotonic, //
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
use registry::Shared;
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
/// Of a path.
const CLOSE: u64 = 0;

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
}

/// A path as the head lists it, from the moment it is attached to the moment it is closed.
struct Member {
    id: u32,
    handle: Arc<PathHandle>,
    /// `None` while it is being closed.
    open: Option<OpenMember>,
}

/// What a member has as long as it is in use. Dropped in this order.
struct OpenMember {
    folder: Folder<PathHandle>,
    path: ArcPath,
}

/// What everybody can see of a head. Dropped in this order.
struct Visible {
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
    members: KVec<Member>,
    geometry: Option<Geometry>,
    /// As its paths had them when the last of them came.
    limits: Option<Limits>,
    /// Of its number, until it is published.
    reservation: Option<Reservation<Head>>,
    visible: Option<Visible>,
    /// When the pending removal began to wait, and for how many seconds.
    deadline: Option<(Instant<Monotonic>, u32)>,
    /// The user has asked for the head's removal: no path keeps it.
    doomed: bool,
    /// I/O has waited long enough.
    expired: bool,
}

/// The paths that I/O may use.
struct PathSet {
    paths: KVec<ArcPath>,
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
    rr: RoundRobin,
    /// `delayed_removal_secs`: seconds. Written under the head's lock.
    delay: Atomic<u32>,
    /// What becomes of I/O without a path: [`io::Gate`].
    gate: Atomic<u32>,
    /// Whether the no-path timer has been armed since a path was usable.
    waiting: Atomic<bool>,
    #[pin]
    parked: ParkingLot<BioClone<HeadIo>>,
    #[pin]
    delayed: ParkingLot<BioClone<HeadIo>>,
    #[pin]
    bios: BioSet<HeadIo>,
    requeued: Atomic<u64>,
    refused: Atomic<u64>,
    failovers: Atomic<u64>,

    #[pin]
    ids: Idr<PathHandle>,
    #[pin]
    setup: Mutex<()>,
    #[pin]
    inner: Mutex<Inner>,

    #[pin]
    requeue: Work<Self, REQUEUE>,
    #[pin]
    retry: DelayedWork<Self, RETRY>,
    #[pin]
    removal: DelayedWork<Self, REMOVAL>,
    #[pin]
    no_path: DelayedWork<Self, NO_PATH>,
    #[pin]
    scan: Work<Self, SCAN>,
    #[pin]
    reap: Work<Self, REAP>,

    // The last two, in this order: the queues go before the reference that keeps the module's
    // exit from destroying them under us.
    shared: Arc<Shared>,
    module: ModuleRef,
}

impl_has_token_work! {
    impl HasPlainWork<REQUEUE> for Head { self.requeue }
    impl HasPlainWork<SCAN> for Head { self.scan }
    impl HasPlainWork<REAP> for Head { self.reap }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Self, RETRY> for Head { self.retry }
    impl HasDelayedWork<Self, REMOVAL> for Head { self.removal }
    impl HasDelayedWork<Self, NO_PATH> for Head { self.no_path }
}

impl Head {
    /// A head without paths that nobody can see.
    ///
    /// `ENODEV` if the module is being unloaded, `EBUSY` if there are too many, `ENOMEM`.
    fn new(shared: &Arc<Shared>, wwid: Wwid, identity: Option<Identity>) -> Result<Arc<Self>> {
        let module = ModuleRef::try_get().ok_or(ENODEV)?;
        let reservation = IdTable::reserve(&shared.heads, MAX_HEADS, GFP_KERNEL)?;
        let empty = KBox::new(PathSet { paths: KVec::new() }, GFP_KERNEL)?;
        let rr = RoundRobin::new()?;
        let id = reservation.id();
        let shared = shared.clone();
        Arc::pin_init(
            try_pin_init!(Self {
                id,
                wwid,
                identity,
                paths: RcuCell::new(empty),
                rr,
                delay: Atomic::new(0),
                gate: Atomic::new(io::Gate::Fail as u32),
                waiting: Atomic::new(false),
                parked <- ParkingLot::new(),
                delayed <- ParkingLot::new(),
                bios <- BioSet::new(),
                requeued: Atomic::new(0),
                refused: Atomic::new(0),
                failovers: Atomic::new(0),
                ids <- Idr::new(),
                setup <- new_mutex!((), "rmpath_head_setup"),
                inner <- new_mutex!(Inner {
                    state: State::Building,
                    members: KVec::new(),
                    geometry: None,
                    limits: None,
                    reservation: Some(reservation),
                    visible: None,
                    deadline: None,
                    doomed: false,
                    expired: false,
                }, "rmpath_head"),
                requeue <- new_work!("rmpath_requeue"),
                retry <- new_delayed_work!("rmpath_retry"),
                removal <- new_delayed_work!("rmpath_removal"),
                no_path <- new_delayed_work!("rmpath_no_path"),
                scan <- new_work!("rmpath_scan"),
                reap <- new_work!("rmpath_reap"),
                shared,
                module,
            }? Error),
            GFP_KERNEL,
        )
    }

    /// Whether `dev` is one of its paths.
    fn member_of(&self, dev: DevT) -> Option<Arc<PathHandle>> {
        let inner = self.inner.lock();
        inner
            .members
            .iter()
            .find(|member| {
                member
                    .open
                    .as_ref()
                    .is_some_and(|open| open.path.device().dev() == dev)
            })
            .map(|member| member.handle.clone())
    }

    /// What a pending removal, or no-path timer, owns.
    fn pinned(this: &Arc<Self>) -> Token<Self, ModuleRef> {
        Token::new(this.clone(), this.module.clone())
    }

    /// Adds one to a counter.
    fn count(counter: &Atomic<u64>) {
        counter.fetch_add(1, Relaxed);
    }
}
