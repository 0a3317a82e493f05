#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""guest-memory.py: the part of bench.sh that measures memory: of a map of dm-multipath and of the target, of each further
path of theirs, and of an I/O that is under way, there and on a head. What heads take at rest, scale.sh measures.

It runs in the VM, with the modules loaded. Prints "NAME<tab>BYTES" for each: what the kernel has allocated more than
without it, of an I/O more than the same I/O takes on the bare disk.
"""

import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
import dmioctl  # noqa: E402
import scale  # noqa: E402

MAPS, PATHS = 64, 9
# Of a disk, in MiB.
SIZE = 64
DEPTH = 4096
NULLB = pathlib.Path("/sys/kernel/config/nullb")
KINDS = {"multipath": "dm-multipath, bio", "rmpath": "rmpath target"}


def make_disk(name):
    item = NULLB / name
    item.mkdir()
    (item / "size").write_text(str(SIZE))
    (item / "power").write_text("1")
    return name if pathlib.Path("/sys/block", name).exists() else f"nullb{(item / 'index').read_text().strip()}"


def make(name, kind, disks):
    sectors = int(pathlib.Path(f"/sys/block/{disks[0]}/size").read_text())
    paths = " ".join(f"/dev/{disk} 1" for disk in disks)
    dmioctl.create(name)
    dmioctl.load(name, sectors, kind, f"2 queue_mode bio 0 1 1 round-robin 0 {len(disks)} 1 {paths}")
    dmioctl.resume(name)


def maps(kind, disks):
    """Bytes that a map over these disks takes."""
    for _ in range(2):
        # The first time things are set up that stay.
        before = scale.memory()
        for number in range(MAPS):
            make(f"memory{number}", kind, disks)
        used = scale.memory() - before
        for number in range(MAPS):
            dmioctl.remove(f"memory{number}")
    return used * 1024 // MAPS


def under_way(node, slow):
    """Bytes that so many reads take while they are under way on this disk: until the map below is resumed."""
    before = scale.memory()
    fio = subprocess.Popen(
        ["fio", "--name=memory", f"--filename={node}", "--rw=read", "--bs=4k", "--direct=1", "--ioengine=libaio",
         f"--iodepth={DEPTH}", f"--iodepth_batch_submit={DEPTH}", f"--number_ios={DEPTH}", "--thread"],
        stdout=subprocess.DEVNULL,
    )
    while pathlib.Path("/proc/sys/fs/aio-nr").read_text() == "0\n" and fio.poll() is None:
        time.sleep(0.01)
    # It is about to send them, which takes a tenth of that.
    time.sleep(1)
    used = scale.memory() - before
    if fio.poll() is not None:
        sys.exit(f"memory: error: the reads of {node} were done too soon")
    dmioctl.resume(slow)
    if fio.wait():
        sys.exit(f"memory: error: fio failed on {node}")
    dmioctl.suspend(slow)
    return used * 1024


def main():
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    disks = [make_disk(f"memory{number}") for number in range(PATHS)]
    for kind, name in KINDS.items():
        one, all_of_them = maps(kind, disks[:1]), maps(kind, disks)
        print(f"{name}: a map of one path\t{one}")
        print(f"{name}: a further path\t{(all_of_them - one) // (PATHS - 1)}")

    # A map that is suspended keeps what is sent to it. A head wants one to itself.
    slow = {"slow": None, "slower": None}
    for name, disk in zip(slow, disks):
        dmioctl.create(name)
        dmioctl.load(name, SIZE << 11, "linear", f"/dev/{disk} 0")
        dmioctl.resume(name)
        slow[name] = pathlib.Path(dmioctl.node(name)).resolve().name
    for kind in KINDS:
        make(f"on-{kind}", kind, [slow["slow"]])
    pathlib.Path("/sys/class/rmpath/add_path").write_text(f"device=/dev/{slow['slower']} wwid=memory\n")
    head = next(
        head for head in pathlib.Path("/sys/block").glob("rmpath*")
        if (head / "rmpath/wwid").read_text().strip() == "memory"
    )
    for name in slow:
        dmioctl.suspend(name)
    # The first time things are set up that stay.
    bare = [under_way(dmioctl.node("slow"), "slow") for _ in range(2)][1]
    for kind, name in KINDS.items():
        print(f"{name}: a read under way\t{(under_way(dmioctl.node(f'on-{kind}'), 'slow') - bare) // DEPTH}")
    print(f"rmpath head: a read under way\t{(under_way(f'/dev/{head.name}', 'slower') - bare) // DEPTH}")
    for name in slow:
        dmioctl.resume(name)
    for kind in KINDS:
        dmioctl.remove(f"on-{kind}")
    (head / "rmpath/delete").write_text("1\n")
    while head.exists():
        time.sleep(0.1)
    for name in slow:
        dmioctl.remove(name)


main()
