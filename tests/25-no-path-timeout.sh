#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# no_path_timeout_secs: I/O that finds paths, but no usable one, waits so long and then fails with its last error; the
# time can be moved while it runs, 0 ends it at once, and a path that becomes usable within it ends it well.
# delayed_removal_secs has no part in it, and neither have paths that come without being usable.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

rmpath_load auto_attach=0 && nullb nba 32 && nullb nbb 32 || bail "no paths"
add_path "device=/dev/nba wwid=patience" && HEAD=$(head_of patience) && settled_node "$HEAD" || bail "no head"
A=$(path_dir "$HEAD" nba)
secs=$(hattr "$HEAD" no_path_timeout_secs) waiting=$(hattr "$HEAD" requeued)
removal=$(hattr "$HEAD" delayed_removal_secs)

is "$(value "$secs")" 60 "I/O waits a minute by default"
eventually 60 "a head is one reference" scanned "$HEAD" 1
before=$(snapshot)
for bad in '' ' ' x -1 '1 1' 1.5 off 0x; do is "$(attr "$secs" "$bad")" EINVAL "'$bad' is not a number"; done
for bad in 4294967296 99999999999999999999; do is "$(attr "$secs" $bad)" ERANGE "$bad is out of range"; done
is "$(value "$secs") $(snapshot)" "60 $before" "and nothing has changed"

server w
is "$(ask w "open /dev/$HEAD")" OK "a writer opens the head"
count_is 2 "a head and an opener"
fail_path() { attr "$A/state" failed >/dev/null; }
# begin SECS WHAT: with that time and no usable path, a write waits. Sets $start.
begin() {
	attr "$A/state" optimized >/dev/null
	is "$(attr "$secs" "$1")" OK "$2: $1 s"
	fail_path
	start=$SECONDS
	tell w "write 0 4096 1"
	eventually 30 "$2: a write waits" reads "$waiting" 1
}
# ends WANT NAME: the write's result, and how long it took in $took.
ends() { is "$(answer w)" "$1" "$2"; took=$((SECONDS - start)); }

# It runs out.
begin 20 "expiry"
count_is 3 "the timer has a reference"
ends EIO "when the time is over it fails"
check "and not before ($took s)" test "$took" -ge 19
count_is 2 "the reference is back"
start=$SECONDS
is "$(ask w "read 0 4096")" EIO "from then on I/O fails"
is "$(value "$waiting")" 0 "at once"
is "$(hstate "$HEAD")" live "the head is live"
is "$(attr "$CLASS/add_path" "device=/dev/nbb wwid=patience state=inaccessible")" OK "a path that is not usable comes"
is "$(ask w "read 0 4096")" EIO "and changes nothing"
attr "$A/state" optimized >/dev/null
is "$(ask w "write 0 4096 2")" OK "a usable one ends it"
remove_path nbb

# Nor does who would rather come again than wait do so for ever.
is "$(attr "$secs" 3)" OK "3 s for who does not wait"
fail_path
is "$(ask w "nowait 0 4096")" EAGAIN "a read that may not wait comes back"
eventually 30 "and fails when the time is over" answers EIO "open /dev/$HEAD ro" "nowait 0 4096"
attr "$A/state" optimized >/dev/null
is "$(ask w "read 0 4096")" OK "a usable path ends that too"

# What has been on its way before fails with the error that it met there.
if [ -e "$(inject_file nba)" ]; then
	echo 0 >"$(hattr "$HEAD" probe_secs)"
	is "$(attr "$secs" 3)" OK "3 s"
	inject nba READ TRANSPORT
	is "$(ask w "read 0 4096")" ENOLINK "a read that met an error before it waited fails with that"
	inject_none nba
	attr "$A/state" optimized >/dev/null
else
	skip "the last error" "this kernel has no CONFIG_BLK_ERROR_INJECTION"
fi

