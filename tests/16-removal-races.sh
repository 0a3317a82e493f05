#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What goes wrong in the kernel's own NVMe multipath when the last path goes while I/O is slow on it: two threads that
# both see "last path", and a delay that changes between a path's removal and the decision. The head must be removed
# once, one identity must have one disk, and the references must be what they were.
. "$(dirname "$0")/lib.sh"

modprobe dm-mod && modprobe dm-delay
rmpath_load && nullb nbstore 32 && dm_make rmt-slow "0 $((32 * 2048)) delay /dev/nbstore 0 0" &&
	nvmet_up && nvmet_ns 1 "$(dm_node rmt-slow)" $NGUID1 && nvme_connect 1 || bail "no slow path"
wwid=$(eui $NGUID1)
# slow MS: what a read takes from now on.
slow() {
	dmset load rmt-slow --table "0 $((32 * 2048)) delay /dev/nbstore 0 $1" &&
		dmset suspend rmt-slow && dmset resume rmt-slow
}
# begin DELAY: a head on the disk behind port 1, with a slow read in flight.
begin() {
	local disk
	disk=$(nvme_disk 1)
	[ -n "$(head_of "$wwid")" ] || add_path "device=/dev/$disk" || bail "no head can be made"
	HEAD=$(head_of "$wwid")
	wait_for 60 test -b "/dev/$HEAD"
	dev=$(devno "$HEAD")
	echo "$1" >"$(hattr "$HEAD" delayed_removal_secs)"
	server r
	is "$(ask r "open /dev/$HEAD ro")" OK "the head is open"
	slow 6000
	tell r "read 0 4096"
	wait_for 30 at_least "$(path_dir "$HEAD" "$disk")/inflight" 1 || diag "the read was over too soon"
}

# Path A is deleted with a read in flight; meanwhile B comes and goes; then the delay runs out.
begin 12
nvme_disconnect 1 &
pid=$!
check "B comes while A goes" nvme_connect 2
wait_for 60 has_path "$HEAD" "$(nvme_disk 2)"
slow 0
check "B goes too" nvme_disconnect 2
wait_for 120 ended $pid
like "$(answer r)" '^(OK|EIO)$' "the slow read ends"
wait_for 60 hstate_is "$HEAD" removal-pending
is "$(refcnt)" 3 "a head, an opener and one pending removal"
server_stop r
eventually 120 "the head goes" gone "/sys/block/$HEAD"
count_is 0 "with every reference"

# The same with no delay at the end: removed once, not twice.
check "A is connected" nvme_connect 1
begin 3000
nvme_disconnect 1 &
pid=$!
check "B comes while A goes" nvme_connect 2
wait_for 60 has_path "$HEAD" "$(nvme_disk 2)"
echo 0 >"$(hattr "$HEAD" delayed_removal_secs)"
slow 0
check "B goes too" nvme_disconnect 2
wait_for 120 ended $pid
like "$(answer r)" '^(OK|EIO)$' "the slow read ends"
server_stop r
eventually 120 "the head goes" gone "/sys/block/$HEAD"
count_is 0 "with every reference"

# The delay goes from 0 to N while the last path goes: removed or kept, but not both.
check "A is connected" nvme_connect 1
begin 0
nvme_disconnect 1 &
pid=$!
nap 0.5
attr "$(hattr "$HEAD" delayed_removal_secs)" 3000 >/dev/null
wait_for 120 ended $pid
answer r >/dev/null
slow 0
check "A is connected again" nvme_connect 1
nap 2
[ -n "$(head_of "$wwid")" ] || add_path "device=/dev/$(nvme_disk 1)"
is "$(for h in $(heads); do reads "$(hattr "$h" wwid)" "$wwid" && echo "$h"; done | grep -c .)" 1 "one identity has one disk"
now=$(head_of "$wwid")
wait_for 60 has_path "$now" "$(nvme_disk 1)"
if [ "$(devno "$now")" = "$dev" ]; then
	is "$(ask r "read 0 4096")" OK "it was kept, and who has it open can read"
else
	is "$(ask r "read 0 4096")" EIO "it was removed, and who has it open gets EIO"
fi
server_stop r
check "it is removed" remove_head "$now"
count_is 0 "with every reference"

done_testing
