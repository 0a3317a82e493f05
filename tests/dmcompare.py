#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The same tables and the same history on dm-multipath (in bio mode) and on rmpath: what both show must be equal.

    dmcompare.py generated SEED COUNT DISK...   tables made up from SEED, with messages, I/O and errors made up too
    dmcompare.py inflight DISK...               what the selectors choose and count while I/O is under way
    dmcompare.py events DISK...                 uevents
    dmcompare.py reasons DISK...                what is wrong with tables that have one mistake each

Prints a line "ok NAME" or "not ok NAME" for each table, the latter followed by what differs. The name of the target is
the only difference that is allowed. Which error failed I/O ends with is not compared: rmpath passes on the last one. Nor are
histories with IOERR or RESOURCE: dm-multipath fails the path at the first one, rmpath does not (26-error-threshold.sh).
"""

import difflib
import mmap
import os
import pathlib
import random
import re
import select
import socket
import sys
import threading
import time

import dmioctl
from waiting import PATIENCE, attempt, wait_until

MAP = "rmt-c"
TARGETS = ("multipath", "rmpath")
LENGTH = 4096
SELECTORS = ("round-robin", "queue-length", "service-time", "historical-service-time", "io-affinity")
# Errors of a path, and of what was asked for.
PATH_ERRORS = ("TRANSPORT", "OFFLINE", "TIMEOUT")
OTHER_ERRORS = ("MEDIUM", "TARGET", "NOSPC")


def without_times(line):
    """A status without how long I/O has taken, which historical-service-time shows of a path that had any."""
    words = line.split(" ")
    # Start, length, target; features, handler, groups, current group.
    at = 3
    at += 1 + int(words[at])
    at += 1 + int(words[at])
    groups = int(words[at])
    at += 2
    for _ in range(groups):
        at += 1
        at += 1 + int(words[at])
        paths, args = int(words[at]), int(words[at + 1])
        at += 2
        for _ in range(paths):
            at += 3
            if args == 3 and words[at : at + 3 : 2] != ["1024", "0"]:
                words[at] = words[at + 2] = "TIME"
            at += args
    return " ".join(words)


class Disk:
    """A disk to make a path from."""

    def __init__(self, name):
        self.name = name
        self.node = "/dev/" + name
        self.number = pathlib.Path("/sys/class/block", name, "dev").read_text().strip()
        self.injection = pathlib.Path("/sys/kernel/debug/block", name, "error_injection")

    def sectors(self):
        return int(pathlib.Path("/sys/class/block", self.name, "size").read_text())


class Map:
    """A map of one target, and what there was to see of it."""

    def __init__(self, target, table, sectors):
        self.target = target
        self.seen = []
        self.fd = -1
        dmioctl.create(MAP)
        result = attempt(dmioctl.load, MAP, sectors, target, table)
        self.note("load", result)
        self.live = result == "OK"
        if self.live:
            dmioctl.resume(MAP)
            node = dmioctl.node(MAP)
            wait_until(node, lambda: os.path.exists(node))
            self.fd = os.open(node, os.O_RDWR | os.O_DIRECT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.fd >= 0:
            os.close(self.fd)
        wait_until("removal", lambda: attempt(dmioctl.remove, MAP) == "OK")

    def note(self, what, result):
        self.seen.append(f"{what}: {result}")

    def text(self, flags=0):
        """A status, without what may differ."""
        line = dmioctl.lines(MAP, flags).replace(f" {self.target} ", " TARGET ")
        line = line.replace(f"target_name={self.target},", "target_name=TARGET,")
        return line if flags else without_times(line)

    def usable(self):
        """The numbers of the disks of usable paths."""
        return set(re.findall(r" (\d+:\d+) A ", dmioctl.lines(MAP)))

    def queues(self):
        return "queue_if_no_path" in dmioctl.lines(MAP, dmioctl.STATUS_TABLE)

    def show(self, what):
        self.note(what, self.text())

    def show_all(self, what):
        self.show(what)
        self.note(what, self.text(dmioctl.STATUS_TABLE))
        self.note(what, self.text(dmioctl.IMA))

    def io(self, write=False, count=1):
        if not self.usable() and self.queues():
            self.note("I/O", "would wait")
            return
        for _ in range(count):
            buf = mmap.mmap(-1, LENGTH)
            result = attempt(os.pwritev if write else os.preadv, self.fd, [buf], 0)
            self.note("I/O", "OK" if result == "OK" else "error")

    def message(self, text):
        self.note(text, attempt(dmioctl.message, MAP, text))


# --- Tables ------------------------------------------------------------------------------------------------------------


class Generator:
    """Makes tables and histories up."""

    def __init__(self, seed, disks):
        self.random = random.Random(seed)
        self.disks = disks
        self.cpus = os.cpu_count()

    def case(self, word):
        return "".join(self.random.choice((c.lower(), c.upper())) for c in word) if self.chance(0.2) else word

    def chance(self, probability):
        return self.random.random() < probability

    def features(self):
        pick = self.random
        words = [[self.case("queue_mode"), self.case("bio")]]
        if self.chance(0.5):
            words.append([self.case("queue_if_no_path")])
        if self.chance(0.2):
            words.append([self.case("retain_attached_hw_handler")])
        if self.chance(0.2):
            words.append([self.case("pg_init_retries"), str(pick.randint(1, 50))])
        if self.chance(0.2):
            words.append([self.case("pg_init_delay_msecs"), str(pick.choice((0, 1, 2000, 60000)))])
        pick.shuffle(words)
        words = sum(words, [])
        return [str(len(words))] + words

    def group(self, selector, disks):
        pick = self.random
        words = [selector]
        if selector == "historical-service-time":
            own = pick.choice(([], [str(pick.randint(0, 1023))], ["972", str(pick.randint(0, 9))]))
        else:
            own = pick.choice(([], [], ["any", "thing"]))
        words += [str(len(own))] + own
        most = {"service-time": 2, "io-affinity": 1}.get(selector, 1)
        args = 1 if selector == "io-affinity" else pick.randint(0, most)
        if selector == "io-affinity":
            disks = disks[: self.cpus]
        words += [str(len(disks)), str(args)]
        for n, disk in enumerate(disks):
            words.append(pick.choice((disk.node, disk.number)))
            if selector == "io-affinity":
                # At times this CPU has no path.
                cpus = [n] if len(disks) > 1 else pick.choice(([0], [self.cpus - 1], range(self.cpus)))
                words.append(f"{sum(1 << cpu for cpu in cpus):x}")
                continue
            words += [str(pick.choice((0, 1, 1, 1000))), str(pick.choice((0, 1, 7, 100)))][:args]
        return words

    def table(self, selector):
        """A table of which one group at least has that selector: its words, its disks, and its groups."""
        pick = self.random
        words = self.features()
        words += pick.choice((["0"], ["0"], ["0"], ["1", "alua"], ["3", "1", "rdac", "x"]))
        disks = pick.sample(self.disks, pick.randint(1, len(self.disks)))
        if self.chance(0.1):
            disks.append(disks[0])
        groups = []
        while disks:
            size = pick.randint(1, min(3, len(disks)))
            groups.append((pick.choice(SELECTORS) if groups else selector, disks[:size]))
            disks = disks[size:]
        pick.shuffle(groups)
        initial = pick.randint(1, len(groups)) if self.chance(0.9) else len(groups) + 3
        words += [str(len(groups)), str(initial)]
        for group in groups:
            words += self.group(*group)
        return " ".join(words), groups

    def history(self, groups):
        """What is done with a map: names of methods, and their arguments."""
        pick = self.random
        disks = sum((group[1] for group in groups), [])
        # Which path an error meets must be certain: not a matter of time, or of the CPU of a work item.
        certain = all(
            len(members) == 1 if selector == "historical-service-time" else selector != "io-affinity"
            for selector, members in groups
        )
        steps = []
        for _ in range(pick.randint(10, 16)):
            disk = pick.choice(disks)
            name = pick.choice((disk.node, disk.number))
            number = pick.choice((0, 1, 1, len(groups), len(groups), len(groups) + 1))
            kind = pick.choice("io io io fail fail reinstate group group queue wrong suspend inject inject".split())
            if kind == "io":
                steps.append(("io", self.chance(0.5), pick.randint(1, 4)))
            elif kind == "fail":
                steps.append(("message", f"{self.case('fail_path')} {name}"))
            elif kind == "reinstate":
                steps.append(("message", f"{self.case('reinstate_path')} {name}"))
            elif kind == "group":
                word = pick.choice(("switch_group", "switch_group", "disable_group", "disable_group", "enable_group"))
                steps.append(("message", f"{self.case(word)} {number}"))
            elif kind == "queue":
                steps.append(("message", pick.choice(("queue_if_no_path", "fail_if_no_path"))))
            elif kind == "wrong":
                wrong = ("fail_path", "switch_group x", f"fail_path {name} x", "fail_path 9:99", "switch_group", "fail")
                steps.append(("message", pick.choice(wrong)))
            elif kind == "suspend":
                steps.append(("suspend", pick.choice(("", "noflush"))))
            elif certain and disk.injection.exists():
                steps.append(("inject", disk, pick.choice(PATH_ERRORS * 2 + OTHER_ERRORS)))
        return steps


def take(mapped, step, paths):
    """One step of a history."""
    what, *args = step
    if what == "suspend":
        dmioctl.suspend(MAP, *args)
        mapped.show_all("suspended " + args[0])
        mapped.message("fail_if_no_path")
        dmioctl.resume(MAP)
    elif what == "inject":
        disk, status = args
        if status in PATH_ERRORS and mapped.queues() and not mapped.usable() - {disk.number}:
            mapped.note("I/O", "would wait")
            return
        disk.injection.write_text(f"add,op=READ,status={status}\n")
        # As often as it takes for each path of a group to have its turn.
        mapped.io(count=2 * paths if status in PATH_ERRORS else 1)
        disk.injection.write_text("removeall\n")
        if status in OTHER_ERRORS:
            # Whether the read has met it depends on whose turn it was.
            mapped.seen.pop()
    else:
        getattr(mapped, what)(*args)
    mapped.show(" ".join(str(getattr(arg, "name", arg)) for arg in step))


def compare(name, run):
    """Runs it on both; prints whether they showed the same."""
    seen = {}
    for target in TARGETS:
        try:
            seen[target] = run(target)
        except TimeoutError as err:
            seen[target] = [f"{target}: no end of {err}"]
    ok = seen["multipath"] == seen["rmpath"]
    print(("ok " if ok else "not ok ") + name)
    if not ok:
        for line in difflib.unified_diff(seen["multipath"], seen["rmpath"], "multipath", "rmpath", lineterm="", n=3):
            print("# " + line)
    sys.stdout.flush()


def generated(seed, count, *names):
    """Tables and histories that are made up."""
    disks = [Disk(name) for name in names]
    generator = Generator(int(seed), disks)
    # io-affinity goes by it, and round-robin has a turn for each.
    os.sched_setaffinity(0, {0})
    for n in range(int(count)):
        table, groups = generator.table(SELECTORS[n % len(SELECTORS)])
        steps = generator.history(groups)
        if n == 0:
            table, groups, steps = "2 queue_mode bio 0 0 0", [], [("io", False, 1), ("message", "switch_group 1")]

        def run(target, table=table, groups=groups, steps=steps):
            with Map(target, table, disks[0].sectors()) as mapped:
                if mapped.live:
                    mapped.show_all("fresh")
                    mapped.io()
                    paths = sum(len(members) for _, members in groups)
                    for step in steps:
                        take(mapped, step, paths)
                    mapped.show_all("end")
                return mapped.seen

        compare(table, run)


# --- I/O under way -------------------------------------------------------------------------------------------------------


def reads_under_way():
    """How many I/Os the map has."""
    stat = pathlib.Path("/sys/class/block", os.path.basename(dmioctl.node(MAP)), "inflight")
    return sum(int(word) for word in stat.read_text().split())


def inflight(name):
    """Paths that keep what they get, so that what is under way is certain."""
    disk = Disk(name)
    sectors = disk.sectors()
    paths = [f"rmt-p{n}" for n in range(3)]
    for path in paths:
        dmioctl.create(path)
        dmioctl.load(path, sectors, "linear", f"{disk.node} 0")
        dmioctl.resume(path)
    nodes = [dmioctl.node(path) for path in paths]
    for node in nodes:
        wait_until(node, lambda node=node: os.path.exists(node))
    a, b, c = nodes
    tables = [
        f"queue-length 0 3 1 {a} 1 {b} 1 {c} 1",
        f"service-time 0 3 2 {a} 1 1 {b} 1 1 {c} 1 1",
        f"service-time 0 3 2 {a} 1 1 {b} 1 4 {c} 1 2",
        f"service-time 0 3 2 {a} 1 0 {b} 1 100 {c} 1 99",
        f"historical-service-time 0 3 1 {a} 1 {b} 1 {c} 1",
        f"historical-service-time 2 0 5 3 1 {a} 1 {b} 1 {c} 1",
    ]
    sizes = [1, 1, 2, 8, 1, 4, 1, 1, 16, 1]
    try:
        for table in tables:
            table = "2 queue_mode bio 0 1 1 " + table
            compare("in flight: " + table, lambda target, table=table: under_way(target, table, sectors, paths, sizes))
    finally:
        for path in paths:
            wait_until(path, lambda path=path: attempt(dmioctl.remove, path) == "OK")


def under_way(target, table, sectors, paths, sizes):
    """Reads of these sizes on paths that keep them; at last one path is failed, reinstated, and all go on."""
    with Map(target, table, sectors) as mapped:
        readers = []
        for path in paths:
            dmioctl.suspend(path, "noflush")
        try:
            for count, size in enumerate(sizes, 1):
                buf = mmap.mmap(-1, LENGTH * size)
                readers.append(threading.Thread(target=os.preadv, args=(mapped.fd, [buf], 0)))
                readers[-1].start()
                wait_until("submission", lambda count=count: reads_under_way() >= count)
                # It is counted before it is sent.
                mapped.show(f"{size} blocks")
                if count == len(sizes) - 2:
                    node = dmioctl.node(paths[1])
                    mapped.message("fail_path " + node)
                    mapped.message("reinstate_path " + node)
        finally:
            for path in paths:
                dmioctl.resume(path)
            for reader in readers:
                reader.join()
        mapped.show_all("all done")
        return mapped.seen


# --- uevents -------------------------------------------------------------------------------------------------------------


def listen():
    """A socket for the kernel's uevents from now on."""
    # AF_NETLINK, NETLINK_KOBJECT_UEVENT
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((0, 1))
    return sock


