#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Identity makes heads: two NVMe paths that report the same NGUID become one disk, with its links, size and folder
# per path; another NGUID becomes another disk; wwid= names what has no identity. What does not fit (size, block
# size) is refused and changes nothing. A disk that returns rejoins its head by itself unless auto_attach=0.
. "$(dirname "$0")/lib.sh"

rmpath_load auto_attach=0 || bail "the module does not load"
nullb nbstore 64 discard=1 cache_size=1 && nullb nbother 48 || bail "null_blk cannot be set up"
nvmet_up && nvmet_ns 1 /dev/nbstore $NGUID1 && nvmet_ns 2 /dev/nbother $NGUID2 || bail "nvmet cannot be set up"
nvme_connect 1 && nvme_connect 2 && wait_for 60 nvme_ready 1 2 && wait_for 60 nvme_ready 2 2 ||
	bail "the namespaces do not appear"
p1=$(nvme_disk 1) p2=$(nvme_disk 2) other=$(nvme_disk 1 2)

# The first path makes the head.
is "$(attr $CLASS/add_path "device=/dev/$p1")" OK "add_path takes the first path"
is "$(heads)" rmpath0 "the head is rmpath0, and is there when add_path returns"
is "$(value "$(hattr rmpath0 wwid)")" "$(eui $NGUID1)" "its wwid is the namespace's NGUID"
is "$(value /sys/block/rmpath0/size)" "$(value "/sys/block/$p1/size")" "its size is the path's"
is "$(blockdev --getss /dev/rmpath0)" "$(blockdev --getss "/dev/$p1")" "its logical block size is the path's"
check "/dev/rmpath0 is a block device" settled_node rmpath0
is "$(stat -c '%Hr:%Lr' /dev/rmpath0)" "$(devno rmpath0)" "the node and sysfs agree on the number"
is "$(hstate rmpath0)" live "the head is live"
is "$(value "$(hattr rmpath0 delayed_removal_secs)")" 0 "delayed_removal_secs is 0 by default"
is "$(value /sys/block/rmpath0/delayed_removal_secs)" 0 "and stands where nvme has it"
is "$(value "$(hattr rmpath0 iopolicy)")" round-robin "the policy is round-robin"
count_is 1 "one head is one module reference"
check "slaves/ has the path" test -e "/sys/block/rmpath0/slaves/$p1"
check "the path's holders/ has the head" test -e "/sys/block/$p1/holders/rmpath0"
is "$(pstate rmpath0 "$p1")" optimized "the path is optimized"
is "$(sysio "open /dev/$p1 excl")" EBUSY "the path is claimed"
dev=$(devno rmpath0)

# The second joins it.
is "$(attr $CLASS/add_path "device=/dev/$p2 state=non-optimized")" OK "add_path takes the second path"
is "$(heads)" rmpath0 "there is still one head"
is "$(paths rmpath0)" "$p1 $p2" "with two paths"
is "$(devno rmpath0)" "$dev" "and the same device number"
is "$(pstate rmpath0 "$p2")" non-optimized "state= is the path's state"
for p in "$p1" "$p2"; do
	d=$(path_dir rmpath0 "$p")
	like "$d" '/path[0-9]+$' "$p has its folder"
	is "$(value "$d/inflight")" 0 "$p has nothing in flight"
	is "$(value "$d/failures")" 0 "$p has no failures"
	check "slaves/ has $p" test -e "/sys/block/rmpath0/slaves/$p"
	check "holders/ of $p has the head" test -e "/sys/block/$p/holders/rmpath0"
done
count_is 1 "a path takes no module reference"

# Another identity is another head.
is "$(attr $CLASS/add_path "device=/dev/$other")" OK "add_path takes the other namespace"
is "$(heads | tr '\n' ' ')" "rmpath0 rmpath1 " "another NGUID makes another head"
is "$(head_of "$(eui $NGUID2)")" rmpath1 "with that NGUID as its wwid"
is "$(paths rmpath1)" "$other" "and its own path"
count_is 2 "two heads are two module references"

# What does not fit.
nullb nbsmall 32 && nullb nbblock 64 blocksize=4096 && nullb nbplain1 64 && nullb nbplain2 64 ||
	bail "null_blk cannot be set up"
before=$(snapshot)
for row in nbsmall:size nbblock:block; do
	log_mark
	is "$(attr $CLASS/add_path "device=/dev/${row%:*} wwid=$(eui $NGUID1)")" EINVAL "a wrong ${row#*:} is refused"
	is "$(log_ours | grep -c "add_path: .*${row#*:}")" 1 "with one line that says so"
	is "$(snapshot)" "$before" "and nothing changes"
	is "$(sysio "open /dev/${row%:*} excl")" OK "and ${row%:*} is free"
done

# wwid= groups what reports nothing.
long=$(printf 'x%.0s' {1..127})
is "$(attr $CLASS/add_path "device=/dev/nbplain1 wwid=$long")" OK "wwid= of 127 characters makes a head"
is "$(attr $CLASS/add_path "device=/dev/nbplain2 wwid=$long")" OK "and the same wwid joins it"
h=$(head_of "$long")
is "$h" rmpath2 "it is rmpath2"
is "$(paths "$h")" "nbplain1 nbplain2" "with both paths"

# Taking paths away.
is "$(attr $CLASS/remove_path device=/dev/nbplain1)" OK "remove_path takes a path away"
eventually 60 "its folder goes" no_path "$h" nbplain1
eventually 60 "slaves/ forgets it" gone "/sys/block/$h/slaves/nbplain1"
eventually 60 "the claim goes" answers OK "open /dev/nbplain1 excl"
is "$(hstate "$h")" live "the head stays with one path"
is "$(attr $CLASS/remove_path device=/dev/nbplain2)" OK "remove_path takes the last path away"
eventually 60 "the head goes with its last path" gone "/sys/block/$h"
eventually 60 "its node goes" gone "/dev/$h"
count_is 2 "and its module reference"

# The smallest free number.
check "rmpath0 is removed" remove_head rmpath0
count_is 1 "and gives its number back, and its reference"
is "$(attr $CLASS/add_path "device=/dev/nbplain1 wwid=again")" OK "a new head"
is "$(head_of again)" rmpath0 "has the smallest free number"
check "heads are removed" remove_head rmpath0
check "and the other" remove_head rmpath1
count_is 0 "no head, no reference"
check "the module unloads" rmpath_unload

# By itself.
rmpath_load || bail "the module does not load"
is "$(attr $CLASS/add_path "device=/dev/$p1")" OK "auto_attach=1: a head from one path"
check "a path is disconnected" nvme_disconnect 2
check "and connected" nvme_connect 2
p2=$(nvme_disk 2)
eventually 120 "auto_attach=1: the returning disk joins by itself" has_path rmpath0 "$p2"
is "$(heads)" rmpath0 "a disk without a head makes none by itself"
check "the other path is disconnected" nvme_disconnect 1
eventually 60 "it leaves the head" has_paths rmpath0 "$p2"
is "$(hstate rmpath0)" live "which lives on the path that joined"
check "it is connected again" nvme_connect 1
p1=$(nvme_disk 1)
eventually 120 "it rejoins" has_path rmpath0 "$p1"
count_is 1 "one head, one reference"

done_testing
