#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The memory allocations of a request fail in turn: adding the first path of a head, adding another, removing one,
# changing states; loading a table, and messages to a map. Whatever it answers, the request is carried out or leaves
# nothing behind: no head, no claim on the device, no reference.
#
# RMPATH_STRIDE  look at every so many allocations (default: 3 for a new head, 4 for a table, 2 for a path that returns, 1
#                for the rest)
# Time limit: 2400 s
. "$(dirname "$0")/lib.sh"

[ -e /proc/self/fail-nth ] && [ -d /sys/kernel/debug/failslab ] || skip_all "this kernel has no CONFIG_FAILSLAB"
for kind in failslab fail_page_alloc; do
	echo N >/sys/kernel/debug/$kind/ignore-gfp-wait
	echo 0 >/sys/kernel/debug/$kind/verbose
done
rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 || bail "no paths"

free_disk() { [ "$(sysio "open /dev/$1 excl")" = OK ]; }
# each NAME STRIDE FILE TEXT UNDO CHECK (or, with verb=faildm, "COMMAND MAP" for FILE): until no allocation is left to
# fail; UNDO follows every success, CHECK every failure, and both must leave what was there before.
each() {
	local name=$1 stride=${RMPATH_STRIDE:-$2} n got before failed=0 trouble=
	before=$(snapshot)
	for ((n = 1; n < 5000; n += stride)); do
		got=$(ask sys "${verb:-failnth} $n $3 $4")
		case $got in
		OK*) eval "$5" || { trouble="allocation $n: cannot be undone"; break; } ;;
		ENOMEM | EAGAIN) failed=$((failed + 1)) ;;
		*) trouble="allocation $n: $got"; break ;;
		esac
		wait_for 60 sh_same "$before" || { trouble="allocation $n: $got, and then"$'\n'"$(snapshot)"; break; }
		eval "$6" || { trouble="allocation $n: $got, and not: $6"; break; }
		[[ $got != *UNTOUCHED ]] || break
	done
	if [ -z "$trouble" ]; then ok "$name: $n allocations, $failed failures"; else
		not_ok "$name" "$trouble" "before: $before" "$(dmesg | tail -n 15)"
	fi
}
sh_same() { [ "$(snapshot)" = "$1" ]; }
one_head() { remove_head "$(head_of mem)"; }

each "the first path of a head" 3 $CLASS/add_path "device=/dev/nba wwid=mem" one_head \
	"wait_for 60 free_disk nba"
count_is 0 "nothing is held"
check "a head" add_path "device=/dev/nba wwid=mem"
HEAD=$(head_of mem)
wait_for 60 scanned "$HEAD" 1
drop_b() { remove_path nbb && wait_for 60 no_path "$HEAD" nbb; }
each "another path" 1 $CLASS/add_path "device=/dev/nbb wwid=mem" drop_b "wait_for 60 free_disk nbb"
check "another path can be added" add_path "device=/dev/nbb wwid=mem"
again_b() { wait_for 60 no_path "$HEAD" nbb && wait_for 60 free_disk nbb && add_path "device=/dev/nbb wwid=mem"; }
each "removing it" 1 $CLASS/remove_path device=/dev/nbb again_b "has_path $HEAD nbb"
P=$(path_dir "$HEAD" nba)
each "failing it" 1 "$P/state" failed "echo optimized >$P/state" :
each "the delay" 1 "$(hattr "$HEAD" delayed_removal_secs)" 60 "echo 0 >$(hattr "$HEAD" delayed_removal_secs)" :
# A path returns to a head whose removal is pending, and fails to join: the removal stays pending.
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
remove_path nba && remove_path nbb && wait_for 60 hstate_is "$HEAD" removal-pending || not_ok "the removal is pending"
count_is 2 "the pending removal is a reference"
gone_again() { remove_path nba && wait_for 60 hstate_is "$HEAD" removal-pending && wait_for 60 no_path "$HEAD" nba; }
each "the path that returns" 2 $CLASS/add_path "device=/dev/nba wwid=mem" gone_again "wait_for 60 free_disk nba"
check "it can return" add_path "device=/dev/nba wwid=mem"
is "$(hstate "$HEAD")" live "which ends the removal"
count_is 1 "and gives its reference back"
is "$(sysio "open /dev/$HEAD" "write 0 4096 1" "read 0 4096")" OK "the head works after all that"
check "it goes" remove_head "$HEAD"
count_is 0 "with its reference"

modprobe dm-mod
dmset create rmt-mem --notable || bail "no map"
unheld() { set -- /sys/block/nb[ab]/holders/*; [ ! -e "$1" ]; }
table="$(sectors nba) rmpath 1 queue_if_no_path 0 2 1 service-time 0 1 2 /dev/nba 1 1 round-robin 0 1 1 /dev/nbb 1"
verb=faildm each "a table" 4 "load rmt-mem" "$table" "dmset clear rmt-mem && unheld" unheld
check "its first disk is free" free_disk nba
check "its second disk is free" free_disk nbb
check "a table can be loaded" dmset load rmt-mem --table "0 $table"
check "and be used" dmset resume rmt-mem
for message in "fail_path /dev/nba" "reinstate_path /dev/nba" "disable_group 1" "enable_group 1" "switch_group 2" \
	fail_if_no_path; do
	verb=faildm each "the message $message" 1 "message rmt-mem" "$message" : :
done
is "$(sysio "open $(dm_node rmt-mem)" "write 0 4096 1" "read 0 4096")" OK "the map works after all that"
check "it goes" dmset remove --retry rmt-mem
count_is 0 "with its references"

done_testing
