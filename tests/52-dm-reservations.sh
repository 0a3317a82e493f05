#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Persistent reservations through a map, on a target that knows them (nvmet): dm core registers by each path, since each
# is a host of its own to the target, as SCSI's are; the rest goes by one path that works. ioctls go down a path.
#
# DM_TARGET=multipath runs the same on the kernel's own target, to see that the test is right.
# Time limit: 600 s
. "$(dirname "$0")/lib.sh"

TWO=aaaaaaaa-0000-4000-8000-000000000002 OTHER=aaaaaaaa-0000-4000-8000-000000000003
WERO=3 # write exclusive, registrants only
target=${DM_TARGET:-rmpath}
if [ "$target" = rmpath ]; then rmpath_load auto_attach=0 || bail "the module does not load"
else
	modprobe dm-multipath && modprobe dm-round-robin || bail "no dm-multipath"
	count_is() { skip "$2" "not our module"; }
fi
modprobe dm-mod && nullb nbstore 64 && nvmet_up || bail "no target"
ns=$NVMET/subsystems/$NQN/namespaces/1
mkdir "$ns" && echo /dev/nbstore >"$ns/device_path" && echo $NGUID1 >"$ns/device_nguid" &&
	echo 1 >"$ns/resv_enable" && echo 1 >"$ns/enable" || bail "no namespace with reservations"

# host HOSTID: connects as that host, by port 1; ctrl_of, disk_of.
ctrl_of() {
	local c
	for c in /sys/class/nvme/nvme*; do
		reads "$c/hostid" "$1" && echo "${c##*/}" && return 0
	done
	return 1
}
disk_of() { local d; d=$(echo /sys/class/nvme/"$(ctrl_of "$1")"/nvme*n*); echo "${d##*/}"; }
ready() { opens "/dev/$(disk_of "$1")"; }
leaves() { local c; c=$(ctrl_of "$1") || return 0; echo 1 >"/sys/class/nvme/$c/delete_controller"; }
host() {
	defer leaves "$1"
	nvme_new transport=loop traddr=1 hostnqn="nqn.2014-08.org.rmpath:$1" hostid="$1"
	wait_for 120 ready "$1"
}
nvme_connect 1 && host $TWO && host $OTHER || bail "the namespace does not appear"
p1=$(nvme_disk 1) p2=$(disk_of $TWO) o=$(disk_of $OTHER) len=$(sectors "$(nvme_disk 1)")

check "a map of two paths" dm_make rmt-a \
	"0 $len $target 2 queue_mode bio 0 1 1 round-robin 0 2 1 /dev/$p1 1 /dev/$p2 1"
server m
server o
is "$(ask m "open $(dm_node rmt-a)") $(ask o "open /dev/$o")" "OK OK" "the map and the other host's disk are open"
message() { dmset message rmt-a 0 "$@"; }
writes() { local n got=; for n in 1 2 3 4; do tell m "write $((n * 4096)) 4096 $n"; receive m; got+=" $reply"; done; echo "${got# }"; }

is "$(ask m "pr register 0 a1")" OK "a key is registered"
is "$(ask o "pr keys")" "keys a1 a1" "by each path"
is "$(ask m "pr reserve a1 $WERO")" OK "the disk is reserved"
is "$(ask o "pr holder")" "a1 $WERO" "for us"
is "$(writes)" "OK OK OK OK" "we can write, by each path"
is "$(ask o "write 0 4096 1")" EBADE "the other host cannot"
is "$(ask o "pr register 0 b1") $(ask o "write 0 4096 1")" "OK OK" "but when it is registered"
is "$(ask m "pr register a1 a2") $(ask o "pr keys")" "OK keys a2 a2 b1" "both our keys are replaced"
message fail_path "/dev/$p1"
is "$(ask m "pr holder")" "a2 $WERO" "with one path failed it can be asked"
is "$(writes)" "OK OK OK OK" "and written"
message reinstate_path "/dev/$p1"

# Fenced: no path's fault.
is "$(ask o "pr preempt b1 a2 $WERO")" OK "the other host takes our keys away"
is "$(ask m "write 0 4096 1")" EBADE "we cannot write"
is "$(dmset status rmt-a | grep -oE ' [AF] 0' | tr -d ' \n')" A0A0 "no path has failed for that"
is "$(ask o "pr clear b1") $(ask o "pr keys")" "OK keys" "it clears everything"
is "$(ask m "pr register 0 a1") $(ask m "pr clear a1") $(ask o "pr keys")" "OK OK keys" "and so can we"

# ioctls of the paths: NVME_IOCTL_ID gives the namespace's number.
is "$(ask m "ioctl 0x4e40")" 1 "an ioctl goes down a path"
message fail_path "/dev/$p1"
message fail_path "/dev/$p2"
is "$(ask m "ioctl 0x4e40")" EIO "but with no path nowhere"
message queue_if_no_path
tell m "ioctl 0x4e40"
is "$(answer m 1)" NOTHING "it waits if I/O does"
message reinstate_path "/dev/$p2"
is "$(answer m)" 1 "and goes on when there is one"
ask m close >/dev/null
server_stop o
is "$(poor "open $(dm_node rmt-a)" "ioctl 0x4e40")" 1 "without privileges a map of the whole disk answers"
check "the map is removed" dmset remove --retry rmt-a
check "a map of a part" dm_make rmt-b "0 $((len - 8)) $target 0 0 1 1 round-robin 0 1 1 /dev/$p1 1"
is "$(poor "open $(dm_node rmt-b)" "ioctl 0x4e40")" ENOTTY "one of a part does not"
is "$(sysio "open $(dm_node rmt-b)" "ioctl 0x4e40")" 1 "but to who may"
check "it is removed" dmset remove --retry rmt-b
count_is 0 "no reference is left"

done_testing
