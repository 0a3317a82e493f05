#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Many heads at once, for 42-scale.sh; one process, because thousands of them would be what is measured.

    attach FIRST COUNT PATHS THREADS   heads scale-FIRST and so on, each of PATHS of the disks nullb0, nullb1, ...; so
                                       many at a time. Prints the milliseconds that took: with one thread, the median's
                                       times their number, so that one that was held up by something else does not count
    more FIRST COUNT HAVE PATHS        gives each of these heads, which has HAVE paths, PATHS more
    remove FIRST COUNT PATHS           takes these paths away by remove_path, one after the other; milliseconds likewise
    delete                             deletes all heads and waits until they are gone; milliseconds
    memory                             what the kernel has allocated, in KiB
"""

import concurrent.futures
import pathlib
import statistics
import sys
import time

CLASS = pathlib.Path("/sys/class/rmpath")
STRIDE = 4  # how many disks each head has to itself


def put(path, text):
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())


def add(head, path):
    put(CLASS / "add_path", f"device=/dev/nullb{head * STRIDE + path} wwid=scale-{head}\n")


def in_threads(threads, function, items):
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        list(pool.map(function, items))


def in_turn(function, items):
    """One after the other; the milliseconds, by the median."""
    times = []
    for item in items:
        start = time.monotonic()
        function(item)
        times.append(time.monotonic() - start)
    return round(statistics.median(times) * len(times) * 1000)


def attach(first, count, paths, threads):
    def head(number):
        for path in range(paths):
            add(number, path)

    if threads == 1:
        return in_turn(head, range(first, first + count))
    return in_threads(threads, head, range(first, first + count))


def more(first, count, have, paths):
    for number in range(first, first + count):
        for path in range(have, have + paths):
            add(number, path)


def remove(first, count, paths):
    def head(number):
        for path in range(paths):
            put(CLASS / "remove_path", f"device=/dev/nullb{number * STRIDE + path}\n")

    return in_turn(head, range(first, first + count))


def delete():
    heads = list(pathlib.Path("/sys/block").glob("rmpath*"))
    for head in heads:
        put(head / "rmpath/delete", "1\n")
    while any(head.exists() for head in heads):
        time.sleep(0.05)


def memory():
    """All kinds of allocations that a disk is made of. What has been freed, but only after a grace period, is given
    the time for it; inodes of sysfs files that somebody looked at do not count."""
    last = None
    for _ in range(50):
        put("/proc/sys/vm/drop_caches", "3\n")
        lines = (line.split() for line in open("/proc/meminfo", encoding="ascii"))
        fields = {line[0]: int(line[1]) for line in lines}
        now = fields["Slab:"] + fields["Percpu:"] + fields["VmallocUsed:"]
        if last is not None and abs(now - last) < 16:
            break
        last = now
        time.sleep(0.2)
    return now


def main():
    name, *numbers = sys.argv[1:]
    start = time.monotonic()
    result = globals()[name](*map(int, numbers))
    print(round((time.monotonic() - start) * 1000) if result is None else result)


if __name__ == "__main__":
    main()
