#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Probing: a path that errors of its I/O have failed is reinstated by the kernel when they end, and not before; one that
# was failed by hand or is inaccessible is not; with probe_secs=0 none is. Errors that only a path that works can
# give reinstate it. I/O that waits goes on when a probe finds a path well, and if it fails then each time, it does not wait
# longer than no_path_timeout_secs for all that, but until it is back from there.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

sdebug_paths
sdebug_head
probe=$(hattr "$HEAD" probe_secs)
is "$(value "$probe")" 5 "paths are probed every 5 s by default"
eventually 60 "a head is one reference" scanned "$HEAD" 1
before=$(snapshot)
for bad in '' ' ' x -1 '1 1' off; do is "$(attr "$probe" "$bad")" EINVAL "'$bad' is not a number"; done
is "$(attr "$probe" 4294967296)" ERANGE "4294967296 is out of range"
is "$(value "$probe") $(snapshot)" "5 $before" "and nothing has changed"
for ok in 0 4294967295 1; do is "$(attr "$probe" $ok) $(value "$probe")" "OK $ok" "$ok is taken"; done
[ -e "$(inject_file "$a")" ] || { skip "the rest" "this kernel has no CONFIG_BLK_ERROR_INJECTION"; done_testing; }

ask sys "open /dev/$HEAD" >/dev/null
ask sys "write 0 65536 1" >/dev/null
# break_path DISK STATUS: its reads end so, and one has failed it.
break_path() {
	local dir i
	dir=$(path_dir "$HEAD" "$1")
	inject "$1" READ "$2"
	for i in 1 2 3 4 5 6; do
		quick "read 0 4096"
		reads "$dir/state" failed && return
	done
	not_ok "$2 fails the path"
}
# returned: how often a probe has reinstated path A.
returned() { log_ours | grep -c "path $a answers, and is used again"; }
heals() { eventually 60 "$1" reads "$A/state" "${2:-optimized}"; }
# stays SECS NAME: path A is failed all the time.
stays() {
	local end=$((SECONDS + $1))
	while ((SECONDS < end)); do
		reads "$A/state" failed || break
		nap 0.2
	done
	is "$(value "$A/state")" failed "$2"
}

for status in TRANSPORT OFFLINE TIMEOUT; do
	break_path "$a" $status
	[ $status != TRANSPORT ] || stays 5 "while there is $status it stays failed"
	inject_none "$a"
	heals "when that is over it is reinstated"
done
is "$(value "$A/failures")" 3 "it has failed three times, and no probe counts"
is "$(value "$B/state") $(value "$B/failures")" "optimized 0" "the other has not"
check "the log says so" test "$(returned)" -ge 3
is "$(ask sys "verify 0 65536 1") $(ask sys "verify 0 65536 1")" "OK OK" "both work"

# Soft errors, and those that only a path that works gives.
break_path "$a" IOERR
stays 4 "while there is IOERR it stays failed"
inject_none "$a"
heals "when that is over it is reinstated"
failed=$(log_ours | grep -c "path $a failed")
for status in MEDIUM RESV_CONFLICT; do
	# The block that probes read, and another one.
	inject "$a" READ $status nr_sectors=8
	inject "$a" READ TRANSPORT start=2048,nr_sectors=8
	for i in 1 2 3 4; do
		quick "read 1048576 4096"
		reads "$A/state" failed && break
	done
	[ "$(log_ours | grep -c "path $a failed")" = $((failed += 1)) ] || not_ok "$status: the path fails"
	heals "a probe that ends with $status finds the path alive"
	inject_none "$a"
done

# By hand.
break_path "$a" TRANSPORT
attr "$A/state" failed >/dev/null
inject_none "$a"
stays 5 "a path that has failed, and was then failed by hand, is not reinstated"
attr "$A/state" non-optimized >/dev/null
is "$(value "$A/state")" non-optimized "but by hand"
attr "$A/state" failed >/dev/null
stays 2 "nor is one that was failed by hand"
attr "$A/state" optimized >/dev/null
break_path "$a" TRANSPORT
attr "$A/state" inaccessible >/dev/null
inject_none "$a"
nap 2
is "$(value "$A/state")" inaccessible "an inaccessible path stays so"
attr "$A/state" non-optimized >/dev/null
attr "$B/state" failed >/dev/null
break_path "$a" TRANSPORT
inject_none "$a"
heals "a path that is not optimized returns as such" non-optimized
attr "$A/state" optimized >/dev/null
attr "$B/state" optimized >/dev/null

