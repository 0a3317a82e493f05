#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A CPU goes and comes, and requests fail at random on one path or the other, under verified I/O, while a third path leaves
# and returns: no error and no wrong data, no CPU's count is lost, and the references are what they were.
#
# RMPATH_HOTPLUG_SECS  how long (default 20)
# RMPATH_SEED          which path, and how it fails (default: the time)
# Time limit: 600 s
. "$(dirname "$0")/lib.sh"

secs=${RMPATH_HOTPLUG_SECS:-20}
cpu=/sys/devices/system/cpu/cpu1/online
fail=/sys/kernel/debug/fail_make_request
[ -w $cpu ] || skip_all "there is no second CPU that can go"
[ -d $fail ] || skip_all "this kernel has no CONFIG_FAIL_MAKE_REQUEST"
RANDOM=${RMPATH_SEED:=$EPOCHSECONDS}
diag "RMPATH_SEED=$RMPATH_SEED"
rmpath_load auto_attach=0 && sdebug 3 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2)
sdebug_head
echo 1 >"$(hattr "$HEAD" probe_secs)"
echo 600 >"$(hattr "$HEAD" no_path_timeout_secs)"
count_is 1 "one head, one reference"

defer sh -c "echo 1 >$cpu"
defer sh -c "echo 0 >$fail/probability"
for setting in interval=1 verbose=0 times=-1 task-filter=N probability=20; do
	echo "${setting#*=}" >"$fail/${setting%=*}"
done
both_work() { reads "$A/state" optimized && reads "$B/state" optimized; }

# spoil DISK: it fails a part of its requests, in one way or the other, until mend DISK.
spoil() {
	local op
	if ((RANDOM % 2)) || [ ! -e "$(inject_file "$1")" ]; then
		echo 1 >"/sys/block/$1/make-it-fail"
	else
		for op in READ WRITE; do inject "$1" $op TRANSPORT chance=5; done
	fi
}
mend() { echo 0 >"/sys/block/$1/make-it-fail" && { [ ! -e "$(inject_file "$1")" ] || inject_none "$1"; }; }

# Until it is told to stop, or there was an error.
verified() {
	while [ ! -e "$TMP/stop" ]; do
		fio_verify "/dev/$HEAD" 5 --ioengine=libaio --iodepth=4 --numjobs=2 || return
	done
}
verified >"$TMP/fio" 2>&1 &
fio_pid=$!
rounds=0 mended=0 came=0 begun=$SECONDS
while ! ended $fio_pid && ((rounds < 3 || SECONDS - begun < secs)); do
	((RANDOM % 2)) && bad=$b || bad=$a
	spoil "$bad"
	echo 0 >$cpu || break
	# It may not be closed yet.
	if has_path "$HEAD" "$c"; then remove_path "$c"; else add_path "device=/dev/$c" 2>/dev/null && came=$((came + 1)); fi
	echo $((RANDOM % 100)) >"$(hattr "$HEAD" delayed_removal_secs)"
	nap 0.3
	echo 1 >$cpu && mend "$bad" || break
	rounds=$((rounds + 1))
	# The next one must find a path that works.
	wait_for 120 both_work || break
	mended=$((mended + 1))
done
touch "$TMP/stop"
wait_for 600 ended $fio_pid || kill -9 $fio_pid
if wait $fio_pid; then ok "no error, no wrong data"; else not_ok "no error, no wrong data" "$(tail -n 20 "$TMP/fio")"; fi
diag "$rounds rounds, the third path came $came times, $(value "$(hattr "$HEAD" failovers)") failovers"
is "$mended" "$rounds" "a path that failed works again each time"
check "there was more than one round" test $mended -gt 1
check "and requests were sent again" at_least "$(hattr "$HEAD" failovers)" 1
for p in "$A" "$B"; do eventually 30 "nothing is in flight" reads "$p/inflight" 0; done
count_is 1 "the reference count is what it was"
check "it goes" remove_head "$HEAD"
count_is 0 "with its reference"

done_testing
