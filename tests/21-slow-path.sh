#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Policies that go by load, with one path that is slow: it gets little, where round-robin gives it half; when it is fast
# again, it is used again.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod && modprobe dm-delay
rmpath_load auto_attach=0 && nullb nbstore 64 || bail "no disk"
# One disk, reached in two ways: straight, and with a delay of so many milliseconds.
dmset create rmt-fast --table "0 131072 linear /dev/nbstore 0" && dmset create rmt-slow --notable || bail "no maps"
fast=$(dm_node rmt-fast) slow=$(dm_node rmt-slow)
delay() {
	is "$(sysio_all "dm load rmt-slow 131072 delay /dev/nbstore 0 $1" "dm suspend rmt-slow noflush" \
		"dm resume rmt-slow")" "OK OK OK" "the slow path takes $1 ms more"
}
delay 200
add_path "device=$fast wwid=two" && add_path "device=$slow wwid=two" || bail "no head can be made"
HEAD=$(head_of two)
settled_node "$HEAD" || bail "the head has no node"
fast=${fast##*/} slow=${slow##*/}
policy=$(hattr "$HEAD" iopolicy)

# load READS: so many, eight at a time; sets $share to the slow path's, in percent, and $how to the numbers.
load() {
	local f s
	f=$(stat_of "$fast" 1) s=$(stat_of "$slow" 1)
	fio --name=load --filename="/dev/$HEAD" --direct=1 --rw=randread --bs=4k --ioengine=libaio --iodepth=8 \
		--size=32m --number_ios="$1" --minimal >"$TMP/fio" 2>&1 || return 1
	f=$(($(stat_of "$fast" 1) - f)) s=$(($(stat_of "$slow" 1) - s))
	how="$f straight, $s slow"
	(( f + s >= $1 )) && share=$((100 * s / (f + s)))
}
share=0 how=
carry() { if load "$1"; then ok "$1 reads"; else not_ok "$1 reads" "$(cat "$TMP/fio")"; fi; }

carry 100
check "round-robin: the slow path gets half ($how)" test "$share" -ge 40
for p in queue-depth service-time historical-service-time; do
	attr "$policy" $p >/dev/null
	before=$(stat_of "$slow" 1)
	carry 600
	check "$p: the slow path gets little ($how)" test "$share" -le 20
	check "$p: but something" test "$(stat_of "$slow" 1)" -gt "$before"
done
delay 0
for p in queue-depth service-time; do
	attr "$policy" $p >/dev/null
	carry 400
	check "$p: without the delay it gets its share ($how)" test "$share" -ge 20
done
# This one has to try it first: after some seconds.
attr "$policy" historical-service-time >/dev/null
tried() { load 200 && (( share >= 15 )); }
eventually 120 "historical-service-time: it is tried again, and gets its share" tried

done_testing
