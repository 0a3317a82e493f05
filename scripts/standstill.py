# SPDX-License-Identifier: GPL-2.0
"""What guest-failover.py and guest-disappear.py share: both measure for how long I/O stands still."""

import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import dmioctl  # noqa: E402

NAMES = {
    "native": "native",
    "multipath": "dm-multipath, bio",
    "rmpath": "rmpath target",
    "head": "rmpath head",
}


def now():
    """Nanoseconds, which are instructions here."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def quiet():
    """Who hears of the events would run in between, and a line on the console takes longer than all that is measured."""
    subprocess.run(["udevadm", "control", "--exit"], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["dmesg", "-n", "1"], check=True)


def make_map(name, kind, disks):
    """A map of that target, over these disks in turns, whose I/O waits for a path; its node."""
    dmioctl.create(name)
    sectors = int(pathlib.Path(f"/sys/block/{disks[0]}/size").read_text())
    paths = " ".join(f"/dev/{disk} 1" for disk in disks)
    table = f"3 queue_if_no_path queue_mode bio 0 1 1 round-robin 0 {len(disks)} 1 {paths}"
    dmioctl.load(name, sectors, kind, table)
    dmioctl.resume(name)
    return dmioctl.node(name)


def delete_head(head):
    """Has the head of this folder in /sys/block go, and waits until it has."""
    (head / "rmpath/delete").write_text("1\n")
    while head.exists():
        time.sleep(0.1)


def begin(body):
    """Has it make a number in a process of its own, for of two threads one may have to wait for the interpreter; the pipe
    that the number comes from."""
    result, end = os.pipe()
    if os.fork() == 0:
        try:
            os.write(end, b"%d" % body())
        finally:
            os._exit(0)
    os.close(end)
    return result


def number_of(result):
    """The number, when it has come."""
    number = os.read(result, 32)
    os.close(result)
    os.wait()
    if not number:
        sys.exit("error: a read has failed")
    return int(number)
