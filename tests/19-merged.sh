#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Bios that hang together: the queue of a path makes one request of many bios, and ends them all when that fails. Each
# goes to another path by itself, through a head and through a map, and the data is right there.
. "$(dirname "$0")/lib.sh"

[ -d /sys/module/null_blk ] || modprobe null_blk nr_devices=0 || skip_all "no null_blk"
rmpath_load auto_attach=0 && nullb nbmerge1 32 && nullb nbmerge2 32 || bail "no paths"
bad=$CONFIGFS/nullb/nbmerge1/badblocks
all=0-$(($(sectors nbmerge1) - 1))

# written DEVICE SEED NAME: four megabytes through the page cache, block by block, while the first disk fails all writes.
written() {
	local merges
	merges=$(stat_of nbmerge1 6)
	echo "+$all" >"$bad"
	is "$(sysio "open $1 buffered" "write 0 4194304 $2" fsync)" OK "$3: no write fails"
	merges=$(($(stat_of nbmerge1 6) - merges))
	echo "-$all" >"$bad"
	check "$3: bios were merged ($merges)" test "$merges" -ge 1
	is "$(sysio "open /dev/nbmerge2 ro" "verify 0 4194304 $2")" OK "$3: all is on the other path"
}

join() { add_path "device=/dev/nbmerge$1 wwid=rmt-merged"; }
check "a path makes a head" join 1
check "another one joins it" join 2
HEAD=$(heads)
echo 0 >"$(hattr "$HEAD" probe_secs)"
attr "$(path_dir "$HEAD" nbmerge2)/state" non-optimized >/dev/null
written "/dev/$HEAD" 1 "a head"
is "$(value "$(path_dir "$HEAD" nbmerge1)/state")" failed "the path has failed"
check "the head goes" remove_head "$HEAD"

dm_make rmt-merged "0 $(sectors nbmerge1) rmpath 0 0 2 1 round-robin 0 1 0 /dev/nbmerge1 round-robin 0 1 0 /dev/nbmerge2" ||
	bail "no map"
written "$(dm_node rmt-merged)" 2 "a map"
like "$(dmset status rmt-merged)" "nbmerge1 F|$(devno nbmerge1) F" "its path has failed"
dmset remove --retry rmt-merged
count_is 0 "no reference is left"

done_testing
