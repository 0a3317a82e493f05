# SPDX-License-Identifier: GPL-2.0
"""How the kernel complains."""

import re

SPLAT = re.compile(
    r"^WARNING: |\bBUG: |\bBUG at |\bKASAN: |\bUBSAN: |\bODEBUG: |^INFO: (task|possible|trying to register)|"
    r"rcu: INFO: |suspicious RCU usage|self-detected stall|detected stalls|blocked for more than|"
    r"inconsistent lock state|invalid wait context|held lock freed|lock held when returning|bad unlock balance|"
    r"circular locking|recursive locking|workqueue lockup|soft lockup|hard LOCKUP|refcount_t: |"
    r"list_(add|del) corruption|general protection fault|^Oops|Kernel panic|unreferenced object|"
    r"rust_kernel: panicked|kmem_cache_destroy .*: |DEADLOCK"
)


def splats(messages):
    """The messages from the first splat on, or none. Not too many: the console has them all."""
    for i, message in enumerate(messages):
        if SPLAT.search(message):
            return messages[i : i + 80]
    return []