def hear(sock, target):
    """The next uevent of a path, without what may differ."""
    end = time.monotonic() + 60 * PATIENCE
    while select.select([sock], [], [], max(0, end - time.monotonic()))[0]:
        data = sock.recv(16384).decode("utf-8", "replace").split("\0")[1:]
        fields = dict(field.partition("=")[::2] for field in data if field)
        if "DM_ACTION" not in fields or fields.get("DM_NAME") != MAP:
            continue
        if fields.get("DM_TARGET") == target:
            fields["DM_TARGET"] = "TARGET"
        del fields["SEQNUM"], fields["DISKSEQ"]
        return " ".join(f"{key}={value}" for key, value in sorted(fields.items()))
    return "NOTHING"


def events(*names):
    """What is told of paths that fail and are reinstated, by message and by error."""
    disks = [Disk(name) for name in names[:2]]
    a, b = disks
    table = f"2 queue_mode bio 0 2 1 queue-length 0 1 1 {a.node} 1 round-robin 0 1 1 {b.node} 1"

    def run(target):
        with listen() as sock, Map(target, table, a.sectors()) as mapped:
            # Of what changes nothing nothing is told, so that what is heard next is what follows.
            for text, changes in (
                (f"reinstate_path {a.node}", False),
                (f"fail_path {a.node}", True),
                (f"fail_path {a.number}", False),
                (f"fail_path {b.number}", True),
                (f"reinstate_path {b.number}", True),
                (f"reinstate_path {a.node}", True),
            ):
                mapped.message(text)
                if changes:
                    mapped.note(text, hear(sock, target))
            if a.injection.exists():
                a.injection.write_text("add,op=READ,status=TRANSPORT\n")
                mapped.io()
                a.injection.write_text("removeall\n")
                mapped.note("an error", hear(sock, target))
            mapped.show_all("end")
            return mapped.seen

    compare("uevents: " + table, run)


