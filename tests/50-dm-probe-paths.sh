#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The ioctl DM_MPATH_PROBE_PATHS: each path of the current group that is in use reads a block, and fails if it cannot.
# With no path left in any group it is ENOTCONN. Messages that would leave the group wait for it.
#
# DM_TARGET=multipath runs the same on the kernel's own target, to see that the test is right.
# Time limit: 600 s
. "$(dirname "$0")/lib.sh"

PROBE=0xfd12
target=${DM_TARGET:-rmpath}
if [ "$target" = rmpath ]; then rmpath_load auto_attach=0 || bail "the module does not load"
else
	modprobe dm-multipath && modprobe dm-round-robin || bail "no dm-multipath"
	count_is() { skip "$2" "not our module"; }
fi
modprobe dm-mod && modprobe dm-flakey && sdebug 1 || bail "no disk"
disk=$(sdebug_disk 0) len=$(sectors "$(sdebug_disk 0)")
dm() { quick "dm $*"; echo "$reply"; }

# Paths that work or give errors as they are told to.
works() { dm load "$1" "$len" linear "/dev/$disk" 0 >/dev/null; dm suspend "$1" noflush >/dev/null; dm resume "$1" >/dev/null; }
broken() { dm load "$1" "$len" error "" >/dev/null; dm suspend "$1" noflush >/dev/null; dm resume "$1" >/dev/null; }
for n in 1 2 3; do dm_make rmt-p$n "0 $len linear /dev/$disk 0" || bail "no path"; done
p1=$(dm_node rmt-p1) p2=$(dm_node rmt-p2) p3=$(dm_node rmt-p3)
check "a map of two groups" dm_make rmt-a \
	"0 $len $target 2 queue_mode bio 0 2 1 round-robin 0 2 1 $p1 1 $p2 1 round-robin 0 1 1 $p3 1"
letters() { dm status rmt-a | grep -oE '\b[ADEF]\b' | tr -d '\n'; }
message() { quick "dm message rmt-a $*"; }
server m
server n
ask m "open $(dm_node rmt-a)" >/dev/null
ask n "open $(dm_node rmt-a)" >/dev/null
read_ios() { stat_of "$(basename "$1")" 1; }
# Of both paths of the first group.
group_ios() { echo $(($(read_ios "$p1") + $(read_ios "$p2"))); }

# All well.
is "$(ask m "ioctl 0xfd01")" ENOTTY "other ioctls of device-mapper are not for a map"
is "$(ask m "ioctl $PROBE")" 0 "before there was any I/O there is no group to probe"
is "$(read_ios "$p1") $(read_ios "$p2")" "0 0" "and nothing is read"
ask m "read 0 4096" >/dev/null
before=$(group_ios) other=$(read_ios "$p3")
is "$(ask m "ioctl $PROBE")" 0 "all paths work"
is "$(($(group_ios) - before)) $(($(read_ios "$p3") - other))" "2 0" "each of the current group was read"
is "$(letters)" AAAEA "none has failed"

# One does not.
broken rmt-p1
is "$(ask m "ioctl $PROBE")" 0 "one path does not work"
is "$(letters)" AFAEA "and has failed, though no I/O has met it"
before=$(read_ios "$p1")
is "$(ask m "ioctl $PROBE")" 0 "again"
is "$(($(read_ios "$p1") - before))" 0 "a path that has failed is not probed"
works rmt-p1
is "$(ask m "ioctl $PROBE") $(letters)" "0 AFAEA" "nor reinstated"
message reinstate_path "$p1"
is "$(letters)" AAAEA "that is for others to do"

# None of the group does.
broken rmt-p1
broken rmt-p2
is "$(ask m "ioctl $PROBE")" 0 "the group has no path any more, but another one may"
is "$(letters)" AFFEA "it is current until there is I/O"
is "$(ask m "read 0 4096") $(letters)" "OK EFFAA" "which the other group takes"
broken rmt-p3
is "$(ask m "ioctl $PROBE")" ENOTCONN "now that one does not work either"
like "$(letters)" '^[EA]FF[EA]F$' "all have failed"
is "$(ask m "read 0 4096")" EIO "I/O fails"
is "$(ask m "ioctl $PROBE")" ENOTCONN "and there is no group to probe"
for n in 1 2 3; do works rmt-p$n; done
for p in "$p1" "$p2" "$p3"; do message reinstate_path "$p"; done
message switch_group 1
is "$(ask m "read 0 4096") $(letters)" "OK AAAEA" "all are well again"

# One that takes its time.
quick "dm suspend rmt-p2 noflush"
before=$(group_ios)
tell m "ioctl $PROBE"
is "$(answer m 1)" NOTHING "a probe waits for its path"
probing() { (($(group_ios) > before)); }
eventually 60 "which is under way" probing
tell n "ioctl $PROBE"
is "$(answer n 1)" NOTHING "and a second one for the first"
message switch_group 2
is "$reply" OK "a message does not wait"
is "$(letters)" AAAEA "but the group stays"
message fail_path "$p1"
is "$(letters)" AFAEA "a path can be failed meanwhile"
quick "dm resume rmt-p2"
is "$(answer m)" 0 "the probe ends"
is "$(answer n)" 0 "and so does the second"
is "$(letters)" EFAEA "then the group is left"
is "$(ask m "read 0 4096") $(letters)" "OK EFAAA" "for the one that the message named"
message reinstate_path "$p1"
message switch_group 1
is "$(ask m "read 0 4096") $(letters)" "OK AAAEA" "it comes back to the first group"
quick "dm suspend rmt-p2 noflush"
before=$(group_ios)
tell m "ioctl $PROBE"
eventually 60 "a probe is under way" probing
tell n "ioctl $PROBE"
is "$(answer n 1)" NOTHING "a second one waits"
quick "dm resume rmt-p2"
is "$(answer m) $(answer n)" "0 0" "both end"
is "$(($(group_ios) - before))" 2 "each path was read once for the two of them"

# Suspended.
is "$(dm suspend rmt-a)" OK "the map is suspended"
is "$(ask m "ioctl $PROBE")" EAGAIN "then nothing is probed"
is "$(dm resume rmt-a)" OK "and resumed"
ask m close >/dev/null
ask n close >/dev/null
check "it is removed" dmset remove --retry rmt-a
count_is 0 "no reference is left"

done_testing
