#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# I/O policies: the attribute, what each shows per path, optimized paths before others under every one of them, and
# changing them under I/O: nothing fails, and what was counted is counted out again.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

sdebug_paths
sdebug_head
policy=$(hattr "$HEAD" iopolicy)
# Below, with no usable path I/O is to fail, not to wait.
echo 0 >"$(hattr "$HEAD" no_path_timeout_secs)"
policies="numa queue-depth service-time historical-service-time round-robin"

# The attribute.
is "$(value "$policy")" round-robin "the policy is round-robin"
for p in $policies; do
	is "$(attr "$policy" "$p") $(value "$policy")" "OK $p" "it can be $p"
done
for bad in '' none round_robin ROUND-ROBIN queue-length 'numa x' numaa 0; do
	is "$(attr "$policy" "$bad") $(value "$policy")" "EINVAL round-robin" "it cannot be '$bad'"
done

# That of new heads.
default=$CLASS/iopolicy
is "$(value "$default") $(stat -c %a "$default")" "round-robin 644" "new heads have round-robin"
for bad in '' none queue-length; do
	is "$(attr "$default" "$bad") $(value "$default")" "EINVAL round-robin" "that cannot be '$bad'"
done
is "$(attr "$default" queue-depth) $(value "$default")" "OK queue-depth" "but queue-depth"
is "$(value "$policy")" round-robin "the head keeps its own"
nullb nbother 16 && add_path "device=/dev/nbother wwid=other" || bail "no other head"
is "$(value "$(hattr "$(head_of other)" iopolicy)")" queue-depth "a new one has that"
check "it goes" remove_head "$(head_of other)"
attr "$default" round-robin >/dev/null

# uses NAME WHAT: where ten reads go.
ask sys "open /dev/$HEAD" >/dev/null
uses() {
	local ra rb got
	read -r got ra rb <<<"$(counted_reads sys 10 "$a" "$b")"
	case $2 in
	both) is "$got $((ra > 0)) $((rb > 0)) $((ra + rb))" "OK 1 1 10" "$1 ($ra and $rb)" ;;
	any) is "$got $((ra + rb))" "OK 10" "$1 ($ra and $rb)" ;;
	"$a") is "$got $ra $rb" "OK 10 0" "$1" ;;
	"$b") is "$got $ra $rb" "OK 0 10" "$1" ;;
	esac
}
both() { attr "$A/state" "$1" >/dev/null && attr "$B/state" "$2" >/dev/null; }
for p in $policies; do
	attr "$policy" "$p" >/dev/null
	both non-optimized optimized
	uses "$p: the optimized path is used" "$b"
	both optimized inaccessible
	uses "$p: and not one that is inaccessible" "$a"
	both failed non-optimized
	uses "$p: nor one that failed, if there is another" "$b"
	both non-optimized optimized
	uses "$p: when one is optimized again, it is used" "$b"
	both non-optimized non-optimized
	case $p in
	numa) uses "$p: of equal ones the first" "$a" ;;
	historical*) uses "$p: equal ones" any ;;
	*) uses "$p: equal ones share" both ;;
	esac
	both failed failed
	is "$(sysio_reads 1)" EIO "$p: with none a read fails"
	both optimized optimized
	case $p in
	numa) uses "$p: of equal ones the first" "$a" ;;
	historical*) uses "$p: equal ones" any ;;
	*) uses "$p: equal ones share" both ;;
	esac
done

# What nvme shows per path.
content() { cat "$1" && echo .; }
is "$(content "$A/numa_nodes") $(content "$A/queue_depth")" ". ." "under round-robin nothing is shown"
attr "$policy" numa >/dev/null
all=$(cat /sys/devices/system/node/online 2>/dev/null || echo 0)
is "$(value "$A/numa_nodes"),$(value "$B/numa_nodes")" "$all," "numa: one path is used by all nodes, for neither is near one"
is "$(content "$A/queue_depth")" . "and no queue depth is shown"
attr "$A/state" failed >/dev/null
is "$(value "$A/numa_nodes"),$(value "$B/numa_nodes")" ",$all" "when it fails, the other"
uses "which has the I/O" "$b"
attr "$A/state" optimized >/dev/null
is "$(value "$A/numa_nodes"),$(value "$B/numa_nodes")" "$all," "and it again when it is reinstated"
uses "which has the I/O" "$a"
check "a path leaves" remove_path "$a"
uses "the other one has the I/O" "$b"
check "it comes back" add_path "device=/dev/$a"
A=$(path_dir "$HEAD" "$a")
uses "the set has changed, and there is I/O" any

# A bio that is on its way when the policy changes is counted out exactly if it was counted in.
depths() { echo "$(value "$A/queue_depth") $(value "$B/queue_depth")"; }
one_deep() { [ "$(depths)" = "0 1" ] || [ "$(depths)" = "1 0" ]; }
on_its_way() { [ $(($(value "$A/inflight") + $(value "$B/inflight"))) = 1 ]; }
delay() { echo "$1" >/sys/bus/pseudo/drivers/scsi_debug/delay; }
server slow
ask slow "open /dev/$HEAD ro" >/dev/null
for first in queue-depth service-time historical-service-time; do
	attr "$policy" $first >/dev/null
	delay 2500
	tell slow "read 65536 4096"
	eventually 60 "$first: a read is on its way" on_its_way
	attr "$policy" queue-depth >/dev/null
	check "it is counted" one_deep
	attr "$policy" round-robin >/dev/null
	is "$(answer slow)" OK "it arrives under round-robin"
	attr "$policy" queue-depth >/dev/null
	is "$(depths)" "0 0" "and is counted no more"
done
for first in round-robin numa; do
	attr "$policy" $first >/dev/null
	tell slow "read 65536 4096"
	eventually 60 "$first: a read is on its way" on_its_way
	attr "$policy" queue-depth >/dev/null
	is "$(depths)" "0 0" "it is not counted"
	is "$(answer slow)" OK "it arrives"
	is "$(depths)" "0 0" "and is not counted out"
done
delay 0
server_stop slow

# Under load.
fio_verify "/dev/$HEAD" $((15 * PATIENCE)) --ioengine=libaio --iodepth=16 --numjobs=2 --iodepth_batch_complete_max=4 \
	>"$TMP/fio" 2>&1 &
fio=$!
switches=0 wrong=
while ! ended $fio; do
	for p in $policies; do
		[ "$(attr "$policy" "$p")" = OK ] || wrong=$p
		switches=$((switches + 1))
	done
done
wait $fio
is "$?" 0 "data is verified while the policy changes ($switches times)" || diag "$(cat "$TMP/fio")"
is "$wrong" "" "every change succeeded"
check "there were many" test $switches -ge 20
attr "$policy" queue-depth >/dev/null
is "$(depths) $(value "$A/inflight") $(value "$B/inflight")" "0 0 0 0" "nothing is counted afterwards"
is "$(value "$A/state") $(value "$B/state") $(value "$(hattr "$HEAD" failovers)")" "optimized optimized 0" \
	"no path has failed"

ask sys close >/dev/null
done_testing
