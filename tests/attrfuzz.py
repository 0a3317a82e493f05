#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Writes with mistakes in them to every attribute of rmpath that can be written: class, head and path.

    attrfuzz.py SEED COUNT FIRST SECOND FREE...

Makes a head of the disks FIRST and SECOND; the FREE ones are there to be added. The attributes are found by their
modes, so that new ones are written to as well. Each write is answered by OK or an errno that its kind of attribute may
give. What is refused changes nothing; what is taken is shown as it was written, and changes nothing else. What a write
has removed or added is put in order again. Prints a line "ok WHAT" or "not ok WHAT" for each kind of check, and what
the answers were.
"""

import collections
import errno
import os
import pathlib
import re
import sys
import time

import dmfuzz
from waiting import PATIENCE, attempt, wait_until

CLASS = pathlib.Path("/sys/class/rmpath")
BLOCK = pathlib.Path("/sys/block")
REFERENCES = pathlib.Path("/sys/module/rmpath/refcnt")
WWID = "fuzz"
SETTING = {"OK", "EINVAL", "ERANGE"}
LINE = SETTING | {
    "E2BIG", "EBUSY", "EEXIST", "ELOOP", "EACCES", "ENAMETOOLONG", "ENODATA", "ENODEV", "ENOENT", "ENOTBLK", "ENOTDIR",
    "ENXIO", "EROFS",
}  # fmt: skip
# What an attribute takes, by its name; those that are not here take numbers.
WORDS = {
    "state": ("optimized", "non-optimized", "inaccessible", "failed"),
    "iopolicy": ("numa", "round-robin", "queue-depth", "service-time", "historical-service-time"),
    "delete": ("1",),
    "rescan": ("1",),
}
NUMBERS = (*range(12), 20, 99, 100, 101, 500, 999, 1000, 1001, 3600, 60000, 65536, 2**31, 2**32 - 1, 2**32, 2**64)
# These add and remove.
CHANGES = {"add_path", "remove_path", "delete"}
# Between two looks at everything; what is written to is looked at each time.
LOOK = 32


def number(text):
    """As kstrtouint(text, 0) reads it."""
    digits = text.strip().removeprefix("+").lower()
    if digits.startswith("0x"):
        return int(digits, 16)
    return int(digits, 8 if digits.startswith("0") else 10)


def writable(folder):
    """Its attributes that can be written."""
    return sorted(f.name for f in folder.iterdir() if f.is_file() and f.stat().st_mode & 0o200 and f.name != "uevent")


class Writes(dmfuzz.Fuzzer):
    """Makes up what is written."""

    def line(self):
        """For add_path and remove_path."""
        pick = self.random
        words = [f"device=/dev/{pick.choice(self.disks)}"]
        if self.chance(0.7):
            words.append("wwid=" + pick.choice((WWID, WWID, "other", "x" * 127)))
        if self.chance(0.4):
            words.append("state=" + pick.choice(WORDS["state"]))
        if self.chance(0.4):
            words.append(f"weight={pick.choice(NUMBERS)}")
        pick.shuffle(words)
        if self.chance(0.5):
            # Within a word.
            at = pick.randrange(len(words))
            key, _, value = words[at].partition("=")
            words[at] = pick.choice((f"{value}={key}", f"{key}={pick.choice(dmfuzz.NASTY)}", f"{key}{value}", key + "="))
        return words

    def text(self, name):
        pick = self.random
        if name == "remove_path":
            words = [f"device=/dev/{pick.choice(self.disks)}"] if self.chance(0.6) else self.line()
        elif name == "add_path":
            words = self.line()
        elif name in WORDS:
            words = [pick.choice(WORDS[name])]
        else:
            words = [str(pick.choice(NUMBERS))]
        right = list(words)
        line = self.wrong(words)
        if name in CHANGES and line.split() == right and not self.chance(0.1):
            # It takes a hundred times as long to put in order again what a right one has done.
            return self.text(name)
        return line

    def bytes_for(self, name):
        """One write: never empty, never more than a page."""
        pick = self.random
        if self.chance(0.02):
            return pick.randbytes(pick.choice((1, 2, 7, 100, 1023, 1024, 4096)))
        data = bytearray(self.text(name).encode())
        if self.chance(0.2):
            at = pick.randrange(len(data) + 1)
            kind = pick.randrange(3)
            if kind == 0:
                data[at:at] = pick.choice((b"\0", b"\n", b"\x1b", b"\xff\xfe", b"\t", b" "))
            elif kind == 2 and at < len(data):
                data[at] ^= 1 << pick.randrange(8)
            elif data:
                data *= pick.randrange(2, 5)
        if self.chance(0.9):
            data += b"\n"
        return bytes(data[:4096]) or b"\n"


class System:
    """The head, its two paths, and what all of it is set to."""

    def __init__(self, first, second):
        self.names = (first, second)
        self.fds = {}
        self.class_files = writable(CLASS)
        self.build()

    # --- Put in order ------------------------------------------------------------------------------------------------

    @staticmethod
    def put(path, text):
        fd = os.open(path, os.O_WRONLY)
        try:
            return os.write(fd, text if isinstance(text, bytes) else text.encode())
        finally:
            os.close(fd)

    @staticmethod
    def heads():
        return {h: read(h / "rmpath/wwid") for h in BLOCK.glob("rmpath*")}

    def paths(self):
        """The folder of each path, by its disk."""
        return {os.readlink(f).rpartition("/")[2]: f.parent for f in self.folder.glob("path*/device")}

    def build(self):
        """One head and its two paths, whatever is there; all else goes."""
        wait_until("there is one head with its two paths", self.built)

    def built(self):
        """Whether that was reached: what a write has begun may still be going on, and take a head or a path away."""
        try:
            self.put_in_order()
        except (FileNotFoundError, BlockingIOError, StopIteration):
            return False
        except OSError as err:
            # The disk is not closed yet.
            if err.errno != errno.EBUSY:
                raise
            return False
        return True

    def put_in_order(self):
        keep = None
        for head, wwid in self.heads().items():
            if wwid == WWID and read(head / "rmpath/state") == "live":
                keep = head
                continue
            # It may go by itself meanwhile.
            attempt(self.put, head / "rmpath/delete", "1")
            wait_until(f"{head.name} is gone", lambda head=head: not head.exists())
        if keep is None:
            self.put(CLASS / "add_path", f"device=/dev/{self.names[0]} wwid={WWID}")
            keep = next(h for h, wwid in self.heads().items() if wwid == WWID)
        self.head, self.folder = keep, keep / "rmpath"
        for disk, folder in self.paths().items():
            if disk not in self.names or read(folder / "state") == "dead":
                attempt(self.put, folder / "delete", "1")
                wait_until(f"{disk} is no path", lambda disk=disk: disk not in self.paths())
        for disk in self.names:
            if disk not in self.paths():
                self.put(CLASS / "add_path", f"device=/dev/{disk} wwid={WWID}")
        wait_until("one head is one reference", lambda: read(REFERENCES) == "1")
        self.find()

    def find(self):
        """Where everything is, and what it says."""
        self.files = [CLASS / name for name in self.class_files] + [self.head / "delayed_removal_secs"]
        for folder in (self.folder, *self.paths().values()):
            self.files += [folder / name for name in writable(folder)]
        # Opened once: that is most of the time that a write takes.
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}
        for path in self.files:
            mode = path.stat().st_mode
            self.fds[path] = os.open(path, os.O_RDWR if mode & 0o400 else os.O_WRONLY)
        # Counters may count meanwhile.
        self.readable = [f for f in self.files if f.stat().st_mode & 0o400 and not f.name.endswith("_count")]
        # A new disk is looked through for partitions, which takes a reference for a moment.
        self.expected = self.look() | {"refs": "1"}

    def write(self, path, data):
        os.pwrite(self.fds[path], data, 0)

    def read(self, path):
        """What an attribute shows, or the name of the errno."""
        try:
            return os.pread(self.fds[path], 4096, 0).decode().strip()
        except OSError as err:
            return errno.errorcode[err.errno]

    # --- Look --------------------------------------------------------------------------------------------------------

    def shape(self):
        """The heads, the paths and the references."""
        heads = [name for name in os.listdir(BLOCK) if name.startswith("rmpath")]
        paths = [name for name in os.listdir(self.folder) if name.startswith("path")] if heads else []
        return {"heads": sorted(heads), "paths": sorted(paths), "refs": read(REFERENCES)}

    def look(self):
        return {f: self.read(f) for f in self.readable} | self.shape()

    def differences(self):
        """What is not as it is expected. A node that is being closed may still hold a reference."""
        end = time.monotonic() + 30 * PATIENCE
        while (now := self.look()) != self.expected and now["refs"] != self.expected["refs"]:
            if time.monotonic() > end:
                break
            time.sleep(0.01)
        names = now.keys() | self.expected.keys()
        return [f"{n}: {self.expected.get(n)!r} -> {now.get(n)!r}" for n in names if now.get(n) != self.expected.get(n)]


def read(path):
    """What an attribute shows, or the name of the errno."""
    try:
        return path.read_text().strip()
    except OSError as err:
        return errno.errorcode[err.errno]


def kind_of(path):
    """The same attribute of every path is one."""
    return re.sub(r"^.*/rmpath\d+", "head", re.sub(r"/path\d+/", "/pathM/", str(path))).replace(str(CLASS), "class")


def shown_write(write):
    path, data, answer = write
    return f"{kind_of(path)} {data[:120]!r}: {answer}"


def as_shown(data, shown):
    """Whether an attribute shows what it has been given."""
    text = data.decode("ascii").strip()
    return number(text) == int(shown) if shown.isdigit() else text == shown


def is_order(path, data):
    """Whether it is a word that an attribute takes which shows nothing."""
    return path.name not in WORDS or data.decode("ascii", "replace").strip() in WORDS[path.name]


class Run:
    """All the writes."""

    def __init__(self, seed, count, system, disks):
        self.writes, self.count, self.system = Writes(seed, disks), count, system
        self.answers = collections.defaultdict(collections.Counter)
        self.unnamed, self.changed, self.misread = [], [], []
        self.recent = collections.deque(maxlen=LOOK)
        self.refused = self.taken = self.looks = self.rebuilt = 0

    def write(self):
        system = self.system
        path = self.writes.random.choice(system.files)
        # Lines have most to be wrong in them.
        if self.writes.chance(0.3):
            path = CLASS / self.writes.random.choice(("add_path", "remove_path"))
        data = self.writes.bytes_for(path.name)
        answer = attempt(system.write, path, data)
        self.answers[path][answer] += 1
        self.recent.append((path, data, answer))
        line = path.name in ("add_path", "remove_path")
        if answer not in (LINE if line else SETTING):
            self.unnamed.append(self.last())
        if answer == "OK" and path not in system.readable and not is_order(path, data):
            self.misread.append(self.last())
        if answer == "OK" and (line or path.name == "delete"):
            self.rebuilt += 1
            self.look(before_it_changed=path)
            system.build()
        elif path in system.readable:
            self.compare(path, data, answer)

    def last(self):
        return shown_write(self.recent[-1])

    def compare(self, path, data, answer):
        """What was written to shows what it has taken, or what it showed before."""
        expected, shown = self.system.expected, self.system.read(path)
        if answer != "OK":
            self.refused += 1
            if shown != expected[path]:
                self.changed.append(f"{self.last()}, but it was {expected[path]!r} and is {shown!r}")
            return
        self.taken += 1
        if not as_shown(data, shown):
            self.misread.append(f"{self.last()}, and shows {shown!r}")
        if path.name == "delayed_removal_secs" and path.parent != CLASS:
            # It is in two places.
            for other in (self.system.head, self.system.folder):
                expected[other / path.name] = shown
        expected[path] = shown

    def look(self, before_it_changed=None):
        """Nothing has changed but what was taken. The last write may have changed the shape, and nothing else that stays."""
        self.looks += 1
        if before_it_changed is None:
            differ = self.system.differences()
        else:
            # A setting of what is still there.
            expected = self.system.expected
            now = {f: self.system.read(f) for f in self.system.readable}
            differ = [f"{n}: {expected[n]!r} -> {v!r}" for n, v in now.items()
                      if v not in (expected[n], "dead", "ENOENT", "ENODEV")]  # fmt: skip
        if differ:
            self.changed.append("; ".join(differ) + ", after: " + " | ".join(map(shown_write, self.recent)))
            self.system.build()
        self.recent.clear()

    def run(self):
        start = time.monotonic()
        for n in range(1, self.count + 1):
            self.write()
            if n % LOOK == 0:
                self.look()
            if n % 10000 == 0:
                print(f"# {n} writes, {n / (time.monotonic() - start):.0f} a second", flush=True)
        self.look()
        secs = time.monotonic() - start
        total = collections.Counter()
        kinds = collections.defaultdict(collections.Counter)
        for path, answers in self.answers.items():
            kinds[kind_of(path)] += answers
        for kind, answers in sorted(kinds.items()):
            total += answers
            print(f"# {kind}: " + " ".join(f"{a}={c}" for a, c in sorted(answers.items())))
        dmfuzz.report("writes with mistakes, answered by their names", self.unnamed, total)
        dmfuzz.report("looks at everything: nothing but what was taken has changed", self.changed,
                      collections.Counter(looks=self.looks))  # fmt: skip
        dmfuzz.report("settings, shown as they were taken or as they were, and orders that are some", self.misread,
                      collections.Counter(taken=self.taken, refused=self.refused))  # fmt: skip
        print(f"# {self.count} writes in {secs:.0f} s, {self.count / secs:.0f} a second; "
              f"{self.rebuilt} changed the paths")  # fmt: skip


def main():
    seed, count, *disks = sys.argv[1:]
    Run(int(seed), int(count), System(*disks[:2]), disks).run()


if __name__ == "__main__":
    main()
