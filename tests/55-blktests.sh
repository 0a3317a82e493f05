#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The test group for blktests, by the stand-in for its runner, each test short and over the loop transport.
# Time limit: 1800 s
exec env BLKTESTS= RMPATH_TRTYPES=loop RMPATH_FIO_SECS="${RMPATH_FIO_SECS:-3}" "$(dirname "$0")/blktests.sh"
