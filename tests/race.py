#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does many things to rmpath at once, as fast as it can: race.py SECS JOB...

Each job runs in a thread of its own until the time is up. What a request answers does not matter here, only that it
answers; the counts are printed. Exit status 1 when a thread does not come back, or ends before.

    toggle DISK WWID        remove the path and add it, by the class attributes; WWID - for none
    folder HEAD DISK        the same, removing it by its own folder
    states HEAD DISK        write each state
    secs HEAD VALUE...      write delayed_removal_secs, in both places
    set HEAD FILE VALUE...  write an attribute of the head
    read                    read every attribute of every head and path
    open NODE               open, read a block, close
    ioctl NODE              open, ask for the geometry, the SCSI bus and the reservation's holder, close
    head DISK DISK WWID     make a head of two paths and let it go in all ways
    brief DISK WWID         make a head of one path, let it go in each way, and leave a while without one
    flip MAP DISK           fail and reinstate a path of a map
    map MAP DISK            fail and reinstate a path of a map, and have I/O wait for paths or not
    rescan HOST             delete the disk of scsi_debug's host of that number, and have it found again
    table MAP DISK          make a map of one path, load another table, and remove it
    rmmod                   try to unload the module
    reload FILE             the same, and load it again from there if that succeeds
"""

import collections
import errno
import fcntl
import itertools
import os
import pathlib
import random
import sys
import threading
import time

import dmioctl
import ioctls
import kmod
from waiting import PATIENCE

CLASS = "/sys/class/rmpath/"
BLOCK = pathlib.Path("/sys/block")
HDIO_GETGEO = 0x301
SCSI_IOCTL_GET_BUS_NUMBER = 0x5386


def put(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)


def path_folder(head, disk):
    for link in BLOCK.joinpath(head, "rmpath").glob("path*/device"):
        if os.readlink(link).rpartition("/")[2] == disk:
            return link.parent
    raise OSError(errno.ENOENT, "no such path")


def spec(disk, wwid):
    return f"device=/dev/{disk}" + ("" if wwid == "-" else f" wwid={wwid}")


class Race:
    """What all the threads share."""

    def __init__(self, secs):
        self.end = time.monotonic() + secs
        self.seen = collections.Counter()

    def attempt(self, job, call, *args):
        try:
            call(*args)
            result = "OK"
        except OSError as err:
            result = errno.errorcode.get(err.errno, str(err.errno))
        self.seen[f"{job} {result}"] += 1
        return result == "OK"

    def run(self, words):
        job = " ".join(words)
        step = getattr(self, "job_" + words[0])
        for turn in itertools.count():
            if time.monotonic() >= self.end:
                break
            try:
                step(job, turn, *words[1:])
            except OSError as err:
                # What it was about to look at has gone.
                self.seen[f"{job}: on its way {errno.errorcode.get(err.errno, err.errno)}"] += 1

    def job_toggle(self, job, _turn, disk, wwid):
        self.attempt(job + ": remove", put, CLASS + "remove_path", f"device=/dev/{disk}")
        self.attempt(job + ": add", put, CLASS + "add_path", spec(disk, wwid))

    def job_folder(self, job, turn, head, disk):
        self.attempt(job + ": delete", lambda: put(path_folder(head, disk) / "delete", 1))
        state = ("optimized", "non-optimized", "inaccessible")[turn % 3]
        self.attempt(job + ": add", put, CLASS + "add_path", f"device=/dev/{disk} state={state}")

    def job_states(self, job, turn, head, disk):
        state = ("failed", "optimized", "inaccessible", "non-optimized")[turn % 4]
        self.attempt(job, lambda: put(path_folder(head, disk) / "state", state))

    def job_secs(self, job, turn, head, *values):
        place = ("rmpath/", "")[turn % 2]
        self.attempt(job, put, BLOCK / head / (place + "delayed_removal_secs"), values[turn % len(values)])

    def job_set(self, job, turn, head, file, *values):
        self.attempt(job, put, BLOCK / head / "rmpath" / file, values[turn % len(values)])

    def job_read(self, job, _turn):
        for pattern in ("rmpath*/rmpath/*", "rmpath*/rmpath/path*/*", "rmpath*/slaves/*/size", "rmpath*/delayed*"):
            for path in BLOCK.glob(pattern):
                if not path.is_dir():
                    self.attempt(job, path.read_bytes)

    def job_open(self, job, _turn, node):
        def look():
            fd = os.open(node, os.O_RDONLY)
            try:
                os.pread(fd, 4096, 0)
            finally:
                os.close(fd)

        self.attempt(job, look)

    def job_ioctl(self, job, turn, node):
        def ask():
            # Nobody waits for a path.
            fd = os.open(node, os.O_RDONLY | os.O_NONBLOCK)
            try:
                number = (HDIO_GETGEO, SCSI_IOCTL_GET_BUS_NUMBER, ioctls.IOC_PR["holder"])[turn % 3]
                fcntl.ioctl(fd, number, bytearray(16))
            finally:
                os.close(fd)

        self.attempt(job, ask)

    def job_head(self, job, turn, first, second, wwid):
        for disk in (first, second):
            self.attempt(job + ": add", put, CLASS + "add_path", spec(disk, wwid))
        for head in BLOCK.glob("rmpath*"):
            try:
                if (head / "rmpath/wwid").read_text().strip() != wwid:
                    continue
            except OSError:
                continue
            secs = head / "delayed_removal_secs"
            way = turn % 4
            if way == 0:
                self.attempt(job + ": delete", put, head / "rmpath/delete", 1)
                continue
            self.attempt(job + ": secs", put, secs, (0, 0, 1, 2000)[way])
            for disk in (first, second):
                self.attempt(job + ": remove", put, CLASS + "remove_path", f"device=/dev/{disk}")
            time.sleep(random.random() * (0, 0, 1.2, 0.1)[way])
            self.attempt(job + ": secs", put, secs, 0)

    def job_flip(self, job, turn, name, disk):
        word = ("fail", "reinstate")[turn % 2]
        self.attempt(f"{job}: {word}", dmioctl.message, name, f"{word}_path /dev/{disk}")
        # Each is an event, and the next test waits until udev has seen them all.
        time.sleep(random.random() * 0.02)

    def job_brief(self, job, turn, disk, wwid):
        self.attempt(job + ": add", put, CLASS + "add_path", spec(disk, wwid))
        if turn % 2:
            self.attempt(job + ": remove", put, CLASS + "remove_path", f"device=/dev/{disk}")
        else:
            for head in BLOCK.glob("rmpath*"):
                self.attempt(job + ": delete", put, head / "rmpath/delete", 1)
        while any(BLOCK.glob("rmpath*")) and time.monotonic() < self.end:
            time.sleep(0.01)
        # Its last reference is about to go; whoever waits for that has its chance.
        time.sleep(0.3)

    def job_map(self, job, turn, name, disk):
        path = f"_path /dev/{disk}"
        text = ("fail" + path, "queue_if_no_path", "reinstate" + path, "fail" + path, "reinstate" + path)[turn % 5]
        self.attempt(job, dmioctl.message, name, text)
        time.sleep(random.random() * 0.1)

    def job_rescan(self, job, _turn, number):
        host, *_ = pathlib.Path(f"/sys/bus/pseudo/drivers/scsi_debug/adapter{number}").glob("host*")
        for delete in host.glob("target*/*/delete"):
            self.attempt(job + ": delete", put, delete, 1)
        self.attempt(job + ": scan", put, f"/sys/class/scsi_host/{host.name}/scan", "- - -")
        time.sleep(0.5)

    def job_table(self, job, _turn, name, disk):
        table = f"1 queue_if_no_path 0 1 1 round-robin 0 1 0 /dev/{disk}"
        self.attempt(job + ": create", dmioctl.create, name)
        for _ in range(2):
            self.attempt(job + ": load", dmioctl.load, name, 32768, "rmpath", table)
            self.attempt(job + ": resume", dmioctl.resume, name)
        self.attempt(job + ": remove", dmioctl.remove, name)

    def job_rmmod(self, job, _turn):
        self.attempt(job, kmod.unload)
        time.sleep(0.05)

    def job_reload(self, job, _turn, file):
        if self.attempt(job, kmod.unload):
            fd = os.open(file, os.O_RDONLY)
            self.attempt(job + ": load", kmod.load, fd)
            os.close(fd)


def main():
    race = Race(float(sys.argv[1]))
    broken = []
    threading.excepthook = lambda args: broken.append(args) or threading.__excepthook__(args)
    threads = [threading.Thread(target=race.run, args=(job.split(),), name=job, daemon=True) for job in sys.argv[2:]]
    for thread in threads:
        thread.start()
    limit = race.end + 300 * PATIENCE
    for thread in threads:
        thread.join(max(0, limit - time.monotonic()))
    for what, count in sorted(race.seen.items()):
        print(f"{count:7} {what}")
    stuck = [thread.name for thread in threads if thread.is_alive()]
    for name in stuck:
        print("stuck:", name)
    sys.stdout.flush()
    os._exit(1 if stuck or broken else 0)


if __name__ == "__main__":
    main()
