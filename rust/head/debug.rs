// SPDX-License-Identifier: GPL-2.0

//! `/sys/kernel/debug/rmpath/rmpathN`: all that there is to know of a head, in one file.
//!
//! For people; its format may change. It can be read whatever else goes on: only the head's lock is
//! taken, under which nobody sleeps for long.

use super::{
    io::Gate,
    Head, //
};
use crate::abstractions::debugfs::Show;
use kernel::{
    seq_file::SeqFile,
    seq_print,
    sync::atomic::Relaxed, //
};

impl Show for Head {
    fn show(&self, out: &SeqFile) {
        let inner = self.inner.lock();
        let gate = match self.gate.load(Relaxed) == Gate::Park as u32 {
            true => "park",
            false => "fail",
        };
        seq_print!(out, "head: rmpath{}\nwwid: {}\n", self.id, self.wwid);
        seq_print!(out, "state: {}\n", inner.state.name());
        seq_print!(out, "doomed: {}\n", inner.doomed);
        seq_print!(out, "gate: {gate}\n");
        seq_print!(out, "expired: {}\n", inner.expired);
        seq_print!(out, "waiting: {}\n", self.waiting.lock().is_some());
        seq_print!(out, "delayed_removal_secs: {}\n", self.delay.load(Relaxed));
        seq_print!(
            out,
            "no_path_timeout_secs: {}\n",
            self.no_path_secs.load(Relaxed)
        );
        match inner.deadline {
            Some(deadline) => seq_print!(out, "deadline: {deadline}\n"),
            None => seq_print!(out, "deadline: none\n"),
        }
        if let Some(geometry) = &inner.geometry {
            seq_print!(out, "sectors: {}\n", geometry.sectors);
            seq_print!(out, "logical_block_size: {}\n", geometry.logical_block_size);
        }
        seq_print!(out, "pr_key: {:#x}\n", self.pr_key.load(Relaxed));
        seq_print!(out, "parked: {}\n", self.parked.len());
        seq_print!(out, "delayed: {}\n", self.delayed.len());
        let counters = &self.counters;
        seq_print!(
            out,
            "io_requeue_no_usable_path_count: {}\n",
            counters.requeued
        );
        seq_print!(
            out,
            "io_fail_no_available_path_count: {}\n",
            counters.refused
        );
        seq_print!(out, "failovers: {}\n", counters.failovers);
        seq_print!(out, "iopolicy: {}\n", self.choice.mode().policy().name());
        let selectable = self.paths.read(|set| set.paths.len());
        seq_print!(out, "path_set: {selectable}\n");
        seq_print!(out, "members: {}\n", inner.members.len());
        for member in inner.members.iter() {
            let path = &member.handle;
            match &member.open {
                Some(open) => {
                    let device = open.path.device();
                    let (name, dev) = (device.name(), device.dev());
                    seq_print!(out, "path{}: {name} {dev}", member.id);
                }
                None => seq_print!(out, "path{}: closing -", member.id),
            }
            seq_print!(out, " {}", path.state.name());
            seq_print!(out, " weight={}", path.weight.load(Relaxed));
            seq_print!(out, " inflight={}", path.inflight());
            seq_print!(out, " load={}/{}", path.load.bios(), path.load.sectors());
            seq_print!(out, " failures={}", path.state.failures());
            seq_print!(out, " failovers={}", path.history.counters.failovers);
            seq_print!(out, " suspect={}\n", path.state.is_suspect());
        }
    }
}
