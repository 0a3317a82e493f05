#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The head is a disk: what is written through it is on every path and the other way round, in all sizes, with
# discard, write-zeroes, flush and FUA; round-robin uses both paths; a file system lives on it; a partition table on
# it is scanned, also at the moment the head appears.
. "$(dirname "$0")/lib.sh"

rmpath_load auto_attach=0 && nvme_pair 64 && nvme_head || bail "no head can be made"
head=/dev/$HEAD

# Data, both ways.
n=0
for size in 512 4096 65536 1048576 4194304; do
	n=$((n + 1))
	off=$((n * 8388608))
	is "$(sysio "open $head" "write $off $size $n")" OK "$size bytes are written to the head"
	for p in $DISK1 $DISK2; do
		is "$(sysio "open /dev/$p" "verify $off $size $n")" OK "and read from $p"
	done
	is "$(sysio_all "open /dev/$DISK1" "write $off $size 10$n" "open $head" "verify $off $size 10$n" \
		"verify $off $size 10$n")" "OK OK OK OK OK" "$size bytes are written to a path and read from the head"
done
size=$(blockdev --getsize64 "$head")
is "$(sysio_all "open $head" "write $((size - 4096)) 4096 3" "verify $((size - 4096)) 4096 3")" "OK OK OK" \
	"the last block can be written and read"
is "$(sysio "open $head" "write $size 4096 3")" ENOSPC "there is nothing behind it"
is "$(sysio "open $head" "nowait 0 4096")" OK "a read that may not wait"

# Round-robin.
r1=$(stat_of "$DISK1" 1) r2=$(stat_of "$DISK2" 1) h=$(stat_of "$HEAD" 1)
check "200 reads" dd if="$head" of=/dev/null bs=4k count=200 iflag=direct status=none
r1=$(($(stat_of "$DISK1" 1) - r1)) r2=$(($(stat_of "$DISK2" 1) - r2)) h=$(($(stat_of "$HEAD" 1) - h))
check "use both paths evenly ($r1 and $r2)" test $((r1 >= 90 && r2 >= 90)) = 1
check "and are accounted on the head ($h)" test "$h" -ge 200
w1=$(stat_of "$DISK1" 5) w2=$(stat_of "$DISK2" 5)
check "200 writes" dd if=/dev/zero of="$head" bs=4k count=200 oflag=direct status=none
w1=$(($(stat_of "$DISK1" 5) - w1)) w2=$(($(stat_of "$DISK2" 5) - w2))
check "use both paths evenly ($w1 and $w2)" test $((w1 >= 90 && w2 >= 90)) = 1

# Flush, FUA, discard.
flushes() { echo $(($(stat_of "$DISK1" 16) + $(stat_of "$DISK2" 16))); }
f=$(flushes)
is "$(sysio "open $head buffered" "write 0 4096 1" fsync)" OK "fsync succeeds"
check "and reaches a path" test "$(flushes)" -gt "$f"
check "synchronous writes (FUA)" dd if=/dev/zero of="$head" bs=4k count=8 oflag=direct,dsync status=none
d=$(($(stat_of "$DISK1" 12) + $(stat_of "$DISK2" 12)))
sysio "open $head" "write 1048576 1048576 5" >"$TMP/out"
check "blkdiscard" blkdiscard -o 1048576 -l 1048576 "$head"
is "$(sysio "open $head" "zero 1048576 1048576")" OK "discarded blocks read as zeroes"
check "the discard reached a path" test $(($(stat_of "$DISK1" 12) + $(stat_of "$DISK2" 12))) -gt "$d"
sysio "open $head" "write 1048576 1048576 5" >"$TMP/out"
check "blkdiscard --zeroout" blkdiscard -z -o 1048576 -l 1048576 "$head"
is "$(sysio "open /dev/$DISK2" "zero 1048576 1048576")" OK "zeroed blocks read as zeroes from a path"

# A file system.
check "mkfs.ext4" mkfs.ext4 -q -F "$head"
mkdir "$TMP/mnt"
check "mount" mount "$head" "$TMP/mnt"
for i in 1 2 3 4 5 6 7 8; do head -c $((i * 300000)) /dev/urandom >"$TMP/mnt/f$i"; done
(cd "$TMP/mnt" && sha256sum f*) >"$TMP/sums"
sync
echo 3 >/proc/sys/vm/drop_caches
check "files read back" sh -c "cd $TMP/mnt && sha256sum -c --quiet $TMP/sums"
is "$(sysio "open $head excl")" EBUSY "a mounted head is claimed"
check "umount" umount "$TMP/mnt"
check "fsck finds nothing" e2fsck -fn "$head"
check "mount again" mount "$head" "$TMP/mnt"
check "the files are the same" sh -c "cd $TMP/mnt && sha256sum -c --quiet $TMP/sums"
check "umount again" umount "$TMP/mnt"
count_is 1 "no opener is left"

# A partition table: one Linux partition from sector 2048, 16384 sectors long.
check "a table is written" sh -c "
	{ head -c 446 /dev/zero; printf '\\000\\000\\000\\000\\203\\000\\000\\000\\000\\010\\000\\000\\000\\100\\000\\000'
	  head -c 48 /dev/zero; printf '\\125\\252'; } | dd of=$head bs=512 count=1 iflag=fullblock oflag=direct status=none"
check "the table is read again" blockdev --rereadpt "$head"
eventually 60 "the partition has a node" settled_node "${HEAD}p1"
is "$(value "/sys/block/$HEAD/${HEAD}p1/size")" 16384 "the partition has its size"
is "$(sysio_all "open ${head}p1" "write 4096 8192 9" "open /dev/$DISK1" "verify $((2048 * 512 + 4096)) 8192 9")" \
	"OK OK OK OK" "what is written to the partition is at its place"
check "the head goes" remove_head "$HEAD"
eventually 60 "the partition with it" gone "/dev/${HEAD}p1"
check "the head is made again" nvme_head
eventually 60 "its partition is found without being asked for" settled_node "${HEAD}p1"
is "$(sysio "open /dev/${HEAD}p1" "verify 4096 8192 9")" OK "with its data"
count_is 1 "one head, one reference"

done_testing
