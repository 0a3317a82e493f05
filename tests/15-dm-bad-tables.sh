#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Tables that are wrong: each is refused with the errno that dm-multipath gives for it and one line that says what is
# wrong, and leaves no reference, no claim on a device and no map.
#
# DM_TARGET=multipath runs the same on the kernel's own target, to see that the list is right.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

target=${DM_TARGET:-rmpath}
modprobe dm-mod
sdebug 2 && nullb nbzoned 32 zoned=1 zone_size=4 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) len=$(sectors "$(sdebug_disk 0)")
if [ "$target" = rmpath ]; then rmpath_load auto_attach=0 || bail "the module does not load"
else modprobe dm-multipath && modprobe dm-round-robin || bail "no dm-multipath"; fi

# refused WANT TABLE [ONLY]: ONLY=rmpath where dm-multipath thinks otherwise.
refused() {
	local got log before excl
	if [ "${3:-$target}" != "$target" ]; then skip "$2" "dm-multipath takes it"; return; fi
	before=$(refcnt)
	quick mark
	quick "dm load rmt-x $len $target $2"
	got=$reply
	quick "log $target: "
	log=$reply
	sysio_each "open /dev/$a excl"
	excl=$reply
	if [[ $got =~ ^($1)$ && ${log%%|*} = 1 && $excl = OK && $(refcnt) = "$before" ]]; then
		ok "$2: $got, ${log##*: }"
	else
		not_ok "$2" "answer: $got (want $1)" "refcnt: $before, then $(refcnt)" "log: ${log//|/$'\n'}" "/dev/$a: $excl"
		quick "dm clear rmt-x"
	fi
}
check "a map without a table, to load them into" dmset create rmt-x --notable
g="round-robin 0 2 1 /dev/$a 1 /dev/$b 1"
f="2 queue_mode bio"

# The beginning: features, hardware handler, group numbers.
refused EINVAL ""
refused EINVAL "x"
refused EINVAL "-1 0 1 1 $g"
refused EINVAL "9 a b c d e f g h i 0 1 1 $g"
refused EINVAL "1"
refused EINVAL "1 no_such_feature 0 1 1 $g"
refused EINVAL "2 queue_if_no_path 0 1 1 $g"
refused EINVAL "2 queue_mode nonsense 0 1 1 $g"
refused EINVAL "2 queue_mode rq 0 1 1 $g" rmpath
refused EINVAL "2 queue_mode mq 0 1 1 $g" rmpath
refused EINVAL "1 queue_mode 0 1 1 $g"
refused EINVAL "4 queue_mode bio pg_init_retries 51 0 1 1 $g"
refused EINVAL "4 queue_mode bio pg_init_retries x 0 1 1 $g"
refused EINVAL "4 queue_mode bio pg_init_delay_msecs 60001 0 1 1 $g"
refused EINVAL "$f"
refused EINVAL "$f x 1 1 $g"
refused EINVAL "$f 3 a 1"
refused EINVAL "$f 0"
refused EINVAL "$f 0 1"
refused EINVAL "$f 0 x 1 $g"
refused EINVAL "$f 0 1025 1 $g"
refused EINVAL "$f 0 1 x $g"
refused EINVAL "$f 0 1 1025 $g"
refused EINVAL "$f 0 1 0 $g"
refused EINVAL "$f 0 0 1 $g"
refused EINVAL "$f 0 0 0 $g"
# The number of groups.
refused EINVAL "$f 0 2 1 $g"
refused EINVAL "$f 0 1 1"
refused EINVAL "$f 0 1 1 $g round-robin 0 1 1 /dev/$b 1"
refused EINVAL "$f 0 1 1 $g x"
# A group.
refused EINVAL "$f 0 1 1 round-robin"
refused EINVAL "$f 0 1 1 no-such-selector 0 1 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin x 1 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 1025 1 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 9 1 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 0"
refused EINVAL "$f 0 1 1 round-robin 0 0 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 0 x 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 0 1025 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 0 1"
refused EINVAL "$f 0 1 1 round-robin 0 1 x /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 0 1 1"
refused EINVAL "$f 0 1 1 round-robin 0 2 1 /dev/$a 1"
refused EINVAL "$f 0 1 1 round-robin 0 3 1 /dev/$a 1 /dev/$b 1"
refused EINVAL "$f 0 1 1 round-robin 0 1 2 /dev/$a 1 2"
refused EINVAL "$f 0 1 1 round-robin 0 1 1 /dev/$a x"
refused EINVAL "$f 0 1 1 round-robin 0 1 1 /dev/$a 1x"
# A path.
refused 'ENODEV|ENOENT' "$f 0 1 1 round-robin 0 1 1 /dev/no-such-disk 1"
refused 'ENODEV|ENXIO' "$f 0 1 1 round-robin 0 1 1 999:999 1"
refused 'ENODEV|ENOENT' "$f 0 1 1 round-robin 0 1 1 nonsense 1"
refused ENOTBLK "$f 0 1 1 round-robin 0 1 1 /dev/null 1"
refused 'ENODEV|ENOENT' "$f 0 1 1 round-robin 0 2 1 /dev/$a 1 /dev/no-such-disk 1"
refused 'EINVAL|EOPNOTSUPP' "$f 0 1 1 round-robin 0 1 1 /dev/nbzoned 1" rmpath

# Busy.
server o
is "$(ask o "open /dev/$b excl")" OK "a path is claimed"
is "$(dm_errno load rmt-x --table "0 $len $target $f 0 1 1 $g")" EBUSY "a claimed path is EBUSY"
is "$(sysio "open /dev/$a excl")" OK "and the other is let go"
server_stop o

# It was none of the paths' fault.
check "the map is removed" dmset remove --retry rmt-x
is "$(dm_errno create rmt-x --table "0 $len $target $f 0 2 1 $g")" EINVAL "a map with a wrong table is not made"
refuse "and is not there" dmset info rmt-x
check "a right table is taken" dm_make rmt-x "0 $len $target $f 0 1 1 $g"
like "$(dm_errno load rmt-x --table "0 $len $target $f 0 2 1 $g")" EINVAL "a wrong table for a live map is refused"
is "$(sysio "open $(dm_node rmt-x)" "read 0 4096")" OK "and the map works on"
check "it is removed" dmset remove --retry rmt-x
if [ "$target" = rmpath ]; then count_is 0 "no reference is left"; fi

done_testing
