#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs the KUnit suites and system tests inside the VM, for check.sh on the host.

Prints KTAP as it goes and appends one line for each beginning and each end of an item to RESULTS/progress-VM, so that
the host knows how far a VM came that died. Each item is "kunit", "kunit:SUITE" or a system test's file; several VMs share the items by
making directories in RESULTS/claim. Around each one the kernel's log is read, and a splat there fails it, as does a
module that cannot be unloaded afterwards. At the end of its items, each VM looks for memory that was leaked.
"""

import argparse
import errno
import os
import re
import select
import signal
import subprocess
import sys
import time

from splat import splats

TOP = os.environ.get("TOP", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.append(os.path.join(TOP, "tests"))
import sysio  # noqa: E402
from waiting import PATIENCE  # noqa: E402

DEFAULT_LIMIT = 600  # seconds for a test that does not say "Time limit: N s"; the machine may be slow and busy
REBOOT = 75  # the exit status that asks the host to go on in a new VM


def out(line=""):
    print(line, flush=True)


class KernelLog:
    """What the kernel says, message by message; what user space writes into it is left out."""

    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)

    def drain(self):
        """The messages since the last call."""
        messages = []
        while True:
            try:
                record = os.read(self.fd, 16384).decode("utf-8", "replace")
            except OSError as e:
                if e.errno == errno.EPIPE:  # overwritten before it was read
                    continue
                if e.errno == errno.EAGAIN:
                    return messages
                raise
            head, _, body = record.partition(";")
            if int(head.split(",")[0]) >> 3:
                continue
            text = body.split("\n", 1)[0]
            text = re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), text)
            messages.extend(text.split("\n"))


class Counts:
    """Outcome of one item."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, ok, skipped=False):
        if not ok:
            self.failed += 1
        elif skipped:
            self.skipped += 1
        else:
            self.passed += 1

    def extra(self, name, why=()):
        """A failure that no test's own line reports."""
        self.failed += 1
        out(f"    not ok {self.passed + self.failed + self.skipped} - {name}")
        for line in why:
            out(f"    # {line}")


RESULT = re.compile(r"^(not )?ok\b *(\d+)? *(?:- *)?([^#]*?) *(?:# *(SKIP|TODO)\b *(.*))?$", re.I)


RESULTS = os.environ.get("RESULTS", "/run")
VM = 1


def progress(*words):
    with open(f"{RESULTS}/progress-{VM}", "a", encoding="utf-8") as f:
        f.write(" ".join(str(w) for w in words) + "\n")
        f.flush()
        os.fsync(f.fileno())


def claim(item):
    """True for the one VM that is to run the item."""
    try:
        os.mkdir(f"{RESULTS}/claim/{item}")
    except FileExistsError:
        return False
    return True


# --- The module ------------------------------------------------------------------------------------------------------


def loaded():
    return os.path.isdir("/sys/module/rmpath")


def refcount():
    try:
        with open("/sys/module/rmpath/refcnt", encoding="utf-8") as f:
            return f.read().strip()
    except OSError:
        return "none"


def unload():
    """None when the module is gone, else why it is not. The wait is for opens that close in the background."""
    deadline = time.monotonic() + 60
    while loaded():
        if refcount() == "0":
            try:
                done = subprocess.run(["rmmod", "rmpath"], capture_output=True, text=True, timeout=180, check=False)
            except subprocess.TimeoutExpired:
                return "rmmod hangs"
            if done.returncode == 0 and not loaded():
                return None
        if time.monotonic() > deadline:
            return f"it is still in use, its reference count is {refcount()}"
        time.sleep(0.2)
    return None


# --- KUnit -----------------------------------------------------------------------------------------------------------


def declared_suites():
    """The suites that the source declares with #[kunit_tests(NAME)], each with the names of its #[test] functions."""
    suites = {}
    for folder, _, files in os.walk(os.path.join(TOP, "rust")):
        for name in files:
            if not name.endswith(".rs"):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                current, is_test = None, False
                for line in f:
                    if m := re.match(r"\s*#\[(?:\w+::)*kunit_tests\((\w+)\)\]", line):
                        current = suites.setdefault(m[1], [])
                    elif re.match(r"\s*#\[test\]", line):
                        is_test = True
                    elif is_test and (m := re.match(r"\s*(?:pub(?:\([^)]*\))? )?fn (\w+)", line)):
                        is_test = False
                        if current is not None:
                            current.append(m[1])
    return suites


def let_allocations_fail():
    """Sets failslab up for the tests that ask for failing allocations: it concerns only threads with make-it-fail."""
    for name, value in (("task-filter", "Y"), ("verbose", "0"), ("times", "-1"), ("probability", "100")):
        try:
            with open(f"/sys/kernel/debug/failslab/{name}", "w", encoding="utf-8") as f:
                f.write(value)
        except FileNotFoundError:
            return


