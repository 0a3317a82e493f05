#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What a map can do: protection information, atomic writes and NOWAIT where all its paths can, a write cache where any
# has one, flushes and discards.
# Time limit: 600 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod && modprobe dm-delay
rmpath_load auto_attach=0 && sdebug 2 dif=1 dix=1 ato=1 atomic_wr=1 physblk_exp=3 dev_size_mb=64 || bail "no disks"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) len=$(sectors "$(sdebug_disk 0)")
nullb nbnone $((len / 2048)) && nullb nbcache $((len / 2048)) cache_size=8 discard=1 || bail "no plain disks"
group() { echo "0 1 1 service-time 0 $# 1$(printf ' %s 1' "$@")"; }
make() { check "a map of $*" dm_make rmt-a "0 $len rmpath 1 queue_if_no_path $(group "$@")" && map=$(basename "$(dm_node rmt-a)"); }
drop() { check "it is removed" dmset remove --retry rmt-a; }
block() { value "/sys/class/block/$map/$1"; }
same() { for f; do is "$(block "$f")" "$(value "/sys/block/$a/$f")" "$f is the paths'"; done; }
message() { dmset message rmt-a 0 "$@"; }

# All have both.
make "/dev/$a" "/dev/$b"
same integrity/format integrity/tag_size integrity/protection_interval_bytes integrity/device_is_integrity_capable \
	queue/physical_block_size queue/logical_block_size queue/atomic_write_unit_min_bytes queue/atomic_write_unit_max_bytes
is "$(block integrity/format)" T10-DIF-TYPE1-CRC "it has protection information"
unit=$(block queue/atomic_write_unit_max_bytes)
like "$unit" '^[1-9]' "and atomic writes"
[ "$unit" -le 16384 ] || unit=16384
is "$(sysio "open /dev/$map" "atomic 0 $unit 1" "verify 0 $unit 1" "verify 0 $unit 1")" OK "an atomic write is on both paths"
is "$(sysio "open /dev/$map" "atomic 512 $((unit - 512)) 1")" EINVAL "one of another size is refused"
is "$(sysio "open /dev/$map" "write 1048576 262144 2" "verify 1048576 262144 2" "verify 1048576 262144 2")" OK "data passes"
is "$(sysio "open /dev/$map" "nowait 0 4096")" OK "who cannot wait need not"
protected_file "/dev/$map" "$a"
message reinstate_path "/dev/$a"
if [ -e "$(inject_file "$a")" ]; then
	inject "$a" WRITE TRANSPORT
	is "$(sysio "open /dev/$map" "write 0 65536 3" "write 65536 65536 4")" OK "a path fails while protected data is written"
	inject_none "$a"
	is "$(sysio "open /dev/$b" "verify 0 65536 3" "verify 65536 65536 4")" OK "the data is there"
	message reinstate_path "/dev/$a"
else
	skip "a path fails while protected data is written" "no error injection in this kernel"
fi
message fail_path "/dev/$a"
message fail_path "/dev/$b"
is "$(sysio "open /dev/$map" "nowait 0 4096")" EAGAIN "nor does it without a path"
drop

# One has neither.
make "/dev/$a" /dev/nbnone
is "$(block integrity/format)" none "with one path without, the map has no protection information"
is "$(block queue/atomic_write_unit_max_bytes)" 0 "and no atomic writes"
is "$(sysio "open /dev/$map" "atomic 0 $unit 3")" EOPNOTSUPP "an atomic write is refused"
drop

# A path that may have to wait.
check "a disk that delays" dm_make rmt-d "0 $len delay /dev/$a 0 1"
make "/dev/$b" "$(dm_node rmt-d)"
is "$(sysio "open /dev/$map" "nowait 0 4096")" EOPNOTSUPP "with a path that may wait, nobody can ask not to"
is "$(sysio "open /dev/$map" "read 0 4096" "read 0 4096")" OK "it reads"
drop
check "the disk that delays goes" dmset remove --retry rmt-d

# Caches and discards.
make /dev/nbcache
is "$(block queue/write_cache)" "write back" "with a cache below, the map has one"
like "$(block queue/discard_max_bytes)" '^[1-9]' "and discards, as the path"
before=$(stat_of nbcache 16)
is "$(sysio "open /dev/$map buffered" "write 8192 4096 1" fsync)" OK "a flush ends well"
is "$(($(stat_of nbcache 16) - before))" 1 "and has reached the path"
before=$(stat_of nbcache 12)
check "a discard is taken" blkdiscard -o 1048576 -l 65536 "/dev/$map"
refuse "and has reached the path" test "$before" = "$(stat_of nbcache 12)"
drop
make /dev/nbcache /dev/nbnone
is "$(block queue/write_cache)" "write back" "one path with a cache is enough for that"
is "$(block queue/discard_max_bytes)" 0 "but not for discards"
drop
count_is 0 "no reference is left"

done_testing
