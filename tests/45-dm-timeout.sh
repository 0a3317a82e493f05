#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# How long a map without a path keeps I/O: its own no_path_timeout, and queue_if_no_path_timeout_secs for all maps. The
# pending end is one reference on the module, which a path that returns, a message and the map's removal give back.
# And the target under dm-multipath's name.
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"
. "$TESTS/kthreads.sh"

modprobe dm-mod
sdebug_paths
len=$(sectors "$a")
all=$CLASS/queue_if_no_path_timeout_secs
paths="0 1 1 round-robin 0 2 1 /dev/$a 1 /dev/$b 1"

message() { dmset message rmt-a 0 "$@"; }
make() { check "a map with $1" dm_make rmt-a "0 $len rmpath $1 $paths" && ask m "open $(dm_node rmt-a)" >/dev/null; }
fail_all() { message fail_path "/dev/$a" && message fail_path "/dev/$b"; }
drop_map() {
	ask m close >/dev/null
	check "the map is removed" dmset remove --retry rmt-a
	count_is 0 "and no reference is left"
}
queues() { [[ $(dmset table rmt-a) = *queue_if_no_path* ]]; }
queues_not() { ! queues; }
server m

# Its own limit.
is "$(value "$all")" 0 "by default a wait has no end"
make "3 queue_if_no_path no_path_timeout 2"
like "$(dmset table rmt-a)" 'rmpath 3 queue_if_no_path no_path_timeout 2 0 1 1 ' "the table shows its limit"
count_is 1 "with paths there is no wait"
log_mark
tell m "write 0 4096 1"
is "$(answer m)" OK "a write"
begun=$SECONDS
fail_all
tell m "write 0 4096 2"
is "$(answer m)" EIO "without a path a write waits and fails"
check "not before the time is over" test $((SECONDS - begun)) -ge 1
check "the map does not keep I/O any more" queues_not
like "$(log_ours)" 'queue_if_no_path timeout' "the log says so"
count_is 1 "the reference of the wait is back"
check "it keeps I/O again" message queue_if_no_path
said_twice() { [ "$(log_ours | grep -c 'queue_if_no_path timeout')" = 2 ]; }
eventually 60 "and waits as long again" said_twice
count_is 1 "with a reference that is back"
check "a path is reinstated" message reinstate_path "/dev/$a"
is "$(sysio "open /dev/$a" "verify 0 4096 1")" OK "the failed write has left nothing"
drop_map

# A path returns in time; a message ends it; it cannot be unloaded meanwhile; the map is removed meanwhile.
make "3 queue_if_no_path no_path_timeout 3000"
fail_all
tell m "write 0 4096 3"
is "$(answer m 1)" NOTHING "a write waits"
count_is 2 "the wait is one reference"
# dm-multipath's work item queues itself again and again meanwhile, and takes all of a CPU.
# One that stands still while a thread of the kernel runs is counted as its time: so one of three tries.
for _ in 1 2 3; do
	used=$(kthread_ms)
	nap 3
	used=$(($(kthread_ms) - used))
	((used >= 2000)) || break
done
check "which takes no CPU: $used ms in 3 s" test "$used" -lt 2000
check "a path is reinstated" message reinstate_path "/dev/$b"
is "$(answer m)" OK "the write completes"
count_is 1 "the reference is back"
for _ in 1 2 3 4 5 6 7 8 9 10; do
	message fail_path "/dev/$b"
	message reinstate_path "/dev/$b"
done
count_is 1 "ten times more"
message fail_path "/dev/$b"
count_is 2 "the last path is lost again"
tell m "write 0 4096 4"
is "$(answer m 1)" NOTHING "a write waits"
like "$(rmmod rmpath 2>&1)" 'in use' "rmmod is refused"
check "fail_if_no_path" message fail_if_no_path
is "$(answer m)" EIO "the write fails"
count_is 1 "and nothing waits any more"
check "queue_if_no_path" message queue_if_no_path
count_is 2 "it waits again"
check "a path is reinstated" message reinstate_path "/dev/$b"
count_is 1 "the wait is over"
check "and the map still keeps I/O" queues
message fail_path "/dev/$b"
count_is 2 "it waits once more"
drop_map

