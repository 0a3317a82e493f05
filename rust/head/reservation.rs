// SPDX-License-Identifier: GPL-2.0

//! Persistent reservations of a head.
//!
//! A SCSI target registers a key for each path by itself, an NVMe controller for the host: the head
//! registers on every path, and takes what the other paths have done already for done. The key is
//! remembered, and registered on each path that joins or returns before I/O may use it, if it still
//! is among the keys that the device lists: if not, somebody has taken it away to keep this host out,
//! and that is not to be undone.
//!
//! What changes registrations, and what lets a path into use, holds [`Head::registrations`]. Under
//! it nobody waits for a path to come, and no memory is waited for that needs I/O.
//!
//! Lock order: `registrations`, `setup`, `inner`.

use super::{
    path::{
        HeadPath,
        PathHandle, //
    },
    Head, //
};
use crate::abstractions::{
    bio::status::BlkStatus,
    block_device::Bdev,
    errno::eopnotsupp,
    gendisk::pr::{
        Command,
        Failure,
        KeyBuffer,
        IGNORE_KEY,
        MAX_KEYS, //
    },
    memalloc::NoIo,
    percpu_ref::LiveRef, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        lock::{
            mutex::MutexBackend,
            Guard, //
        },
        Arc,
        ArcBorrow, //
    }, //
};

/// The right to change registrations, and to let a path into use.
pub(super) type Registrations<'a> = Guard<'a, (), MutexBackend>;

/// For how many keys there is room at first.
const SOME_KEYS: u32 = 32;

/// What `register` is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    old: u64,
    new: u64,
    flags: u32,
}

impl Change {
    /// What a path had before, if the head had registered `key`.
    fn before(self, key: u64) -> u64 {
        match self.flags & IGNORE_KEY != 0 || self.old == 0 {
            true => key,
            false => self.old,
        }
    }

    /// What takes it back.
    fn undo(self, key: u64) -> Self {
        match self.new {
            0 => Self {
                old: 0,
                new: self.before(key),
                flags: IGNORE_KEY,
            },
            new => Self {
                old: new,
                new: self.before(key),
                flags: 0,
            },
        }
    }

    fn apply(self, device: &Bdev) -> Result<(), Failure> {
        let Self { old, new, flags } = self;
        Command::Register { old, new, flags }.forward(device)
    }

    /// Applies it to a device to which another path has brought it perhaps.
    fn apply_again(self, device: &Bdev, key: u64) -> Result<(), Failure> {
        match self.apply(device) {
            Err(Failure::CONFLICT) => (),
            result => return result,
        }
        match self.new {
            // Nothing is left to be taken back.
            0 if !is_registered(device, self.before(key))? => Ok(()),
            0 => Err(Failure::CONFLICT),
            // It succeeds if the new key is there.
            new => Self {
                old: new,
                new,
                flags: 0,
            }
            .apply(device),
        }
    }
}

/// Whether the device lists the key. May sleep.
fn is_registered(device: &Bdev, key: u64) -> Result<bool, Failure> {
    let mut room = SOME_KEYS;
    loop {
        let mut buffer = KeyBuffer::new(room)?;
        Command::ReadKeys(buffer.keys()).forward(device)?;
        if buffer.contains(key) {
            return Ok(true);
        }
        if buffer.count() <= room || room == MAX_KEYS {
            return Ok(false);
        }
        room = buffer.count().min(MAX_KEYS);
    }
}

impl HeadPath {
    /// Registers a key in place of what the path may have; 0 takes back what it is known to have.
    fn take_key(&self, key: u64) -> Result<(), Failure> {
        let stale = &self.handle().stale_key;
        let change = match (key, stale.load(Relaxed)) {
            (0, 0) => return Ok(()),
            // Whichever it has: others may have followed.
            (0, old) => Change {
                old,
                new: 0,
                flags: IGNORE_KEY,
            },
            (new, _) => Change {
                old: 0,
                new,
                flags: IGNORE_KEY,
            },
        };
        let mut result = change.apply(self.device());
        if key == 0 && result.is_err_and(|failure| !failure.is_path_failure()) {
            // Not every device lets a key that is ignored be taken back.
            result = Change { flags: 0, ..change }.apply(self.device());
        }
        match result {
            // It has gone another way, or there never was one.
            Err(Failure::CONFLICT) if key == 0 => (),
            Err(Failure::Errno(error)) if key == 0 && error == eopnotsupp() => (),
            result => result?,
        }
        stale.store(0, Relaxed);
        Ok(())
    }
}

