#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Everything at once for a while: paths are added and removed through both doors, the head is opened and closed, all of
# sysfs is read, delayed_removal_secs and states are written, another head comes and goes, the paths of a map fail and
# return by the hand of two while it has a limit for waiting, rmmod is tried, and verified I/O runs over it. At the end the
# references are what they were and the module unloads. Then the same without what stays: the module is unloaded as soon as
# the last head lets it, and loaded again.
#
# RMPATH_RACE_SECS  how long (default 15)
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

secs=${RMPATH_RACE_SECS:-15}
modprobe dm-mod
rmpath_load && sdebug 3 && nullb nba 16 && nullb nbb 16 && nullb nbc 16 && nullb nbd 16 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2)
check "a head" add_path "device=/dev/$a"
HEAD=$(heads)
# One path stays, so that the verified I/O always has one; the others come and go.
for p in "$b" "$c"; do has_path "$HEAD" "$p" || add_path "device=/dev/$p" 2>/dev/null; done
eventually 60 "with three paths" has_paths "$HEAD" "$a" "$b" "$c"
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
dev=$(devno "$HEAD")
base=1
dm_make rmt-race "0 32768 rmpath 3 queue_if_no_path no_path_timeout 1 0 1 1 round-robin 0 2 0 /dev/nbc /dev/nbd" ||
	bail "no map"
map=$(dm_node rmt-race)

fio_verify "/dev/$HEAD" "$secs" --ioengine=libaio --iodepth=4 --numjobs=2 --verify_backlog=32 >"$TMP/fio" 2>&1 &
fio_pid=$!
out=$("$TESTS/race.py" "$secs" "toggle $b -" "folder $HEAD $c" "toggle $c -" "states $HEAD $b" \
	read read "open /dev/$HEAD" "open /dev/rmpath1" "ioctl /dev/$HEAD" "ioctl /dev/rmpath1" "secs $HEAD 3000 4000" \
	"set $HEAD no_path_timeout_secs 0 60 1" "set $HEAD probe_secs 0 1 2" "head nba nbb other" "head nba nbb other" \
	"toggle nba other" "map rmt-race nbc" "map rmt-race nbd" "open $map" rmmod) &&
	ok "everything comes to its end" || not_ok "everything comes to its end"
diag "$out"
wait_for 600 ended $fio_pid || kill -9 $fio_pid
if wait $fio_pid; then ok "no error, no wrong data"; else not_ok "no error, no wrong data" "$(tail -n 20 "$TMP/fio")"; fi

check "the module is there" loaded
for p in nbc nbd; do dmset message rmt-race 0 reinstate_path /dev/$p; done
is "$(sysio "open $map" "write 0 4096 1" "read 0 4096")" OK "the map works"
check "it goes" dmset remove --retry rmt-race
for p in nba nbb; do remove_path $p 2>/dev/null; done
eventually 120 "the other head goes with its paths" no_head other
eventually 60 "the head is there, and no other" only_head "$HEAD"
is "$(devno "$HEAD")" "$dev" "it is the same disk"
count_is "$base" "the reference count is what it was"
for p in "$b" "$c"; do has_path "$HEAD" "$p" || add_path "device=/dev/$p"; done
check "all the paths of the head can be there again" has_paths "$HEAD" "$a" "$b" "$c"
for p in "$a" "$b" "$c"; do
	echo optimized >"$(path_dir "$HEAD" "$p")/state"
	eventually 30 "$p has nothing in flight" reads "$(path_dir "$HEAD" "$p")/inflight" 0
done
is "$(sysio "open /dev/$HEAD" "write 0 4096 1" "verify 0 4096 1")" OK "it works"
check "it goes" remove_head "$HEAD"
count_is 0 "with its reference"

# Nothing stays.
out=$("$TESTS/race.py" "$secs" "brief nba other" "open /dev/rmpath0" read "reload $RMPATH_KO") &&
	ok "it is unloaded whenever that can be" || not_ok "it is unloaded whenever that can be"
diag "$out"
like "$out" " [0-9]+ reload [^ ]+: load OK" "and was"
loaded || check "it can be loaded again" rmpath_load
remove_path nba 2>/dev/null
eventually 120 "the head goes with its path" no_head other
count_is 0 "no reference is left"

done_testing
