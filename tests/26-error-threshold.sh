#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# path_fail_threshold: so many soft errors in a row fail a path and fewer never do. The last usable path fails by them
# only if a probe fails too, so that a bad block does not take the disk away. What became of failed bios is counted.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

sdebug_paths
sdebug_head
threshold=$(hattr "$HEAD" path_fail_threshold)
is "$(value "$threshold")" 2 "two soft errors fail a path by default"
eventually 60 "a head is one reference" scanned "$HEAD" 1
before=$(snapshot)
for bad in '' ' ' x -1 0 '1 1' 0x0; do is "$(attr "$threshold" "$bad")" EINVAL "'$bad' is no threshold"; done
is "$(attr "$threshold" 4294967296)" ERANGE "4294967296 is out of range"
is "$(value "$threshold") $(snapshot)" "2 $before" "and nothing has changed"
for ok in 4294967295 1 2; do is "$(attr "$threshold" $ok) $(value "$threshold")" "OK $ok" "$ok is taken"; done
for f in "$A"/{command_retries,command_error,multipath_failover}_count \
	"$(hattr "$HEAD" io_requeue_no_usable_path_count)" "$(hattr "$HEAD" io_fail_no_available_path_count)"; do
	got=$(value "$f")
	for text in 18446744073709551615 18446744073709551616 x -1 ''; do got+=" $(attr "$f" "$text")"; done
	is "$got $(value "$f")" "0 OK ERANGE EINVAL EINVAL EINVAL 18446744073709551615" "${f##*/} begins at 0, and can be set"
	is "$(attr "$f" 0) $(value "$f")" "OK 0" "as nvme's, mostly to 0"
done
[ -e "$(inject_file "$a")" ] || { skip "the rest" "this kernel has no CONFIG_BLK_ERROR_INJECTION"; done_testing; }

# Paths return only by hand here, and nothing waits for one.
echo 0 >"$(hattr "$HEAD" probe_secs)"
echo 0 >"$(hattr "$HEAD" no_path_timeout_secs)"
ask sys "open /dev/$HEAD" >/dev/null
# reads_ok N: N reads that succeed.
reads_ok() {
	local i
	for ((i = 0; i < $1; i++)); do
		quick "read $((i * 4096)) 4096"
		[ "$reply" = OK ] || { echo "read $i: $reply"; return 1; }
	done
}
counters() { echo "$(value "$1/command_retries_count") $(value "$1/command_error_count") $(value "$1/multipath_failover_count")"; }
# errors N: exactly N reads that path A answers with IOERR, in a row. Only A is there, but for the retries.
errors() {
	local n0 i
	n0=$(value "$A/multipath_failover_count")
	inject "$a" READ IOERR
	attr "$B/state" non-optimized >/dev/null
	for ((i = 0; i < $1; i++)); do reads_ok 1 || break; done
	inject_none "$a"
	attr "$B/state" optimized >/dev/null
	is "$(($(value "$A/multipath_failover_count") - n0))" "$1" "$1 soft errors on one path, and no read fails"
}

for n in 2 5; do
	echo $n >"$threshold"
	errors $((n - 1))
	is "$(value "$A/state")" optimized "threshold $n: $((n - 1)) do not fail it"
	check "threshold $n: some successes" reads_ok 8
	errors $((n - 1))
	is "$(value "$A/state")" optimized "threshold $n: nor do as many again"
	check "threshold $n: some successes" reads_ok 8
	before=$(value "$A/failures")
	errors $n
	is "$(value "$A/state") $(value "$B/state")" "failed optimized" "threshold $n: $n fail it"
	is "$(value "$A/failures")" $((before + 1)) "which is one failure"
	attr "$A/state" optimized >/dev/null
	errors $((n - 1))
	is "$(value "$A/state")" optimized "threshold $n: reinstated, it is counted from 0"
	check "threshold $n: some successes" reads_ok 8
done
echo 1 >"$threshold"
errors 1
is "$(value "$A/state")" failed "threshold 1: one fails it"
attr "$A/state" optimized >/dev/null
echo 4294967295 >"$threshold"
errors 20
is "$(value "$A/state")" optimized "a big threshold: twenty do not"
check "some successes" reads_ok 4
is "$(value "$A/command_retries_count") $(value "$A/command_error_count")" "0 0" "none was retried there, or came back"

