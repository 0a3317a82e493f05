#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A path that stalls while the new head's partitions are looked for blocks no change of paths: another path joins, states
# are set, paths leave and come back, the head is removed, other heads are made and removed, all while that read hangs.
# Nor does one that may not be used at all, when the read waits at the head itself; it goes on, or ends, with what is waited
# for.
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod
rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 && nullb nbc 16 || bail "no devices"
dm_make rmt-stall "0 32768 linear /dev/nba 0" || bail "no map"
stalled=$(dm_node rmt-stall) stalled_disk=$(basename "$(dm_node rmt-stall)")
stall() { dmset suspend --nolockfs --noflush rmt-stall; }
let_go() { dmset resume rmt-stall; }
defer let_go

# begin: a head whose scan hangs in its only path.
begin() {
	stall || bail "the map cannot be suspended"
	check "the stalled path makes a head" within 60 add_path "device=$stalled wwid=stalled"
	HEAD=$(head_of stalled)
	slow=$(path_dir "$HEAD" "$stalled_disk")
	eventually 60 "the scan hangs there" at_least "$slow/inflight" 1
}
soon() { check "$1" within 60 "${@:2}"; }
closed() { answers OK "open /dev/$1 excl"; }

begin
echo 600 >"$(hattr "$HEAD" delayed_removal_secs)"
soon "another path joins" add_path "device=/dev/nbb wwid=stalled"
has_both() { has_paths "$HEAD" "$stalled_disk" nbb; }
check "the head has both" has_both
soon "the stalled path is failed by hand" sh -c "echo failed >$slow/state"
soon "and reinstated" sh -c "echo non-optimized >$slow/state"
soon "the other one leaves" remove_path nbb
eventually 60 "its disk is closed" closed nbb
soon "and comes back" add_path "device=/dev/nbb wwid=stalled"
soon "the stalled path is told to go" sh -c "echo 1 >$slow/delete"
is "$(value "$slow/state")" dead "it is not used any more"
is "$(value "$slow/inflight")" 1 "but not closed before its read has come back"
soon "the last path leaves" remove_path nbb
eventually 60 "the removal is pending" hstate_is "$HEAD" removal-pending
soon "a path returns" add_path "device=/dev/nbb wwid=stalled"
is "$(hstate "$HEAD")" live "the head is live"
soon "another head is made" add_path "device=/dev/nbc wwid=other"
OTHER=$(head_of other)
is "$(sysio "open /dev/$OTHER ro" "read 0 4096")" OK "and read"
soon "and removed" remove_head "$OTHER"
is "$(value "$slow/inflight")" 1 "the scan hangs to this moment"
let_go
eventually 60 "when it is let go the path leaves" has_paths "$HEAD" nbb
is "$(sysio "open /dev/$HEAD ro" "read 0 4096")" OK "and the head reads"
check "it is removed" remove_head "$HEAD"
count_is 0 "with its reference"

# The head itself is told to go.
begin
soon "another path joins once more" add_path "device=/dev/nbb wwid=stalled"
soon "the head is told to go" sh -c "echo 1 >/sys/block/$HEAD/rmpath/delete"
eventually 60 "its other path is closed" closed nbb
soon "which makes a head of its own" add_path "device=/dev/nbb wwid=second"
soon "that goes" remove_head "$(head_of second)"
check "the first one waits for its read" exists "/sys/block/$HEAD"
let_go
eventually 60 "and goes with it" gone "/sys/block/$HEAD"
count_is 0 "all references are back"

# The scan waits for a path that can be used.
parked() {
	soon "$1: a path that is inaccessible makes a head" add_path "device=/dev/nbb wwid=parked state=inaccessible"
	HEAD=$(head_of parked)
	eventually 60 "$1: the scan waits" at_least "$(hattr "$HEAD" requeued)" 1
}
parked "the path leaves"
soon "the path leaves: it is told to" remove_path nbb
eventually 60 "the path leaves: so does the head" no_head parked
eventually 60 "and the disk is closed" closed nbb
parked "the head is told to go"
soon "the head is told to go: it is" sh -c "echo 1 >/sys/block/$HEAD/rmpath/delete"
eventually 60 "the head is told to go: it does" no_head parked
eventually 60 "and the disk is closed" closed nbb
parked "the path becomes optimized"
soon "the path becomes optimized: it does" sh -c "echo optimized >$(path_dir "$HEAD" nbb)/state"
eventually 60 "the path becomes optimized: nothing waits" reads "$(hattr "$HEAD" requeued)" 0
is "$(sysio "open /dev/$HEAD ro" "read 0 4096")" OK "and the head reads"
check "it is removed" remove_head "$HEAD"
count_is 0 "all references are back once more"

done_testing
