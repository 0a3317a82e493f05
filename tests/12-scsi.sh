#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# SCSI disks: two that report the same NAA identity become one head without being told so; a disk that is deleted
# during I/O leaves it without an error, and rejoins by itself after a rescan; so over and over, and the reference
# count stays.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

rmpath_load && sdebug 2 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1)
wwid=$(value "/sys/block/$a/device/wwid")
like "$wwid" '^naa\.3' "the disk has an NAA identity"
is "$(attr $CLASS/add_path "device=/dev/$a")" OK "the first makes a head"
HEAD=$(heads)
is "$(value "$(hattr "$HEAD" wwid)")" "$wwid" "which has the identity that sysfs shows for the disk"
is "$(attr $CLASS/add_path "device=/dev/$b" | sed 's/EEXIST/OK/')" OK "the second joins"
check "it has both paths" has_paths "$HEAD" "$a" "$b"
dev=$(devno "$HEAD")
is "$(sysio "open /dev/$HEAD" "write 0 1048576 1")" OK "data is written"
for p in $a $b; do is "$(sysio "open /dev/$p" "verify 0 1048576 1")" OK "and is on $p"; done
is "$(sysio "open /dev/$HEAD buffered" "write 0 4096 1" fsync)" OK "flush works"
check "discard works" blkdiscard -o 1048576 -l 1048576 "/dev/$HEAD"
server f
is "$(ask f "open /dev/$HEAD")" OK "a file is open"
count_is 2 "a head and an opener"

# adapter N loses its disk and finds it again.
delete_disk() { echo 1 >"/sys/block/$(sdebug_disk "$1")/device/delete"; }
rescan() { echo "- - -" >"/sys/class/scsi_host/$(sdebug_host "$1")/scan"; }

# Idle.
check "a disk is deleted" within 120 delete_disk 0
eventually 60 "it leaves the head" has_paths "$HEAD" "$b"
check "its host is scanned" rescan 0
both() { [ "$(paths "$HEAD" | wc -w)" = 2 ]; }
eventually 120 "the disk rejoins by itself" both
is "$(ask f "verify 4096 4096 2")" MISMATCH "other data is known to be other data"
is "$(ask f "write 4096 4096 2") $(ask f "verify 4096 4096 2") $(ask f "verify 4096 4096 2")" "OK OK OK" \
	"the open file works on both paths"

# Under I/O.
fio_verify "/dev/$HEAD" "${RMPATH_FIO_SECS:-30}" --ioengine=libaio --iodepth=8 --numjobs=3 --verify_backlog=64 \
	>"$TMP/fio" 2>&1 &
fio_pid=$!
rounds=0 trouble=
while ! ended $fio_pid && [ -z "$trouble" ]; do
	n=$((rounds % 2))
	gone=$(sdebug_disk $n)
	within 120 delete_disk $n || trouble="the disk $gone is not deleted"
	wait_for 60 no_path "$HEAD" "$gone" || trouble="$gone stays a path"
	rescan $n
	wait_for 120 both || trouble="no disk rejoins in place of $gone"
	rounds=$((rounds + 1))
done
is "$trouble" "" "disks go and come back"
check "each at least once ($rounds times)" test "$rounds" -ge 2
wait_for 600 ended $fio_pid || kill -9 $fio_pid
if wait $fio_pid; then ok "no error, no wrong data"; else not_ok "no error, no wrong data" "$(tail -n 20 "$TMP/fio")"; fi
is "$(devno "$HEAD")" "$dev" "the head is the same disk"
is "$(heads)" "$HEAD" "and the only one"
count_is 2 "the reference count is what it was"

# All of them, inside a window.
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
within 120 delete_disk 0
within 120 delete_disk 1
eventually 60 "with all disks deleted the removal is pending" hstate_is "$HEAD" removal-pending
count_is 3 "with its reference"
tell f "write 8192 4096 3"
is "$(answer f 2)" NOTHING "a write waits"
rescan 1
is "$(answer f)" OK "until a disk is found again"
eventually 60 "the head is live" hstate_is "$HEAD" live
count_is 2 "the reference is back"
rescan 0
eventually 120 "the other disk rejoins" both
is "$(ask f "verify 8192 4096 3") $(ask f "verify 8192 4096 3")" "OK OK" "the data is on both"
echo 0 >"$(hattr "$HEAD" delayed_removal_secs)"

# All of them, without one.
within 120 delete_disk 0
within 120 delete_disk 1
eventually 60 "with no delay the head goes with its last disk" gone "/sys/block/$HEAD"
like "$(ask f "read 0 4096")" "$NO_DATA" "the open file gives no data"
server_stop f
count_is 0 "all references are back"
rescan 0
rescan 1
wait_for 60 sdebug_count_is 2
nap 1
is "$(heads)" "" "disks without a head make none by themselves"

done_testing