# Hard errors do not ask for the threshold.
inject "$a" READ TRANSPORT
attr "$B/state" non-optimized >/dev/null
check "a hard error, and the read succeeds" reads_ok 1
inject_none "$a"
is "$(value "$A/state")" failed "it fails the path at once"
attr "$A/state" optimized >/dev/null
attr "$B/state" optimized >/dev/null
check "both work" reads_ok 4
echo 2 >"$threshold"

# What comes back is counted as such.
attr "$B/state" failed >/dev/null
before=$(counters "$A")
read -r r e f <<<"$before"
inject "$a" READ MEDIUM
is "$(ask sys "read 0 4096")" ENODATA "the medium's error comes back"
is "$(counters "$A")" "$r $((e + 1)) $f" "and is counted as an error"
inject_none "$a"

# The last path, not probed: it stays.
inject "$a" READ IOERR
is "$(ask sys "read 0 4096")" EIO "soft errors on the last path come back in the end"
is "$(value "$A/state")" optimized "without probes they do not fail it"
is "$(counters "$A")" "$((r + 3)) $((e + 2)) $f" "three retries and an error"
inject_none "$a"
is "$(ask sys "read 0 4096")" OK "it works on"

# Probed, but the block that the probe reads is well: as before.
echo 3000 >"$(hattr "$HEAD" probe_secs)"
inject "$a" READ IOERR start=2048,nr_sectors=8
failures=$(value "$A/failures")
is "$(ask sys "read 1048576 4096")" EIO "a bad block gives an error"
is "$(ask sys "read 1048576 4096") $(ask sys "read 1048576 4096")" "EIO EIO" "however often"
is "$(value "$A/state") $(value "$A/failures")" "optimized $failures" "and does not fail the last path"
is "$(ask sys "read 0 4096")" OK "the rest can be read"
inject_none "$a"

# The probe fails too: then the path is broken, and I/O waits for it.
echo 3000 >"$(hattr "$HEAD" no_path_timeout_secs)"
inject "$a" READ IOERR
server r
ask r "open /dev/$HEAD ro" >/dev/null
broken() {
	# Should the probe be slower than the retries, the read ends before it; then another has to ask.
	[ "$(value "$A/state")" = failed ] || { [ "$(answer r 1)" = NOTHING ] || tell r "read 0 4096"; return 1; }
}
tell r "read 0 4096"
eventually 60 "soft errors of I/O and probe fail the last path" broken
is "$(value "$A/failures")" $((failures + 1)) "once"
answer r 1 >/dev/null
tell r "read 0 4096"
eventually 60 "I/O waits then" at_least "$(hattr "$HEAD" requeued)" 1
inject_none "$a"
echo 1 >"$(hattr "$HEAD" probe_secs)"
eventually 60 "until a probe succeeds" reads "$A/state" optimized
is "$(answer r)" OK "and completes"
server_stop r

# Somebody reinstates, again and again, paths that are broken: a read does not go on for ever.
echo 0 >"$(hattr "$HEAD" probe_secs)"
attr "$B/state" optimized >/dev/null
inject "$a" READ TRANSPORT
inject "$b" READ TRANSPORT
failures=$(($(value "$A/failures") + $(value "$B/failures")))
server q
ask q "open /dev/$HEAD ro" >/dev/null
start=$SECONDS
tell q "read 0 4096"
# Without reading: what a read with a limit of time has had of a line when that is over is lost.
until read -r -t 0 -u "${server_out[q]}" || ((SECONDS - start > 120 * PATIENCE)); do
	echo optimized >"$A/state"
	echo optimized >"$B/state"
	nap 0.05
done
receive q 5
is "$reply" ENOLINK "reinstated again and again, broken paths give their error in the end"
is "$(($(value "$A/failures") + $(value "$B/failures") - failures))" 33 "when the read was sent again 32 times"
inject_none "$a"
inject_none "$b"
server_stop q
ask sys close >/dev/null

done_testing