# --- Reasons -------------------------------------------------------------------------------------------------------------

HEADS = (
    "x|-1 0 0 0|13 a b c d e f g h i j k l m 0 0 0|1|1 nonsense 0 0 0|2 queue_if_no_path|2 queue_mode tape 0 0 0|"
    "1 queue_mode 0 0 0|4 queue_mode bio pg_init_retries 0 0 0 0|4 queue_mode bio pg_init_retries 51 0 0 0|"
    "4 queue_mode bio pg_init_retries x 0 0 0|4 queue_mode bio pg_init_delay_msecs 60001 0 0 0|"
    "2 queue_mode bio|2 queue_mode bio x|2 queue_mode bio 1|2 queue_mode bio 3 a b|2 queue_mode bio 0|"
    "2 queue_mode bio 0 x|2 queue_mode bio 0 1025 1|2 queue_mode bio 0 1|2 queue_mode bio 0 1 x|"
    "2 queue_mode bio 0 1 1025|2 queue_mode bio 0 0 1|2 queue_mode bio 0 1 0|2 queue_mode bio 0 1 1|"
    "2 queue_mode bio 0 0 0 x"
).split("|")
GROUPS = (
    "round-robin|round-robin 0|nonsense 0 1 0 A|Round-Robin 0 1 0 A|round-robin x 1 0 A|round-robin 1025 1 0 A|"
    "round-robin 3 a b|round-robin 0 0 0|round-robin 0 x 0 A|round-robin 0 1025 0 A|round-robin 0 1|round-robin 0 1 x A|"
    "round-robin 0 1 1025 A|round-robin 0 1 0|round-robin 0 2 0 A|round-robin 0 1 1 A|round-robin 0 1 0 A x|"
    "round-robin 0 1 0 /dev/no-such|round-robin 0 1 0 999:999|round-robin 0 1 0 /dev/null|round-robin 0 1 0 nonsense|"
    "round-robin 0 1 2 A 1 1|round-robin 0 1 1 A x|round-robin 0 1 1 A 1x|round-robin 0 1 1 A -1|"
    "queue-length|queue-length 0 1 2 A 1 1|queue-length 0 1 1 A x|queue-length 0 2 1 A 1 A 1x|queue-length x 1 0 A|"
    "service-time 0 1 3 A 1 1 1|service-time 0 1 1 A x|service-time 0 1 2 A 1 x|service-time 0 1 2 A 1 101|"
    "service-time 0 1 2 A 1 -1|service-time 0 2 2 A 1 1 A x 1|"
    "historical-service-time 1 1024 1 0 A|historical-service-time 1 x 1 0 A|historical-service-time 1 -1 1 0 A|"
    "historical-service-time 2 1 x 1 0 A|historical-service-time 3 1 1 1 1 0 A|historical-service-time 2 1 1x 1 0 A|"
    "historical-service-time 0 1 2 A 1 1|historical-service-time 0 1 1 A x|historical-service-time 9 1 0 A|"
    "io-affinity 0 1 0 A|io-affinity 0 1 2 A 1 1|io-affinity 0 1 1 A x|io-affinity 0 1 1 A 0|io-affinity 0 2 1 A 1 A 1|"
    "io-affinity 0 1 1 A -1|io-affinity 0 1 1 A 1,,1|io-affinity 0 1 1 A ffffffff,ffffffff,ffffffff,ffffffff,ffffffff"
).split("|")