# It runs anew after that, and a path returns within it.
begin 3000 "return"
count_is 3 "the timer has a reference"
is "$(sysio "open /dev/$HEAD ro" "nowait 0 4096")" EAGAIN "what may not wait does not"
is "$(attr "$CLASS/add_path" "device=/dev/nbb wwid=patience state=inaccessible")" OK "a path that is not usable comes"
is "$(answer w 2)" NOTHING "the write still waits"
count_is 3 "for the same time"
attr "$A/state" non-optimized >/dev/null
ends OK "a path becomes usable: the write completes"
count_is 2 "the reference is back"
is "$(ask w "verify 0 4096 1")" OK "with its data"
remove_path nbb

# Cut short, by less and by 0.
begin 3000 "cut"
is "$(attr "$secs" 2)" OK "2 s are left"
ends EIO "it fails then"
begin 3000 "ended"
is "$(attr "$secs" 0)" OK "0 s are left"
ends EIO "it fails at once"
count_is 2 "the reference is back"
is "$(ask w "read 0 4096")" EIO "with 0 nothing waits"
is "$(value "$waiting")" 0 "at all"

# The setting as it is now counts, also when the time is over already.
is "$(attr "$secs" 3000)" OK "with 3000 s and still no path"
tell w "read 0 4096"
eventually 30 "I/O waits again" reads "$waiting" 1
attr "$A/state" optimized >/dev/null
is "$(answer w)" OK "until there is one"

# Extended: the time before is forgotten.
begin 12 "extension"
is "$(attr "$secs" 3000)" OK "12 s become 3000"
check "in time" test $((SECONDS - start)) -lt 12
while ((SECONDS - start < 16)); do nap 0.5; done
check "the write still waits after $((SECONDS - start)) s" reads "$waiting" 1
count_is 3 "there is one timer"

# Not delayed_removal_secs.
for n in 0 1 3000 0; do is "$(attr "$removal" $n)" OK "delayed_removal_secs is $n"; done
is "$(answer w 3)" NOTHING "the write still waits"
attr "$A/state" optimized >/dev/null
ends OK "until there is a path"
is "$(attr "$secs" 0)" OK "no time to wait"
is "$(attr "$removal" 3000)" OK "but long to be removed"
fail_path
is "$(ask w "read 0 4096")" EIO "with a failed path it is the first that counts"
remove_path nba
eventually 30 "with none" hstate_is "$HEAD" removal-pending
tell w "read 0 4096"
is "$(answer w 2)" NOTHING "it is the second"
is "$(attr "$secs" 1)" OK "the first"
is "$(attr "$secs" 0)" OK "does not matter then"
is "$(answer w 2)" NOTHING "the read still waits"
is "$(attr "$CLASS/add_path" "device=/dev/nba wwid=patience")" OK "a path comes"
is "$(answer w)" OK "and the read completes"
A=$(path_dir "$HEAD" nba)

# The last path leaves while I/O waits for it: from then on the removal governs.
is "$(attr "$removal" 4)" OK "4 s to be removed"
begin 3000 "handing over"
start=$SECONDS
remove_path nba
ends EIO "the write fails with the head"
check "and not before ($took s)" test "$took" -ge 3
server_stop w
eventually 60 "the head goes" gone "/sys/block/$HEAD"
count_is 0 "with every reference"

# A head that is deleted waits for nothing.
log_mark
add_path "device=/dev/nba wwid=patience" && HEAD=$(head_of patience) && settled_node "$HEAD" || bail "no head"
A=$(path_dir "$HEAD" nba) secs=$(hattr "$HEAD" no_path_timeout_secs) waiting=$(hattr "$HEAD" requeued)
server w
ask w "open /dev/$HEAD" >/dev/null
begin 3000 "delete"
is "$(log_ours | grep -c 'no path has become usable')" 0 "nothing has expired"
check "the head is deleted" remove_head "$HEAD"
ends EIO "and the write fails"
server_stop w
count_is 0 "with every reference"

done_testing
