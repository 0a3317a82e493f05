#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# retry_delay_ms: a write that a path failed is sent again on another one after so long, and not before; a read at once.
# Many that wait keep their own times. Nothing of it outlives the head.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

sdebug_paths
sdebug_head
delay=$(hattr "$HEAD" retry_delay_ms) waiting=$(hattr "$HEAD" requeued)
is "$(value "$delay")" 0 "nothing is delayed by default"
count_is 1 "a head is one reference"
before=$(snapshot)
for bad in '' ' ' x -1 '1 1' 1s; do is "$(attr "$delay" "$bad")" EINVAL "'$bad' is not a number"; done
for bad in 60001 4294967295 4294967296; do is "$(attr "$delay" $bad)" ERANGE "$bad is out of range"; done
is "$(value "$delay") $(snapshot)" "0 $before" "and nothing has changed"
for ok in 60000 1 0; do is "$(attr "$delay" $ok) $(value "$delay")" "OK $ok" "$ok is taken"; done
[ -e "$(inject_file "$a")" ] || { skip "the rest" "this kernel has no CONFIG_BLK_ERROR_INJECTION"; done_testing; }

echo 0 >"$(hattr "$HEAD" probe_secs)"
attr "$B/state" non-optimized >/dev/null
servers=(w r)
for s in "${servers[@]}"; do
	server "$s"
	is "$(ask "$s" "open /dev/$HEAD")" OK "$s opens the head"
done
# now: sets $now to milliseconds, without a process.
now() { now=${EPOCHREALTIME/[.,]/} now=$((now / 1000)); }
# broken OP STATUS: path A is there and fails all of those.
broken() {
	inject_none "$a"
	attr "$A/state" optimized >/dev/null
	inject "$a" "$1" "$2"
}

# A write waits, a read does not.
echo 5000 >"$delay"
for status in TRANSPORT IOERR; do
	over=$(value "$A/multipath_failover_count")
	broken WRITE $status
	now; start=$now
	tell w "write 0 4096 1"
	is "$(answer w)" OK "a write that ends with $status succeeds in the end"
	now; took=$((now - start))
	check "after its time ($took ms)" test $took -ge 5000
	is "$(value "$A/multipath_failover_count")" $((over + 1)) "and is one failover"
done
echo 60000 >"$delay"
broken READ TRANSPORT
now; start=$now
is "$(ask r "verify 0 4096 1")" OK "a read succeeds"
now; took=$((now - start))
check "before that ($took ms)" test $took -lt 50000
is "$(value "$A/state")" failed "though its path has failed"
broken WRITE TRANSPORT
tell w "write 4096 4096 2"
eventually 30 "a write waits its minute" reads "$waiting" 1
is "$(ask r "read 0 4096")" OK "reads go on"
is "$(value "$waiting")" 1 "it still waits"
# The medium's errors are nobody's to wait for.
attr "$B/state" optimized >/dev/null
inject "$b" WRITE NOSPC
is "$(ask r "write 8192 4096 3")" ENOSPC "an error that is not the path's comes back at once"
inject_none "$b"
is "$(value "$waiting")" 1 "the write still waits"

# Those that come later but are due before keep their times too.
is "$(attr "$delay" 1000)" OK "a shorter time for others"
broken WRITE TRANSPORT
attr "$B/state" non-optimized >/dev/null
now; start=$now
is "$(ask r "write 8192 4096 3")" OK "another write waits, but not behind the first"
now; took=$((now - start))
check "at least its time ($took ms)" test $took -ge 1000
check "and not for the first ($took ms)" test $took -lt 40000
is "$(value "$waiting")" 1 "which still waits"
is "$(attr "$delay" 0)" OK "no time for those to come"
broken WRITE TRANSPORT
is "$(ask r "write 12288 4096 4")" OK "does not"
is "$(value "$waiting")" 1 "change that"
is "$(answer w)" OK "until its minute is over"
is "$(ask r "verify 4096 4096 2") $(ask r "verify 8192 4096 3") $(ask r "verify 12288 4096 4")" "OK OK OK" "all data is there"
is "$(value "$waiting")" 0 "nothing waits"

# Deleting the head does not wait.
echo 60000 >"$delay"
broken WRITE TRANSPORT
tell w "write 0 4096 5"
eventually 30 "a write waits" reads "$waiting" 1
now; start=$now
check "the head is removed" remove_head "$HEAD"
is "$(answer w)" ENOLINK "and the write fails, with its error"
now; took=$((now - start))
check "at once ($took ms)" test $took -lt 50000
inject_none "$a"
for s in "${servers[@]}"; do server_stop "$s"; done
count_is 0 "with every reference"
check "the module unloads" within 60 rmpath_unload

done_testing
