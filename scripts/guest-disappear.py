#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""guest-disappear.py native|multipath|rmpath|head NQN: the part of bench.sh that measures for how long I/O stands still when a
controller is deleted, and how long a read that waits takes when one is connected again, over nvme-loop's ports 1 and 2.

It runs in the VM, where a nanosecond is an instruction, with the modules loaded, both ports connected, and native
multipath on or off as it has to be. Prints "NAME: WHAT<tab>NANOSECONDS" for each, the median of several tries: the longest
time between two reads of many that are done one after the other while the one controller goes; and, where nobody has to
make a new table for it, the time from the beginning of the connecting to the end of the read.
"""

import mmap
import os
import pathlib
import re
import select
import statistics
import sys
import time

from standstill import NAMES, begin, delete_head, dmioctl, make_map, now, number_of, quiet

TRIES = 5
CLASS = pathlib.Path("/sys/class/rmpath")


def settle():
    """What is under way in the background is done by then, and it takes no instructions to wait for that."""
    time.sleep(3)


def controller(port):
    """The controller that is connected to the port."""
    for path in pathlib.Path("/sys/class/nvme").glob("nvme*"):
        if (path / "address").read_text().strip() == f"traddr={port}":
            return path
    return None


def disconnect(port):
    (controller(port) / "delete_controller").write_text("1\n")


def connect(nqn, port):
    fd = os.open("/dev/nvme-fabrics", os.O_RDWR)
    os.write(fd, f"transport=loop,nqn={nqn},traddr={port}".encode())
    os.close(fd)


def path_disk(port):
    """The name of the disk behind the port, where each port has its own."""
    return next(controller(port).glob("nvme*n*")).name


class System:
    """What stands on both ports."""

    def __init__(self, kind, nqn):
        self.kind, self.nqn = kind, nqn
        self.name = NAMES[kind]
        self.returns = kind in ("native", "head")

    def set_up(self):
        """Returns the node of the disk. One that has no path is to wait for one."""
        for port in (1, 2):
            if controller(port) is None:
                connect(self.nqn, port)
        settle()
        if self.kind == "native":
            (self.native() / "delayed_removal_secs").write_text("600\n")
            return f"/dev/{self.native().name}"
        disks = [path_disk(port) for port in (1, 2)]
        if self.kind == "head":
            (CLASS / "add_path").write_text(f"device=/dev/{disks[0]}\n")
            settle()
            # Unless the other one has joined by itself.
            if not any(pathlib.Path("/sys/block").glob(f"rmpath*/slaves/{disks[1]}")):
                (CLASS / "add_path").write_text(f"device=/dev/{disks[1]}\n")
            head = next(pathlib.Path("/sys/block").glob("rmpath*"))
            (head / "rmpath/delayed_removal_secs").write_text("600\n")
            return f"/dev/{head.name}"
        return make_map("disappear", self.kind, disks)

    @staticmethod
    def native():
        """Native multipath's disk; those of its paths are there as well, hidden."""
        return next(d for d in pathlib.Path("/sys/block").iterdir() if re.fullmatch(r"nvme\d+n1", d.name))

    def take_down(self):
        if self.kind == "native":
            # Or the next time that it has no path would hold its module.
            (self.native() / "delayed_removal_secs").write_text("0\n")
        elif self.kind == "head":
            delete_head(next(pathlib.Path("/sys/block").glob("rmpath*")))
        else:
            dmioctl.remove("disappear")


def gone(system):
    """For how long nothing is read when a controller goes."""
    fd = os.open(system.set_up(), os.O_RDONLY | os.O_DIRECT)
    stopped, stop = os.pipe()

    def longest():
        buffer = mmap.mmap(-1, 4096)
        os.preadv(fd, [buffer], 0)
        last, gap = now(), 0
        while not select.select([stopped], [], [], 0)[0]:
            os.preadv(fd, [buffer], 0)
            this = now()
            last, gap = this, max(gap, this - last)
        return gap

    result = begin(longest)
    time.sleep(0.1)
    disconnect(1)
    time.sleep(0.1)
    os.write(stop, b"x")
    took = number_of(result)
    for used in (fd, stopped, stop):
        os.close(used)
    system.take_down()
    return took


def back(system):
    """Both controllers are gone, a read waits, one is connected: how long until it is done."""
    fd = os.open(system.set_up(), os.O_RDONLY | os.O_DIRECT)
    disconnect(1)
    disconnect(2)

    def done():
        os.preadv(fd, [mmap.mmap(-1, 4096)], 0)
        return now()

    result = begin(done)
    if select.select([result], [], [], 1)[0]:
        sys.exit("disappear: error: nothing waits")
    start = now()
    connect(system.nqn, 1)
    took = number_of(result) - start
    os.close(fd)
    settle()
    system.take_down()
    return took


def main():
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
        return
    quiet()
    system = System(*sys.argv[1:])
    print(f"{system.name}: a controller goes\t{statistics.median(gone(system) for _ in range(TRIES)):.0f}")
    if system.returns:
        print(f"{system.name}: and one is back\t{statistics.median(back(system) for _ in range(TRIES)):.0f}")


main()
