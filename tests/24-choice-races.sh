#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Everything that a path is chosen by changes at once, under verified I/O: policy, weights, states, what is marginal, and
# the set of paths. No I/O fails, and nothing is left counted; then the head goes at once under all that.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

rmpath_load auto_attach=0 && sdebug 3 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2)
add_path "device=/dev/$a" && add_path "device=/dev/$b weight=2" && add_path "device=/dev/$c weight=3" ||
	bail "no head can be made"
HEAD=$(heads)
settled_node "$HEAD" || bail "the head has no node"
A=$(path_dir "$HEAD" "$a") B=$(path_dir "$HEAD" "$b")
dir=/sys/block/$HEAD/rmpath
policies="numa queue-depth service-time historical-service-time round-robin"
echo 200 >"$dir/marginal_path_latency_pct"

# Each of these goes on until its file of that name has gone. A is never out of use, so that I/O always has a path.
loop() {
	local name=$1 n=0
	: >"$TMP/$name"
	while [ -e "$TMP/$name" ]; do
		n=$((n + 1))
		"$name" $n || { echo "$name $n: $?" >>"$TMP/wrong"; break; }
	done
	echo "$name $n" >>"$TMP/rounds"
}
change_policy() { local p; for p in $policies; do echo "$p" >"$dir/iopolicy" || return 1; done; }
change_weight() { echo $((1 + $1 * 37 % 1000)) >"$A/weight" && echo $((1 + $1 * 11 % 5)) >"$B/weight"; }
change_state() {
	echo non-optimized >"$A/state" && echo failed >"$B/state" && echo optimized >"$B/state" &&
		echo inaccessible >"$B/state" && echo optimized >"$A/state" && echo optimized >"$B/state"
}
change_watch() { echo $(($1 % 2)) >"$dir/marginal_path_err_sample_time" && nap 0.5; }
change_set() { remove_path "$c" && add_path "device=/dev/$c weight=$((1 + $1 % 9))"; }

changes="change_policy change_weight change_state change_watch change_set"
: >"$TMP/wrong"
fio_verify "/dev/$HEAD" $((20 * PATIENCE)) --ioengine=libaio --iodepth=16 --numjobs=2 >"$TMP/fio" 2>&1 &
fio=$!
pids=()
for change in $changes; do
	loop "$change" &
	pids+=($!)
done
wait $fio
is "$?" 0 "data is verified while everything changes" || diag "$(cat "$TMP/fio")"
for change in $changes; do rm -f "$TMP/$change"; done
for pid in "${pids[@]}"; do wait_for 60 ended "$pid" || not_ok "a loop ends"; done
is "$(cat "$TMP/wrong")" "" "every change succeeded"
diag "rounds: $(paste -sd ' ' "$TMP/rounds")"
is "$(attr "$dir/iopolicy" queue-depth)" OK "the policy counts"
idle() {
	local d
	for d in "$dir"/path[0-9]*; do
		reads "$d/queue_depth" 0 && reads "$d/inflight" 0 || return 1
	done
}
eventually 30 "nothing is left counted" idle || diag "$(cat "/sys/kernel/debug/rmpath/$HEAD")"
check "all paths are there" has_paths "$HEAD" "$a" "$b" "$c"

# The head goes while its judge and a plan are pending.
echo 1 >"$dir/marginal_path_err_sample_time"
check "reads" dd if="/dev/$HEAD" of=/dev/null bs=4k count=100 iflag=direct status=none
echo 7 >"$A/weight"
check "the head goes" remove_head "$HEAD"
count_is 0 "with its reference"

done_testing
