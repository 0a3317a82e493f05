#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Disks with T10 protection information and atomic writes: the head has both where all its paths do. Protection
# information that a file system makes passes through clones, also of bios that are sent again.
. "$(dirname "$0")/lib.sh"

rmpath_load && sdebug 2 dif=1 dix=1 ato=1 atomic_wr=1 physblk_exp=3 dev_size_mb=64 || bail "no disks"
a=$(sdebug_disk 0) b=$(sdebug_disk 1)
add_path "device=/dev/$a" || bail "no head"
[ "$(attr $CLASS/add_path "device=/dev/$b" | sed 's/EEXIST/OK/')" = OK ] || bail "no second path"
HEAD=$(heads)
check "two paths make a head" has_paths "$HEAD" "$a" "$b"
block() { value "/sys/block/$1/$2"; }
same() { for f; do is "$(block "$HEAD" "$f")" "$(block "$a" "$f")" "$f is the paths'"; done; }
same integrity/format integrity/tag_size integrity/protection_interval_bytes integrity/device_is_integrity_capable \
	queue/physical_block_size queue/atomic_write_unit_min_bytes queue/atomic_write_unit_max_bytes
is "$(block "$HEAD" integrity/format)" T10-DIF-TYPE1-CRC "it has protection information"
like "$(block "$HEAD" queue/atomic_write_unit_max_bytes)" '^[1-9]' "and atomic writes"
unit=$(block "$HEAD" queue/atomic_write_unit_max_bytes)
[ "$unit" -le 16384 ] || unit=16384
is "$(sysio "open /dev/$HEAD" "atomic 0 $unit 1" "verify 0 $unit 1" "verify 0 $unit 1")" OK \
	"an atomic write of $unit bytes is on both paths"
is "$(sysio "open /dev/$HEAD" "atomic 512 $((unit - 512)) 1")" EINVAL "one of another size is refused"
is "$(sysio "open /dev/$HEAD" "write 1048576 262144 2" "verify 1048576 262144 2" "verify 1048576 262144 2")" OK \
	"data passes"

# A path that has neither.
size=$(sectors "$a")
nullb nbnone $((size / 2048)) && is "$(sectors nbnone)" "$size" "a disk without is as large" || bail "no plain disk"
wwid=$(value "$(hattr "$HEAD" wwid)")
check "it joins" add_path "device=/dev/nbnone wwid=$wwid state=inaccessible"
is "$(block "$HEAD" integrity/format)" none "the head has no protection information"
is "$(block "$HEAD" queue/atomic_write_unit_max_bytes)" 0 "and no atomic writes"
is "$(sysio "open /dev/$HEAD" "atomic 0 $unit 3")" EOPNOTSUPP "an atomic write is refused"
check "it leaves" remove_path nbnone
same integrity/format queue/atomic_write_unit_max_bytes

protected_file "/dev/$HEAD" "$a"

done_testing
