#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""lockstat.py READS BASE DISK...: which locks I/O takes: for each DISK one line, with the classes of locks that READS reads of
4 KiB, one after the other, take more often than the same reads of BASE, by half of READS at least, the least of three
times. Each with how often; or "none". Needs CONFIG_LOCK_STAT.

What lockdep knows as locks and are none is left out: read sections of RCU, references on a queue, looks at a sequence count
(as the clock has one). So are the locks of the scheduler, of timers and of the debugging of objects, which depend on how long
it all takes, and not on the way of an I/O.
"""

import mmap
import os
import pathlib
import re
import sys

SWITCH = pathlib.Path("/proc/sys/kernel/lock_stat")
STAT = pathlib.Path("/proc/lock_stat")
NO_LOCKS = re.compile(r"^(rcu_|srcu)|q_usage_counter|seqcount")
TIMES = re.compile(r"rq->__lock|pi_lock|hrtimer_bases|base->lock|tk_core|timekeeper|jiffies_|rcu_node|rcu_state|obj_hash")
# The name, two counts, four times, and then how often it moved to another CPU and how often it was taken.
LINE = re.compile(r"^ *(\S.*?): +\d+ +\d+ +[\d.]+ +[\d.]+ +[\d.]+ +[\d.]+ +\d+ +(\d+) ", re.M)


def taken(disk, reads):
    """How often each class of locks was taken during so many reads."""
    buffer = mmap.mmap(-1, 4096)
    fd = os.open(disk, os.O_RDONLY | os.O_DIRECT)
    try:
        STAT.write_text("0")
        SWITCH.write_text("1")
        for number in range(reads):
            os.preadv(fd, [buffer], number % 256 * 4096)
        SWITCH.write_text("0")
        counts = {}
        for name, count in LINE.findall(STAT.read_text()):
            # What is taken for reading and for writing has a line for each.
            name = re.sub(r"(#\d+)?(/\d+)?(-[RW])?$", "", name)
            if NO_LOCKS.search(name) or TIMES.search(name):
                continue
            counts[name] = counts.get(name, 0) + int(count)
        return counts
    finally:
        SWITCH.write_text("0")
        os.close(fd)


def main():
    reads, base, *disks = sys.argv[1:]
    # Where it is sent is where it ends.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    before = taken(base, int(reads))
    if sum(before.values()) < int(reads):
        sys.exit("lockstat: error: nothing was counted")
    for disk in disks:
        runs = [taken(disk, int(reads)) for _ in range(3)]
        counts = {name: min(run.get(name, 0) for run in runs) for name in runs[0]}
        more = {name: count - before.get(name, 0) for name, count in counts.items()}
        print(", ".join(f"{name} {n}" for name, n in sorted(more.items()) if 2 * n >= int(reads)) or "none")


main()
