#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Delayed removal, and a path returns inside the window: the write that waits completes on the path that came back,
# open files go on, the disk keeps its number, and the module's reference count is what it was, however often.
. "$(dirname "$0")/lib.sh"

rmpath_load && nvme_pair 64 && nvme_head || bail "no head can be made"
dev=$(devno "$HEAD")
secs=$(hattr "$HEAD" delayed_removal_secs)
requeued=$(hattr "$HEAD" io_requeue_no_usable_path_count)
is "$(attr "$secs" 600)" OK "delayed_removal_secs is set"
is "$(value "$secs")" 600 "and reads back"
is "$(value "/sys/block/$HEAD/delayed_removal_secs")" 600 "in both places"
count_is 1 "setting it takes no reference"

server w
server r
is "$(ask w "open /dev/$HEAD")" OK "a writer opens the head"
is "$(ask r "open /dev/$HEAD ro")" OK "a reader opens the head"
is "$(ask w "write 0 65536 1")" OK "a write while there are paths"
count_is 3 "a head and two openers"

check "path 1 is lost" nvme_disconnect 1
eventually 60 "the head has one path" has_paths "$HEAD" "$(nvme_disk 2)"
is "$(hstate "$HEAD")" live "and is live"
count_is 3 "with no more references"
check "path 2 is lost" nvme_disconnect 2
eventually 60 "the removal is pending" hstate_is "$HEAD" removal-pending
count_is 4 "and holds one reference more"
eventually 60 "there is no path" has_paths "$HEAD"
is "$(value "/sys/block/$HEAD/size")" "$(sectors nbstore)" "the disk keeps its size"

parked=$(value "$requeued")
tell w "write 65536 65536 2"
tell r "read 0 65536"
is "$(answer w 3)" NOTHING "a write waits"
is "$(answer r 1)" NOTHING "a read waits"
eventually 60 "both are counted as parked" at_least "$(hattr "$HEAD" requeued)" 2
check "and as requeued for want of a path" at_least "$requeued" $((parked + 2))
is "$(sysio "open /dev/$HEAD ro" "nowait 0 4096")" EAGAIN "a read that may not wait does not"
count_is 4 "waiting I/O takes no reference"

check "path 1 returns" nvme_connect 1
is "$(answer w)" OK "the write completes"
is "$(answer r)" OK "the read completes"
eventually 60 "the head is live" hstate_is "$HEAD" live
count_is 3 "the pending removal's reference is back"
is "$(devno "$HEAD")" "$dev" "the disk is the same"
is "$(heads)" "$HEAD" "and the only one"
eventually 60 "it has its path" has_paths "$HEAD" "$(nvme_disk 1)"
is "$(value "$(hattr "$HEAD" requeued)")" 0 "nothing is parked"
is "$(value "$secs")" 600 "the setting is kept"
is "$(sysio "open /dev/$(nvme_disk 1) ro" "verify 65536 65536 2")" OK "the data is on the path"
is "$(ask r "verify 0 65536 1")" OK "the file that was open all the time reads the older data"

# The other path, by hand, and a waiting flush.
check "path 1 is lost again" nvme_disconnect 1
eventually 60 "the removal is pending again" hstate_is "$HEAD" removal-pending
count_is 4 "with its reference"
tell w fsync
check "path 2 returns" nvme_connect 2
is "$(answer w)" OK "the flush completes"
eventually 60 "the head is live again" hstate_is "$HEAD" live
count_is 3 "the reference is back"
server_stop w
server_stop r
count_is 1 "the openers' references are back"

# Over and over: cancelling must give back what pending took, each time.
trouble=
for ((i = 1; i <= 20; i++)); do
	remove_path "$(nvme_disk 2)" || { trouble="round $i: remove_path"; break; }
	wait_for 60 hstate_is "$HEAD" removal-pending || { trouble="round $i: not pending"; break; }
	trouble=$(count_comes 2) || { trouble="round $i, while pending: $trouble"; break; }
	wait_for 60 sh -c "echo device=/dev/$(nvme_disk 2) >$CLASS/add_path" 2>/dev/null || { trouble="round $i: add_path"; break; }
	hstate_is "$HEAD" live || { trouble="round $i: state $(hstate "$HEAD")"; break; }
	trouble=$(count_comes 1) || { trouble="round $i, after the return: $trouble"; break; }
done
is "$trouble" "" "twenty times pending and cancelled"
is "$(devno "$HEAD")" "$dev" "it is still the same disk"
count_is 1 "and still one reference"

done_testing
