#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What goes wrong in the kernel's own NVMe multipath when the last path goes while I/O is slow on it: two threads that
# both see "last path", and a delay that changes between a path's removal and the decision. The head must be removed
# once, one identity must have one disk, and the references must be what they were.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod && modprobe dm-delay
rmpath_load && nullb nbstore 32 && dmset create rmt-slow --notable || bail "no devices"
wwid=$(eui "$NGUID1")
# slow MS: how long the disk's upper half takes for a read. Reads that wait already are let go.
slow() {
	dmset load rmt-slow <<-EOT && dmset suspend --noflush rmt-slow && dmset resume rmt-slow
		0 32768 linear /dev/nbstore 0
		32768 32768 delay /dev/nbstore 32768 $1
	EOT
}
slow 0 && nvmet_up && nvmet_ns 1 "$(dm_node rmt-slow)" "$NGUID1" || bail "no slow path"
# begin DELAY: a head on the disk behind port 1, with a read in flight that stays there.
begin() {
	local disk
	check "a path" nvme_connect 1
	disk=$(nvme_disk 1)
	add_path "device=/dev/$disk" || bail "no head can be made"
	HEAD=$(head_of "$wwid")
	wait_for 60 test -b "/dev/$HEAD"
	dev=$(devno "$HEAD")
	echo "$1" >"$(hattr "$HEAD" delayed_removal_secs)"
	server r
	is "$(ask r "open /dev/$HEAD ro")" OK "the head is open"
	slow 200000
	tell r "read 25165824 4096"
	slow_path=$(path_dir "$HEAD" "$disk")
	eventually 60 "a read is in flight" reads "$slow_path/inflight" 1
	# Nothing is under way that could close the path: its removal has to wait for the read.
	nvme_disconnect 1 &
	pid=$!
	eventually 60 "the path is going" hstate_is "$HEAD" removal-pending
}
# Its disk has gone from sysfs, but the path's folder is there until the path is closed.
only_slow_path() { [ "$(echo /sys/block/"$HEAD"/rmpath/path[0-9]*)" = "$slow_path" ]; }
# B: the other path comes, while the first one is going.
other_comes() {
	check "another path comes" nvme_connect 2
	other=$(nvme_disk 2)
	eventually 60 "and joins the head, or is the first of a new one" sh -c "ls /sys/block/$other/holders | grep -q rmpath"
}
read_ends() {
	slow 0
	wait_for 240 ended $pid || not_ok "the first path's removal ends"
	like "$(answer r)" '^(OK|EIO)$' "the slow read ends"
}

# Path A is going with a read in flight; meanwhile B comes and goes, and does not wait for A. The delay runs out before
# the read ends: the head has to stay for that, but not longer.
begin 3000
other_comes
check "it goes too" nvme_disconnect 2
eventually 60 "the removal is pending" hstate_is "$HEAD" removal-pending
count_is 3 "a head, an opener and one pending removal"
eventually 60 "the second path is closed, the first one is not" only_slow_path
is "$(attr "$(hattr "$HEAD" delayed_removal_secs)" 1)" OK "the delay runs out"
count_is 2 "the removal has run"
is "$(hstate "$HEAD")" removal-pending "and left the head to its read"
is "$(sysio "open /dev/$HEAD ro" "read 0 4096")" EIO "other reads do not wait any more"
read_ends
server_stop r
eventually 60 "the head goes" gone "/sys/block/$HEAD"
count_is 0 "with every reference"

# The same, and the delay becomes 0 in between: removed once, not twice.
begin 3000
other_comes
echo 0 >"$(hattr "$HEAD" delayed_removal_secs)"
check "it goes too" nvme_disconnect 2
read_ends
server_stop r
eventually 120 "the head goes" gone "/sys/block/$HEAD"
count_is 0 "with every reference"

# The delay becomes N while the last path is going: removed or kept, but not both.
begin 0
attr "$(hattr "$HEAD" delayed_removal_secs)" 3000 >/dev/null
other_comes_by_hand() { [ -n "$(paths "$(head_of "$wwid")")" ] || add_path "device=/dev/$(nvme_disk 2)"; }
check "another path comes" nvme_connect 2
eventually 60 "and gets a head" other_comes_by_hand 2>/dev/null
read_ends
one_head() { [ "$(for h in $(heads); do reads "$(hattr "$h" wwid)" "$wwid" && echo "$h"; done | grep -c .)" = 1 ]; }
eventually 60 "one identity has one disk" one_head
now=$(head_of "$wwid")
if [ "$(devno "$now")" = "$dev" ]; then
	is "$(ask r "read 0 4096")" OK "it was kept, and who has it open can read"
else
	like "$(ask r "read 0 4096")" "$NO_DATA" "it was removed, and who has it open gets no data"
fi
server_stop r
check "it is removed" remove_head "$now"
count_is 0 "with every reference"

done_testing
