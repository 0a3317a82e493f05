#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What `make stress LONG=1` does very often (stress-counts.sh), done a few times: arming against disarming, paths that
# leave and return, controllers that reconnect under I/O, loads and unloads while disks come and go.
# Time limit: 900 s
export RMPATH_RACES=${RMPATH_RACES:-10000} RMPATH_FLAPS=${RMPATH_FLAPS:-600} RMPATH_RECONNECTS=${RMPATH_RECONNECTS:-12} \
	RMPATH_RELOADS=${RMPATH_RELOADS:-6}
exec "$(dirname "$0")/stress-counts.sh"