def run_kunit(log, counts, only="*"):
    """Loads the module with the suites enabled, and compares what ran with what the source declares."""
    expected = {name: cases for name, cases in declared_suites().items() if only in ("*", name)}
    glob = "/sys/module/kunit/parameters/filter_glob"
    if not os.path.exists(glob):
        out("    # this kernel has no KUnit")
        counts.skipped += sum(len(cases) for cases in expected.values())
        return []
    with open(glob, "w", encoding="utf-8") as f:
        f.write(only)
    let_allocations_fail()

    ran, suite, messages = {}, None, []
    with subprocess.Popen(
        ["insmod", os.environ["RMPATH_KO"], "auto_attach=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as insmod:
        deadline = time.monotonic() + 3 * DEFAULT_LIMIT
        ended = False
        while not ended:
            ended = insmod.poll() is not None
            new = log.drain()
            messages += new
            for line in new:
                if m := re.match(r" {4}# Subtest: (\S+)", line):
                    suite = m[1]
                    ran.setdefault(suite, set())
                elif suite and (m := re.match(r" {4}(not )?ok \d+ (\S+)(?: # SKIP.*)?", line)):
                    counts.add(not m[1], " # SKIP" in line)
                    ran[suite].add(m[2])
                elif re.match(r"(not )?ok \d+ ", line):
                    suite = None
                if re.match(r" *(KTAP version|\d+\.\.\d+|(not )?ok \d+|# )", line):
                    out("    " + line)
            if not ended and time.monotonic() > deadline:
                insmod.kill()
                counts.extra("KUnit ends", ["insmod has not come back"])
                return messages
            time.sleep(0.1)
        if insmod.returncode:
            counts.extra("the module loads", [insmod.stdout.read().strip()])
            return messages
    with open(glob, "w", encoding="utf-8") as f:
        f.write("none")

    for name, cases in sorted(expected.items()):
        if name not in ran:
            counts.extra(f"suite {name} ran", ["it is declared in the source, and KUnit has not run it"])
            continue
        for case in cases:
            if case not in ran[name]:
                counts.extra(f"{name}.{case} ran", ["it is declared in the source, and KUnit has not run it"])
    for name in sorted(set(ran) - set(expected)):
        counts.extra(f"suite {name} is declared", ["KUnit has run it, and the source does not declare it"])
    if not expected:
        counts.extra("the source declares KUnit suites")
    return messages


# --- System tests ----------------------------------------------------------------------------------------------------


def limit_of(path):
    if secs := os.environ.get("RMPATH_LIMIT_SECS"):  # for the long tests
        return int(secs) * PATIENCE
    with open(path, encoding="utf-8", errors="replace") as f:
        m = re.search(r"^# Time limit: (\d+) s", f.read(4096), re.M)
    return (int(m[1]) if m else DEFAULT_LIMIT) * PATIENCE


class Tap:
    """Counts the lines of one test and knows whether its plan was kept."""

    def __init__(self, counts):
        self.counts, self.plan, self.seen, self.bailed = counts, None, 0, False

    def line(self, line):
        if m := re.match(r"1\.\.(\d+)(?:\s*#\s*SKIP\b)?", line, re.I):
            self.plan = int(m[1])
            if self.plan == 0:
                self.counts.skipped += 1
        elif line.startswith("Bail out!"):
            self.bailed = True
        elif m := RESULT.match(line):
            self.seen += 1
            self.counts.add(not m[1], bool(m[4]) and m[4].upper() == "SKIP")


def run_test(log, counts, name):
    """Runs one file of tests/, its output indented as a subtest."""
    path = os.path.join(TOP, "tests", name)
    limit = limit_of(path)
    start = spoke = beat = time.monotonic()
    tap = Tap(counts)
    messages = []
    with subprocess.Popen(
        [path], cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    ) as test:
        fd = test.stdout.fileno()
        os.set_blocking(fd, False)
        rest, timed_out = b"", False
        while True:
            select.select([fd], [], [], 1)
            try:
                chunk = os.read(fd, 65536)
            except BlockingIOError:
                chunk = None
            if chunk:
                *lines, rest = (rest + chunk).split(b"\n")
                # Where the time goes.
                if (waited := int(time.monotonic() - spoke)) >= 15:
                    out(f"    # {waited} s for this:")
                for line in lines:
                    line = line.decode("utf-8", "replace")
                    out("    " + line)
                    tap.line(line)
                spoke = beat = time.monotonic()
            messages += log.drain()
            now = time.monotonic()
            # A background process may hold the pipe; the test is over when its own process is.
            if chunk == b"" or (chunk is None and test.poll() is not None):
                break
            if now - start > limit:
                timed_out = True
                break
            if now - beat > 60:
                out(f"    # {name}: {int(now - start)} s")
                beat = now
        if rest:
            line = rest.decode("utf-8", "replace")
            out("    " + line)
            tap.line(line)
        try:
            # An ordinary end of the test comes first: its exit handler takes down what it has set up.
            if timed_out:
                os.killpg(test.pid, signal.SIGTERM)
                try:
                    test.wait(60)
                except subprocess.TimeoutExpired:
                    pass
            os.killpg(test.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        try:
            status = test.wait(60)
        except subprocess.TimeoutExpired:
            counts.extra(f"{name} ends within {limit} s", ["it is stuck in the kernel"] + sysio.stuck())
            messages += log.drain()
            return messages
    messages += log.drain()
    if timed_out:
        counts.extra(f"{name} ends within {limit} s")
    elif tap.bailed:
        counts.extra(f"{name} does not bail out")
    elif tap.plan is None:
        counts.extra(f"{name} prints a plan", [f"its exit status is {status}"])
    elif tap.plan != tap.seen:
        counts.extra(f"{name} keeps its plan", [f"{tap.plan} planned, {tap.seen} ran, exit status {status}"])
    elif status and not counts.failed:
        counts.extra(f"{name} succeeds", [f"every check passed, but its exit status is {status}"])
    return messages


# --- kmemleak --------------------------------------------------------------------------------------------------------

KMEMLEAK = "/sys/kernel/debug/kmemleak"


def kmemleak(command):
    with open(KMEMLEAK, "w", encoding="utf-8") as f:
        f.write(command)


def jiffies():
    """Now, in the unit in which kmemleak says when an object was made."""
    with open("/proc/timer_list", encoding="utf-8") as f:
        for line in f:
            if m := re.match(r"jiffies: (\d+)", line):
                return int(m[1])
    return 0


def made_since(report, start):
    """The objects of a kmemleak report that are younger than that; the boot's own are not ours."""
    objects = re.split(r"^(?=unreferenced object)", report, flags=re.M)
    return [o for o in objects if (m := re.search(r"\bjiffies (\d+)", o)) and int(m[1]) >= start]


def run_kmemleak(log, counts, start):
    """Two scans some seconds apart: an object on its way between two owners is no leak, and a young one not yet."""
    out("    # scanning for leaked memory; this takes a minute or two")
    time.sleep(6)
    kmemleak("scan")
    time.sleep(6)
    kmemleak("scan")
    with open(KMEMLEAK, encoding="utf-8") as f:
        leaks = made_since(f.read(), start)
    if leaks:
        lines = "".join(leaks).splitlines()
        counts.extra("no memory was leaked", [f"{len(leaks)} unreferenced objects"] + lines[:200])
    else:
        counts.add(True)
        out("    ok 1 - no memory was leaked")
    return [m for m in log.drain() if "kmemleak" not in m and "unreferenced object" not in m]


# --- One item after the other ----------------------------------------------------------------------------------------


def run_item(number, item, log, began, stop=False):
    """True when the VM is fit for the next item; with stop, and this one has not failed."""
    counts = Counts()
    progress("begin", item)
    out("    KTAP version 1")
    out(f"    # Subtest: {item}")
    log.drain()
    start = time.monotonic()
    if item.partition(":")[0] == "kunit":
        messages = run_kunit(log, counts, item.partition(":")[2] or "*")
    elif item == "kmemleak":
        messages = run_kmemleak(log, counts, began)
    else:
        messages = run_test(log, counts, item)
    fit = True
    if why := unload():
        counts.extra("the module can be unloaded", [why] + sysio.stuck())
        fit = False
    messages += log.drain()
    if bad := splats(messages):
        counts.extra("the kernel's log is clean", bad)
        # lockdep and others speak only once; what follows would go unseen.
        fit = False
    out(f"    # {item}: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped, "
        f"{time.monotonic() - start:.0f} s")
    out(f"{'not ok' if counts.failed else 'ok'} {number} {item}")
    progress("end", item, counts.passed, counts.failed, counts.skipped)
    return fit and not (stop and counts.failed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vm", type=int, default=1, help="the number of this VM")
    parser.add_argument("--kmemleak", type=int, metavar="NUMBER", help="look for leaks at the end, as this item")
    parser.add_argument("--minutes", type=int, help="repeat all items for so long, shared with nobody")
    parser.add_argument("--stop", action="store_true", help="go no further than the first item that fails")
    parser.add_argument("item", nargs="+", help="kunit, kunit:SUITE, or a file in tests/")
    args = parser.parse_args()
    global VM
    VM = args.vm

    log = KernelLog()
    early = splats(log.drain())
    if early:
        out("# the kernel complained before any test ran:")
        for line in early:
            out(f"# {line}")
    began = jiffies()
    fit = True
    if args.minutes is None:
        for number, item in enumerate(args.item, 1):
            if fit and claim(item):
                fit = run_item(number, item, log, began, args.stop)
    else:
        number, deadline = 0, time.monotonic() + 60 * args.minutes
        while fit and (number == 0 or time.monotonic() < deadline):
            for item in args.item:
                number += 1
                fit = fit and run_item(number, item, log, began)
        args.kmemleak = number + 1
    if not fit:
        return REBOOT
    if args.kmemleak and not os.path.exists(KMEMLEAK):
        out(f"ok {args.kmemleak} kmemleak # SKIP this kernel has none")
        progress("end", "kmemleak", 0, 0, 1)
    elif args.kmemleak:
        run_item(args.kmemleak, "kmemleak", log, began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