/// Adds a path to those in `list`, which has room: paths only go meanwhile.
fn remember(list: &mut KVec<Arc<PathHandle>>, path: &LiveRef<HeadPath>) -> Result {
    list.push_within_capacity(path.handle().clone())
        .map_err(|_| ENOMEM)
}

impl Head {
    /// Something about reservations. May sleep, as long as the devices take, and as I/O would for a
    /// path.
    pub(super) fn forward_reservation(
        this: ArcBorrow<'_, Self>,
        command: &mut Command<'_>,
    ) -> Result<(), Failure> {
        Self::persist(
            this,
            false,
            || {
                let _no_io = NoIo::enter();
                match *command {
                    Command::ReadKeys(_) | Command::ReadReservation(_) => {
                        this.on_one(command, |failure| failure.is_path_failure())
                    }
                    Command::Register { old, new, flags } => {
                        let registrations = this.registrations.lock();
                        this.register(&registrations, Change { old, new, flags })
                    }
                    Command::Release { .. } => {
                        let registrations = this.registrations.lock();
                        this.release(&registrations, command)
                    }
                    Command::Reserve { .. } => {
                        let _registrations = this.registrations.lock();
                        // Who has reserved it by another path may do so again by that path only.
                        this.on_one(command, |failure| {
                            failure.is_path_failure() || *failure == Failure::CONFLICT
                        })
                    }
                    Command::Preempt { victim, .. } => {
                        let registrations = this.registrations.lock();
                        this.on_one(command, |failure| failure.is_path_failure())?;
                        // Our other paths may have been among the victims.
                        if victim == 0 || victim == this.pr_key.load(Relaxed) {
                            this.enroll_all(&registrations)?;
                        }
                        Ok(())
                    }
                    Command::Clear { .. } => {
                        let _registrations = this.registrations.lock();
                        this.on_one(command, |failure| failure.is_path_failure())?;
                        this.pr_key.store(0, Relaxed);
                        Ok(())
                    }
                }
            },
            |failure| failure.is_path_failure(),
        )
    }

    /// By one path, or another if `elsewhere` says so.
    fn on_one(
        &self,
        command: &mut Command<'_>,
        elsewhere: impl Fn(&Failure) -> bool,
    ) -> Result<(), Option<Failure>> {
        self.on_one_path(
            |path| {
                let result = command.forward(path.device());
                self.note(path, &result);
                result
            },
            elsewhere,
        )
    }

    /// A path of which its driver says that it has failed is not to be used; one by which a command has
    /// come works.
    fn note(&self, path: &LiveRef<HeadPath>, result: &Result<(), Failure>) {
        if result.is_err_and(Failure::has_failed_the_path) {
            self.path_failed(path, BlkStatus::TRANSPORT);
        } else if result.is_ok() && path.handle().state.is_on_probation() {
            Self::path_works(path);
        }
    }

