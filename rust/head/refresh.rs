// SPDX-License-Identifier: GPL-2.0

//! What a head takes over from its paths: limits, size, whether it can be written.
//!
//! It is looked at whenever a path comes or goes, and every few seconds, since nobody tells the
//! holder of a disk that it has another size. All changes are made under `setup`, so that the last
//! one is that of the last set of paths; nothing is waited for there, and whoever finds the limits
//! locked comes again.

use super::{
    fit::{
        Judgement,
        Seen, //
    },
    path::{
        ArcPath,
        HeadPath,
        PathHandle, //
    },
    Geometry,
    Head,
    Inner,
    PathSet,
    State,
    REFRESH, //
};
use crate::abstractions::{
    block_device::Bdev,
    gendisk::{
        DiskRef,
        Limits, //
    },
    memalloc::NoIo,
    workqueue::{
        about_secs,
        arm,
        Token, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Relaxed,
            Release, //
        },
        Arc,
        ArcBorrow, //
    },
    time::{
        delay::fsleep,
        msecs_to_jiffies,
        Delta,
        Jiffies, //
    },
    workqueue::WorkItem, //
};

/// How often a head looks at its paths, in seconds.
const INTERVAL: u32 = 10;

/// How long to wait for somebody who is changing the limits, in milliseconds, and how often before
/// a path is refused.
const PAUSE: u32 = 20;
const TRIES: u32 = 50;

impl Seen {
    fn of(bdev: &Bdev) -> Self {
        Self {
            geometry: Geometry::of(bdev),
            read_only: bdev.is_read_only(),
        }
    }

    /// A device that is there and has a medium.
    fn of_live(bdev: &Bdev) -> Option<Self> {
        let seen = Self::of(bdev);
        (bdev.is_live() && seen.geometry.sectors != 0).then_some(seen)
    }
}

impl HeadPath {
    /// Whether it has a write cache, and the way there is not known to be broken.
    pub(super) fn has_cache_to_empty(&self) -> bool {
        let device = self.device();
        device.has_write_cache() && device.is_live() && !self.handle().state.is_failed()
    }
}

impl PathSet {
    /// The limits of a disk that uses these paths.
    pub(super) fn limits(&self) -> Limits {
        let mut limits = Limits::stacking();
        for path in self.paths.iter() {
            limits.stack(path.device());
        }
        limits
    }

    /// Notes whether some of the paths have a write cache and others have none, or one that leaves
    /// the head has one. Any context.
    pub(super) fn note_caches(&self, head: &Head) {
        let cached = |path: &&ArcPath| path.device().has_write_cache();
        let count = self.paths.iter().filter(cached).count();
        let mixed = count != 0 && count != self.paths.len();
        let leaving = head.leaving_caches.load(Relaxed);
        self.mixed_caches.store(u32::from(mixed) | leaving, Relaxed);
    }

    /// Whether a flush empties a cache by some path of these.
    fn has_cache(&self) -> bool {
        self.paths
            .iter()
            .any(|path| path.handle().state.is_usable() && path.device().has_write_cache())
    }
}

impl Inner {
    /// The paths that are in use and there.
    pub(super) fn seen(&self) -> impl Iterator<Item = Seen> + Clone + '_ {
        self.members
            .iter()
            .filter(|member| !member.handle.state.is_dead())
            .filter_map(|member| member.open.as_ref())
            .filter_map(|open| Seen::of_live(open.path.device()))
    }

    /// Notes which paths do not fit, and has those leave that did not the last time either: a disk
    /// that changes does not do so on all its paths at once.
    fn weed(&mut self, head: u32, ours: Geometry, judgement: &Judgement) {
        for member in &mut self.members {
            let Some(open) = &member.open else {
                continue;
            };
            let misfit =
                Seen::of_live(open.path.device()).and_then(|seen| judgement.misfit(ours, seen));
            if let (Some(misfit), true) = (misfit, member.misfit) {
                if !member.handle.state.is_dead() {
                    let name = open.path.device().name();
                    pr_warn!("rmpath{}: path {} {}: leaves\n", head, name, misfit.why());
                    PathHandle::kill(member.handle.as_arc_borrow());
                }
            }
            member.misfit = misfit.is_some();
        }
    }
}

impl Head {
    /// Sets the limits for a path set that is about to be published. Under `setup`.
    ///
    /// `EINVAL` if they contradict each other. `EAGAIN` if they cannot be set now but have to be
    /// before one of the paths is used; if they need not be, they are set later.
    pub(super) fn prepare_limits(
        this: ArcBorrow<'_, Self>,
        disk: &DiskRef,
        set: &PathSet,
    ) -> Result {
        let mut limits = set.limits();
        limits.check()?;
        for _ in 0..TRIES {
            if this.set_limits(disk, &mut limits) != Err(EAGAIN) {
                return Ok(());
            }
            let inner = this.inner.lock();
            let old = inner.limits.as_ref();
            if old.is_some_and(|old| !limits.demand_more_than(old)) {
                return Ok(()); // The caller looks again when the set is published.
            }
            drop(inner);
            fsleep(Delta::from_millis(PAUSE.into()));
        }
        Err(EAGAIN)
    }

