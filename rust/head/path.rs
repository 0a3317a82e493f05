// SPDX-License-Identifier: GPL-2.0

//! One path of a head.

use super::{
    Head,
    CLOSE, //
};
use crate::{
    abstractions::{
        block_device::{
            Bdev,
            BlockDevice,
            Holder, //
        },
        percpu::PerCpuCounter,
        percpu_ref::{
            Live,
            LiveRef, //
        },
        workqueue::{
            impl_has_token_work,
            Token, //
        },
    },
    mpath::{
        path::{
            AccessState,
            PathState, //
        },
        selector::HasState,
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        ArcBorrow,
        SetOnce, //
    },
    workqueue::{
        new_work,
        Work, //
    },
};

/// What is known of a path beside its device; what sysfs shows, and what the device's death is told.
#[pin_data]
pub(super) struct PathHandle {
    /// Whether it is usable.
    pub(super) state: PathState,
    /// As given to `add_path`.
    pub(super) weight: u32,
    /// Bios that were retried after an error here.
    pub(super) failovers: Atomic<u64>,
    inflight: PerCpuCounter,
    head: SetOnce<Arc<Head>>,
    #[pin]
    close: Work<Self, CLOSE>,
}

impl_has_token_work! {
    impl HasPlainWork<CLOSE> for PathHandle { self.close }
}

impl PathHandle {
    /// That of a path whose head is not known yet. `ENOMEM`.
    pub(super) fn new(access: AccessState, weight: u32) -> Result<Arc<Self>> {
        let inflight = PerCpuCounter::new()?;
        Arc::pin_init(
            pin_init!(Self {
                state: PathState::new(access),
                weight,
                failovers: Atomic::new(0),
                inflight,
                head: SetOnce::new(),
                close <- new_work!("rmpath_close"),
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

    /// How many bios are under way on it.
    pub(super) fn inflight(&self) -> u32 {
        self.inflight.sum()
    }

    /// A clone is sent there.
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

    /// Counts a bio that goes elsewhere.
    pub(super) fn count_failover(&self) {
        self.failovers.fetch_add(1, Relaxed);
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
    /// Its head.
    pub(super) head: Arc<Head>,
}

/// A path in a path set.
pub(super) type ArcPath = Arc<Live<HeadPath>>;

impl HeadPath {
    /// `ENOMEM`.
    pub(super) fn new(device: BlockDevice<PathHandle>, head: Arc<Head>) -> Result<ArcPath> {
        Arc::pin_init(Live::pin_init(Self { device, head }), GFP_KERNEL)
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

// What a clone in flight owns.
impl AsRef<Bdev> for LiveRef<HeadPath> {
    #[inline]
    fn as_ref(&self) -> &Bdev {
        &self.device
    }
}
