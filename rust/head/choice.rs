// SPDX-License-Identifier: GPL-2.0

//! How a head chooses a path for each bio, and what it keeps account of for that.
//!
//! One word, the mode, says which policy is in force and whether marginal paths are looked for. It
//! is simple for round robin and numa, for which nothing is kept; whatever else there is to do is
//! behind one branch that is not taken then. A clone remembers what it was counted for when it was sent, so that
//! it is counted out again whatever the mode is when it comes back.

use super::{
    io::HeadIo,
    judge::Watch,
    path::{
        ArcPath,
        HeadPath,
        PathHandle, //
    },
    Head,
    Inner,
    PathSet, //
};
use crate::{
    abstractions::{
        atomic::LoadOnce,
        bio::{
            clone::Clone as BioClone,
            status::BlkStatus,
            Bio, //
        },
        clock::now_ns,
        numa,
        percpu_ref::LiveRef, //
    },
    mpath::{
        error::{
            verdict,
            Verdict, //
        },
        selector::{
            historical_service_time,
            numa as nearest,
            queue_depth,
            round_robin::RoundRobin,
            service_time,
            HasState,
            Policy, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed, //
        },
        barrier::smp_rmb,
        Arc, //
    },
};

/// The bits of the mode that are the policy's number.
const POLICY: u32 = 0xff;
/// Marginal paths are looked for.
const WATCH: u32 = 1 << 8;

/// Which policy is in force, and whether marginal paths are looked for.
#[derive(Clone, Copy)]
pub(super) struct Mode(u32);

impl Mode {
    /// Whether nothing is kept account of.
    #[inline]
    pub(super) fn is_simple(self) -> bool {
        self.is(Policy::RoundRobin) || self.is(Policy::Numa)
    }

    /// Whether this policy is in force, and that is all.
    #[inline]
    fn is(self, policy: Policy) -> bool {
        self.0 == policy as u32
    }

    pub(super) fn policy(self) -> Policy {
        Policy::from_raw(self.0 & POLICY)
    }

    fn watches(self) -> bool {
        self.0 & WATCH != 0
    }
}

/// What a head chooses by.
pub(super) struct Choice {
    rr: RoundRobin,
    /// A [`Mode`]. Written under the head's lock.
    mode: Atomic<u32>,
    /// What is marginal.
    pub(super) watch: Watch,
}

impl Choice {
    /// By this policy; marginal paths are not looked for. `ENOMEM`. May sleep.
    pub(super) fn new(policy: Policy) -> Result<Self> {
        Ok(Self {
            rr: RoundRobin::new()?,
            mode: Atomic::new(policy as u32),
            watch: Watch::new(),
        })
    }

    /// What is in force. Any context.
    #[inline]
    pub(super) fn mode(&self) -> Mode {
        Mode(self.mode.load_once())
    }

    /// Sets the policy.
    fn set_policy(&self, _inner: &mut Inner, policy: Policy) {
        let watch = self.mode.load(Relaxed) & WATCH;
        self.mode.store(policy as u32 | watch, Relaxed);
    }

    /// Sets whether marginal paths are looked for.
    pub(super) fn set_watch(&self, _inner: &mut Inner, watch: bool) {
        let policy = self.mode.load(Relaxed) & POLICY;
        let watch = if watch { WATCH } else { 0 };
        self.mode.store(policy | watch, Relaxed);
    }
}

/// What a clone was counted for when it was sent: flags.
#[derive(Clone, Copy)]
pub(super) struct Counted(u8);

/// It is under way in the path's load.
const LOAD: u8 = 1 << 0;
/// Its time makes part of the path's average.
const TIME: u8 = 1 << 1;
/// It is one of the bios by which its path is judged.
const JUDGED: u8 = 1 << 2;
/// Its time is one of the samples by which its path is judged.
const SAMPLE: u8 = 1 << 3;

impl Counted {
    /// Nothing.
    pub(super) const NONE: Self = Self(0);

