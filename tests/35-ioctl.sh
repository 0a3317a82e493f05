#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# ioctls that only a path's driver knows: SG_IO to SCSI paths, NVME_IOCTL_ID to NVMe paths, down a path that I/O would
# use; another one when that is gone; waiting as I/O waits when there is none; refused on a partition without the
# privileges that the whole disk needs. The geometry is that of the paths.
. "$(dirname "$0")/lib.sh"

BUS=0x5386 # SCSI_IOCTL_GET_BUS_NUMBER: the one that tells two paths apart
NVME_ID=0x4e40
GEO=0x301

rmpath_load && sdebug 2 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1)
hosta=$(sdebug_host 0) hostb=$(sdebug_host 1)
add_path "device=/dev/$a" && wait_for 60 settled_node rmpath0 && add_path "device=/dev/$b" 2>/dev/null
eventually 60 "a head of two SCSI disks" has_paths rmpath0 "$a" "$b"
pa=$(path_dir rmpath0 "$a") pb=$(path_dir rmpath0 "$b")

# bus HOST: the answer of that host's path.
bus() { printf '0 %02x000000' "${1#host}"; }
id=$(sysio "open /dev/$a ro" "inquiry 83")
like "$id" '^0083' "a path answers an inquiry"
is "$(sysio "open /dev/rmpath0 ro" "inquiry 83")" "$id" "the head answers it alike"
is "$(sysio "open /dev/rmpath0 ro" "ioctl 0x5499")" "$(sysio "open /dev/$a ro" "ioctl 0x5499")" \
	"and what no driver knows"
is "$(sysio "open /dev/rmpath0 ro" "ioctl $GEO 00000000000000000000000000000000")" \
	"$(sysio "open /dev/$a ro" "ioctl $GEO 00000000000000000000000000000000")" "the geometry is the path's"

# What a program of 32 bits asks, which drivers may have functions of their own for.
if [ "$(sysio "open /dev/$a ro" "ioctl32 0x1268 00000000")" = ENOSYS ]; then
	skip "ioctls of 32 bits" "this kernel has no CONFIG_IA32_EMULATION"
else
	for number in "$BUS 00000000" "$GEO 000000000000000000000000" "0x1268 00000000" 0x5499; do
		is "$(sysio "open /dev/rmpath0 ro" "ioctl32 $number")" "$(sysio "open /dev/$a ro" "ioctl32 $number")" \
			"32 bits: ioctl ${number% *} is answered as by the path"
	done
fi

# The path that I/O would use.
server f
is "$(ask f "open /dev/rmpath0")" OK "a file is open"
echo non-optimized >"$pa/state"
is "$(ask f "ioctl $BUS 00000000")" "$(bus "$hostb")" "the optimized path is used"
echo failed >"$pb/state"
is "$(ask f "ioctl $BUS 00000000")" "$(bus "$hosta")" "or the other, when that has failed"
echo failed >"$pa/state"
like "$(ask f "ioctl $GEO 00000000000000000000000000000000")" '^0 40202000' "with none the geometry is that of most disks"
echo 0 >"$(hattr rmpath0 no_path_timeout_secs)"
is "$(ask f "ioctl $BUS 00000000")" EIO "with none it is EIO, if I/O would not wait"
echo 600 >"$(hattr rmpath0 no_path_timeout_secs)"
tell f "ioctl $BUS 00000000"
is "$(answer f 2)" NOTHING "if it would, so does the ioctl"
is "$(sysio "open /dev/rmpath0 nonblock" "ioctl $BUS 00000000")" EAGAIN "but not of a file that is O_NONBLOCK"
echo optimized >"$pb/state"
is "$(answer f)" "$(bus "$hostb")" "until a path is back"
echo failed >"$pb/state"
server g
is "$(ask g "open /dev/rmpath0")" OK "another file is open"
tell g "ioctl $BUS 00000000"
is "$(answer g 1)" NOTHING "its ioctl waits"
kill -9 "${server_pid[g]}"
eventually 30 "who waits can be killed" ended "${server_pid[g]}"
server_stop g
tell f "ioctl $BUS 00000000"
is "$(answer f 1)" NOTHING "an ioctl waits"
echo 0 >"$(hattr rmpath0 no_path_timeout_secs)"
is "$(answer f)" EIO "and ends when I/O does"
echo optimized >"$pa/state"
echo optimized >"$pb/state"

