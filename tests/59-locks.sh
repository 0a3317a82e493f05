#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# No lock is taken for an I/O on its way through a head or a map whose paths are well, beyond those that the path's own
# disk takes for it, and, for a map, those that device-mapper takes for any. By the kernel's lock statistics.
. "$(dirname "$0")/lib.sh"

[ -e /proc/lock_stat ] || skip_all "this kernel has no CONFIG_LOCK_STAT"
modprobe dm-mod && modprobe dm-delay
rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 && nullb nbc 16 || bail "no disks"
# more BASE DISK
more() { python3 "$TESTS/lockstat.py" 400 "$@"; }

add_path "device=/dev/nba wwid=l" && add_path "device=/dev/nbb wwid=l" || bail "no head"
HEAD=$(head_of l)
settled_node "$HEAD" || bail "the head has no node"
for p in round-robin numa queue-depth service-time historical-service-time; do
	attr "$(hattr "$HEAD" iopolicy)" $p >/dev/null
	is "$(more /dev/nba "/dev/$HEAD")" none "$p: the head takes none"
done
attr "$(hattr "$HEAD" marginal_path_err_sample_time)" 60 >/dev/null
is "$(more /dev/nba "/dev/$HEAD")" none "nor when it looks for marginal paths"
check "the head goes" remove_head "$HEAD"

dm_make rmt-linear "0 32768 linear /dev/nbc 0" || bail "no map"
for s in round-robin queue-length service-time historical-service-time; do
	dm_make rmt-locks "0 32768 rmpath 0 0 1 1 $s 0 2 0 /dev/nba /dev/nbb" || bail "no map"
	is "$(more "$(dm_node rmt-linear)" "$(dm_node rmt-locks)")" none "$s: the target takes none"
	dmset remove --retry rmt-locks
done
# And if one were taken, it would show: dm-delay has one for each I/O.
dm_make rmt-locks "0 32768 delay /dev/nba 0 1" || bail "no map"
like "$(more "$(dm_node rmt-linear)" "$(dm_node rmt-locks)")" 'delayed_bios_lock [1-9]' "one that is taken shows"
dmset remove --retry rmt-locks
done_testing
