#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""guest-failover.py DISK DISK: the part of bench.sh that measures how long a read takes that has to go by another path,
and one that waits until a path is back, on null_blk: for dm-multipath, the target and the head.

It runs in the VM, where a nanosecond is an instruction, with the modules loaded. Prints "NAME<tab>NANOSECONDS" for each:
the median of several tries, beyond what the same read takes when nothing is wrong, or since the path was brought back.
"""

import fcntl
import mmap
import os
import pathlib
import select
import statistics
import sys
import time

from standstill import NAMES, begin, delete_head, dmioctl, make_map, number_of, quiet

TRIES = 9
# The place of the bad block, in bytes.
PLACE = 1 << 20
CLASS = pathlib.Path("/sys/class/rmpath")


def timed_read(fd, place=PLACE):
    """Reads 4 KiB past the cache; when that was done, and how long it took."""
    buffer = mmap.mmap(-1, 4096)
    # Not by a function of our own, here nor below: behind a fork the pages that it touches first have to be copied.
    start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if os.preadv(fd, [buffer], place) != 4096:
        sys.exit("failover: error: a short read")
    end = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    return end, end - start


class Map:
    """A map of dm-multipath or the target."""

    def __init__(self, kind, disks):
        self.kind, self.disks = kind, disks
        self.name = NAMES[kind]

    def set_up(self):
        return make_map("failover", self.kind, self.disks)

    def fail(self):
        for disk in self.disks:
            dmioctl.message("failover", f"fail_path /dev/{disk}")

    def restoring(self):
        """What brings one back, as one system call: all else is done before."""
        data = dmioctl.message_data(f"reinstate_path /dev/{self.disks[0]}")
        request, buf = dmioctl.prepare(dmioctl.MESSAGE, "failover", data=data)
        control = os.open(dmioctl.CONTROL, os.O_RDWR)
        return lambda: fcntl.ioctl(control, request, buf), control

    def take_down(self):
        dmioctl.remove("failover")


class Head:
    """A head."""

    name = NAMES["head"]

    def __init__(self, disks):
        self.disks = disks

    def set_up(self):
        for disk in self.disks:
            (CLASS / "add_path").write_text(f"device=/dev/{disk} wwid=failover\n")
        self.head = next(
            head for head in pathlib.Path("/sys/block").glob("rmpath*")
            if (head / "rmpath/wwid").read_text().strip() == "failover"
        )
        self.states = sorted(self.head.glob("rmpath/path*/state"))
        return f"/dev/{self.head.name}"

    def fail(self):
        for state in self.states:
            state.write_text("failed\n")

    def restoring(self):
        state = os.open(self.states[0], os.O_WRONLY)
        return lambda: os.write(state, b"optimized\n"), state

    def take_down(self):
        delete_head(self.head)


def failover(system):
    """One of the paths has a bad block: how much longer the read takes that comes to it first."""
    fd = os.open(system.set_up(), os.O_RDONLY | os.O_DIRECT)
    try:
        for _ in range(8):
            timed_read(fd, 0)
        usual = statistics.median(timed_read(fd, 0)[1] for _ in range(9))
        # Each in turn, so one of two comes to it.
        return max(timed_read(fd)[1] for _ in range(2)) - usual
    finally:
        os.close(fd)
        system.take_down()


def back(system):
    """Both paths have failed, a read waits, one is brought back: how long from the start of that to the end of the read."""
    fd = os.open(system.set_up(), os.O_RDONLY | os.O_DIRECT)
    try:
        timed_read(fd, 0)
        system.fail()
        ended = begin(lambda: timed_read(fd, 0)[0])
        if select.select([ended], [], [], 1)[0]:
            sys.exit("failover: error: nothing waits")
        restore, used = system.restoring()
        start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        restore()
        took = number_of(ended) - start
        os.close(used)
        return took
    finally:
        os.close(fd)
        system.take_down()


def main():
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
        return
    disks = sys.argv[1:]
    quiet()
    systems = (Map("multipath", disks), Map("rmpath", disks), Head(disks))
    blocks = pathlib.Path(f"/sys/kernel/config/nullb/{disks[0]}/badblocks")
    blocks.write_text(f"+{PLACE >> 9}-{(PLACE >> 9) + 7}")
    for system in systems:
        print(f"{system.name}: to the other path\t{statistics.median(failover(system) for _ in range(TRIES)):.0f}")
    blocks.write_text(f"-{PLACE >> 9}-{(PLACE >> 9) + 7}")
    for system in systems:
        print(f"{system.name}: when one is back\t{statistics.median(back(system) for _ in range(TRIES)):.0f}")


main()
