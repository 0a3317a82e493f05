// SPDX-License-Identifier: GPL-2.0

//! One path of a head.

use super::{
    counters::PathCounters,
    io::HeadIo,
    registry::Shared,
    Head,
    CLOSE,
    PROBE, //
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        bio::clone::BioSet,
        block_device::{
            Bdev,
            BlockDevice,
            Holder, //
        },
        clock::now_ns,
        numa::Node,
        percpu::PerCpuCounter,
        percpu_ref::{
            Live,
            LiveRef, //
        },
        spinlock::{
            new_spinlock_irq,
            SpinLockIrq, //
        },
        workqueue::{
            impl_has_token_work,
            impl_runs_on,
            Token, //
        },
    },
    mpath::{
        load::Load,
        marginal::{
            Judged,
            Vitals, //
        },
        path::{
            AccessState,
            PathState, //
        },
        probe::Probing,
        selector::{
            HasLoad,
            HasNode,
            HasState,
            Policy, //
        },
    },
};
use kernel::{
    impl_has_delayed_work,
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc,
        ArcBorrow,
        SetOnce, //
    },
    workqueue::{
        new_delayed_work,
        new_work,
        DelayedWork,
        Work, //
    },
};

/// What is not looked at for each bio. Apart from the rest, which for that is half as large: memory
/// comes in powers of two.
pub(super) struct History {
    /// How it behaves, if marginal paths are looked for.
    pub(super) vitals: Vitals,
    /// What became of bios that failed here.
    pub(super) counters: PathCounters,
}

/// What is known of a path beside its device; what sysfs shows, and what the device's death is told.
#[pin_data]
pub(super) struct PathHandle {
    /// Whether it is usable.
    pub(super) state: PathState,
    /// From 1 to [`MAX_WEIGHT`]. Changed by [`Head::set_weight`].
    ///
    /// [`MAX_WEIGHT`]: crate::mpath::selector::MAX_WEIGHT
    pub(super) weight: Atomic<u32>,
    /// What is under way, if the policy needs to know.
    pub(super) load: Load,
    /// What it was like until now.
    pub(super) history: KBox<History>,
    /// A reservation key that it may still have though the head has another or none, because it did
    /// not answer, or was away, when that changed; 0 is none. Changed under [`Head::registrations`].
    pub(super) stale_key: Atomic<u64>,
    /// A leaf.
    #[pin]
    pub(super) probing: SpinLockIrq<Probing>,
    inflight: PerCpuCounter,
    shared: Arc<Shared>,
    head: SetOnce<Arc<Head>>,
    #[pin]
    close: Work<Self, CLOSE>,
    #[pin]
    probe: DelayedWork<Self, PROBE>,
}

impl_has_token_work! {
    impl HasPlainWork<CLOSE> for PathHandle { self.close }
}
impl_has_delayed_work! {
    impl HasDelayedWork<Self, PROBE> for PathHandle { self.probe }
}
impl_runs_on! {
    impl RunsOn<PROBE> for PathHandle { self.shared.probe }
}

impl PathHandle {
    /// That of a path whose head is not known yet. `ENOMEM`. May sleep.
    pub(super) fn new(shared: &Arc<Shared>, access: AccessState, weight: u32) -> Result<Arc<Self>> {
        let inflight = PerCpuCounter::new()?;
        let history = History {
            vitals: Vitals::new(now_ns())?,
            counters: PathCounters::new(),
        };
        let history = KBox::new(history, GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                state: PathState::new(access),
                weight: Atomic::new(weight),
                load: Load::new(),
                history,
                stale_key: Atomic::new(0),
                probing <- new_spinlock_irq!(Probing::new(), "rmpath_probing"),
                inflight,
                shared: shared.clone(),
                head: SetOnce::new(),
                close <- new_work!("rmpath_close"),
                probe <- new_delayed_work!("rmpath_probe"),
            }),
            GFP_KERNEL,
        )
    }

    /// Tells it its head, once: from now on the device's death reaches that.
    pub(super) fn set_head(&self, head: &Arc<Head>) {
        self.head.populate(head.clone());
    }

    /// Its head, unless it is not known yet.
    pub(super) fn head(&self) -> Option<&Arc<Head>> {
        self.head.as_ref()
    }

    /// How its head chooses.
    pub(super) fn policy(&self) -> Option<Policy> {
        Some(self.head()?.choice.mode().policy())
    }

    /// How many bios, and commands, are under way on it.
    pub(super) fn inflight(&self) -> u32 {
        self.inflight.sum()
    }

    /// A clone, or a command, is sent there.
    #[inline]
    pub(super) fn begin_io(&self) {
        self.inflight.inc();
    }

    /// It has come back.
    #[inline]
    pub(super) fn end_io(&self) {
        self.inflight.dec();
    }

    /// The path is to go, for good: marks it and queues the rest. Any context.
    pub(super) fn kill(this: ArcBorrow<'_, Self>) {
        this.state.kill();
        if let Some(head) = this.head() {
            // If it is queued already, that is enough. The token that comes back is not the last
            // reference: the caller has one.
            drop(
                head.shared
                    .close
                    .enqueue::<CLOSE, _, _>(Token::of(this.into())),
            );
        }
    }
}

impl Holder for PathHandle {
    fn mark_dead(this: ArcBorrow<'_, Self>) {
        Self::kill(this);
    }
}

/// A path that is open: what I/O is sent to.
///
/// The fields are dropped in this order: the device is closed while the head is still there.
pub(super) struct HeadPath {
    device: BlockDevice<PathHandle>,
    /// Where it is.
    node: Option<Node>,
    /// Its head.
    pub(super) head: Arc<Head>,
}

/// A path in a path set.
pub(super) type ArcPath = Arc<Live<HeadPath>>;

impl HeadPath {
    /// `ENOMEM`.
    pub(super) fn new(device: BlockDevice<PathHandle>, head: Arc<Head>) -> Result<ArcPath> {
        let node = device.node();
        Arc::pin_init(Live::pin_init(Self { device, node, head }), GFP_KERNEL)
    }

    /// Its device.
    pub(super) fn device(&self) -> &BlockDevice<PathHandle> {
        &self.device
    }

    /// What is known of it.
    pub(super) fn handle(&self) -> &Arc<PathHandle> {
        self.device.holder()
    }
}

impl HasState for Live<HeadPath> {
    #[inline]
    fn state(&self) -> &PathState {
        &self.handle().state
    }
}

impl HasLoad for Live<HeadPath> {
    #[inline]
    fn load(&self) -> &Load {
        &self.handle().load
    }

    #[inline]
    fn weight(&self) -> u32 {
        self.handle().weight.load_once()
    }
}

impl HasNode for Live<HeadPath> {
    fn node(&self) -> Option<Node> {
        self.node
    }
}

impl Judged for Live<HeadPath> {
    fn state(&self) -> &PathState {
        &self.handle().state
    }

    fn vitals(&self) -> &Vitals {
        &self.handle().history.vitals
    }
}

// What a clone in flight owns.
impl AsRef<Bdev> for LiveRef<HeadPath> {
    #[inline]
    fn as_ref(&self) -> &Bdev {
        &self.device
    }
}

impl AsRef<BioSet<HeadIo>> for LiveRef<HeadPath> {
    #[inline]
    fn as_ref(&self) -> &BioSet<HeadIo> {
        &self.head.bios
    }
}
