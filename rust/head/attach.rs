// SPDX-License-Identifier: GPL-2.0

//! How a device becomes a path.
//!
//! Whatever can fail or sleep is done first, and undone if something later fails. The path then
//! becomes a member, and a pending removal is disarmed, in one critical section; nothing can fail
//! after that.

use super::{
    fit::Judgement,
    path::{
        ArcPath,
        HeadPath,
        PathHandle, //
    },
    registry::Shared,
    reservation::Registrations,
    spec::Spec,
    sysfs,
    wwid::{
        Identity,
        Wwid, //
    },
    Geometry,
    Head,
    Inner,
    Member,
    OpenMember,
    PathSet,
    State,
    Visible,
    MAX_PATHS,
    SCAN, //
};
use crate::abstractions::{
    bio::flags::Flags,
    block_device::{
        Bdev,
        BlockDevice,
        DevT, //
    },
    debugfs,
    errno::{
        eloop,
        enodata,
        eopnotsupp, //
    },
    gendisk::{
        DiskRef,
        NewDisk, //
    },
    kobject::{
        Folder,
        Parent, //
    },
    memalloc::NoIo,
    numa,
    workqueue::Token, //
};
use crate::mpath::{
    path::AccessState,
    selector::{
        numa::Numa,
        turns::Turns, //
    },
};
use kernel::{
    fmt,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    types::ScopeGuard, //
};