def reasons(*names):
    """What dm core logs for a table that is refused, and the errno."""
    disk = Disk(names[0])
    kmsg = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    tables = HEADS + ["2 queue_mode bio 0 1 1 " + group.replace("A", disk.node) for group in GROUPS]

    def run(target, table):
        os.lseek(kmsg, 0, os.SEEK_END)
        dmioctl.create(MAP)
        answer = attempt(dmioctl.load, MAP, disk.sectors(), target, table)
        dmioctl.remove(MAP)
        logged = []
        while True:
            try:
                logged.append(os.read(kmsg, 8192).decode("utf-8", "replace").partition(";")[2].split("\n")[0])
            except OSError:
                break
        found = [line for line in logged if f": {target}: " in line and "table: " in line]
        return [answer] + [line.partition(f": {target}: ")[2] for line in found]

    seen = {target: [] for target in TARGETS}
    for target in TARGETS:
        for table in tables:
            seen[target].append(f"{table}: {' '.join(run(target, table))}")
    compare(f"{len(tables)} wrong tables have the same reasons", lambda target: seen[target])
    named = [line for line in seen["rmpath"] if re.search(r": E[A-Z]+ .* \(-(E[A-Z]+|\d+)\)$", line)]
    missing = sorted(set(seen["rmpath"]) - set(named))
    print(("not ok " if missing else "ok ") + "each is refused with a reason")
    for line in missing:
        print("# " + line)


def main():
    what, *args = sys.argv[1:]
    {"generated": generated, "inflight": inflight, "events": events, "reasons": reasons}[what](*args)


if __name__ == "__main__":
    main()
