#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Control groups: what is read and written through a head or a map is charged to its submitter's group, once on the head or
# the map and once on each path that it was sent to; pieces of a big bio and bios that are sent again as well. Limits hold
# above and below. The group can go afterwards: nobody keeps a reference.
. "$(dirname "$0")/lib.sh"

GROUP=$TMP/cgroup/rmpath-test
mkdir "$TMP/cgroup" && mount -t cgroup2 none "$TMP/cgroup" || skip_all "no cgroup2"
if ! grep -qw io "$TMP/cgroup/cgroup.controllers"; then
	umount "$TMP/cgroup"
	skip_all "this kernel has no CONFIG_BLK_CGROUP"
fi
dying() { awk '$1 == "nr_dying_descendants" {print $2}' "$TMP/cgroup/cgroup.stat"; }
dying_are() { [ "$(dying)" = "$1" ]; }
before_us=$(dying)
echo +io >"$TMP/cgroup/cgroup.subtree_control" && mkdir "$GROUP" || bail "no group"
defer sh -c "[ ! -e $GROUP ] || rmdir $GROUP"

modprobe dm-mod
rmpath_load auto_attach=0 && nullb nba 16 max_sectors=64 && nullb nbb 16 max_sectors=64 || bail "no disks"
add_path "device=/dev/nba wwid=g" && add_path "device=/dev/nbb wwid=g" || bail "no head"
HEAD=$(head_of g)
settled_node "$HEAD" || bail "the head has no node"
server in
echo "${server_pid[in]}" >"$GROUP/cgroup.procs" || bail "nobody in the group"

# charged DISK: reads, bytes that were read, writes, bytes that were written.
charged() {
	awk -v dev="$(devno "$1")" '$1 == dev {for (i = 2; i <= NF; i++) {split($i, a, "="); n[a[1]] = a[2]}}
		END {print n["rios"] + 0, n["rbytes"] + 0, n["wios"] + 0, n["wbytes"] + 0}' "$GROUP/io.stat"
}
# spent DISK: what was charged since the last call: on that disk, and on both paths together.
declare -A before
spent() {
	local disk here=(0 0 0 0) there=(0 0 0 0) now was i
	for disk in "$1" nba nbb; do
		read -ra now <<<"$(charged "$disk")"
		read -ra was <<<"${before[$disk]:-0 0 0 0}"
		before[$disk]=${now[*]}
		for i in 0 1 2 3; do
			if [ "$disk" = "$1" ]; then
				here[i]=$((now[i] - was[i]))
			else
				there[i]=$((there[i] + now[i] - was[i]))
			fi
		done
	done
	spent="${here[*]}, ${there[*]}"
}
doing() {
	local cmd
	for cmd; do
		tell in "$cmd"
		receive in
		[ "$reply" = OK ] || { not_ok "$cmd" "$reply"; return; }
	done
}

# limits DISK BYTES BYTES: per second, for what is read from that disk, and from each path.
limits() {
	echo "$(devno "$1") rbps=$2" >"$GROUP/io.max" && echo "$(devno nba) rbps=$3" >"$GROUP/io.max" &&
		echo "$(devno nbb) rbps=$3" >"$GROUP/io.max" || not_ok "limits $*"
}
# slow NAME: six times 16 KiB take two seconds or more, as they do at 16 KiB a second and path.
slow() {
	local start=${EPOCHREALTIME/./} took
	doing "read 0 16384" "read 16384 16384" "read 32768 16384" "read 49152 16384" "read 65536 16384" "read 81920 16384"
	took=$((${EPOCHREALTIME/./} - start))
	check "$1 ($((took / 1000)) ms)" test $took -ge 2000000
	spent "$top"
}
both_ways() {
	local top=$1 name=$2 i cmds=()
	is "$(ask in "open /dev/$top")" OK "$name: it is open in the group"
	spent "$top"
	for i in 0 1 2 3 4 5 6 7 8 9; do cmds+=("read $((i * 4096)) 4096"); done
	doing "${cmds[@]}"
	spent "$top"
	is "$spent" "10 40960 0 0, 10 40960 0 0" "$name: ten reads are charged, once here and once there"
	doing "write 0 8192 1" "write 65536 8192 2"
	spent "$top"
	is "$spent" "0 0 2 16384, 0 0 2 16384" "$name: and two writes"
	doing "read 0 1048576"
	spent "$top"
	like "$spent" "^[0-9]+ 1048576 0 0, 32 1048576 0 0$" "$name: a big one, each byte once"
	# The first blocks of one path are bad: what fails there is sent to the other, and was an I/O of both.
	echo +0-7 >"$CONFIGFS/nullb/nba/badblocks"
	cmds=()
	for i in 0 1 2 3; do cmds+=("read 0 4096"); done
	doing "${cmds[@]}"
	spent "$top"
	like "$spent" "^4 16384 0 0, (5 20480|6 24576|7 28672|8 32768) 0 0$" "$name: what is sent again is charged where it is sent, and not again here"
	echo -0-7 >"$CONFIGFS/nullb/nba/badblocks"
	# A bio that has passed the limit above has not passed that of a path.
	limits "$top" 1000000000 16384
	slow "$name: a path's limit holds, also if there is one above"
	limits "$top" 16384 max
	slow "$name: and so does that one"
	limits "$top" max max
	is "$(ask in close)" OK "$name: it is closed"
}
both_ways "$HEAD" "the head"
check "the head goes" remove_head "$HEAD"

dm_make rmt-group "0 32768 rmpath 1 queue_if_no_path 0 1 1 round-robin 0 2 0 /dev/nba /dev/nbb" || bail "no map"
map=$(dm_node rmt-group)
both_ways "${map##*/}" "the map"
check "the map goes" dmset remove --retry rmt-group

server_stop in
check "the group goes" rmdir "$GROUP"
eventually 120 "and nobody keeps it" dying_are "$before_us"
done_testing