# Paths fail and return by the hand of two, over and over: no wait is lost, or I/O would wait for ever, and none
# ends queue_if_no_path but by its time.
make "3 queue_if_no_path no_path_timeout 1"
lost=0 undue=0
for round in 1 2 3 4 5; do
	message queue_if_no_path
	log_mark
	"$TESTS/race.py" 1 "flip rmt-a $a" "flip rmt-a $b" >"$TMP/race" || { diag "$(cat "$TMP/race")"; lost=$round; break; }
	queues || [[ $(log_ours) = *'queue_if_no_path timeout'* ]] || undue=$((undue + 1))
	fail_all
	tell m "read 0 4096"
	receive m 60
	[ "$reply" = EIO ] && wait_for 60 refcnt_is 1 || { diag "a read: $reply, references: $(refcnt)"; lost=$round; break; }
done
is "$lost $undue" "0 0" "two fail and reinstate the paths: each wait ends by its time, and only by that"
diag "$(sort -n "$TMP/race")"
message reinstate_path "/dev/$a"
is "$(ask m "read 0 4096")" OK "with a path it reads"
drop_map

# The limit of all maps holds for waits that begin after it was set, and for maps without one of their own.
for bad in -1 x '' 4294967296 '1 2'; do
	like "$(attr "$all" "$bad")" '^(EINVAL|ERANGE)$' "'$bad' seconds are refused"
done
is "$(value "$all")" 0 "and change nothing"
make "1 queue_if_no_path"
fail_all
count_is 1 "a wait without an end holds nothing"
is "$(attr "$all" 1)" OK "a limit is set"
tell m "read 0 4096"
is "$(answer m 3)" NOTHING "it does not hold for a wait that has begun"
check "queue_if_no_path begins it anew" message queue_if_no_path
is "$(answer m)" EIO "then it does"
count_is 1 "and ends"
drop_map
make "3 queue_if_no_path no_path_timeout 0"
fail_all
tell m "read 0 4096"
is "$(answer m 3)" NOTHING "a map that is to wait without an end does"
message reinstate_path "/dev/$a"
is "$(answer m)" OK "until it has a path"
drop_map
check "a map without paths" dm_make rmt-a "0 $len rmpath 1 queue_if_no_path 0 0 0"
eventually 60 "it ceases to keep I/O too" queues_not
check "it is removed" dmset remove --retry rmt-a
count_is 0 "and no reference is left"
for bad in "1 no_path_timeout" "2 no_path_timeout -1" "2 no_path_timeout x" "2 no_path_timeout 4294967296"; do
	is "$(dm_errno create rmt-a --table "0 $len rmpath $bad $paths")" EINVAL "refused: $bad"
done
check "it is unloaded" rmpath_unload

# The limit, and the name, as parameters.
like "$(rmpath_load dm_multipath=2 2>&1)" 'Invalid' "dm_multipath=2 is refused"
refuse "and the module is not there" loaded
if modprobe dm-multipath 2>/dev/null; then
	like "$(rmpath_load dm_multipath=1 2>&1)" '(exists|busy)' "dm_multipath=1 is refused when dm-multipath is there"
	refuse "and the module is not there" loaded
	dm_multipath_unload
fi
check "it loads with parameters" rmpath_load auto_attach=0 dm_multipath=1 queue_if_no_path_timeout_secs=7
is "$(value "$all")" 7 "the limit is as given"
check "there is a target multipath" sh -c "dmsetup targets | grep -q '^multipath '"
check "a map of that name" dm_make rmt-a "0 $len multipath 0 $paths"
like "$(dmset table rmt-a)" "^0 $len multipath 0 0 1 1 round-robin 0 2 1 " "the table says so too"
ask m "open $(dm_node rmt-a)" >/dev/null
is "$(ask m "write 0 4096 5")" OK "it writes"
is "$(ask m "verify 0 4096 5")" OK "and reads"
count_is 1 "it is a map of ours"
drop_map

done_testing
