#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Delayed removal, and no path returns: the write that waits fails with EIO after the delay and not before, the disk
# goes, and the reference count is what it was. Writing delayed_removal_secs moves a pending deadline both ways, 0
# removes at once; what is no number or too big is refused and changes nothing, and no big number wraps.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

rmpath_load auto_attach=0 && nullb nba 32 && nullb nbb 32 || bail "no path can be made"

# A head over nba and nbb, which lose no data worth keeping. make SECS
make() {
	add_path "device=/dev/nba wwid=expiry" && add_path "device=/dev/nbb wwid=expiry" || bail "no head can be made"
	HEAD=$(head_of expiry)
	secs=$(hattr "$HEAD" delayed_removal_secs)
	echo "$1" >"$secs" && wait_for 60 test -b "/dev/$HEAD" || bail "the head is not ready"
}
lose() {
	remove_path nba && remove_path nbb && [ "${1:-}" = gone ] || wait_for 60 hstate_is "$HEAD" removal-pending ||
		bail "the removal is not pending" "state $(hstate "$HEAD")"
}

# No delay.
make 0
lose gone
eventually 60 "without a delay the head goes with its last path" gone "/sys/block/$HEAD"
count_is 0 "and its reference"

# The delay runs out under a waiting write.
make 30
server w
is "$(ask w "open /dev/$HEAD")" OK "a writer opens the head"
count_is 2 "a head and its opener"
fails=$(value "$(hattr "$HEAD" io_fail_no_available_path_count)")
start=$SECONDS
lose
count_is 3 "pending removal is one reference"
tell w "write 0 4096 1"
is "$(answer w 2)" NOTHING "a write waits"
is "$(answer w)" EIO "it fails when no path has returned"
took=$((SECONDS - start))
check "not before the delay was over ($took s)" test "$took" -ge 29
eventually 60 "the disk goes" gone "/sys/block/$HEAD"
eventually 60 "its node goes" gone "/dev/$HEAD"
is "$fails" 0 "no I/O had failed for want of a path before"
like "$(ask w "read 0 4096")" "$NO_DATA" "the open file gives no data"
count_is 2 "the head's reference stays for its opener's time"
server_stop w
count_is 0 "all references are back"
log_mark

# Sooner.
make 3000
lose
count_is 2 "pending for 3000 s"
is "$(attr "$secs" 15)" OK "15 is written"
is "$(value "$secs")" 15 "and reads back"
check "the head is there still" exists "/sys/block/$HEAD"
eventually 120 "it goes long before the first deadline" gone "/sys/block/$HEAD"
count_is 0 "with both references"

# Later.
make 15
lose
start=$SECONDS
is "$(attr "$secs" 3000)" OK "15 becomes 3000 while it is pending"
check "in time" test $((SECONDS - start)) -lt 14
while (( SECONDS - start < 20 )); do nap 0.5; done
is "$(hstate "$HEAD")" removal-pending "the removal is still pending when 15 s are over"
count_is 2 "with its reference"

# Numbers that would wrap when they are counted in jiffies, of which a second has 1000, 300, 250 or 100.
for n in 4294968 14316558 17179870 42949673 4294967295; do
	answer=$(attr "$secs" $n)
	like "$answer" '^(OK|ERANGE)$' "$n is taken or refused ($answer)"
	start=$SECONDS
	while (( SECONDS - start < 5 )); do nap 0.5; done
	is "$(hstate "$HEAD")" removal-pending "and does not end the wait"
done

# What is no number.
echo 3000 >"$secs"
for n in 4294967296 18446744073709551616 99999999999999999999999; do
	is "$(attr "$secs" $n)" ERANGE "$n is out of range"
	is "$(value "$secs") $(hstate "$HEAD")" "3000 removal-pending" "and changes nothing"
done
for n in -1 abc 1x '1 2' 0x '' ' ' 1.5 ',' '--' 1e3; do
	is "$(attr "$secs" "$n")" EINVAL "'$n' is not a number"
	is "$(value "$secs") $(hstate "$HEAD")" "3000 removal-pending" "and changes nothing"
done
is "$(ask sys "random $secs 1 4096")" EINVAL "4096 random bytes are not a number"
is "$(value "$secs") $(hstate "$HEAD")" "3000 removal-pending" "and change nothing"
count_is 2 "nor the reference count"

# At once, here and where nvme has the attribute.
is "$(attr "$secs" 0)" OK "0 is written while removal is pending"
eventually 60 "the head goes at once" gone "/sys/block/$HEAD"
count_is 0 "with both references"
make 3000
lose
server w
is "$(ask w "open /dev/$HEAD")" OK "a pending head can be opened"
tell w "write 0 4096 1"
is "$(answer w 2)" NOTHING "a write waits"
is "$(attr "/sys/block/$HEAD/delayed_removal_secs" 0)" OK "0 to the disk's own attribute"
is "$(answer w)" EIO "fails the write"
eventually 60 "and removes the head" gone "/sys/block/$HEAD"
server_stop w
count_is 0 "all references are back"

# Setting it while there are paths starts nothing.
make 5
for n in 0 7 0 9; do echo "$n" >"$secs"; done
count_is 1 "writing it with paths present takes no reference"
is "$(hstate "$HEAD")" live "and the head stays live"
echo 0 >"$secs"

# From 0 to N and back just before the last path goes: the last value counts.
echo 3000 >"$secs"
lose
is "$(hstate "$HEAD")" removal-pending "the value at the time of the loss counts"

# Pending and cancelled, with the deadline moved in between.
trouble=
for ((i = 1; i <= 20; i++)); do
	echo $((1000 + i)) >"$secs"
	trouble=$(count_comes 2) || { trouble="round $i, while pending: $trouble"; break; }
	wait_for 60 sh -c "echo device=/dev/nba wwid=expiry >$CLASS/add_path" 2>/dev/null || { trouble="round $i: add_path"; break; }
	trouble=$(count_comes 1) || { trouble="round $i, after the return: $trouble"; break; }
	echo 2000 >"$secs"
	remove_path nba
	wait_for 60 hstate_is "$HEAD" removal-pending || { trouble="round $i: not pending"; break; }
done
is "$trouble" "" "twenty times pending, moved and cancelled"
echo 0 >"$secs"
eventually 60 "the head goes" gone "/sys/block/$HEAD"
count_is 0 "all references are back"

done_testing
