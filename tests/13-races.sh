#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Everything at once for a while: paths are added and removed through both doors, the head is opened and closed, all of
# sysfs is read, delayed_removal_secs and states are written, another head comes and goes, rmmod is tried, and verified
# I/O runs over it. At the end the references are what they were and the module unloads.
#
# RMPATH_RACE_SECS  how long (default 15)
. "$(dirname "$0")/lib.sh"

secs=${RMPATH_RACE_SECS:-15}
rmpath_load && sdebug 3 && nullb nba 16 && nullb nbb 16 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2)
check "a head" add_path "device=/dev/$a"
HEAD=$(heads)
# One path stays, so that the verified I/O always has one; the others come and go.
for p in "$b" "$c"; do has_path "$HEAD" "$p" || add_path "device=/dev/$p" 2>/dev/null; done
eventually 60 "with three paths" has_paths "$HEAD" "$a" "$b" "$c"
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
dev=$(devno "$HEAD")
base=$(refcnt)

end=$((SECONDS + secs))
running() { (( SECONDS < end )); }
# Every one of these may be refused at any time; what must not happen is a hang, an oops or a lost reference.
come_and_go() {
	while running; do
		remove_path "$1"
		add_path "device=/dev/$1"
	done
}
by_folder() {
	local d
	while running; do
		d=$(path_dir "$HEAD" "$1") && echo 1 >"$d/delete"
		add_path "device=/dev/$1 state=non-optimized"
	done
}
states() {
	local s
	while running; do
		for s in failed optimized inaccessible non-optimized; do
			echo "$s" >"$(path_dir "$HEAD" "$1")/state"
		done
		echo optimized >"$(path_dir "$HEAD" "$1")/state"
	done
}
reader() {
	while running; do
		cat /sys/block/rmpath*/rmpath/* /sys/block/rmpath*/rmpath/path*/* /sys/module/rmpath/refcnt \
			/sys/block/rmpath*/slaves/*/size
	done
}
openers() { while running; do blkid -p "/dev/$1"; blockdev --getsize64 "/dev/$1"; done; }
setter() { while running; do echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"; echo 4000 >"/sys/block/$HEAD/delayed_removal_secs"; done; }
# A second head that is made, opened, left without paths, pending, and removed in turns.
other_head() {
	local h
	while running; do
		add_path "device=/dev/nba wwid=other"
		add_path "device=/dev/nbb wwid=other"
		h=$(head_of other) || continue
		case $((RANDOM % 4)) in
		0) echo 1 >"$(hattr "$h" delete)" ;;
		1) echo 1 >"$(hattr "$h" delayed_removal_secs)"; remove_path nba; remove_path nbb ;;
		2) remove_path nba; remove_path nbb ;;
		3) echo 2000 >"$(hattr "$h" delayed_removal_secs)"; remove_path nba; remove_path nbb
		   dd if="/dev/$h" of=/dev/null bs=4k count=1 iflag=direct & echo 0 >"$(hattr "$h" delayed_removal_secs)"; wait $! ;;
		esac
	done
}
unloader() { while running; do rmmod rmpath; nap 0.2; done; }

fio_verify "/dev/$HEAD" "$secs" --ioengine=libaio --iodepth=4 --numjobs=2 --verify_backlog=32 >"$TMP/fio" 2>&1 &
fio_pid=$!
pids=()
for job in "come_and_go $b" "by_folder $c" "come_and_go $c" "states $b" reader reader "openers $HEAD" "openers rmpath1" \
	setter other_head other_head unloader; do
	# shellcheck disable=SC2086 # a function and its argument
	$job >/dev/null 2>&1 &
	pids+=($!)
done
stuck=
for pid in "${pids[@]}"; do
	wait_for 300 ended "$pid" || stuck+=" $pid ($(value "/proc/$pid/comm"))"
done
is "$stuck" "" "everything comes to its end"
wait_for 600 ended $fio_pid || kill -9 $fio_pid
if wait $fio_pid; then ok "no error, no wrong data"; else not_ok "no error, no wrong data" "$(tail -n 20 "$TMP/fio")"; fi

check "the module is there" loaded
h=$(head_of other) && remove_head "$h"
is "$(heads)" "$HEAD" "the head is there, and no other"
is "$(devno "$HEAD")" "$dev" "it is the same disk"
count_is "$base" "the reference count is what it was"
for p in "$b" "$c"; do has_path "$HEAD" "$p" || add_path "device=/dev/$p"; done
check "all its paths can be there again" has_paths "$HEAD" "$a" "$b" "$c"
for p in "$a" "$b" "$c"; do
	echo optimized >"$(path_dir "$HEAD" "$p")/state"
	eventually 30 "$p has nothing in flight" reads "$(path_dir "$HEAD" "$p")/inflight" 0
done
is "$(sysio "open /dev/$HEAD" "write 0 4096 1" "verify 0 4096 1")" OK "it works"
check "it goes" remove_head "$HEAD"
count_is 0 "with its reference"

done_testing