    /// Sets the limits, if they are not what they were. Under `setup`. `EAGAIN` if somebody else is
    /// changing them.
    fn set_limits(&self, disk: &DiskRef, limits: &mut Limits) -> Result {
        let inner = self.inner.lock();
        let Some(old) = inner.limits.clone() else {
            return Ok(()); // Nobody can see the disk.
        };
        if inner.members.iter().any(|member| member.open.is_none()) {
            // What a path that is being closed has written may still be in its cache.
            limits.keep_demands(&old);
        }
        limits.keep_polling(&old);
        drop(inner);
        if limits.is_same(&old) {
            return Ok(());
        }
        let result = disk.try_set_limits(limits.clone(), &old);
        match result {
            Err(error) if error == EAGAIN => return result,
            Err(error) => pr_warn!("rmpath{}: queue limits: {:?}\n", self.id, error),
            Ok(()) => (),
        }
        // If they are refused, not again until they change.
        self.inner.lock().limits = Some(limits.clone());
        Ok(())
    }

    /// Has the head follow its paths. Under `setup`, after each change of the path set.
    pub(super) fn refresh(this: ArcBorrow<'_, Self>) {
        let inner = this.inner.lock();
        let disk = inner
            .visible
            .as_ref()
            .map(|visible| visible.disk.reference());
        drop(inner);
        let Some(disk) = disk else {
            return;
        };

        // With no path left the head stays as the last one had it: that is what may return.
        let limits = this.paths.read(|set| {
            set.note_caches(&this);
            (!set.paths.is_empty()).then(|| set.limits())
        });
        if this.flush_waits.load(Relaxed) {
            // Perhaps for a path that has no cache any more.
            Self::kick(this);
        }
        if let Some(mut limits) = limits {
            if this.set_limits(&disk, &mut limits) == Err(EAGAIN) {
                Self::refresh_in(this, msecs_to_jiffies(PAUSE));
            }
        }

        let mut inner = this.inner.lock();
        let Some(ours) = inner.geometry else {
            return;
        };
        let Some(judgement) = Judgement::of(ours, inner.seen()) else {
            return;
        };
        inner.weed(this.id, ours, &judgement);
        if judgement.shrunk && !inner.shrunk {
            pr_warn!(
                "rmpath{}: all paths are smaller than its {} sectors\n",
                this.id,
                ours.sectors
            );
        }
        inner.shrunk = judgement.shrunk;
        drop(inner);

        // It is not removed under `setup`.
        let _ = disk.set_read_only(judgement.read_only);
        if judgement.sectors != ours.sectors && disk.set_sectors(judgement.sectors).is_ok() {
            pr_info!("rmpath{}: has {} sectors now\n", this.id, judgement.sectors);
            this.inner.lock().geometry = Some(Geometry {
                sectors: judgement.sectors,
                ..ours
            });
        }
    }

    /// A path is about to leave the path set: whether it has a write cache that should be emptied
    /// then. One that has failed is not asked. If so, flushes that no other path with a cache takes
    /// wait from the next path set on, until [`Head::flush_leaving`] is done. Under `setup`.
    pub(super) fn note_leaving(&self, path: &HeadPath) -> bool {
        let cached = path.has_cache_to_empty();
        if cached {
            self.leaving_caches.fetch_add(1, Relaxed);
        }
        cached
    }

    /// A path has been shut and is about to be closed, of which [`Head::note_leaving`] was true: if no
    /// other path leads to its write cache, empties that, since a flush of the head will not. May
    /// sleep, for as long as the device does.
    pub(super) fn flush_leaving(&self, path: &HeadPath) {
        let device = path.device();
        let needed = self.paths.read(|set| !set.has_cache());
        if needed && device.is_live() && device.flush().is_err() {
            pr_warn!(
                "rmpath{}: the write cache of {} could not be flushed\n",
                self.id,
                device.name()
            );
        }
        // Whoever waits for this comes again by himself.
        self.leaving_caches.fetch_sub(1, Release);
    }

    /// Looks at the paths so many jiffies from now, and from then on again and again, unless the
    /// head is dying: then nobody may arm it any more. Any context that may take `inner`.
    pub(super) fn refresh_in(this: ArcBorrow<'_, Self>, delay: Jiffies) {
        let inner = this.inner.lock();
        let superseded = (inner.state != State::Dying).then(|| {
            let token = Token::of(this.into());
            arm::<REFRESH, _, _>(token, delay)
        });
        drop(inner);
        // Not the last reference: the caller has one.
        drop(superseded);
    }

    /// As [`Head::refresh_in`], after the usual time.
    pub(super) fn refresh_later(this: ArcBorrow<'_, Self>) {
        Self::refresh_in(this, about_secs(INTERVAL));
    }
}

impl WorkItem<REFRESH> for Head {
    type Pointer = Token<Self>;

    fn run(token: Self::Pointer) {
        let _no_io = NoIo::enter();
        let head: &Arc<Head> = token.object();
        let head = head.as_arc_borrow();
        // First, for what is found below may be a reason to look again sooner.
        Self::refresh_later(head);
        let setup = head.setup.lock();
        Self::refresh(head);
        drop(setup);
    }
}
