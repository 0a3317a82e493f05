# SPDX-License-Identifier: GPL-2.0
"""ioctls, persistent reservations and uevents, for sysio.py."""

import array
import collections
import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
import time

PR_STATUS = {2: "IOERR", 0x18: "CONFLICT", 0xE0000: "RETRY", 0xF0000: "FAST_FAILED", 0x10000: "PATH_FAILED"}
SG_IO = 0x2285
# arch/x86/include/uapi/asm/mman.h; Python has no name for it yet.
MAP_32BIT = 0x40
# push %rbx; mov %edi, %ebx; mov %esi, %ecx; mov $54 (ioctl), %eax; int $0x80; pop %rbx; ret
INT_80 = bytes.fromhex("53 89fb 89f1 b836000000 cd80 5b c3")
SG_FROM_DEV = -3


def _iow(number, size):
    return 0x40000000 | size << 16 | ord("p") << 8 | number


IOC_PR = {
    "register": _iow(200, 24),
    "reserve": _iow(201, 16),
    "release": _iow(202, 16),
    "preempt": _iow(203, 24),
    "preempt-abort": _iow(204, 24),
    "clear": _iow(205, 16),
    "keys": 0x80000000 | _iow(206, 16),
    "holder": 0x80000000 | _iow(207, 16) & ~0x40000000,
}


class SgIo(ctypes.Structure):
    """struct sg_io_hdr"""

    _fields_ = [
        ("interface_id", ctypes.c_int),
        ("direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    ]


class Commands:
    """Commands on the open device, self.fd; and of uevents."""

    fd = -1
    events = None

    def do_ioctl(self, number, data=""):
        """The result, and what is in the buffer after it."""
        if not data:
            return str(fcntl.ioctl(self.fd, int(number, 0), 0))
        buf = bytearray.fromhex(data)
        result = fcntl.ioctl(self.fd, int(number, 0), buf)
        return f"{result} {buf.hex()}"

    def do_ioctl32(self, number, data=""):
        """The same by the system call of 32-bit programs, which any program can make: int 0x80, and what it points to
        below 4 GiB. ENOSYS on a kernel that knows no such programs: there it is a fault."""
        child = os.fork()
        if child == 0:
            self._int_80(0xFFFFFFFF, 0, b"")
            os._exit(0)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            raise OSError(errno.ENOSYS, "int 0x80")
        result, after = self._int_80(int(number, 0), self.fd, bytes.fromhex(data))
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return f"{result} {after.hex()}".strip()

    @staticmethod
    def _int_80(number, fd, buf):
        """ioctl() by int 0x80: its result, and the buffer after it."""
        memory = mmap.mmap(
            -1,
            mmap.PAGESIZE,
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_32BIT,
            prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
        )
        memory[: len(INT_80)] = INT_80
        memory[2048 : 2048 + len(buf)] = buf
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint)(address)
        result = call(fd, number, address + 2048 if buf else 0)
        return result, memory[2048 : 2048 + len(buf)]

    def do_inquiry(self, page):
        """A page of vital product data, by SG_IO."""
        data = ctypes.create_string_buffer(252)
        sense = ctypes.create_string_buffer(32)
        cdb = (ctypes.c_ubyte * 6)(0x12, 1, int(page, 16), 0, len(data), 0)
        sg = SgIo(
            interface_id=ord("S"),
            direction=SG_FROM_DEV,
            cmd_len=len(cdb),
            mx_sb_len=len(sense),
            dxfer_len=len(data),
            dxferp=ctypes.addressof(data),
            cmdp=ctypes.addressof(cdb),
            sbp=ctypes.addressof(sense),
            timeout=60000,
        )
        fcntl.ioctl(self.fd, SG_IO, sg)
        if sg.host_status:
            return f"HOST {sg.host_status}"
        return f"STATUS {sg.status}" if sg.status else data.raw[: len(data) - sg.resid].hex()

    def do_pr(self, what, *args):
        """register OLD NEW [ignore], reserve|release KEY TYPE, preempt|preempt-abort KEY VICTIM TYPE, clear KEY,
        keys, holder; keys in hexadecimal."""
        flags = 1 if "ignore" in args else 0
        if what in ("keys", "holder"):
            return self._pr_read(what)
        nums = [int(arg, 16) for arg in args if arg != "ignore"]
        if what == "register":
            data = struct.pack("=QQII", *nums, flags, 0)
        elif what in ("reserve", "release"):
            data = struct.pack("=QII", *nums, flags)
        elif what == "clear":
            data = struct.pack("=QII", *nums, 0, 0)
        else:
            data = struct.pack("=QQII", *nums, 0)
        return self._pr_result(fcntl.ioctl(self.fd, IOC_PR[what], bytearray(data)))

    @staticmethod
    def _pr_result(result):
        return PR_STATUS.get(result, str(result)) if result else "OK"

    def _pr_read(self, what):
        if what == "holder":
            buf = bytearray(16)
            result = fcntl.ioctl(self.fd, IOC_PR[what], buf)
            key, _, kind = struct.unpack("=QII", buf)
            return self._pr_result(result) if result else f"{key:x} {kind}"
        keys = array.array("Q", [0] * 16)
        buf = bytearray(struct.pack("=IIQ", 0, len(keys), keys.buffer_info()[0]))
        result = fcntl.ioctl(self.fd, IOC_PR[what], buf)
        self.generation, count, _ = struct.unpack("=IIQ", buf)
        return self._pr_result(result) if result else " ".join(["keys"] + sorted(f"{k:x}" for k in keys[:count]))

    def do_generation(self):
        """That of the registrations, as pr keys found it."""
        return str(self.generation)

    def do_repeat(self, secs, *words):
        """A command over and over for so long: which answers came, with their counts."""
        seen = collections.Counter()
        end = time.monotonic() + float(secs)
        while time.monotonic() < end:
            seen[self.run(" ".join(words)).split(" ")[0]] += 1
        return " ".join(f"{answer}={count}" for answer, count in sorted(seen.items()))

    def do_listen(self):
        """Keep the kernel's events from now on."""
        # AF_NETLINK, NETLINK_KOBJECT_UEVENT
        self.events = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 15)
        self.events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.events.bind((0, 1))
        self.events.setblocking(False)
        return "OK"

    def do_heard(self, head):
        """Our events of that disk since then: ACTION,path,its state,usable paths,head's state."""
        names = ["ACTION", "PATH", "PATH_STATE", "NR_VALID_PATHS", "STATE"]
        told = []
        while True:
            try:
                data = self.events.recv(16384)
            except OSError as err:
                if err.errno in (errno.EAGAIN, errno.ENOBUFS):
                    break
                raise
            fields = dict(f.partition("=")[::2] for f in data.decode("utf-8", "replace").split("\0")[1:])
            if fields.get("DEVNAME") == head and "RMPATH_ACTION" in fields and fields["ACTION"] == "change":
                told.append(",".join(fields.get("RMPATH_" + name, "-") for name in names))
        return " ".join(told) or "-"

    def do_keep(self, path):
        """Open a file, and keep it."""
        self.kept = os.open(path, os.O_RDONLY)
        return "OK"

    def do_reread(self):
        """How much there is to read in it, from the beginning."""
        os.lseek(self.kept, 0, os.SEEK_SET)
        return str(len(os.read(self.kept, 65536)))

    def do_let_go(self):
        """Close it."""
        os.close(self.kept)
        return "OK"
