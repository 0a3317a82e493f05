#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What mutants.sh does: mutants.py TOP MODE LIMIT VMS NUMBERS, with the checkout, "apply", "build" or "run", the seconds
for one mutant's tests, how many are looked at at once, and the numbers of the mutants that are wanted, if not all are."""

import hashlib
import json
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from splat import splats


class Mutant:
    """One mutation, as tests/mutants/abstractions.mut describes the form."""

    def __init__(self, number, title):
        self.number, self.title, self.file, self.items = number, title, None, []
        self.old, self.new = [], []

    def text(self):
        return json.dumps([self.file, self.old, self.new, self.items])

    def apply(self, folder):
        """Changes the file; what it was, to be written back."""
        path = folder / self.file
        source = path.read_text()
        path.write_text(source.replace("\n".join(self.old), "\n".join(self.new)))
        return source


def read_mutants(file):
    mutants = []
    for line in file.read_text().splitlines():
        kind, _, rest = line.partition(" ")
        if not line.strip() or kind.startswith("#"):
            continue
        if kind == "=":
            number, _, title = rest.partition(" ")
            mutants.append(Mutant(number, title))
        elif kind == "@":
            mutants[-1].file = rest
        elif kind == "!":
            mutants[-1].items = rest.split()
        elif kind == "-":
            mutants[-1].old.append(rest)
        elif kind == "+":
            mutants[-1].new.append(rest)
        else:
            sys.exit(f"mutants: error: {file}: what is this line: {line}")
    return mutants


def wrong_with(mutant, top, suites):
    """Why this mutation cannot be what was meant, or None."""
    path = top / (mutant.file or "")
    if not path.is_file():
        return f"there is no {mutant.file}"
    found = path.read_text().count("\n".join(mutant.old))
    if not mutant.old or found != 1:
        return f"the text to be replaced is there {found} times in {mutant.file}"
    if mutant.old == mutant.new:
        return "it changes nothing"
    if not mutant.items:
        return "no test is expected to notice"
    for item in mutant.items:
        kunit, _, suite = item.partition(":")
        known = (kunit == "kunit" and (not suite or suite in suites)) or item == "kmemleak"
        if not known and not (top / "tests" / f"{item}.sh").is_file():
            return f"there is no test {item}"
    return None


class Workshop:
    """A copy of the checkout, in which things are changed and built."""

    def __init__(self, top, out, name):
        self.out, self.tree = out, out / name
        listed = subprocess.run(
            ["git", "-C", top, "ls-files", "-co", "--exclude-standard", "Kbuild", "rust", "scripts", "tests"],
            check=True, capture_output=True, text=True,
        ).stdout.split("\n")
        digest = hashlib.sha256()
        wanted = set()
        for name in sorted(filter(None, listed)):
            source, copy = top / name, self.tree / name
            if not source.is_file():
                continue
            wanted.add(copy)
            data = source.read_bytes()
            if not name.startswith(("scripts/", "tests/mutants/", "tests/model/", "tests/compile-fail/")):
                digest.update(name.encode() + b"\0" + data)
            if not copy.is_file() or copy.read_bytes() != data:
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy)
        for folder in ("rust", "scripts", "tests"):
            for copy in (self.tree / folder).rglob("*"):
                if copy.is_file() and copy not in wanted:
                    copy.unlink()
        self.digest = digest.hexdigest()

    def build(self, log):
        with open(log, "w", encoding="utf-8") as f:
            done = subprocess.run([self.tree / "scripts/build.sh", "debug"], stdout=f, stderr=subprocess.STDOUT, check=False)
        return done.returncode == 0

    def test(self, folder, items, limit, stop):
        """Runs the items in a VM, if stop is set only up to the first check that fails. What became of each: item -> number
        of failures; None if it did not end."""
        for old in ("progress-1", "claim", "console.log"):
            subprocess.run(["rm", "-rf", folder / old], check=True)
        (folder / "claim").mkdir(parents=True)
        names = [i if i.startswith("kunit") or i == "kmemleak" else f"{i}.sh" for i in items]
        with open(folder / "output", "w", encoding="utf-8") as f:
            vm = subprocess.Popen(
                [self.tree / "scripts/vm.sh", "--flavour", "debug", "--memory", "3G", "--timeout", str(limit), "--idle", "240",
                 "--results", folder, "--console", folder / "console.log", "--append", "log_buf_len=8M",
                 "--append", "sysctl.kernel.hung_task_timeout_secs=90", "--",
                 "scripts/guest-check.py"] + (["--stop"] if stop else []) + names,
                stdout=f, stderr=subprocess.STDOUT,
            )
        try:
            # A broken module may hold out for minutes when it is to be unloaded.
            while vm.poll() is None and not (stop and first_failure(folder)):
                time.sleep(3)
        finally:
            vm.terminate()
            vm.wait()
        found = {}
        try:
            lines = (folder / "progress-1").read_text().splitlines()
        except FileNotFoundError:
            return found
        for line in lines:
            words = line.split()
            name = words[1].removesuffix(".sh")
            found[name] = int(words[3]) if words[0] == "end" else None
        return found


def first_failure(folder):
    """The first check that failed, in the words of the test, or else what the kernel complained of first; or None."""
    for line in (folder / "output").read_text(errors="replace").splitlines():
        if m := re.match(r"\s+not ok\b *\d*(?: - | )?(.*)", line):
            return m[1]
    try:
        console = (folder / "console.log").read_text(errors="replace")
    except FileNotFoundError:
        return None
    found = splats([re.sub(r"^\[ *[0-9.]+\] ?", "", line) for line in console.splitlines()])
    return found[0] if found else None


