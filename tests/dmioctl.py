# SPDX-License-Identifier: GPL-2.0
"""The device-mapper ioctls that the tests need, for sysio.py: no process for each, and the errno as it is."""

import collections
import fcntl
import os
import struct

CONTROL = "/dev/mapper/control"
# struct dm_ioctl: version, data_size, data_start, target_count, open_count, flags, event_nr, padding, dev, name, uuid
HEADER = struct.Struct("<3I3IiIIIQ128s129s7x")
# struct dm_target_spec: sector_start, length, status, next, target_type
SPEC = struct.Struct("<QQiI16s")
CREATE, REMOVE, SUSPEND, DEV_STATUS, LOAD, CLEAR, TABLE_STATUS, MESSAGE = 3, 4, 6, 7, 9, 10, 12, 14
SUSPENDED, STATUS_TABLE, NOFLUSH, INACTIVE = 1 << 1, 1 << 4, 1 << 11, 1 << 12
DEFERRED_REMOVE, IMA = 1 << 17, 1 << 19
ROOM = 16384

Reply = collections.namedtuple("Reply", "event targets data dev flags open_count")


def prepare(number, name, flags=0, targets=0, data=b""):
    """The number of an ioctl and what it takes."""
    size = HEADER.size + max(ROOM, len(data))
    head = HEADER.pack(4, 0, 0, size, HEADER.size, targets, 0, flags, 0, 0, 0, name.encode(), b"")
    return 3 << 30 | HEADER.size << 16 | 0xFD << 8 | number, bytearray((head + data).ljust(size, b"\0"))


def call(number, name, flags=0, targets=0, data=b""):
    """One ioctl; returns what came back."""
    request, buf = prepare(number, name, flags, targets, data)
    fd = os.open(CONTROL, os.O_RDWR)
    try:
        fcntl.ioctl(fd, request, buf)
    finally:
        os.close(fd)
    fields = HEADER.unpack_from(buf)
    return Reply(fields[8], fields[5], bytes(buf[fields[4] :]), fields[10], fields[7], fields[6])


def create(name):
    call(CREATE, name)


def remove(name, *options):
    call(REMOVE, name, DEFERRED_REMOVE if "deferred" in options else 0)


def node(name):
    """What devtmpfs calls it."""
    return f"/dev/dm-{call(DEV_STATUS, name).dev & 0xFF}"


def clear(name):
    call(CLEAR, name)


def load(name, length, target, params):
    spec = SPEC.pack(0, int(length), 0, 0, target.encode())
    data = spec + params.encode() + b"\0"
    call(LOAD, name, targets=1, data=data + bytes(-len(data) % 8))


def suspend(name, *options):
    call(SUSPEND, name, SUSPENDED | (NOFLUSH if "noflush" in options else 0))


def resume(name):
    call(SUSPEND, name)


def message_data(text):
    return struct.pack("<Q", 0) + text.encode() + b"\0"


def message(name, text):
    call(MESSAGE, name, data=message_data(text))


def lines(name, flags=0):
    """The table, or without STATUS_TABLE the status, a line for each target, as dmsetup prints it."""
    reply = call(TABLE_STATUS, name, flags)
    data, at, out = reply.data, 0, []
    for _ in range(reply.targets):
        start, length, _, following, target = SPEC.unpack_from(data, at)
        text = data[at + SPEC.size :].split(b"\0")[0].decode()
        out.append(f"{start} {length} {target.rstrip(chr(0).encode()).decode()} {text}")
        at = following
    return ", ".join(out)
