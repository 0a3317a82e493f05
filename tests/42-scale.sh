#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Many heads: what one of them costs does not depend on how many there are, neither in time (to attach its paths, to take
# them away, to remove it) nor in memory, of which a head and a path take no more than they may.
#
# RMPATH_HEADS    how many heads (default 64, with KASAN 24; 1024 takes some minutes, and 4 GB)
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"

# KASAN makes everything larger, and keeps what is freed for a while: memory is for another kernel to measure.
heads=64 kasan=
if grep -q ' kasan_report$' /proc/kallsyms; then heads=24 kasan=1; fi
heads=${RMPATH_HEADS:-$heads}
part=$((heads / 4))
modprobe -r null_blk 2>/dev/null
# Disks without queues of requests: their own memory would hide ours.
modprobe null_blk nr_devices=$((heads * 4)) gb=1 queue_mode=0 submit_queues=1 || skip_all "no null_blk"
disks_go() { devices_release; modprobe -r null_blk; }
defer disks_go
rmpath_load auto_attach=0 || bail "the module does not load"

scale() { python3 "$TESTS/scale.py" "$@"; }
# flat NAME FEW MANY FACTOR: milliseconds per head; nothing of a tenth of a second is worth an argument.
flat() {
	diag "$1: $2 ms per head among few, $3 ms among many"
	if (($3 <= $2 * $4 + 100)); then ok "$1 takes no longer among many"; else not_ok "$1 takes no longer among many"; fi
}
number_is() { [ "$(heads | grep -c .)" = "$1" ]; }

# The first heads warm things up.
scale attach 0 4 4 1 >/dev/null || bail "no heads can be made"
check "they go" scale delete
few=$(scale attach 0 "$part" 4 1) || bail "no heads can be made"
scale attach "$part" $((heads - 2 * part)) 4 16 >/dev/null || bail "no more heads can be made"
many=$(scale attach $((heads - part)) "$part" 4 1) || bail "no more heads can be made"
number_is "$heads" || not_ok "there are $heads heads"
flat "attaching four paths" $((few / part)) $((many / part)) 3
count_is "$heads" "each head has one reference"
many=$(scale remove 0 "$part" 3) || bail "paths cannot be removed"
all=$(scale delete)
diag "removing $heads heads: $all ms"
few=$(scale attach 0 "$part" 4 16; scale remove 0 "$part" 3)
few=${few#*$'\n'}
flat "taking three paths away" $((few / part)) $((many / part)) 3
some=$(scale delete)
# It is one time for all of them: who was held up for a moment may try again.
if ((all / heads > 3 * (some / part) + 100)); then
	scale attach 0 "$heads" 4 16 >/dev/null
	again=$(scale delete)
	all=$((again < all ? again : all))
fi
flat "removal" $((some / part)) $((all / heads)) 3
count_is 0 "all references are back"

if [ -n "$kasan" ]; then
	skip "a head takes less than 16 KiB, a path less than 4 KiB" "KASAN is on; make scale looks on the dev kernel"
	done_testing
	exit
fi

# Memory. The kernel's own share is that of a disk that does nothing: the null_blk disks are made anew to see it.
check "the module unloads" rmpath_unload
modprobe -r null_blk || bail "null_blk cannot be unloaded"
kib() { echo $((($2 - $1) * 1024 / $3)); }
modprobe null_blk nr_devices="$heads" gb=1 queue_mode=0 submit_queues=1
few=$(scale memory)
modprobe -r null_blk
modprobe null_blk nr_devices=$((heads * 4)) gb=1 queue_mode=0 submit_queues=1
disk=$(kib "$few" "$(scale memory)" $((heads * 3)))
rmpath_load auto_attach=0 || bail "the module does not load again"
scale attach 0 4 4 1 >/dev/null
scale delete >/dev/null
none=$(scale memory)
scale attach 0 "$heads" 1 16 >/dev/null
one=$(scale memory)
scale more 0 "$heads" 1 3 >/dev/null
four=$(scale memory)
path=$(kib "$one" "$four" $((heads * 3)))
head=$(($(kib "$none" "$one" "$heads") - path - disk))
diag "bytes: a head $head (beside a disk of $disk), a path $path"
check "a head takes less than 16 KiB" test "$head" -lt 16384
check "a path takes less than 4 KiB" test "$path" -lt 4096
# The allocator keeps some of what is freed, less and less of it with each round: what is lost here and there, kmemleak
# finds; what would be lost for each head, this.
check "all heads are deleted" scale delete
few=$(scale memory)
scale attach 0 "$heads" 4 16 >/dev/null
check "and once more" scale delete
left=$(kib "$few" "$(scale memory)" "$heads")
diag "bytes that are left: $left per head"
check "nothing is left of them" test "$left" -lt 8192
count_is 0 "and no reference"

done_testing