/// Why a device does not become a path.
pub(super) enum Refusal {
    /// The device's file.
    Lookup(Error),
    /// The device cannot be opened for ourselves alone.
    Open(Error),
    /// It is a path already.
    Duplicate,
    /// It is one of our own heads.
    Own,
    /// It is a map that stands on one.
    OnOwn,
    /// It is not suitable.
    Unsuitable(Error, &'static str),
    /// It does not say who it is.
    NoIdentity,
    /// Its head has another size, or block size.
    Geometry(Geometry, Geometry),
    /// No head wants it.
    Unwanted,
    /// The module's init is not over, or its exit has begun.
    NotReady,
    /// It is not a path.
    NotAPath,
    /// A path that had its name is still being closed.
    NameInUse,
    /// Something that it needs cannot be had.
    Failed(Error, &'static str),
}

impl Refusal {
    /// The errno for the user.
    pub(super) fn errno(&self) -> Error {
        match self {
            Self::Lookup(error) | Self::Open(error) => *error,
            Self::Unsuitable(error, _) | Self::Failed(error, _) => *error,
            Self::Duplicate => EEXIST,
            Self::NameInUse => EBUSY,
            Self::Own | Self::OnOwn => eloop(),
            Self::NoIdentity => enodata(),
            Self::Geometry(..) => EINVAL,
            Self::Unwanted | Self::NotReady | Self::NotAPath => ENODEV,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsuitable(_, why) => f.write_str(why),
            Self::Lookup(error) if *error == ENOTBLK => f.write_str("not a block device"),
            Self::Lookup(error) if *error == ENOENT => f.write_str("no such file"),
            Self::Lookup(error) => write!(f, "cannot look it up: {error:?}"),
            Self::Open(error) if *error == EBUSY => f.write_str("in use by somebody else"),
            Self::Open(error) if *error == EROFS => f.write_str("can only be read"),
            Self::Open(error) => write!(f, "cannot open it: {error:?}"),
            Self::Duplicate => f.write_str("is a path already"),
            Self::Own => f.write_str("is a head itself"),
            Self::OnOwn => f.write_str("stands on a head itself"),
            Self::NoIdentity => f.write_str("reports no EUI-64, NGUID or NAA; give it a wwid="),
            Self::Geometry(ours, its) => write!(
                f,
                "size {} sectors in blocks of {} bytes does not fit its head's {} in blocks of {}",
                its.sectors, its.logical_block_size, ours.sectors, ours.logical_block_size
            ),
            Self::Unwanted => f.write_str("no head has its identity"),
            Self::NotReady => f.write_str("the module is being loaded or unloaded"),
            Self::NotAPath => f.write_str("is not a path"),
            Self::NameInUse => f.write_str("slaves link: EBUSY"),
            Self::Failed(error, what) => write!(f, "{what}: {error:?}"),
        }
    }
}

/// Turns an error into a refusal that says what failed.
fn failed(what: &'static str) -> impl Fn(Error) -> Refusal {
    move |error| Refusal::Failed(error, what)
}

impl Geometry {
    pub(super) fn of(bdev: &Bdev) -> Self {
        Self {
            sectors: bdev.nr_sectors(),
            logical_block_size: bdev.logical_block_size(),
        }
    }
}

/// Whether a device could be a path at all.
fn check(bdev: &Bdev) -> Result<(), Refusal> {
    let unsuitable = |error, why| Err(Refusal::Unsuitable(error, why));
    if bdev.is_own() {
        return Err(Refusal::Own);
    }
    if bdev.stands_on_own() {
        return Err(Refusal::OnOwn);
    }
    if bdev.is_partition() {
        return unsuitable(EINVAL, "is a partition; paths are whole disks");
    }
    if bdev.is_zoned() {
        return unsuitable(eopnotsupp(), "is zoned, which is not supported");
    }
    if bdev.nr_sectors() == 0 {
        return unsuitable(EINVAL, "has no sectors");
    }
    Ok(())
}

/// Makes the device a path of the head of its identity, which is created if need be.
pub(super) fn add_path(shared: &Arc<Shared>, spec: Spec) -> Result<(), Refusal> {
    let dev = DevT::lookup(&spec.device).map_err(Refusal::Lookup)?;
    let asked = Asked {
        wwid: spec.wwid,
        access: spec.access,
        weight: spec.weight,
    };
    attach(shared, dev, asked, true)
}

/// Makes a device that has turned up a path of the head of its identity. That is made, if there is
/// none, only if `create` says so.
pub(super) fn assemble(shared: &Arc<Shared>, dev: DevT, create: bool) -> Result<(), Refusal> {
    let asked = Asked {
        wwid: None,
        access: AccessState::Optimized,
        weight: 1,
    };
    attach(shared, dev, asked, create)
}

/// What is asked for beside the device itself.
struct Asked {
    wwid: Option<Wwid>,
    access: AccessState,
    weight: u32,
}

fn attach(shared: &Arc<Shared>, dev: DevT, asked: Asked, create: bool) -> Result<(), Refusal> {
    // Memory that is freed by writing to a head that waits for this path would never come.
    let _no_io = NoIo::enter();
    let handle = PathHandle::new(shared, asked.access, asked.weight).map_err(failed("path"))?;
    let device = BlockDevice::open(dev, handle.clone()).map_err(|error| {
        if error == EBUSY && shared.member_of(dev).is_some() {
            Refusal::Duplicate
        } else {
            Refusal::Open(error)
        }
    })?;
    check(&device)?;

    let (wwid, mut identity) = match asked.wwid {
        Some(wwid) => (wwid, None),
        None => {
            let identity = Identity::of(&device).ok_or(Refusal::NoIdentity)?;
            (identity.wwid().map_err(failed("wwid"))?, Some(identity))
        }
    };
    let named = identity.is_none();
    loop {
        let head = if create {
            Shared::find_or_create(shared, &wwid, identity).map_err(|error| match error {
                ENODEV => Refusal::NotReady,
                error => Refusal::Failed(error, "head"),
            })?
        } else {
            shared.find(&wwid).ok_or(Refusal::Unwanted)?
        };
        // A path's answer may be waited for with `registrations`, and paths leave under `setup`: so
        // that comes second. Not until the first path is there: if nothing comes of it, its users are
        // waited for under `setup`, who may be about to take `registrations` themselves.
        let state = head.inner.lock().state;
        let has_begun = matches!(state, State::Live | State::Pending);
        let registrations = has_begun.then(|| head.registrations.lock());
        let setup = head.setup.lock();
        let state = head.inner.lock().state;
        let result = match (state, registrations) {
            (State::Building, _) => {
                let result = Head::begin(&head, device, handle);
                drop(setup);
                if result.is_err() {
                    // Not under `setup`: it waits for work items that take it.
                    Head::tear_down(&head, None);
                }
                return result;
            }
            (State::Live | State::Pending, Some(registrations)) => {
                Head::join(&head, device, handle, registrations)
            }
            // It has left the registry, or it has got its first path meanwhile: look again.
            (State::Dying, _) | (_, None) => {
                drop(setup);
                identity = match named {
                    true => None,
                    false => Some(Identity::of(&device).ok_or(Refusal::NoIdentity)?),
                };
                continue;
            }
        };
        drop(setup);
        return result;
    }
}

impl Head {
    /// Attaches the first path, and with it makes the head visible. If that fails, the head is
    /// dying, and the caller tears it down. Under `setup`.
    fn begin(
        this: &Arc<Self>,
        device: BlockDevice<PathHandle>,
        handle: Arc<PathHandle>,
    ) -> Result<(), Refusal> {
        let result = Self::try_begin(this, device, &handle);
        match &result {
            Ok(()) => Self::joined(this, &handle),
            Err(_) => {
                this.abandon();
                // The path is closed.
                handle.stop_probing();
            }
        }
        result
    }

    fn try_begin(
        this: &Arc<Self>,
        device: BlockDevice<PathHandle>,
        handle: &Arc<PathHandle>,
    ) -> Result<(), Refusal> {
        let geometry = Geometry::of(&device);
        let path = HeadPath::new(device, this.clone()).map_err(failed("path"))?;
        handle.set_head(this);
        let mut set = this.set_with(&path).map_err(failed("path set"))?;
        let room = this.room().map_err(failed("members"))?;
        let _ = set.plan();
        set.note_caches(this);
        let limits = set.limits();
        let disk = NewDisk::new(limits.clone()).map_err(failed("disk"))?;

        // The disk can be read as soon as it is added, so the path comes first.
        drop(this.paths.replace(set));
        let disk = match disk.add(fmt!("rmpath{}", this.id), geometry.sectors, this.clone()) {
            Ok(disk) => disk,
            Err(error) => {
                let _ = this.withdraw_all();
                return Err(Refusal::Failed(error, "disk"));
            }
        };
        // Should anything fail, the path is closed, and so unlinked, while the disk is still there.
        // Nothing that removing the disk waits for may wait for a path, then.
        let undo = ScopeGuard::new(|| {
            this.abandon();
            Self::resubmit_all(this.as_arc_borrow(), this.withdraw_all());
        });
        let folder = Folder::new(disk.as_parent(), fmt!("rmpath"), this.clone(), &sysfs::HEAD);
        let folder = Arc::new(folder.map_err(failed("sysfs"))?, GFP_KERNEL)
            .map_err(|error| failed("sysfs")(error.into()))?;
        let disk_ref = disk.reference();
        let debug = this.shared.debug.clone();
        // Nothing depends on it.
        let debug =
            debugfs::File::new(debug, fmt!("rmpath{}", this.id), this.clone(), &this.module).ok();
        let member = this.member(path, &disk_ref, folder.as_parent())?;

        let mut inner = this.inner.lock();
        let Some(reservation) = inner.reservation.take() else {
            return Err(Refusal::Failed(EINVAL, "head")); // It is taken here only.
        };
        inner.geometry = Some(geometry);
        inner.limits = Some(limits);
        inner.visible = Some(Visible {
            debug,
            folder,
            disk,
            published: reservation.publish(this.clone()),
        });
        inner.add(room, member);
        let tokens = this.gained_path(&mut inner);
        drop(inner);
        drop(tokens);
        undo.dismiss();
        Self::refresh_later(this.as_arc_borrow());
        // Bios may have come, and found the path failed, before there was anybody to tell.
        Self::kick(this.as_arc_borrow());

        // The uevent of the disk came before its folder.
        let _ = disk_ref.changed();
        drop(
            this.shared
                .scan
                .enqueue::<SCAN, _, _>(Token::of(this.clone())),
        );
        pr_info!(
            "rmpath{}: wwid {}, {} sectors\n",
            this.id,
            this.wwid,
            geometry.sectors
        );
        Ok(())
    }

    /// Nobody shall use this head: nothing came of its first path. Once more does nothing. Under
    /// `setup`.
    pub(super) fn abandon(&self) {
        let mut registry = self.shared.registry.lock();
        let mut inner = self.inner.lock();
        inner.state = State::Dying;
        self.update_gate(&inner);
        let registered = registry.remove(self);
        drop(inner);
        drop(registry);
        drop(registered);
    }

    /// Attaches another path. Under `setup`.
    fn join(
        this: &Arc<Self>,
        device: BlockDevice<PathHandle>,
        handle: Arc<PathHandle>,
        registrations: Registrations<'_>,
    ) -> Result<(), Refusal> {
        let inner = this.inner.lock();
        let doomed = inner.doomed;
        let ours = inner.geometry;
        let visible = inner
            .visible
            .as_ref()
            .map(|visible| (visible.disk.reference(), visible.folder.clone()));
        drop(inner);
        let (Some(ours), Some((disk, folder)), false) = (ours, visible, doomed) else {
            return Err(Refusal::Failed(EAGAIN, "its head is being removed"));
        };
        let its = Geometry::of(&device);
        if !Judgement::admits(ours, its, this.inner.lock().seen()) {
            return Err(Refusal::Geometry(ours, its));
        }

        let path = HeadPath::new(device, this.clone()).map_err(failed("path"))?;
        handle.set_head(this);
        let mut set = this.set_with(&path).map_err(failed("path set"))?;
        let room = this.room().map_err(failed("members"))?;
        let member = this.member(path, &disk, folder.as_parent())?;
        set.note_caches(this);
        if let Err(error) = Self::prepare_limits(this.as_arc_borrow(), &disk, &set) {
            drop(this.ids.remove(member.id));
            return Err(Refusal::Failed(error, "queue limits"));
        }

        // The last thing that can fail: a key is not taken back from one path of a host alone.
        this.bequeath_debt(&handle);
        if let Some(open) = &member.open {
            if let Err(failure) = this.enroll(&registrations, &open.path) {
                drop(registrations);
                drop(this.ids.remove(member.id));
                // The limits may be those of all with this one.
                Self::refresh(this.as_arc_borrow());
                let error = match failure.is_path_failure() {
                    true => EAGAIN,
                    false => failure.to_error(),
                };
                return Err(Refusal::Failed(error, "reservation key"));
            }
        }

        let mut inner = this.inner.lock();
        inner.add(room, member);
        // Its weights may have changed since.
        let planned = set.plan();
        let old = this.paths.replace(set);
        let tokens = this.gained_path(&mut inner);
        drop(inner);
        drop(registrations);
        drop(tokens);
        // What is parked is tried again only when everybody sees the path.
        let elapsed = old.elapse();
        if !planned {
            Self::plan_again(this.as_arc_borrow());
        }
        Self::settled(this.as_arc_borrow(), elapsed);
        Self::refresh(this.as_arc_borrow());
        Self::joined(this, &handle);
        Ok(())
    }

    /// What is left to do when a path has become a member.
    fn joined(this: &Arc<Self>, handle: &Arc<PathHandle>) {
        // Its death was told to nobody while it had no head; after the full barriers of publishing
        // it, one side sees the other.
        if handle.state.is_dead() || this.inner.lock().doomed {
            PathHandle::kill(handle.as_arc_borrow());
        }
        Self::notify(this.as_arc_borrow());
    }

    /// Makes all that a member needs. It is in sysfs when this returns. Under `setup`.
    fn member(&self, path: ArcPath, disk: &DiskRef, parent: Parent<'_>) -> Result<Member, Refusal> {
        path.device().link_to(disk).map_err(|error| match error {
            error if error == EEXIST => Refusal::NameInUse,
            error => failed("slaves link")(error),
        })?;
        let handle = path.handle().clone();
        let listing = Shared::list(&self.shared, path.device().dev(), &handle);
        let listing = listing.map_err(failed("index of paths"))?;
        let id = self
            .ids
            .alloc(0..MAX_PATHS, handle.clone(), GFP_KERNEL)
            .map_err(|error| failed("path number")(error.into()))?;
        let folder = Folder::new(parent, fmt!("path{id}"), handle.clone(), &sysfs::PATH).and_then(
            |folder| {
                folder.link(c"device", path.device().kobject())?;
                Ok(folder)
            },
        );
        match folder {
            Ok(folder) => {
                pr_info!(
                    "rmpath{}: path {} is {}\n",
                    self.id,
                    id,
                    path.device().name()
                );
                Ok(Member {
                    id,
                    handle,
                    misfit: false,
                    open: Some(OpenMember {
                        listing,
                        folder,
                        path,
                    }),
                    told: None,
                })
            }
            Err(error) => {
                drop(self.ids.remove(id));
                Err(Refusal::Failed(error, "sysfs"))
            }
        }
    }

    /// A set of the members that are open, and one more path, without turns. `ENOMEM`. Under `setup`.
    fn set_with(&self, path: &ArcPath) -> Result<KBox<PathSet>> {
        let mut weights = self.weights(1)?;
        weights.push(path.handle().weight.load(Relaxed), GFP_KERNEL)?;
        let mut set = PathSet::with_room(weights.iter().copied())?;
        self.inner.lock().fill(&mut set);
        set.add(path);
        Ok(set)
    }

    /// Room for the members that there are, and one more. `ENOMEM`. Under `setup`.
    fn room(&self) -> Result<KVec<Member>> {
        let room = self.inner.lock().members.len() + 1;
        Ok(KVec::with_capacity(room, GFP_KERNEL)?)
    }
}

impl PathSet {
    /// An empty set that can hold paths of these weights. `ENOMEM`.
    pub(super) fn with_room(weights: impl Iterator<Item = u32> + Clone) -> Result<KBox<Self>> {
        let turns = Turns::with_room(weights.clone())?;
        let paths = KVec::with_capacity(weights.count(), GFP_KERNEL)?;
        let set = Self {
            paths,
            flags: Flags::default(),
            turns,
            near: Numa::new(numa::count())?,
            mixed_caches: Atomic::new(0),
        };
        Ok(KBox::new(set, GFP_KERNEL)?)
    }

    /// Adds a path, if there is room.
    fn add(&mut self, path: &ArcPath) {
        let _ = self.paths.push_within_capacity(path.clone());
        if self.paths.len() > 1 {
            self.flags = Flags::FAILFAST;
        }
    }
}

impl Inner {
    /// Adds a member, in `room` that was made for it without the lock.
    fn add(&mut self, mut room: KVec<Member>, member: Member) {
        // Memory is not allocated under the lock: what would free some may need the lock.
        for old in core::mem::take(&mut self.members) {
            let _ = room.push_within_capacity(old);
        }
        let _ = room.push_within_capacity(member);
        self.members = room;
    }

    /// Puts the members that are open into `set`, as far as it has room. Those that are dead as well:
    /// what is to be done when a path leaves the set is done when it is withdrawn.
    pub(super) fn fill(&self, set: &mut PathSet) {
        for member in &self.members {
            if let Some(open) = &member.open {
                set.add(&open.path);
            }
        }
    }
}
