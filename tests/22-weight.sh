#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Weights: written, refused, and in effect: shares of round-robin, queue depths, and data under way.
# Time limit: 1200 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod && modprobe dm-delay
rmpath_load auto_attach=0 && nullb nbstore 64 || bail "no disk"
maps="rmt-a rmt-b rmt-c"
for m in $maps; do dmset create "$m" --notable || bail "no maps"; done
# delay MS: how long all of them take for a read.
delay() {
	local m cmds=()
	for m in $maps; do
		cmds+=("dm load $m 131072 delay /dev/nbstore 0 $1" "dm suspend $m noflush" "dm resume $m")
	done
	sysio_each "${cmds[@]}"
}
delay 0
a=$(dm_node rmt-a) b=$(dm_node rmt-b) c=$(dm_node rmt-c)
add_path "device=$a wwid=w weight=3" && add_path "device=$b wwid=w" || bail "no head can be made"
HEAD=$(head_of w)
settled_node "$HEAD" || bail "the head has no node"
a=${a##*/} b=${b##*/} c=${c##*/}
A=$(path_dir "$HEAD" "$a") B=$(path_dir "$HEAD" "$b")
policy=$(hattr "$HEAD" iopolicy)

# divided A B C: of so many reads in all, each path has as many, within a twentieth. What a write of a weight brings
# about comes soon, so this is for eventually.
reads_of() { ra=$(stat_of "$a" 1) rb=$(stat_of "$b" 1) rc=$(stat_of "$c" 1); }
near() { (( $1 >= $2 - all / 20 && $1 <= $2 + all / 20 )); }
divided() {
	local wa wb wc all=$(($1 + $2 + $3))
	reads_of
	wa=$ra wb=$rb wc=$rc
	dd if="/dev/$HEAD" of=/dev/null bs=4k count="$all" iflag=direct status=none || return 1
	reads_of
	ra=$((ra - wa)) rb=$((rb - wb)) rc=$((rc - wc))
	near $ra "$1" && near $rb "$2" && near $rc "$3"
}

is "$(value "$A/weight") $(value "$B/weight")" "3 1" "weights are as they were given"
check "3 to 1" divided 300 100 0
is "$(attr "$A/weight" 1) $(value "$A/weight")" "OK 1" "a weight is written"
eventually 30 "1 to 1" divided 200 200 0
is "$(attr "$B/weight" 0x4)" OK "also in other notations"
eventually 30 "1 to 4" divided 80 320 0
for row in 0=EINVAL =EINVAL x=EINVAL -1=EINVAL 1.5=EINVAL 1001=ERANGE 4294967296=ERANGE; do
	is "$(attr "$A/weight" "${row%=*}") $(value "$A/weight")" "${row#*=} 1" "a weight of '${row%=*}' is refused"
done
refuse "and by add_path" add_path "device=/dev/$c wwid=w weight=1001"
is "$(attr "$A/weight" 1000) $(attr "$B/weight" 1000)" "OK OK" "the greatest weight"
eventually 30 "is as good as 1 if all have it" divided 200 200 0

# Three paths; one of them is not used.
check "a third path" add_path "device=/dev/$c wwid=w weight=500"
C=$(path_dir "$HEAD" "$c")
check "2 to 2 to 1" divided 200 200 100
attr "$B/state" inaccessible >/dev/null
divided 200 0 100
is "$rb $((ra > rc)) $((rc > 30))" "0 1 1" "a path that is not used gets nothing ($ra, $rb and $rc)"
attr "$B/state" optimized >/dev/null
check "it leaves" remove_path "$b"
check "2 to 1" divided 200 0 100

# Load. All reads stay for so long that sixteen are under way, and have been divided when none was.
attr "$A/weight" 3 >/dev/null
attr "$C/weight" 1 >/dev/null
under_way() { [ "$(value "$A/inflight") $(value "$C/inflight")" = "12 4" ]; }
for p in queue-depth service-time; do
	attr "$policy" $p >/dev/null
	delay 60000
	fio --name=load --filename="/dev/$HEAD" --direct=1 --rw=read --bs=4k --ioengine=libaio --iodepth=16 --size=64k \
		--minimal >"$TMP/fio" 2>&1 &
	eventually 60 "$p: 12 to 4 are under way" under_way
	delay 0
	wait $!
	is "$?" 0 "they arrive" || diag "$(cat "$TMP/fio")"
done

# Under load: weights change, paths come and go.
attr "$policy" round-robin >/dev/null
fio_verify "/dev/$HEAD" $((10 * PATIENCE)) --ioengine=libaio --iodepth=8 --numjobs=2 >"$TMP/fio" 2>&1 &
fio=$! n=0 wrong=
while ! ended $fio; do
	n=$((n + 1))
	got="$(attr "$A/weight" $((1 + n * 7 % 1000))) $(attr "$C/weight" $((1 + n * 13 % 1000)))"
	[ "$got" = "OK OK" ] || wrong=$got
	(( n % 4 )) || { add_path "device=/dev/$b wwid=w weight=$n" && remove_path "$b"; } || wrong="path $n"
done
wait $fio
is "$?" 0 "data is verified while weights change ($n times)" || diag "$(cat "$TMP/fio")"
is "$wrong" "" "every change succeeded"

# What a path set knows besides: a flush goes to the path with a cache, also when the turns have changed.
nullb nbplain 32 && nullb nbfull 32 cache_size=1 || bail "no disks"
add_path "device=/dev/nbplain wwid=f" && add_path "device=/dev/nbfull wwid=f" || bail "no head can be made"
HEAD=$(head_of f) a=nbplain b=nbfull
settled_node "$HEAD" || bail "the head has no node"
is "$(attr "$(path_dir "$HEAD" nbplain)/weight" 3)" OK "the path without cache has the greater weight"
eventually 30 "3 to 1" divided 300 100 0
for n in 1 2 3 4; do
	is "$(sysio "open /dev/$HEAD buffered" "write $((n * 8192)) 4096 $n" fsync)" OK "flush $n ends well"
done
is "$(stat_of nbplain 16)" 0 "none has gone to the path without cache"

done_testing
