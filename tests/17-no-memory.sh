#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Each memory allocation of a request fails in turn: adding the first path of a head, adding another, removing one,
# changing states. Whatever it answers, the request is carried out or leaves nothing behind: no head, no claim on the
# device, no reference.
#
# RMPATH_STRIDE  look at every so many allocations (default: 3 for a new head, 1 for the rest)
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

[ -e /proc/self/fail-nth ] && [ -d /sys/kernel/debug/failslab ] || skip_all "this kernel has no CONFIG_FAILSLAB"
for kind in failslab fail_page_alloc; do
	echo N >/sys/kernel/debug/$kind/ignore-gfp-wait
	echo 0 >/sys/kernel/debug/$kind/verbose
done
rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 || bail "no paths"

free_disk() { [ "$(sysio "open /dev/$1 excl")" = OK ]; }
# each NAME STRIDE FILE TEXT UNDO CHECK: until no allocation is left to fail; UNDO follows every success, CHECK every
# failure, and both must leave what was there before.
each() {
	local name=$1 stride=${RMPATH_STRIDE:-$2} n got before failed=0 trouble=
	before=$(snapshot)
	for ((n = 1; n < 5000; n += stride)); do
		got=$(ask sys "failnth $n $3 $4")
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
drop_b() { remove_path nbb && wait_for 60 no_path "$HEAD" nbb; }
each "another path" 1 $CLASS/add_path "device=/dev/nbb wwid=mem" drop_b "wait_for 60 free_disk nbb"
check "another path can be added" add_path "device=/dev/nbb wwid=mem"
again_b() { wait_for 60 no_path "$HEAD" nbb && wait_for 60 free_disk nbb && add_path "device=/dev/nbb wwid=mem"; }
each "removing it" 1 $CLASS/remove_path device=/dev/nbb again_b "has_path $HEAD nbb"
P=$(path_dir "$HEAD" nba)
each "failing it" 1 "$P/state" failed "echo optimized >$P/state" :
each "the delay" 1 "$(hattr "$HEAD" delayed_removal_secs)" 60 "echo 0 >$(hattr "$HEAD" delayed_removal_secs)" :
is "$(sysio "open /dev/$HEAD" "write 0 4096 1" "read 0 4096")" OK "the head works after all that"
check "it goes" remove_head "$HEAD"
count_is 0 "with its reference"

done_testing