    /// Whether there is nothing to count out.
    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// Why a flush has to wait.
pub(super) enum NoCache {
    /// The write cache that it is about is that of a path that is leaving: until that has emptied it.
    Leaves,
    /// It is that of a path that cannot be used now: until it can.
    Away,
}

impl Head {
    /// A path for a bio that has not been sent before, if it does not matter to which path a flush goes:
    /// as [`Head::choose`], without a detour where the policy is all that there is. In the read section
    /// of `set`.
    #[inline]
    pub(super) fn choose_first<'a>(
        &self,
        mode: Mode,
        set: &'a PathSet,
        bio: &Bio,
    ) -> Option<&'a ArcPath> {
        let (rr, turns, paths) = (&self.choice.rr, set.turns.list(), &*set.paths);
        if mode.is(Policy::RoundRobin) {
            return rr.select(turns);
        }
        if mode.is(Policy::Numa) {
            return set.near.select(paths, numa::here(), numa::distance);
        }
        if mode.is(Policy::QueueDepth) {
            return queue_depth::select(paths, rr.turn(paths.len()), |_| true);
        }
        if mode.is(Policy::ServiceTime) {
            return self.choose_first_by_data(set, bio);
        }
        self.choose(mode, set, bio.sectors(), 0)
    }

    /// As [`Head::choose_first`] with service-time, apart from it for the sake of what comes before.
    #[inline(never)]
    fn choose_first_by_data<'a>(&self, set: &'a PathSet, bio: &Bio) -> Option<&'a ArcPath> {
        let (rr, turns, paths) = (&self.choice.rr, set.turns.list(), &*set.paths);
        let (first, alike) = (rr.turn(paths.len()), turns.len() == paths.len());
        service_time::select(paths, first, alike, bio.sectors(), |_| true)
    }

    /// A path for a bio of so many sectors, if one is usable; `avoid` ([`HeadIo::avoid`]) only if there is
    /// no other. In the read section of `set`.
    #[inline(never)]
    pub(super) fn choose<'a>(
        &self,
        mode: Mode,
        set: &'a PathSet,
        sectors: u32,
        avoid: usize,
    ) -> Option<&'a ArcPath> {
        let wanted = |path: &ArcPath| Arc::as_ptr(path.handle()).addr() != avoid;
        let (rr, turns, paths) = (&self.choice.rr, set.turns.list(), &*set.paths);
        match mode.policy() {
            Policy::RoundRobin if avoid == 0 => rr.select(turns),
            Policy::RoundRobin => rr.select_if(turns, wanted),
            Policy::Numa if avoid == 0 => set.near.select(paths, numa::here(), numa::distance),
            Policy::Numa => nearest::select_if(paths, numa::here(), wanted, numa::distance),
            Policy::QueueDepth => queue_depth::select(paths, rr.turn(paths.len()), wanted),
            Policy::ServiceTime => {
                let alike = turns.len() == paths.len();
                service_time::select(paths, rr.turn(paths.len()), alike, sectors, wanted)
            }
            Policy::HistoricalServiceTime => {
                historical_service_time::select(paths, rr.turn(paths.len()), now_ns(), wanted)
            }
        }
    }

    /// A path for a bio that flushes: one with a write cache, for those without would say that all
    /// is done. If there is none, one without, for then there is nothing that could be flushed;
    /// unless a path with a cache is leaving, or there and not usable: [`NoCache`].
    #[cold]
    pub(super) fn choose_for_flush<'a>(
        &self,
        set: &'a PathSet,
        clone: &BioClone<HeadIo>,
    ) -> Result<Option<&'a ArcPath>, NoCache> {
        let avoid = clone.avoid;
        let cached = |path: &ArcPath| path.device().has_write_cache();
        let best = |path: &ArcPath| cached(path) && Arc::as_ptr(path.handle()).addr() != avoid;
        let (rr, turns) = (&self.choice.rr, set.turns.list());
        let path = rr.select_if(turns, best);
        if path.is_some_and(cached) {
            return Ok(path);
        }
        let path = rr.select_if(turns, cached);
        if path.is_some_and(cached) {
            return Ok(path);
        }
        let Some(path) = path else {
            return Ok(None);
        };
        let is_to_leave = |path: &ArcPath| path.state().is_dead() && path.has_cache_to_empty();
        // After the set: who does not see the path there sees that it is leaving.
        smp_rmb();
        // Acquire: who sees that the cache is empty must not say so earlier.
        if self.leaving_caches.load(Acquire) != 0 || set.paths.iter().any(is_to_leave) {
            return Err(NoCache::Leaves);
        }
        // Those that have one are not usable.
        let is_away = |path: &ArcPath| cached(path) && !path.state().is_dead();
        if set.paths.iter().any(is_away) {
            return Err(NoCache::Away);
        }
        Ok(Some(path))
    }

    /// A clone that is counted has come back well. Any context.
    #[inline]
    pub(super) fn count_out_well(io: &HeadIo, path: &LiveRef<HeadPath>) {
        match io.counted {
            Counted(LOAD) => path.handle().load.end(io.sectors),
            _ => Self::count_out(io, path, BlkStatus::OK),
        }
    }

    /// Counts in a bio that is about to be sent, in a mode that is not simple: what for, and when, if its
    /// time is taken ([`HeadIo::start`]).
    #[inline]
    pub(super) fn count_in(mode: Mode, handle: &PathHandle, sectors: u32) -> (Counted, u64) {
        if mode.is(Policy::QueueDepth) || mode.is(Policy::ServiceTime) {
            handle.load.begin(sectors);
            return (Counted(LOAD), 0);
        }
        let mut what = 0;
        let policy = mode.policy();
        if policy.needs_load() {
            what = LOAD;
            handle.load.begin(sectors);
            if policy == Policy::HistoricalServiceTime {
                what |= TIME;
            }
        }
        if mode.watches() {
            what |= JUDGED;
            if handle.history.vitals.begin() {
                what |= SAMPLE;
            }
        }
        let start = match what & (TIME | SAMPLE) {
            0 => 0,
            _ => now_ns(),
        };
        (Counted(what), start)
    }

    /// Counts out a clone that has come back, if it was counted. Any context.
    #[inline(never)]
    pub(super) fn count_out(io: &HeadIo, path: &LiveRef<HeadPath>, status: BlkStatus) {
        let handle = path.handle();
        let Counted(what) = io.counted;
        if what & LOAD != 0 {
            handle.load.end(io.sectors);
        }
        if status != BlkStatus::OK {
            // What would have failed on any path says nothing about this one.
            let verdict = verdict(status);
            let its_fault = matches!(verdict, Verdict::RetryElsewhere | Verdict::FailPath);
            if what & JUDGED != 0 && its_fault {
                handle.history.vitals.error();
                Head::watch(path.head.as_arc_borrow());
            }
            return;
        }
        if what & (TIME | SAMPLE) == 0 {
            return;
        }
        let now = now_ns();
        if what & TIME != 0 {
            handle.load.served(io.start, now);
        }
        if what & SAMPLE != 0 {
            handle.history.vitals.sample(now.saturating_sub(io.start));
            Head::watch(path.head.as_arc_borrow());
        }
    }

    /// Sets `iopolicy`. I/O that is on its way stays on it. May sleep.
    pub(super) fn set_policy(&self, policy: Policy) {
        self.choice.set_policy(&mut self.inner.lock(), policy);
    }

    /// The nodes whose CPUs use this path, if the policy is `numa`.
    pub(super) fn nodes_of(&self, handle: &PathHandle) -> [u64; NODE_WORDS] {
        let mut nodes = [0; NODE_WORDS];
        if self.choice.mode().policy() != Policy::Numa {
            return nodes;
        }
        self.paths.read(|set| {
            for node in numa::online() {
                let path = set.near.select(&set.paths, node, numa::distance);
                let its = path.is_some_and(|path| core::ptr::eq(&**path.handle(), handle));
                if let (true, Some(word)) = (its, nodes.get_mut(node.index() / 64)) {
                    *word |= 1 << (node.index() % 64);
                }
            }
        });
        nodes
    }
}

