#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does one thing to rmpath very often, without a process for each time: churn.py WHAT COUNT SECS ARG...

It ends when it has been done COUNT times, or when SECS have gone by, or the first time that it fails. A minute's progress
is a line that begins with #; the last line says how far it came, and is "ok ..." or "not ok ...".

    flaps WWID=DISK ...      the path leaves its head and comes back; each head in a thread of its own
    reconnects HEAD PORT...  the controller of that loop port is disconnected and connected, and the head has the path of
                             its namespace again; each port in a thread of its own
    reloads FILE DISK OTHER  the module is loaded from there, a head is made of the disk and deleted, and the module is
                             unloaded; OTHER, a null_blk disk, comes and goes meanwhile
"""

import errno
import os
import pathlib
import sys
import threading
import time

import kmod
import race
from waiting import wait_until

NVME = pathlib.Path("/sys/class/nvme")
CONFIGFS = pathlib.Path("/sys/kernel/config/nullb")
REFCNT = pathlib.Path("/sys/module/rmpath/refcnt")


def text_of(path):
    """None when it has gone, or is going."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


class Churn:
    """How often something has been done, by all threads together."""

    def __init__(self, what, count, secs):
        self.what, self.count = what, count
        self.start = time.monotonic()
        self.end = self.start + secs
        self.lock = threading.Lock()
        self.begun = self.done = 0
        self.error = None

    def turns(self):
        """A number for each turn that this thread is to take. One that it does not come back from was not done."""
        while True:
            with self.lock:
                if self.error or self.begun == self.count or time.monotonic() >= self.end:
                    return
                turn = self.begun
                self.begun += 1
            yield turn
            with self.lock:
                self.done += 1

    def secs(self):
        return int(time.monotonic() - self.start)

    def run(self, step, *args):
        try:
            step(self.turns(), *args)
        except Exception as err:  # pylint: disable=broad-except
            self.fail(f"{step.__name__} {' '.join(map(str, args))}: {err!r}")

    def fail(self, error):
        with self.lock:
            self.error = self.error or error

    def all(self, steps):
        threads = [threading.Thread(target=self.run, args=step) for step in steps]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(60)
                if thread.is_alive():
                    print(f"# {self.what}: {self.done} in {self.secs()} s", flush=True)
        good = not self.error and (self.done == self.count or 0 < self.done and time.monotonic() >= self.end)
        print(f"{'ok' if good else 'not ok'} {self.what}: {self.done} of {self.count} in {self.secs()} s")
        if self.error:
            print(f"# {self.error}")


# --- Paths that leave and come back ---------------------------------------------------------------------------------------


def flap(turns, wwid, disk):
    for _ in turns:
        race.put(race.CLASS + "remove_path", f"device=/dev/{disk}")
        race.put(race.CLASS + "add_path", f"device=/dev/{disk} wwid={wwid}")


# --- Controllers that go and come -----------------------------------------------------------------------------------------


def controller(port):
    """Of the loop port, if it is connected."""
    for folder in NVME.glob("nvme*"):
        if text_of(folder / "address") == f"traddr={port}":
            return folder
    return None


def is_path(head, ctrl):
    for disk in ctrl.glob("nvme*n*"):
        try:
            return bool(race.path_folder(head, disk.name))
        except OSError:
            pass
    return False


def reconnect(turns, head, port):
    for _ in turns:
        ctrl = controller(port)
        if ctrl is None:
            raise OSError(errno.ENOTCONN, f"no controller of port {port}")
        nqn = (ctrl / "subsysnqn").read_text().strip()
        race.put(ctrl / "delete_controller", 1)
        wait_until(f"{ctrl.name} goes", lambda ctrl=ctrl: not ctrl.exists(), 300)
        race.put("/dev/nvme-fabrics", f"nqn={nqn},keep_alive_tmo=120,transport=loop,traddr={port}")
        wait_until(f"port {port} is connected", lambda: controller(port), 300)
        ctrl = controller(port)
        wait_until(f"{ctrl.name} has a path", lambda ctrl=ctrl: is_path(head, ctrl), 300)


# --- A module that is loaded and unloaded ---------------------------------------------------------------------------------


def head_of(wwid):
    for folder in race.BLOCK.glob("rmpath*"):
        if text_of(folder / "rmpath/wwid") == wwid:
            return folder
    return None


def reload(turns, file, disk):
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    for turn in turns:
        kmod.load(fd, f"auto_attach={turn % 3}")
        race.put(race.CLASS + "add_path", f"device=/dev/{disk} wwid=reload")
        head = head_of("reload")
        race.put(head / "rmpath/delete", 1)
        wait_until(f"{head.name} goes", lambda head=head: not head.exists(), 300)
        wait_until("no reference is left", lambda: text_of(REFCNT) == "0", 300)
        kmod.unload()
    os.close(fd)


def come_and_go(churn, disk, stop):
    folder = CONFIGFS / disk
    try:
        while not stop.wait(0.1):
            folder.mkdir()
            for name in ("size=16", "memory_backed=1", "power=1", "power=0"):
                race.put(folder / name.partition("=")[0], name.partition("=")[2])
            folder.rmdir()
    except OSError as err:
        churn.fail(f"{disk}: {err}")


def main():
    what, count, secs, args = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    churn = Churn(what, count, secs)
    if what == "flaps":
        churn.all((flap, *arg.split("=")) for arg in args)
    elif what == "reconnects":
        churn.all((reconnect, args[0], port) for port in args[1:])
    elif what == "reloads":
        stop = threading.Event()
        comer = threading.Thread(target=come_and_go, args=(churn, args[2], stop))
        comer.start()
        churn.all([(reload, *args[:2])])
        stop.set()
    else:
        sys.exit(f"churn: no such thing: {what}")


if __name__ == "__main__":
    main()
