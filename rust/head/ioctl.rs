// SPDX-License-Identifier: GPL-2.0

//! What is forwarded to one path: ioctls that the block layer does not know.
//!
//! They go where I/O would go, to an optimized path if there is one, and they wait as I/O waits: as
//! long as a path may come (the head's gate is open), unless the file was opened with `O_NONBLOCK`
//! or the caller is killed. (dm waits too; nvme answers `EWOULDBLOCK` at once, which a program that
//! does its I/O by `SG_IO` takes for the loss of the disk.)
//!
//! A command that a path refuses because it is gone (`ENODEV`, `ENXIO`) has not been carried out, and
//! is given to another. Any other answer is the caller's: the command may have done something.
//!
//! A path is used under a counted reference, so that its device is not closed meanwhile. Nothing else
//! is held: a command that takes hours holds up the closing of its path, and nothing else.

use super::{
    io::Gate,
    path::{
        ArcPath,
        HeadPath,
        PathHandle, //
    },
    Head,
    PathSet, //
};
use crate::{
    abstractions::{
        gendisk::ioctl::{
            enoioctlcmd,
            fatal_signal_pending,
            may_use_whole_disk,
            Geometry,
            Ioctl, //
        },
        percpu_ref::LiveRef, //
    },
    mpath::selector::HasState, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::Relaxed,
        Arc,
        ArcBorrow, //
    },
    time::{
        delay::fsleep,
        Delta, //
    }, //
};

/// How often who waits for a path looks for one. (dm's rate.)
const POLL: Delta = Delta::from_millis(10);

/// What who finds no path to try is to do.
enum Wait {
    /// Look again: there is one now.
    No,
    /// Wait for one.
    Yes,
    /// Give up: none is expected.
    Over,
}

impl PathSet {
    /// A reference on a path that is usable and not among those `tried`: an optimized one if there
    /// is one. Any context.
    fn untried(&self, tried: &[Arc<PathHandle>]) -> Option<LiveRef<HeadPath>> {
        let untried = |path: &&ArcPath| !tried.iter().any(|old| Arc::ptr_eq(old, path.handle()));
        let all = || self.paths.iter().filter(untried);
        all()
            .filter(|path| path.state().is_optimized())
            .find_map(|path| path.try_get())
            .or_else(|| {
                all()
                    .filter(|path| path.state().is_usable())
                    .find_map(|path| path.try_get())
            })
    }

    fn has_usable(&self) -> bool {
        self.paths.iter().any(|path| path.state().is_usable())
    }
}

impl Head {
    /// Runs `command` on a usable path, and while `elsewhere` says so of its error on another, until
    /// all have been tried. The last error; `None` if no path was usable. May sleep.
    pub(super) fn on_one_path<R, E: From<Error>>(
        &self,
        mut command: impl FnMut(&LiveRef<HeadPath>) -> Result<R, E>,
        elsewhere: impl Fn(&E) -> bool,
    ) -> Result<R, Option<E>> {
        let mut tried = KVec::new();
        let mut last = None;
        while let Some(path) = self.paths.read(|set| set.untried(&tried)) {
            path.handle().begin_io();
            let result = command(&path);
            path.handle().end_io();
            match result {
                Err(error) if elsewhere(&error) => last = Some(error),
                result => return result.map_err(Some),
            }
            tried
                .push(path.handle().clone(), GFP_KERNEL)
                .map_err(|error| Some(E::from(error.into())))?;
        }
        Err(last)
    }

    /// Repeats `attempt` as long as it finds no path (`None`), or none that was not `gone`, and one
    /// may come. `EAGAIN` instead of waiting if `nonblocking`, `EINTR` if the caller is killed,
    /// `EIO` if none is expected, or was gone. Sleeps; with no lock that a path needs to come.
    pub(super) fn persist<R, E: From<Error>>(
        this: ArcBorrow<'_, Self>,
        nonblocking: bool,
        mut attempt: impl FnMut() -> Result<R, Option<E>>,
        gone: impl Fn(&E) -> bool,
    ) -> Result<R, E> {
        loop {
            let error = match attempt() {
                Ok(result) => return Ok(result),
                Err(Some(error)) if !gone(&error) => return Err(error),
                Err(error) => error,
            };
            let wait = this.paths.read(|set| {
                if set.has_usable() {
                    Wait::No
                } else if this.gate.load(Relaxed) != Gate::Park as u32 {
                    Wait::Over
                } else {
                    Self::begin_waiting(this, set);
                    Wait::Yes
                }
            });
            match (wait, error) {
                // It had its chance, or has come since.
                (Wait::No, Some(error)) => return Err(error),
                (Wait::No, None) => (),
                (Wait::Over, error) => return Err(error.unwrap_or_else(|| EIO.into())),
                (Wait::Yes, _) if nonblocking => return Err(EAGAIN.into()),
                (Wait::Yes, _) => (),
            }
            if fatal_signal_pending() {
                return Err(EINTR.into());
            }
            fsleep(POLL);
        }
    }

    /// An ioctl on the head's disk, or on a partition: there it needs the privileges of who may use
    /// the whole disk, for that is what the path gets to see.
    pub(super) fn forward_ioctl(this: ArcBorrow<'_, Self>, ioctl: &Ioctl) -> Result<c_int> {
        if ioctl.is_on_partition() && !may_use_whole_disk() {
            return Err(enoioctlcmd());
        }
        let gone = |error: &Error| [ENODEV, ENXIO].contains(error);
        Self::persist(
            this,
            ioctl.is_nonblocking(),
            || this.on_one_path(|path| ioctl.forward(path.device()), gone),
            gone,
        )
    }

    /// The geometry of a path; computed if none says anything. Waits for none to come.
    pub(super) fn forward_geometry(&self, geometry: &mut Geometry<'_>) {
        let asked = self.on_one_path(|path| geometry.forward(path.device()), |_| true);
        if asked.is_err() {
            geometry.compute();
        }
    }
}
