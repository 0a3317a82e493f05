#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Allocations fail at random wherever they are made for the module: by who asks it for something, by its work items, in
# the I/O. Paths come and go by hand and by themselves, heads and maps are made and removed, verified I/O runs over a head. No
# I/O fails, nothing is stuck, and when memory is back, all works, and the references are what they were.
#
# RMPATH_RACE_SECS  how long (default 15)
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

fail=/sys/kernel/debug/failslab
[ -e $fail/require-start ] || skip_all "this kernel has no CONFIG_FAULT_INJECTION_STACKTRACE_FILTER"
secs=${RMPATH_RACE_SECS:-15}
modprobe dm-mod
rmpath_load || bail "the module does not load"
fail_one_in() { echo $((100 / $1)) >"$fail/probability"; }
memory_is_back() { echo 0 >"$fail/probability"; }
# Whoever was here before may have left another.
memory_is_back
everywhere() { memory_is_back; echo 0 >"$fail/require-start"; echo 0xffffffffffffffff >"$fail/require-end"; }
defer everywhere
# Those with the module's code on the stack.
read -r first last < <(awk '$NF == "[rmpath]" && $2 ~ /[tT]/ {print $1}' /proc/kallsyms | sort | sed -n '1p;$p' | paste -sd ' ')
echo "0x$first" >"$fail/require-start"
echo "0x$last" >"$fail/require-end"
for setting in stacktrace-depth=32 task-filter=N ignore-gfp-wait=N verbose=0 interval=1 times=-1; do
	echo "${setting#*=}" >"$fail/${setting%=*}"
done

sdebug 3 && nullb nba 16 && nullb nbb 16 && nullb nbc 16 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2)
HEAD=rmpath0
check "a head" add_path "device=/dev/$a"
for p in "$b" "$c"; do has_path "$HEAD" "$p" || add_path "device=/dev/$p" 2>/dev/null; done
eventually 60 "with three paths" has_paths "$HEAD" "$a" "$b" "$c"
settled_node $HEAD
echo 3000 >"$(hattr $HEAD delayed_removal_secs)"
base=$(refcnt)

fio_verify /dev/$HEAD "$secs" --ioengine=libaio --iodepth=4 --numjobs=2 >"$TMP/fio" 2>&1 &
fio_pid=$!
nap 1
fail_one_in 10
out=$("$TESTS/race.py" "$secs" "toggle $b -" "folder $HEAD $c" "rescan 2" "secs $HEAD 3000 4000" \
	"set $HEAD no_path_timeout_secs 60 600" "set $HEAD iopolicy numa round-robin queue-depth" "set $HEAD rescan 1" \
	"head nba nbb other" "table rmt-fails nbc" "open /dev/rmpath1" read) &&
	ok "everything comes to its end" || not_ok "everything comes to its end"
memory_is_back
diag "$out"
like "$out" ' add ENOMEM' "memory was short"
wait_for 600 ended $fio_pid || kill -9 $fio_pid
if wait $fio_pid; then ok "no error, no wrong data"; else not_ok "no error, no wrong data" "$(tail -n 20 "$TMP/fio")"; fi

dmset remove rmt-fails 2>/dev/null
for p in nba nbb; do remove_path $p 2>/dev/null; done
eventually 120 "the other head goes with its paths" no_head other
eventually 60 "the head is there, and no other" only_head "$HEAD"
eventually 120 "all disks are there" sdebug_count_is 3
c=$(sdebug_disk 2)
# One that is coming by itself just now is EBUSY.
all_there() {
	for p in "$a" "$b" "$c"; do has_path "$HEAD" "$p" || add_path "device=/dev/$p" 2>/dev/null; done
	has_paths "$HEAD" "$a" "$b" "$c"
}
eventually 60 "all its paths can be there again" all_there
for p in "$a" "$b" "$c"; do
	echo optimized >"$(path_dir $HEAD "$p")/state"
	eventually 30 "$p has nothing in flight" reads "$(path_dir $HEAD "$p")/inflight" 0
done
count_is "$base" "the reference count is what it was"
is "$(sysio "open /dev/$HEAD" "write 0 4096 1" "verify 0 4096 1")" OK "it works"
check "it goes" remove_head $HEAD
count_is 0 "with its reference"
done_testing
