#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""System calls on request, each answered by one line: OK, an errno's name, or what was read.

The shell hides errno and cannot hold a write that is waiting; the tests need both. Commands come from
the arguments, one each, or else line by line from standard input:

    echo FILE TEXT...        one write(2) of TEXT and a newline to FILE
    put FILE HEX             one write(2) of these bytes
    random FILE SEED LEN     one write(2) of LEN bytes that SEED determines
    failnth N FILE TEXT...   as echo, while the task's Nth allocation from then on fails; says UNTOUCHED behind the
                             answer when it did not get that far, and before that how far it did
    faildm N WHAT MAP ...    the same for a dm command
    failload N FILE [PARAM ...]   the same for loading the module from there
    unload                   unload it
    open DEV [ro] [excl] [buffered] [nonblock]   open DEV (O_DIRECT unless buffered) and keep it
    read OFF LEN             read from the open device
    write OFF LEN SEED       write the bytes that SEED determines
    verify OFF LEN SEED      read, and say MISMATCH if they are not those
    zero OFF LEN             read, and say MISMATCH if they are not all zero
    fsync                    flush the open device
    nowait OFF LEN           read with RWF_NOWAIT
    atomic OFF LEN SEED      write with RWF_ATOMIC
    close                    close it
    cpu N                    run there from now on
    ioctl NUMBER [HEX]       on the open device: its result, and the buffer after it
    ioctl32 NUMBER [HEX]     the same as a program of 32 bits would
    inquiry PAGE             vital product data, by SG_IO
    pr WHAT ...              persistent reservations (see ioctls.py); generation
    repeat SECS CMD...       a command over and over: which answers came, with their counts
    listen, heard HEAD       uevents of a head
    keep FILE, reread, let_go  a file that stays open
    opens DEV SECS           open and close DEV for so long, or a second more after it has failed; says which results came,
                             with their counts
    dm WHAT MAP ...          create, load LEN TARGET PARAMS..., clear, suspend [noflush], resume, message WORD..., table,
                             status, remove
    paths HEAD               the disks that are its paths, in order
    openers [PREFIX ...]     the processes that have a node open that begins so (one of a head), and that node
    stuck                    the tasks in uninterruptible sleep, each with what it waits in
    snapshot                 all heads and paths and their settings, and the module's references
    mark                     forget what the kernel has logged so far
    log TEXT                 the lines with TEXT that it has logged since then: their number, and they, joined by |
"""

import errno
import mmap
import os
import pathlib
import random
import re
import sys
import time

import dmioctl
import ioctls
import kmod

# Where a number has two names.
NAMES = {**errno.errorcode, errno.EOPNOTSUPP: "EOPNOTSUPP", errno.EAGAIN: "EAGAIN"}

# include/uapi/linux/fs.h; Python has no name for it.
RWF_ATOMIC = 0x40


def pattern(seed, length):
    """The bytes that a seed stands for."""
    return random.Random(int(seed)).randbytes(length)


def stuck():
    """The tasks in uninterruptible sleep, a line each with the functions they are in."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*/task/[0-9]*"):
        try:
            name, _, fields = (folder / "stat").read_text().rpartition(")")
            if fields.split()[0] == "D":
                frames = re.findall(r"^\S+ ([^+\s]+)", (folder / "stack").read_text(), re.M)
                found.append(f"{name}): " + " < ".join(frames))
        except OSError:
            continue  # It has ended.
    return found


