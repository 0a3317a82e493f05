#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What tools see of a head: lsblk the tree of its paths, the block layer's tracer where a bio went.
. "$(dirname "$0")/lib.sh"

rmpath_load && nvme_pair && nvme_head || bail "no head"

# The tree.
below() { lsblk --noheadings --list --inverse --output NAME "/dev/$1" | sort | tr '\n' ' '; }
above() { lsblk --noheadings --list --output NAME "/dev/$1" | sort | tr '\n' ' '; }
is "$(below "$HEAD")" "$(printf '%s\n' "$DISK1" "$DISK2" "$HEAD" | sort | tr '\n' ' ')" "lsblk shows what the head stands on"
for p in $DISK1 $DISK2; do
	is "$(above "$p")" "$(printf '%s\n' "$p" "$HEAD" | sort | tr '\n' ' ')" "and what stands on $p"
done
check "a path is disconnected" nvme_disconnect 2
eventually 60 "it leaves" has_paths "$HEAD" "$DISK1"
is "$(below "$HEAD")" "$(printf '%s\n' "$DISK1" "$HEAD" | sort | tr '\n' ' ')" "lsblk does not show it any more"
check "it is connected again" nvme_connect 2
eventually 120 "it rejoins" has_path "$HEAD" "$(nvme_disk 2)"
DISK2=$(nvme_disk 2)
is "$(below "$HEAD")" "$(printf '%s\n' "$DISK1" "$DISK2" "$HEAD" | sort | tr '\n' ' ')" "lsblk shows it again"

# Where a bio went.
T=/sys/kernel/tracing
mountpoint -q $T || mount -t tracefs none $T 2>/dev/null
E=$T/events/block/block_bio_remap
if [ -d $E ]; then
	# Its numbers as the event prints them.
	comma() { tr : , <"/sys/block/$1/dev"; }
	defer sh -c "echo 0 >$E/enable"
	echo 1 >$E/enable
	d1=$(path_dir "$HEAD" "$DISK1") d2=$(path_dir "$HEAD" "$DISK2")
	echo non-optimized >"$d2/state"
	is "$(sysio "open /dev/$HEAD" "write 1048576 4096 1")" OK "a block is written by one path"
	echo optimized >"$d2/state"
	echo non-optimized >"$d1/state"
	is "$(sysio "open /dev/$HEAD" "write 1048576 4096 1")" OK "and by the other"
	echo 0 >$E/enable
	for p in $DISK1 $DISK2; do
		line="block_bio_remap: $(comma "$p") W[A-Z]* 2048 + 8 <- ($(comma "$HEAD")) 2048"
		check "the tracer saw it on $p" grep -q "$line" $T/trace
	done
	echo >$T/trace
	is "$(sysio "open /dev/$HEAD" "write 1048576 4096 1")" OK "a sector is written"
	refuse "and not when nobody traces" grep -q block_bio_remap: $T/trace
else
	skip "the tracer sees where a bio went" "this kernel has no events"
fi

done_testing
