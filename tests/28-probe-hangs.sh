#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A probe that hangs in its device holds up nothing but the closing of its own path: not the probes of other paths, of
# the same head or another, not other heads, and not, once the device has answered, the module's unloading.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod && modprobe dm-delay
rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 && nullb nbc 16 || bail "no disks"
dmset create rmt-slow --notable || bail "no map"
# slow MS: how long each read takes. Those that wait already are let go.
slow() {
	dmset load rmt-slow --table "0 32768 delay /dev/nba 0 $1" && dmset suspend --noflush rmt-slow &&
		dmset resume rmt-slow
}
slow 0 || bail "no slow disk"
dm=$(dm_node rmt-slow) && dm=${dm#/dev/}
add_path "device=/dev/$dm wwid=one" && add_path "device=/dev/nbb wwid=one" && add_path "device=/dev/nbc wwid=two" ||
	bail "no heads can be made"
ONE=$(head_of one) TWO=$(head_of two)
settled_node "$ONE" && settled_node "$TWO" || bail "the heads have no nodes"
S=$(path_dir "$ONE" "$dm") B=$(path_dir "$ONE" nbb) C=$(path_dir "$TWO" nbc)
[ -e "$(inject_file nbb)" ] || { skip "all" "this kernel has no CONFIG_BLK_ERROR_INJECTION"; done_testing; }
for h in $ONE $TWO; do
	echo 3000 >"$(hattr "$h" no_path_timeout_secs)"
	echo 1 >"$(hattr "$h" probe_secs)"
done
server one
server two
is "$(ask one "open /dev/$ONE ro") $(ask two "open /dev/$TWO ro")" "OK OK" "two heads are open"

# break_path SERVER HEAD DISK DIR
break_path() {
	local i
	inject "$3" READ TRANSPORT
	for i in 1 2 3 4; do
		tell "$1" "read 0 4096"
		wait_for 10 reads "$4/state" failed && break
		receive "$1"
	done
	reads "$4/state" failed || not_ok "$3 fails"
}
attr "$B/state" non-optimized >/dev/null
break_path one "$ONE" "$dm" "$S"
receive one
is "$reply" OK "the read went by the other path"
attr "$B/state" optimized >/dev/null
# The device must be slow before it stops failing, or the probe would not hang.
slow 1000000 || bail "the disk does not become slow"
inject_none "$dm"
# One read is being delayed.
hangs() { [[ $(dmset status rmt-slow) = *'delay 1 0 0'* ]]; }
eventually 60 "a probe hangs" hangs
is "$(value "$S/state")" failed "its path is not reinstated"
is "$(ask one "read 0 4096") $(ask two "read 0 4096")" "OK OK" "the heads work"

# Others are probed.
break_path one "$ONE" nbb "$B"
break_path two "$TWO" nbc "$C"
eventually 30 "I/O waits on one head" reads "$(hattr "$ONE" requeued)" 1
eventually 30 "and on the other" reads "$(hattr "$TWO" requeued)" 1
inject_none nbb
inject_none nbc
eventually 60 "the other path of that head is reinstated" reads "$B/state" optimized
eventually 60 "the other head's too" reads "$C/state" optimized
is "$(answer one) $(answer two)" "OK OK" "their I/O goes on"
is "$(value "$S/state")" failed "the first one is not"
check "its probe still hangs, alone" hangs

# Another head comes and goes meanwhile.
server_stop two
check "the other head goes" remove_head "$TWO"
check "and comes" add_path "device=/dev/nbc wwid=two"
check "and goes" remove_head "$(head_of two)"

# Removal: the path closes when its read has come back, as for any I/O; then all of it goes.
is "$(attr "$S/delete" 1)" OK "the path is told to go"
is "$(ask one "read 0 4096")" OK "I/O goes on"
nap 2
check "it waits for its read" exists "$S/state"
slow 0
eventually 60 "which comes back" gone "$S"
eventually 60 "and the disk is free" answers OK "open /dev/$dm excl"
server_stop one

# The same with the whole head.
check "the path is added" add_path "device=/dev/$dm wwid=one"
S=$(path_dir "$ONE" "$dm")
server one
ask one "open /dev/$ONE ro" >/dev/null
attr "$B/state" non-optimized >/dev/null
break_path one "$ONE" "$dm" "$S"
receive one
slow 1000000
inject_none "$dm"
eventually 60 "a probe hangs again" hangs
server_stop one
is "$(attr "$(hattr "$ONE" delete)" 1)" OK "the head is told to go"
nap 2
check "it waits for the read" exists "$S/state"
slow 0
eventually 60 "which comes back" gone "/sys/block/$ONE"
count_is 0 "with every reference"
check "the module unloads" within 60 rmpath_unload

done_testing
