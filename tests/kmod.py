# SPDX-License-Identifier: GPL-2.0
"""A module, loaded and unloaded by system calls."""

import ctypes
import os

DELETE_MODULE = 176  # x86-64
FINIT_MODULE = 313


def syscall(*args):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*args):
        raise OSError(ctypes.get_errno(), "a system call")


def load(fd, params=""):
    """From a file that is open."""
    syscall(FINIT_MODULE, fd, ctypes.c_char_p(params.encode()), 0)


def unload():
    """rmpath. EAGAIN while it is in use."""
    syscall(DELETE_MODULE, ctypes.c_char_p(b"rmpath"), os.O_NONBLOCK)
