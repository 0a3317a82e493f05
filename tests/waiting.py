# SPDX-License-Identifier: GPL-2.0
"""What the tests in Python wait by, and name errors by."""

import errno
import os
import time

# The factor on every limit of time, as in lib.sh.
PATIENCE = int(os.environ.get("RMPATH_PATIENCE", "1"))


def wait_until(what, condition, secs=60):
    """Polls until the condition holds."""
    end = time.monotonic() + secs * PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(what)
        time.sleep(0.01)


def attempt(action, *args):
    """What an action ends with: OK, or an errno's name."""
    try:
        action(*args)
    except OSError as err:
        return errno.errorcode[err.errno]
    return "OK"
