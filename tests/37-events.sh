#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# User space hears of paths that come, fail, are reinstated and go, and of the head's state: change events of the disk
# with RMPATH_ variables. However fast things change, the last state is told.
. "$(dirname "$0")/lib.sh"

sdebug_paths
na=$(devno "$a") nb=$(devno "$b")
server e
is "$(ask e listen)" OK "the kernel's events are listened to"

heard=
# hears EVENT...: they have come by now, in whatever order.
hears() {
	local new event
	new=$(ask e "heard rmpath0")
	[ "$new" = - ] || heard+=" $new"
	for event; do [[ " $heard " = *" $event "* ]] || return 1; done
}
# hear NAME EVENT...: what was heard before counts no more after that.
hear() {
	eventually 30 "$1" hears "${@:2}" || diag "heard:$heard"
	heard=
}

add_path "device=/dev/$a" && settled_node rmpath0 || bail "no head"
hear "the first path" "PATH_ADDED,$na,optimized,1,live"
add_path "device=/dev/$b state=non-optimized" || bail "no second path"
hear "the second" "PATH_ADDED,$nb,non-optimized,2,live"
pa=$(path_dir rmpath0 "$a") pb=$(path_dir rmpath0 "$b")
echo optimized >"$pb/state"
hear "another access state" "PATH_CHANGED,$nb,optimized,2,live"
echo failed >"$pb/state"
hear "a path failed by hand" "PATH_FAILED,$nb,failed,1,live"
echo non-optimized >"$pb/state"
hear "and reinstated" "PATH_REINSTATED,$nb,non-optimized,2,live"

# By I/O, and no probe lets it in again.
if [ -e "$(inject_file "$a")" ]; then
	echo 0 >"$(hattr rmpath0 probe_secs)"
	inject "$a" WRITE TRANSPORT
	is "$(sysio "open /dev/rmpath0" "write 0 4096 1")" OK "a write fails over"
	hear "the path that failed under I/O" "PATH_FAILED,$na,failed,1,live"
	inject_none "$a"
	echo optimized >"$pa/state"
	hear "it is reinstated" "PATH_REINSTATED,$na,optimized,2,live"
else
	skip "a path that fails under I/O" "this kernel has no CONFIG_BLK_ERROR_INJECTION"
fi

# Both at once, over and over: each event is true, and the last is the last.
for _ in 1 2 3 4 5 6; do
	echo failed >"$pa/state"
	echo failed >"$pb/state"
	echo optimized >"$pa/state"
	echo optimized >"$pb/state"
done
echo inaccessible >"$pb/state"
# As the state is told that there is then, that it was optimized for a moment may not have been.
last() { hears "PATH_CHANGED,$nb,inaccessible,1,live" || hears "PATH_REINSTATED,$nb,inaccessible,1,live"; }
eventually 30 "the last of many changes" last || diag "heard: $heard"
heard=
echo optimized >"$pb/state"
hear "and the one after it" "PATH_CHANGED,$nb,optimized,2,live"

# Gone and back.
echo 600 >"$(hattr rmpath0 delayed_removal_secs)"
remove_path "$b"
hear "a path that leaves" "PATH_REMOVED,$nb,dead,1,live"
remove_path "$a"
hear "the last one, and the removal that is pending" "STATE_CHANGED,-,-,0,removal-pending" "PATH_REMOVED,$na,dead,0,removal-pending"
add_path "device=/dev/$b" || bail "the path does not return"
hear "a path that returns, and saves the head" "PATH_ADDED,$nb,optimized,1,live" "STATE_CHANGED,-,-,1,live"
echo 0 >"$(hattr rmpath0 delayed_removal_secs)"
check "the head is removed" remove_head rmpath0
count_is 0 "no event keeps a reference"

# Removed while its paths fail and return.
for _ in 1 2 3; do
	add_path "device=/dev/$a" && add_path "device=/dev/$b" || bail "no head"
	head=$(heads)
	pa=$(path_dir "$head" "$a")
	for _ in 1 2 3 4; do
		echo failed >"$pa/state"
		echo optimized >"$pa/state"
	done
	remove_head "$head" || bail "the head stays"
done
count_is 0 "nor do those of a head that is removed"
check "the module unloads" rmpath_unload

done_testing