def judge(workshop, mutant, limit):
    """Builds a mutant and runs its tests: whether it was killed, and how."""
    folder = workshop.out / mutant.number
    folder.mkdir(parents=True, exist_ok=True)
    source = mutant.apply(workshop.tree)
    try:
        if not workshop.build(folder / "build.log"):
            return False, f"it does not compile, see {folder}/build.log"
        start = time.monotonic()
        # What a machine says that is only slow has to be said twice.
        for _ in range(2):
            found = workshop.test(folder, mutant.items, limit * len(mutant.items), True)
            why = first_failure(folder)
            if not why or not re.search(r"blocked for more than|stall|lockup", why):
                break
    finally:
        (workshop.tree / mutant.file).write_text(source)
    secs = int(time.monotonic() - start)
    if not found:
        return False, f"the VM did not come as far as the tests, see {folder}/console.log"
    if why:
        return True, f"killed by {list(found)[-1]}, in {secs} s: {why}"
    if None in found.values():
        return False, f"the VM ended before the tests did, and nobody knows why, see {folder}"
    return False, f"it survived {' '.join(found)}, {secs} s; see {folder}/output"


def compiles(workshop, mutant):
    """Only builds it."""
    folder = workshop.out / mutant.number
    folder.mkdir(parents=True, exist_ok=True)
    source = mutant.apply(workshop.tree)
    try:
        return workshop.build(folder / "build.log"), f"see {folder}/build.log"
    finally:
        (workshop.tree / mutant.file).write_text(source)


def fail_anyway(workshop, folder, items, limit):
    """The same without a mutation: the items that fail, or that were not reached since one before them did."""
    folder.mkdir(parents=True, exist_ok=True)
    if not workshop.build(folder / "build.log"):
        return items
    found = workshop.test(folder, items, limit * len(items), False)
    failed = [item for item in items if found.get(item) != 0]
    # What the kernel says meanwhile would kill a mutant.
    return items if not failed and first_failure(folder) else failed


def main():
    top, mode, limit, vms = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    wanted = sys.argv[5].split()
    mutants = [m for file in sorted((top / "tests/mutants").glob("*.mut")) for m in read_mutants(file)]
    numbers = [m.number for m in mutants]
    if twice := {n for n in numbers if numbers.count(n) > 1}:
        sys.exit(f"mutants: error: these numbers are there twice: {' '.join(sorted(twice))}")
    if unknown := set(wanted) - set(numbers) - {"00"}:
        sys.exit(f"mutants: error: there is no mutant {' '.join(sorted(unknown))}")
    first = not wanted or "00" in wanted
    if wanted:
        mutants = [m for m in mutants if m.number in wanted]
    suites = set()
    for file in (top / "rust").rglob("*.rs"):
        suites |= set(re.findall(r"kunit_tests\((\w+)\)", file.read_text()))

    count = failed = 0
    print(f"1..{len(mutants) + (mode == 'run' and first)}", flush=True)

    def check(name, found):
        nonlocal count, failed
        ok, why = found
        count += 1
        failed += not ok
        print(f"{'ok' if ok else 'not ok'} {count} - {name}\n# {why}", flush=True)

    out = top / "build/mutants"
    # Each is used by one at a time.
    workshops = queue.SimpleQueue()
    digest = None
    for i in range(vms if mode != "apply" else 0):
        workshop = Workshop(top, out, f"tree-{i + 1}")
        digest = workshop.digest
        workshops.put(workshop)

    def in_workshop(find):
        workshop = workshops.get()
        try:
            return find(workshop)
        finally:
            workshops.put(workshop)

    def kept(number, key, find):
        """What was found earlier, if it is about the same; else finds it now."""
        note = out / number / "result"
        try:
            old = json.loads(note.read_text())
            if old["key"] == key and old["ok"]:
                return True, old["why"]
        except (FileNotFoundError, ValueError, KeyError):
            pass
        ok, why = find()
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps({"key": key, "ok": ok, "why": why}))
        return ok, why

    def look_at(mutant):
        why = wrong_with(mutant, top, suites)
        if why or mode == "apply":
            return not why, why or "it can be applied"
        if mode == "build":
            return in_workshop(lambda workshop: compiles(workshop, mutant))
        key = hashlib.sha256((digest + mutant.text()).encode()).hexdigest()
        return kept(mutant.number, key, lambda: in_workshop(lambda workshop: judge(workshop, mutant, limit)))

    if mode == "run" and first:
        items = sorted({item for m in mutants for item in m.items})
        key = digest + " ".join(items)

        def judge_none():
            folder = out / "00"
            with ThreadPoolExecutor(vms) as pool:
                shares = pool.map(
                    lambda i: in_workshop(lambda workshop: fail_anyway(workshop, folder / f"{i + 1}", items[i::vms], limit)),
                    range(min(vms, len(items))),
                )
                wrong = sorted(sum(shares, []))
            return not wrong, f"failed: {' '.join(wrong)}; see {folder}" if wrong else f"{len(items)} items pass"

        check("00 nothing is changed", kept("00", key, judge_none))
        if failed:
            sys.exit("mutants: error: the tests fail without a mutation, so they kill nobody")
    with ThreadPoolExecutor(vms) as pool:
        for mutant, found in zip(mutants, pool.map(look_at, mutants)):
            check(f"{mutant.number} {mutant.title}", found)
    print(f"# {count - failed} of {count} {'are noticed' if mode == 'run' else 'are well'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