    /// Runs `f` for every path that is there, usable or not. No path comes meanwhile.
    fn on_all(
        &self,
        _: &Registrations<'_>,
        mut f: impl FnMut(&LiveRef<HeadPath>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut seen = self.room_for_all()?;
        while let Some(path) = self.paths.read(|set| {
            set.paths
                .iter()
                .filter(|path| !path.handle().state.is_dead())
                .filter(|path| !seen.iter().any(|old| Arc::ptr_eq(old, path.handle())))
                .find_map(|path| path.try_get())
        }) {
            remember(&mut seen, &path)?;
            f(&path)?;
        }
        Ok(())
    }

    /// Room for as many paths as there are. `ENOMEM`.
    fn room_for_all(&self) -> Result<KVec<Arc<PathHandle>>> {
        let room = self.paths.read(|set| set.paths.len());
        Ok(KVec::with_capacity(room, GFP_KERNEL)?)
    }

    /// Registers on every path, or on none. A path that cannot be reached is failed, and gets the
    /// key, or loses it, before it is used again; but one has to do it. `None` if there is no path.
    fn register(
        &self,
        registrations: &Registrations<'_>,
        change: Change,
    ) -> Result<(), Option<Failure>> {
        let key = self.pr_key.load(Relaxed);
        let mut done = self.room_for_all().map_err(Failure::from)?;
        let mut owing = self.room_for_all().map_err(Failure::from)?;
        let mut unreached = None;
        let refused = self.on_all(registrations, |path| {
            let attempt = || {
                if path.handle().stale_key.load(Relaxed) != 0 {
                    // What it has is not what the others have.
                    return path.take_key(change.new);
                }
                match done.is_empty() {
                    true => change.apply(path.device()),
                    false => change.apply_again(path.device(), key),
                }
            };
            let mut result = attempt();
            if result
                .is_err_and(|failure| failure.is_path_failure() && !failure.has_failed_the_path())
            {
                result = attempt();
            }
            match result {
                Ok(()) => remember(&mut done, path)?,
                Err(failure) if failure.is_path_failure() => {
                    remember(&mut owing, path)?;
                    unreached = Some(failure);
                }
                Err(failure) => return Err(failure),
            }
            Ok(())
        });
        if refused.is_ok() && !done.is_empty() {
            self.pr_key.store(change.new, Relaxed);
            if change.new == 0 {
                // A path that is away now has it still when it comes back.
                self.note_stale(change.before(key));
            }
            self.note_debts(registrations, change.before(key), &owing);
            return Ok(());
        }
        let undo = change.undo(key);
        self.on_all(registrations, |path| {
            if done.iter().any(|old| Arc::ptr_eq(old, path.handle())) {
                // What fails here has been undone by another path, or cannot be.
                let _ = undo.apply(path.device());
            }
            Ok(())
        })?;
        refused?;
        Err(unreached)
    }

    /// A key was registered in place of `old`, or that was taken back, but not on the paths in `owing`,
    /// which were not reached: they fail, and the same is done there before they are used.
    fn note_debts(&self, registrations: &Registrations<'_>, old: u64, owing: &[Arc<PathHandle>]) {
        for handle in owing {
            // If it has an older one, that is what it has still.
            if handle.stale_key.load(Relaxed) == 0 {
                handle.stale_key.store(old, Relaxed);
            }
        }
        if owing.is_empty() {
            return;
        }
        // If there is no memory for this, they are used with the key that they have.
        let _ = self.on_all(registrations, |path| {
            if owing
                .iter()
                .any(|handle| Arc::ptr_eq(handle, path.handle()))
            {
                self.path_failed(path, BlkStatus::TRANSPORT);
            }
            Ok(())
        });
    }

    /// Releases by every path: only the one that holds the reservation can, and by the others it
    /// succeeds as well, without effect.
    fn release(
        &self,
        registrations: &Registrations<'_>,
        command: &mut Command<'_>,
    ) -> Result<(), Option<Failure>> {
        let (mut done, mut unreached) = (false, None);
        self.on_all(registrations, |path| {
            let result = command.forward(path.device());
            self.note(path, &result);
            match result {
                Ok(()) => done = true,
                Err(failure) if failure.is_path_failure() => unreached = Some(failure),
                Err(failure) => return Err(failure),
            }
            Ok(())
        })?;
        match done {
            true => Ok(()),
            false => Err(unreached),
        }
    }

    /// Registers the key on all paths anew; those where that fails are failed.
    fn enroll_all(&self, registrations: &Registrations<'_>) -> Result<(), Failure> {
        self.on_all(registrations, |path| {
            if let Err(failure) = self.enroll(registrations, path) {
                pr_warn!(
                    "rmpath{}: path {} does not take the reservation key: {:?}\n",
                    self.id,
                    path.device().name(),
                    failure
                );
                self.path_failed(path, BlkStatus::RESV_CONFLICT);
            }
            Ok(())
        })
    }

    /// Registers the head's key, if it has one, on a path that is to carry I/O from now on; if it has
    /// none, takes back the one that the path still has.
    pub(super) fn enroll(&self, _: &Registrations<'_>, path: &HeadPath) -> Result<(), Failure> {
        let device = path.device();
        let mut key = self.pr_key.load(Relaxed);
        if key != 0 && !is_registered(device, key)? {
            pr_warn!(
                "rmpath{}: its reservation key has been taken away by somebody else\n",
                self.id
            );
            self.pr_key.store(0, Relaxed);
            // Who does that takes it from all paths.
            self.stale_key.store(0, Relaxed);
            key = 0;
        }
        path.take_key(key)
    }

    /// A path has left, and may come back as another device: it still has what it has. Any context.
    pub(super) fn inherit_debt(&self, handle: &PathHandle) {
        self.note_stale(handle.stale_key.load(Relaxed));
        self.note_stale(self.pr_key.load(Relaxed));
    }

    /// Paths that are away may have this key, unless it is 0. The first one is kept: that there is one
    /// is what matters.
    fn note_stale(&self, key: u64) {
        let _ = self.stale_key.cmpxchg(0, key, Relaxed);
    }

    /// A path is to join: it may be one that has left. Under `setup`.
    pub(super) fn bequeath_debt(&self, handle: &PathHandle) {
        handle
            .stale_key
            .store(self.stale_key.load(Relaxed), Relaxed);
    }
}

impl Head {
    /// Lets a path into use again that errors of its I/O have failed and that a probe has found well,
    /// when it has the head's key. Returns whether it was let in: it may have been failed by hand, or
    /// died, meanwhile. May sleep, for as long as the device takes. The device's error or `EIO` if it
    /// does not take the key.
    ///
    /// The other way back into use. The caller tells the head ([`Head::path_changed`]).
    pub(super) fn readmit_probed(&self, path: &LiveRef<HeadPath>) -> Result<bool> {
        let state = &path.handle().state;
        let _no_io = NoIo::enter();
        let registrations = self.registrations.lock();
        if !state.wants_probe() {
            return Ok(false);
        }
        self.enroll(&registrations, path).map_err(|failure| {
            pr_warn!(
                "rmpath{}: path {} does not take the reservation key: {:?}\n",
                self.id,
                path.device().name(),
                failure
            );
            failure.to_error()
        })?;
        Ok(state.reinstate_on_probation())
    }
}

impl PathHandle {
    /// Reinstates a path that has failed, when it has the head's key. May sleep, for as long as the
    /// device takes. `ENODEV` if it is gone; if it does not take the key, it stays failed, with the
    /// device's error or `EIO`.
    ///
    /// The way back into use by hand. The caller tells the head ([`Head::path_changed`]).
    pub(super) fn readmit(this: ArcBorrow<'_, Self>) -> Result {
        let head = this.head().ok_or(ENODEV)?;
        let path = head.open_path(&this).ok_or(ENODEV)?;
        let _no_io = NoIo::enter();
        let registrations = head.registrations.lock();
        head.enroll(&registrations, &path)
            .map_err(Failure::to_error)?;
        this.state.reinstate();
        Ok(())
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_reservation)]
mod tests {
    use super::*;

    fn change(old: u64, new: u64, flags: u32) -> Change {
        Change { old, new, flags }
    }

    #[test]
    fn a_first_key_is_taken_back() {
        assert_eq!(change(0, 7, 0).undo(0), change(7, 0, 0));
        assert_eq!(change(9, 7, IGNORE_KEY).undo(0), change(7, 0, 0));
    }

    #[test]
    fn a_changed_key_is_changed_back() {
        assert_eq!(change(5, 7, 0).undo(5), change(7, 5, 0));
        // The head has never heard of the old one.
        assert_eq!(change(5, 7, 0).undo(0), change(7, 5, 0));
        assert_eq!(change(0, 7, IGNORE_KEY).undo(5), change(7, 5, 0));
    }

    #[test]
    fn a_key_that_was_taken_back_is_registered_anew() {
        assert_eq!(change(5, 0, 0).undo(5), change(0, 5, IGNORE_KEY));
        assert_eq!(change(0, 0, IGNORE_KEY).undo(5), change(0, 5, IGNORE_KEY));
    }
}