is "$(value "$pa/inflight") $(value "$pb/inflight")" "0 0" "no ioctl is in flight any more"

# Paths that go.
delete_disk() { echo 1 >"/sys/block/$(sdebug_disk "$1")/device/delete"; }
rescan() { echo "- - -" >"/sys/class/scsi_host/$(sdebug_host "$1")/scan"; }
both() { [ "$(paths rmpath0 | wc -w)" = 2 ]; }
server g
is "$(ask g "open /dev/rmpath0")" OK "a second file is open"
tell f "repeat 8 ioctl $BUS 00000000"
tell g "repeat 8 inquiry 83"
for n in 0 1; do
	check "a disk is deleted" within 120 delete_disk $n
	rescan $n
	eventually 120 "and rejoins" both
done
like "$(answer f)" '^0=[0-9]+$' "ioctls have not noticed"
# A command that was under way on the disk may have been carried out: that is for its sender to say.
like "$(answer g)" "^(0083[0-9a-f]*=[0-9]+ ?)+(HOST=[0-9]+)?$" "nor have inquiries, but for those that were under way"
within 120 delete_disk 0
within 120 delete_disk 1
eventually 60 "the head goes with its disks" gone /sys/block/rmpath0
like "$(ask f "ioctl $BUS 00000000")" '^(EIO|ENODEV)$' "what has it open still gets an error"
server_stop f
server_stop g
count_is 0 "all references are back"
check "scsi_debug can be unloaded" within 300 sdebug_unload

# NVMe, and a partition.
nvme_pair && nvme_head || bail "no NVMe head"
check "a partition is made" addpart "/dev/$HEAD" 1 2048 4096
check "it has its node" settled_node "${HEAD}p1"
is "$(sysio "open /dev/$DISK1 ro" "ioctl $NVME_ID")" 1 "a path knows the namespace's number"
is "$(sysio "open /dev/$HEAD ro" "ioctl $NVME_ID")" 1 "so does the head"
is "$(sysio "open /dev/$HEAD ro" "ioctl 0x5499")" ENOTTY "what no driver knows is ENOTTY"
is "$(sysio "open /dev/${HEAD}p1 ro" "ioctl $NVME_ID")" 1 "so does its partition, for who may"
is "$(poor "open /dev/$HEAD ro" "ioctl $NVME_ID")" 1 "without privileges the head answers"
is "$(poor "open /dev/${HEAD}p1 ro" "ioctl $NVME_ID")" ENOTTY "and the partition does not"
is "$(sysio "open /dev/$HEAD ro" "ioctl $GEO 00000000000000000000000000000000")" \
	"$(sysio "open /dev/$DISK1 ro" "ioctl $GEO 00000000000000000000000000000000")" "the geometry is the path's"
check "a path is disconnected" nvme_disconnect 1
is "$(sysio "open /dev/$HEAD ro" "ioctl $NVME_ID")" 1 "the other path answers"
check "the partition is taken away" delpart "/dev/$HEAD" 1

# BLKROSET is the block layer's.
check "the head is made read-only" blockdev --setro "/dev/$HEAD"
like "$(sysio "open /dev/$HEAD" "write 0 4096 1")" '^(EROFS|EPERM|EACCES)$' "then it takes no writes"
check "and writable again" blockdev --setrw "/dev/$HEAD"
is "$(sysio "open /dev/$HEAD" "write 0 4096 1")" OK "then it does"

done_testing
