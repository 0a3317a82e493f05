#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""breakdown.py [ROW [BASE]]: in which functions the instructions of one read are, by qemu's log of each of them.

ROW is a line of the table that bench.sh prints ("rmpath head, round-robin"), BASE the one that it is compared with ("raw
null_blk"); "" for none. Prints, per function, how many instructions one read takes there, more than with BASE, and how
often it is called. The dev kernel and the module are built as for bench.sh, which also says how the VM counts.
"""

import bisect
import collections
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
# An I/O begins here.
FIRST = "blkdev_read_iter"
# As much log as some hundred reads make.
ENOUGH = 100_000_000


def capture(row, folder):
    """Runs the row and logs its instructions for a while; where the log is."""
    log = folder / "monitor.log"
    vm = subprocess.Popen(
        [TOP / "scripts/vm.sh", "--icount", "--monitor", folder / "monitor", "--results", folder, "--env", f"ONLY={row}",
         "--env", "TRACE=yes", "--", "scripts/guest-bench.sh"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )
    if not any(line.startswith("tracing ") for line in vm.stdout):
        sys.exit(f"breakdown: error: there is no row '{row}', or it cannot be run")
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(str(folder / "monitor"))

        def tell(command):
            monitor.sendall(command.encode() + b"\n")
            time.sleep(0.1)

        for command in ("stop", "one-insn-per-tb on", "log exec,nochain", "cont"):
            tell(command)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and log.stat().st_size < ENOUGH:
            time.sleep(0.2)
        for command in ("stop", "log none", "quit"):
            tell(command)
    vm.wait()
    return log


def functions(folder):
    """The addresses of all functions, sorted, and their names."""
    found = []
    for line in (folder / "kallsyms").read_text().splitlines():
        address, kind, name = line.split(maxsplit=2)
        if kind in "tTwW":
            found.append((int(address, 16), " ".join(name.split())))
    found.sort()
    return [address for address, _ in found], [name for _, name in found]


def reads(log, first):
    """The instructions of each read, as addresses."""
    address = re.compile(r"\[[0-9a-f]+/([0-9a-f]+)/")
    current = None
    with open(log, errors="replace", encoding="utf-8") as lines:
        for line in lines:
            if not (match := address.search(line)):
                continue
            pc = int(match[1], 16)
            if pc == first:
                if current:
                    yield current
                current = []
            if current is not None:
                current.append(pc)


def breakdown(row):
    """Function -> instructions per read, and function -> calls per read."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        log = capture(row, folder)
        addresses, names = functions(folder)
        all_reads = list(reads(log, addresses[names.index(FIRST)]))
    if not all_reads:
        sys.exit(f"breakdown: error: no read was seen on '{row}'")
    # Those without an interrupt.
    usual = sorted(map(len, all_reads))[len(all_reads) // 2]
    some = [pcs for pcs in all_reads if abs(len(pcs) - usual) <= 8]
    instructions, calls = collections.Counter(), collections.Counter()
    for pcs in some:
        for pc in pcs:
            index = bisect.bisect_right(addresses, pc) - 1
            # User space is below all functions of the kernel.
            name = names[index] if pc >> 63 else "(user space)"
            instructions[name] += 1
            calls[name] += pc == addresses[index]
    return {n: c / len(some) for n, c in instructions.items()}, {n: c / len(some) for n, c in calls.items()}


def main():
    if sys.argv[1:2] and sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    row, base = (sys.argv[1:] + ["rmpath head, round-robin", "raw null_blk"][len(sys.argv) - 1:])[:2]
    for script in ("setup.sh", "kernel.sh dev", "build.sh dev"):
        subprocess.run([TOP / "scripts" / script.split()[0], *script.split()[1:]], check=True, stdout=subprocess.DEVNULL)
    less = breakdown(base)[0] if base else {}
    more, calls = breakdown(row)
    rest = 0
    print(f"{'added' if base else 'all':>8} {'calls':>6}  function")
    for name in sorted(set(more) | set(less), key=lambda n: less.get(n, 0) - more.get(n, 0)):
        added = more.get(name, 0) - less.get(name, 0)
        if abs(added) < 0.95:
            rest += added
            continue
        print(f"{added:8.1f} {calls.get(name, 0):6.1f}  {name}")
    print(f"{rest:8.1f}         the rest\n{sum(more.values()) - sum(less.values()):8.1f}         all")


main()
