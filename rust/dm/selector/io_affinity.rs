// SPDX-License-Identifier: GPL-2.0

//! io-affinity: the path that belongs to the CPU that submits. Follows drivers/md/dm-ps-io-affinity.c.

use super::super::table::Refused;
use crate::{
    abstractions::{
        atomic::LoadOnce,
        cpumask::{
            self,
            cpus, //
        },
        device_mapper::Arg,
        numa::Node, //
    },
    mpath::{
        group::{
            Member,
            Picked, //
        },
        selector::HasState, //
    },
};
use core::fmt::{
    self,
    Write, //
};
use kernel::{
    cpu::CpuId,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// A CPU.
struct Cpu {
    /// The index of the path that belongs to it.
    path: Option<u32>,
    node: Option<Node>,
}

/// The selector.
pub(crate) struct IoAffinity {
    /// By the CPU's number.
    cpus: KVec<Cpu>,
    /// The mask of each path, as the kernel prints it.
    masks: KVec<KVec<u8>>,
    /// How often a CPU to which no path belongs has chosen one.
    misses: Atomic<u32>,
}

impl IoAffinity {
    pub(super) fn new() -> Result<Self, Refused> {
        let mut all = KVec::new();
        for cpu in cpus() {
            let cpu = Cpu {
                path: None,
                node: cpumask::node_of(cpu),
            };
            all.push(cpu, GFP_KERNEL)?;
        }
        Ok(Self {
            cpus: all,
            masks: KVec::new(),
            misses: Atomic::new(0),
        })
    }

    /// `<mask of CPUs>`: those that belong to no other path belong to this one.
    pub(super) fn add_path(&mut self, words: &[Arg<'_>]) -> Result<(), Refused> {
        let [word] = words else {
            return Err(Refused::because(
                c"io-affinity ps: invalid number of arguments",
            ));
        };
        let mask = cpumask::parse(word.as_cstr())
            .map_err(|_| Refused::because(c"io-affinity ps: invalid cpumask"))?;
        let number = self.masks.len() as u32;
        let free = cpus()
            .zip(&mut self.cpus)
            .filter(|(id, cpu)| mask.test(*id) && cpu.path.is_none());
        let mut found = false;
        for (_, cpu) in free {
            cpu.path = Some(number);
            found = true;
        }
        if !found {
            return Err(Refused::because(
                c"io-affinity ps: No new/valid CPU mapping found",
            ));
        }
        let text = cpumask::text(&mask).map_err(|_| Refused::no_memory())?;
        Ok(self.masks.push(text, GFP_KERNEL)?)
    }

    pub(super) fn write_table(&self, index: usize, out: &mut impl Write) -> fmt::Result {
        let mask = self.masks.get(index).ok_or(fmt::Error)?;
        write!(out, "{} ", core::str::from_utf8(mask).unwrap_or("?"))
    }

    /// The same for all paths.
    pub(super) fn write_info(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{} ", self.misses.load_once() as i32)
    }

    #[inline(never)]
    pub(super) fn pick<'a, P: Member>(
        &self,
        paths: &'a [P],
        wanted: impl Fn(&P) -> bool,
    ) -> Option<Picked<'a, P>> {
        let here = CpuId::current();
        let path = self
            .nearest(paths, here, wanted)
            .or_else(|| self.nearest(paths, here, |_| true))?;
        self.note_if_miss(here);
        Some(Picked { path, kept: 0 })
    }

    /// One was looked for in vain.
    pub(super) fn note_miss(&self) {
        self.note_if_miss(CpuId::current());
    }

    fn note_if_miss(&self, here: CpuId) {
        if self.cpu(here).is_some_and(|cpu| cpu.path.is_none()) {
            self.misses.add(1u32, Relaxed);
        }
    }

    fn cpu(&self, id: CpuId) -> Option<&Cpu> {
        self.cpus.get(id.as_u32() as usize)
    }

    /// A usable path that is `wanted`: that of this CPU, of one on its node, of any.
    fn nearest<'a, P: Member>(
        &self,
        paths: &'a [P],
        here: CpuId,
        wanted: impl Fn(&P) -> bool,
    ) -> Option<&'a P> {
        let path = |cpu: &Cpu| {
            let path = paths.get(cpu.path? as usize)?;
            (path.state().is_usable() && wanted(path)).then_some(path)
        };
        let here = self.cpu(here)?;
        path(here)
            .or_else(|| {
                let near = |cpu: &&Cpu| cpu.node == here.node;
                self.cpus.iter().filter(near).find_map(path)
            })
            .or_else(|| self.cpus.iter().find_map(path))
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(rmpath_dm_io_affinity)]
mod tests {
    use super::*;
    use crate::mpath::{
        path::FailReason,
        selector::TestPath, //
    };

    #[test]
    fn each_cpu_has_one_path() -> Result {
        let mut selector = IoAffinity::new().map_err(|refused| refused.error)?;
        let first = [Arg::from(c"1")];
        let all = [Arg::from(c"ffffffff")];
        let mut reason = |words: &[Arg<'_>]| {
            let added = selector.add_path(words);
            added.err().map(|refused| refused.reason)
        };
        let none = reason(&[]);
        let wrong = reason(&[Arg::from(c"x")]);
        let one = reason(&first);
        let again = reason(&first);
        let _ = reason(&all);
        let paths = selector.masks.len();
        let taken = selector.cpus.first().and_then(|cpu| cpu.path);
        drop(selector);

        assert_eq!(none, Some(c"io-affinity ps: invalid number of arguments"));
        assert_eq!(wrong, Some(c"io-affinity ps: invalid cpumask"));
        assert_eq!(one, None);
        assert_eq!(
            again,
            Some(c"io-affinity ps: No new/valid CPU mapping found")
        );
        assert!(paths == 1 || paths == 2);
        assert_eq!(taken, Some(0));
        Ok(())
    }

    #[test]
    fn who_has_none_takes_anothers() -> Result {
        let paths = TestPath::several(2)?;
        let mut selector = IoAffinity::new().map_err(|refused| refused.error)?;
        // As if every CPU had the second path, then as if only one that is not this one did.
        let here = CpuId::current();
        for cpu in &mut selector.cpus {
            cpu.path = Some(1);
        }
        let pick = |selector: &IoAffinity, unwanted: usize| {
            selector
                .pick(&paths, |path| path.number != unwanted)
                .map_or(9, |picked| picked.path.number)
        };
        let own = pick(&selector, 9);
        let hit = selector.misses.load_once();
        for cpu in &mut selector.cpus {
            cpu.path = None;
        }
        let no_path = pick(&selector, 9);
        selector.cpus.push(
            Cpu {
                path: Some(0),
                node: None,
            },
            GFP_KERNEL,
        )?;
        let far = [pick(&selector, 9), pick(&selector, 0)];
        let missed = selector.misses.load_once();
        paths[0].state.fail(FailReason::Io);
        let failed = pick(&selector, 9);
        selector.note_miss();
        let noted = selector.misses.load_once();
        let known = selector.cpu(here).is_some();
        drop((paths, selector));

        assert_eq!([own, no_path, failed], [1, 9, 9]);
        assert_eq!(far, [0, 0]);
        assert_eq!([hit, missed, noted], [0, 2, 3]);
        assert!(known);
        Ok(())
    }
}
