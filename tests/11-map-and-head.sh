#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A head and a map of the same module at once: both do I/O, neither can take the other's paths, a head can be a map's
# path, and the module stays until both are gone, in either order.
. "$(dirname "$0")/lib.sh"

modprobe dm-mod
rmpath_load auto_attach=0 && sdebug 2 && nullb nba 32 && nullb nbb 32 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) len=$(sectors "$a")
table="0 $len rmpath 0 0 1 1 round-robin 0 2 1 /dev/$a 1 /dev/$b 1"
in_use() { like "$(rmmod rmpath 2>&1)" 'in use' "rmmod is refused: $1"; }
make_head() {
	add_path "device=/dev/nba wwid=both" && add_path "device=/dev/nbb wwid=both" || bail "no head can be made"
	HEAD=$(head_of both)
	wait_for 60 test -b "/dev/$HEAD" || bail "the head has no node"
}

make_head
check "a map beside a head" dm_make rmt-a "$table"
count_is 2 "are two references"
log_mark
is "$(attr $CLASS/add_path "device=/dev/$a wwid=both2")" EBUSY "a head cannot have the map's path"
like "$(dm_errno create rmt-b --table "0 $(sectors nba) rmpath 0 0 1 1 round-robin 0 1 1 /dev/nba 1")" EBUSY \
	"a map cannot have the head's path"
count_is 2 "and nothing is left of the tries"

# I/O on both at the same time. The head's paths have stores of their own, so it only reads.
fio_verify "$(dm_node rmt-a)" 8 --ioengine=libaio --iodepth=4 --numjobs=2 --verify_backlog=32 >"$TMP/fio.map" 2>&1 &
map_pid=$!
check "reads of the head" fio --name=head --filename="/dev/$HEAD" --direct=1 --rw=randread --bs=4k --size=16m \
	--time_based --runtime=8 --minimal --output="$TMP/fio.head"
if wait $map_pid; then ok "verified I/O on the map"; else not_ok "verified I/O on the map" "$(tail "$TMP/fio.map")"; fi
dmset message rmt-a 0 fail_path "/dev/$a"
is "$(sysio "open $(dm_node rmt-a)" "read 0 4096")" OK "a failed path of the map"
is "$(sysio "open /dev/$HEAD" "read 0 4096")" OK "is no matter of the head"
in_use "a head and a map"
check "the head goes first" remove_head "$HEAD"
in_use "a map"
is "$(sysio "open $(dm_node rmt-a)" "write 0 4096 5")" OK "the map works on"
check "then the map" dmset remove --retry rmt-a
check "the module unloads" rmpath_unload

rmpath_load auto_attach=0
make_head
check "a map again" dm_make rmt-a "$table"
check "the map goes first" dmset remove --retry rmt-a
in_use "a head"
is "$(sysio "open /dev/$HEAD" "read 0 4096")" OK "the head works on"

# A map over a head, and a head over a map.
hlen=$(sectors "$HEAD")
check "a map of a head" dm_make rmt-a "0 $hlen rmpath 0 0 1 1 round-robin 0 1 1 /dev/$HEAD 1"
count_is 3 "is a reference, and so is its opening the head"
is "$(sysio "open $(dm_node rmt-a)" "write 0 4096 6" "read 0 4096")" OK "it works"
check "it goes" dmset remove --retry rmt-a
check "the head goes" remove_head "$HEAD"
check "a map as a path" dm_make rmt-a "$table"
is "$(attr $CLASS/add_path "device=$(dm_node rmt-a) wwid=over")" OK "makes a head"
HEAD=$(head_of over)
wait_for 60 test -b "/dev/$HEAD"
is "$(sysio_all "open /dev/$HEAD" "write 0 65536 8" "verify 0 65536 8" "verify 0 65536 8")" "OK OK OK OK" "it works"
is "$(sysio "open /dev/$b" "verify 0 65536 8")" OK "down to the disk"
is "$(dm_errno remove rmt-a)" EBUSY "the map is in use"
check "the head goes" remove_head "$HEAD"
check "then the map" dmset remove --retry rmt-a
count_is 0 "all references are back"

done_testing