# Off, and on again.
is "$(attr "$probe" 0)" OK "probing is off"
break_path "$a" TRANSPORT
inject_none "$a"
stays 5 "no path is reinstated"
is "$(attr "$probe" 3000)" OK "with 3000 s it takes long"
stays 2 "indeed"
is "$(attr "$probe" 1)" OK "with 1 s"
heals "it is reinstated soon"
break_path "$a" TRANSPORT
is "$(attr "$probe" 0)" OK "switched off while it is failed"
inject_none "$a"
stays 5 "it is not reinstated"
is "$(attr "$A/state" optimized)" OK "but by hand"
is "$(attr "$probe" 1)" OK "on again"

# No path at all for a while: nothing fails.
server w
ask w "open /dev/$HEAD" >/dev/null
is "$(value "$(hattr "$HEAD" no_path_timeout_secs)")" 60 "I/O waits a minute"
echo 3000 >"$(hattr "$HEAD" no_path_timeout_secs)"
base=$(refcnt)
for d in $a $b; do
	inject "$d" READ TRANSPORT
	inject "$d" WRITE TRANSPORT
done
tell w "write 65536 65536 2"
both_failed() { reads "$A/state" failed && reads "$B/state" failed; }
eventually 30 "both paths fail" both_failed
is "$(answer w 3)" NOTHING "a write waits"
count_is $((base + 1)) "its time has a reference"
inject_none "$b"
is "$(answer w)" OK "until a probe finds one of them well"
count_is "$base" "and it has come that way: the reference is back"
eventually 30 "that is used" reads "$B/state" optimized
is "$(value "$A/state")" failed "the other is not"
inject_none "$a"
heals "it is later"
is "$(ask w "verify 65536 65536 2") $(ask w "verify 65536 65536 2")" "OK OK" "the data is there"

# The only path answers probes, and fails what waits.
attr "$B/state" failed >/dev/null
echo 15 >"$(hattr "$HEAD" no_path_timeout_secs)"
inject "$a" WRITE TRANSPORT
before=$(returned)
start=$SECONDS
is "$(ask w "write 65536 65536 3")" ENOLINK "what fails each time that its only path returns fails in the end"
took=$((SECONDS - start))
check "in its time, however often that path has returned ($took s)" test "$took" -ge 14 -a "$took" -lt 100
check "as it has" test "$(returned)" -gt "$before"
count_is "$base" "the reference is back"
inject_none "$a"
heals "when writes are well again"
is "$(grep -E '^(gate|expired)' "/sys/kernel/debug/rmpath/$HEAD")" $'gate: park\nexpired: false' "what fails now may wait again"
is "$(ask w "write 65536 65536 3") $(ask w "verify 65536 65536 3")" "OK OK" "all is"
attr "$B/state" optimized >/dev/null
server_stop w

# What has waited is on its way by such a path when its time is over: the time goes on until it is back.
modprobe dm-mod && modprobe dm-delay && nullb nbslow 16 || bail "no disk that can be slow"
# slow MS: how long each write takes, and no read. Those that wait already are let go.
slow() {
	dmset load rmt-slow --table "0 32768 delay /dev/nbslow 0 0 /dev/nbslow 0 $1" &&
		dmset suspend --noflush rmt-slow && dmset resume rmt-slow
}
dmset create rmt-slow --notable && slow 1000000 && dm=$(dm_node rmt-slow) && dm=${dm#/dev/} || bail "no slow disk"
add_path "device=/dev/$dm wwid=slow" && SLOW=$(head_of slow) && settled_node "$SLOW" || bail "no head of it"
S=$(path_dir "$SLOW" "$dm")
echo 1 >"$(hattr "$SLOW" probe_secs)"
patience=$(hattr "$SLOW" no_path_timeout_secs)
echo 3000 >"$patience"
server w
ask w "open /dev/$SLOW" >/dev/null
eventually 60 "its partitions have been looked for" scanned "$SLOW" $((base += 1))
inject "$dm" WRITE TRANSPORT
tell w "write 0 4096 4"
eventually 30 "a write fails the path" reads "$S/state" failed
inject_none "$dm"
eventually 60 "a probe reinstates it" reads "$S/state" optimized
hangs() { [[ $(dmset status rmt-slow) = *'delay 0 1 0'* ]]; }
eventually 60 "the write is on its way" hangs
# From now on.
is "$(attr "$patience" 2)" OK "it has 2 s"
is "$(answer w 6) $(refcnt)" "NOTHING $((base + 1))" "after 6 it is still on its way, and that counts"
slow 0
is "$(answer w)" OK "it ends well"
count_is "$base" "and with it the time"
server_stop w
check "that head is removed" remove_head "$SLOW"
count_is 2 "with its references"

# Removed while it is failed and waits for its next probe, and while it is being probed: nothing is left.
echo 3000 >"$probe"
break_path "$a" TRANSPORT
count_is 2 "a head and its opener: a probe takes no reference that can be seen"
ask sys close >/dev/null
check "the path is removed" remove_path "$a"
check "the head" remove_head "$HEAD"
count_is 0 "no reference is left"
check "the module unloads" within 60 rmpath_unload

done_testing