class Session(ioctls.Commands):
    """One open device and the commands on it."""

    def __init__(self):
        self.fd = -1
        self.kmsg = -1
        self.logged = []

    @staticmethod
    def _put(path, data):
        # Unbuffered: exactly one write(2), and its errno.
        fd = os.open(path, os.O_WRONLY)
        try:
            done = os.write(fd, data)
        finally:
            os.close(fd)
        return "OK" if done == len(data) else f"SHORT {done}"

    def do_echo(self, path, *words):
        return self._put(path, " ".join(words).encode("utf-8", "surrogateescape") + b"\n")

    def do_put(self, path, data=""):
        return self._put(path, bytes.fromhex(data))

    def do_random(self, path, seed, length):
        return self._put(path, pattern(seed, int(length)))

    @staticmethod
    def _failing(nth, action):
        """What an action ends with whose Nth allocation fails."""
        control = os.open("/proc/thread-self/fail-nth", os.O_RDWR)
        try:
            os.write(control, nth.encode())
            try:
                action()
                result = "OK"
            except OSError as err:
                result = NAMES[err.errno]
            left = os.pread(control, 32, 0)
            os.write(control, b"0")
        finally:
            os.close(control)
        return result if int(left) == 0 else f"{result} {int(nth) - int(left)} UNTOUCHED"

    def do_failnth(self, nth, path, *words):
        data = " ".join(words).encode() + b"\n"
        fd = os.open(path, os.O_WRONLY)
        try:
            return self._failing(nth, lambda: os.write(fd, data))
        finally:
            os.close(fd)

    def do_faildm(self, nth, what, name, *words):
        return self._failing(nth, lambda: self.do_dm(what, name, *words))

    def do_failload(self, nth, path, *params):
        fd = os.open(path, os.O_RDONLY)
        try:
            return self._failing(nth, lambda: kmod.load(fd, " ".join(params)))
        finally:
            os.close(fd)

    def do_unload(self):
        kmod.unload()
        return "OK"

    def do_open(self, path, *options):
        flags = os.O_RDONLY if "ro" in options else os.O_RDWR
        if "excl" in options:
            flags |= os.O_EXCL
        if "buffered" not in options:
            flags |= os.O_DIRECT
        if "nonblock" in options:
            flags |= os.O_NONBLOCK
        if self.fd >= 0:
            self.do_close()
        self.fd = os.open(path, flags)
        return "OK"

    def _read(self, off, length, flags=0):
        # Anonymous memory is page aligned, as O_DIRECT wants it.
        buf = mmap.mmap(-1, int(length))
        got = os.preadv(self.fd, [buf], int(off), flags)
        return buf[:got]

    def do_read(self, off, length):
        data = self._read(off, length)
        return "OK" if len(data) == int(length) else f"SHORT {len(data)}"

    def do_nowait(self, off, length):
        data = self._read(off, length, os.RWF_NOWAIT)
        return "OK" if len(data) == int(length) else f"SHORT {len(data)}"

    def do_verify(self, off, length, seed):
        return "OK" if self._read(off, length) == pattern(seed, int(length)) else "MISMATCH"

    def do_zero(self, off, length):
        return "OK" if self._read(off, length) == bytes(int(length)) else "MISMATCH"

    def do_write(self, off, length, seed):
        buf = mmap.mmap(-1, int(length))
        buf[:] = pattern(seed, int(length))
        done = os.pwritev(self.fd, [buf], int(off))
        return "OK" if done == int(length) else f"SHORT {done}"

    def do_atomic(self, off, length, seed):
        buf = mmap.mmap(-1, int(length))
        buf[:] = pattern(seed, int(length))
        done = os.pwritev(self.fd, [buf], int(off), RWF_ATOMIC)
        return "OK" if done == int(length) else f"SHORT {done}"

    def do_fsync(self):
        os.fsync(self.fd)
        return "OK"

    def do_close(self):
        fd, self.fd = self.fd, -1
        os.close(fd)
        return "OK"

    @staticmethod
    def do_cpu(number):
        os.sched_setaffinity(0, {int(number)})
        return "OK"

    def do_opens(self, path, secs):
        seen = {}
        end = time.monotonic() + float(secs)
        while time.monotonic() < end:
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                result = "OK"
            except OSError as err:
                result = NAMES[err.errno]
                if result not in seen:
                    end = min(end, time.monotonic() + 1)
            seen[result] = seen.get(result, 0) + 1
        return " ".join(f"{k}={v}" for k, v in sorted(seen.items()))

    @staticmethod
    def do_dm(what, name, *words):
        if what in ("table", "status"):
            return dmioctl.lines(name, dmioctl.STATUS_TABLE if what == "table" else 0)
        if what == "message":
            words = (" ".join(words),)
        elif what == "load":
            words = (*words[:2], " ".join(words[2:]))
        getattr(dmioctl, what)(name, *words)
        return "OK"

    @staticmethod
    def _text(path):
        try:
            return path.read_text().strip()
        except OSError:
            return "none"

    @staticmethod
    def _path_folders(head):
        """Name and folder of each path of a head."""
        folders = pathlib.Path("/sys/block", head, "rmpath").glob("path*/device")
        return sorted((f.resolve().name, f.parent) for f in folders)

    def do_paths(self, head):
        return " ".join(name for name, _ in self._path_folders(head))

    def do_openers(self, *prefixes):
        prefixes = prefixes or ("/dev/rmpath",)
        found = []
        for fd in pathlib.Path("/proc").glob("[0-9]*/fd/*"):
            try:
                node = os.readlink(fd)
            except OSError:
                continue  # It has ended.
            if node.startswith(prefixes):
                found.append(f"{self._text(fd.parents[1] / 'comm')} has {node}")
        return "; ".join(found) or "nobody"

    @staticmethod
    def do_stuck():
        return "; ".join(stuck()) or "nobody"

    def do_snapshot(self):
        # Whoever looks for partitions just now is soon done.
        refcnt = pathlib.Path("/sys/module/rmpath/refcnt")
        before = self._text(refcnt)
        parts = self._heads()
        while (now := self._text(refcnt)) != before:
            before, parts = now, self._heads()
        return "; ".join(["refcnt " + now] + parts)

    def _heads(self):
        parts = []
        for head in sorted(pathlib.Path("/sys/block").glob("rmpath*")):
            files = ["rmpath/state", "rmpath/wwid", "size", "rmpath/delayed_removal_secs", "rmpath/iopolicy"]
            parts.append(" ".join([head.name] + [self._text(head / f) for f in files]))
            parts += [f"{name} {self._text(folder / 'state')}" for name, folder in self._path_folders(head.name)]
        return parts

    def do_mark(self):
        if self.kmsg < 0:
            self.kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.kmsg, 0, os.SEEK_END)
        self.logged = []
        return "OK"

    def do_log(self, *words):
        while True:
            try:
                record = os.read(self.kmsg, 8192)
            except OSError as err:
                if err.errno == errno.EPIPE:  # overwritten before it was read
                    continue
                if err.errno == errno.EAGAIN:
                    break
                raise
            self.logged.append(record.decode("utf-8", "replace").partition(";")[2].split("\n")[0])
        lines = [line for line in self.logged if " ".join(words) in line]
        return "|".join([str(len(lines))] + lines)

    def run(self, line):
        """Carries out one command line and returns its answer."""
        name, *args = line.split(" ")
        try:
            return getattr(self, "do_" + name)(*args)
        except OSError as err:
            return NAMES[err.errno]


def main():
    # The shell's ends of other servers' pipes: held here, they would keep those from seeing that theirs are closed.
    os.closerange(3, 256)
    session = Session()
    for line in sys.argv[1:] or sys.stdin:
        print(session.run(line.rstrip("\n")), flush=True)


if __name__ == "__main__":
    main()