/// Words of a mask of nodes: the kernel has 1024 of them at most.
pub(super) const NODE_WORDS: usize = 16;

/// Writes a mask as a list of ranges, as `%*pbl` does.
pub(super) struct NodeList(pub(super) [u64; NODE_WORDS]);

impl kernel::fmt::Display for NodeList {
    fn fmt(&self, f: &mut kernel::fmt::Formatter<'_>) -> kernel::fmt::Result {
        let has = |bit: usize| {
            self.0
                .get(bit / 64)
                .is_some_and(|word| word & (1 << (bit % 64)) != 0)
        };
        let (mut bit, mut comma) = (0, "");
        while bit < 64 * NODE_WORDS {
            if !has(bit) {
                bit += 1;
                continue;
            }
            let first = bit;
            while has(bit + 1) {
                bit += 1;
            }
            match first == bit {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{bit}")?,
            }
            comma = ",";
            bit += 1;
        }
        Ok(())
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_choice)]
mod tests {
    use super::*;
    use kernel::str::CString;

    #[test]
    fn lists_of_nodes() -> Result {
        let list = |nodes: &[usize]| {
            let mut mask = [0; NODE_WORDS];
            for node in nodes {
                mask[node / 64] |= 1 << (node % 64);
            }
            CString::try_from_fmt(fmt!("{}", NodeList(mask)))
        };
        let some = list(&[0, 2, 3, 4, 63, 64, 1023])?;
        let none = list(&[])?;
        let right = some.to_bytes() == b"0,2-4,63-64,1023" && none.to_bytes() == b"";
        drop((some, none));
        assert!(right);
        Ok(())
    }

    #[test]
    fn modes() {
        assert!(Mode(0).is_simple());
        assert!(Mode(Policy::Numa as u32).is_simple());
        assert!(!Mode(WATCH).is_simple());
        assert!(!Mode(Policy::QueueDepth as u32).is_simple());
        assert_eq!(Mode(WATCH).policy(), Policy::RoundRobin);
        assert_eq!(Mode(3 | WATCH).policy(), Policy::ServiceTime);
        assert!(Mode(3 | WATCH).watches());
        assert!(Counted::NONE.is_none());
    }
}
