#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The device-mapper target: dm core loads the module by its alias; a map reads and writes through its paths; fail_path
# and reinstate_path; priority groups; queue_if_no_path parks I/O and gives it back, also around suspend, noflush
# suspend, reload and forced removal; without it I/O fails. Every map is one reference.
#
# DM_TARGET=multipath runs the same on the kernel's own target, to see that the test is right.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

target=${DM_TARGET:-rmpath}
features="2 queue_mode bio" queueing="3 queue_mode bio queue_if_no_path"
modprobe dm-mod
sdebug 4 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2) d=$(sdebug_disk 3)
len=$(sectors "$a")

if [ "$target" = multipath ]; then
	count_is() { skip "$2" "not our module"; }
	modprobe dm-multipath && modprobe dm-round-robin || bail "no dm-multipath"
fi

# group DISK...: one priority group.
group() {
	local disk out="round-robin 0 $# 1"
	for disk; do out+=" /dev/$disk 1"; done
	echo "$out"
}
status() { dmset status "$1" | sed "s/^0 $len $target //"; }
# letters MAP: the groups' letters and the paths', e.g. "A AF E AA".
letters() { status "$1" | grep -oE '\b[ADEF]\b' | tr -d '\n'; }
letters_are() { [ "$(letters "$1")" = "$2" ]; }
message() { dmset message rmt-a 0 "$@"; }
# share N DISK...: N direct reads of the map; prints how many each of these disks got. Every CPU may take turns of its
# own, so that two paths need not get the same.
share() { counted_reads m "$@"; }

# dm core loads the module. modprobe must find it as it would when it is installed: a tree with depmod's tables over
# the kernel's own.
if [ "$target" = rmpath ]; then
	tree=$(readlink -f "/lib/modules/$(uname -r)")
	mkdir -p "$TMP/upper/extra" "$TMP/work"
	cp "$RMPATH_KO" "$TMP/upper/extra/"
	# The VM's own way for modprobe to find the module must not stand in for the alias.
	if [ -e /run/modprobe.d/rmpath.conf ]; then
		mv /run/modprobe.d/rmpath.conf "$TMP/"
		defer mv "$TMP/rmpath.conf" /run/modprobe.d/
	fi
	if mount -t overlay -o "lowerdir=$tree,upperdir=$TMP/upper,workdir=$TMP/work" none "$tree"; then
		defer umount -l "$tree"
		check "depmod takes the module" depmod
		is "$(modprobe -R dm-rmpath)" rmpath "modprobe knows dm-rmpath"
		refuse "the module is not loaded" loaded
		check "a map is made" dm_make rmt-a "0 $len rmpath 0 0 1 1 $(group "$a" "$b")"
		check "which has loaded the module" loaded
		count_is 1 "a map is one reference"
		check "the map is removed" dmset remove --retry rmt-a
		count_is 0 "and its reference"
		check "the module unloads" rmpath_unload
	else
		skip "dm core loads the module" "no overlay over $tree"
	fi
	rmpath_load auto_attach=0 || bail "the module does not load"
fi

# One group.
check "a map of two paths" dm_make rmt-a "0 $len $target $features 0 1 1 $(group "$a" "$b")"
count_is 1 "a map is one reference"
like "$(dmset deps -o devname rmt-a)" "^2 dependencies.*" "it has two dependencies"
is "$(sysio "open /dev/$a excl")" EBUSY "which it claims"
server m
is "$(ask m "open $(dm_node rmt-a)")" OK "it opens"
is "$(ask m "write 0 1048576 1")" OK "and is written"
for disk in "$a" "$b"; do is "$(sysio "open /dev/$disk" "verify 0 1048576 1")" OK "the data is on $disk"; done
dm=$(basename "$(dm_node rmt-a)")
n=$(stat_of "$dm" 1)
like "$(share 20 "$a" "$b")" '^OK ([5-9]|1[0-5]) ([5-9]|1[0-5])$' "reads go round"
n=$(($(stat_of "$dm" 1) - n))
check "the map counts them ($n)" test "$n" -ge 20
for disk in "$a" "$b"; do
	check "it stands on $disk" test -e "/sys/block/$dm/slaves/$disk" -a -e "/sys/block/$disk/holders/$dm"
done
is "$(letters rmt-a)" AAA "the group and both paths are active"
events=$(dmset info -c --noheadings -o events rmt-a)
check "fail_path by name" message fail_path "/dev/$a"
is "$(letters rmt-a)" AFA "the path has failed"
like "$(share 10 "$a" "$b")" '^OK 0 10$' "reads go to the other"
check "fail_path again changes nothing" message fail_path "/dev/$a"
like "$(status rmt-a)" "$(devno "$a") F 1 $(devno "$b") A 0" "one failure is counted"
check "reinstate_path by number" message reinstate_path "$(devno "$a")"
like "$(share 10 "$a" "$b")" '^OK [2-8] [2-8]$' "reads go round again"
like "$(status rmt-a)" "$(devno "$a") A 1 $(devno "$b") A 0" "the failure stays counted"
more_events() { [ "$(dmset info -c --noheadings -o events rmt-a)" -ge $((events + 2)) ]; }
eventually 30 "both were events" more_events
message fail_path "$(devno "$a")"
message fail_path "$(devno "$b")"
is "$(letters rmt-a | cut -c2-)" FF "both paths have failed"
is "$(ask m "read 0 4096")" EIO "without queue_if_no_path a read fails"
is "$(ask m "write 0 4096 1")" EIO "and a write"
message reinstate_path "$(devno "$b")"
is "$(ask m "read 0 4096")" OK "one path reinstated is enough"
message reinstate_path "$(devno "$a")"
for bad in "fail_path" "fail_path /dev/$c" "fail_path 8:999" "reinstate_path /dev/$c" "nonsense /dev/$a" nonsense \
	"fail_path /dev/$a x" "reinstate_path" "'' /dev/$a"; do
	# shellcheck disable=SC2086 # the words are the arguments
	like "$(eval dm_errno message rmt-a 0 $bad)" '^(EINVAL|ENXIO|ENODEV|ENOENT)$' "message refused: $bad"
done
like "$(dm_errno message rmt-a 0 fail_path /dev/no-such-disk)" '^(EINVAL|ENODEV|ENOENT)$' "message refused: a missing device"
is "$(letters rmt-a)" AAA "and nothing has changed"
is "$(ask m close)" OK "it closes"

# Suspend and resume, with nothing to wait for.
for how in "" "--nolockfs" "--noflush"; do
	# shellcheck disable=SC2086 # an option or none
	check "suspend $how" within 120 dmset suspend $how rmt-a
	is "$(dm_errno message rmt-a 0 fail_path "/dev/$a")" EBUSY "a suspended map takes no message"
	ask m "open $(dm_node rmt-a)" >/dev/null
	tell m "read 0 4096"
	is "$(answer m 1)" NOTHING "I/O waits for the resume"
	check "resume" within 120 dmset resume rmt-a
	is "$(answer m)" OK "and goes on"
	is "$(ask m close)" OK "closed"
done
check "remove" dmset remove --retry rmt-a
count_is 0 "no map, no reference"
is "$(sysio "open /dev/$a excl")" OK "the paths are free"

# Two groups.
check "a map of two groups" dm_make rmt-a "0 $len $target $features 0 2 1 $(group "$a" "$b") $(group "$c" "$d")"
ask m "open $(dm_node rmt-a)" >/dev/null
like "$(share 12 "$a" "$b" "$c" "$d")" '^OK [3-9] [3-9] 0 0$' "I/O uses the first group"
is "$(letters rmt-a)" AAAEAA "which is active, the other enabled"
message fail_path "/dev/$a"
like "$(share 12 "$a" "$b" "$c" "$d")" '^OK 0 12 0 0$' "and its last path"
message fail_path "/dev/$b"
like "$(share 12 "$a" "$b" "$c" "$d")" '^OK 0 0 [3-9] [3-9]$' "then the second group"
is "$(letters rmt-a)" EFFAAA "which is active now"
message reinstate_path "/dev/$a"
message fail_path "/dev/$c"
message fail_path "/dev/$d"
like "$(share 12 "$a" "$b" "$c" "$d")" '^OK 12 0 0 0$' "then the first again"
is "$(letters rmt-a)" AAFEFF "which is active again"
ask m close >/dev/null
check "remove" dmset remove --retry rmt-a
check "a map whose initial group is the second" \
	dm_make rmt-a "0 $len $target $features 0 2 2 $(group "$a" "$b") $(group "$c" "$d")"
ask m "open $(dm_node rmt-a)" >/dev/null
like "$(share 12 "$a" "$b" "$c" "$d")" '^OK 0 0 [3-9] [3-9]$' "I/O begins there"
ask m close >/dev/null
check "remove" dmset remove --retry rmt-a
count_is 0 "no map, no reference"

# queue_if_no_path. parked: fails both paths and leaves a write waiting.
one_group="0 $len $target $queueing 0 1 1 $(group "$a" "$b")"
parked() {
	message fail_path "/dev/$a"
	message fail_path "/dev/$b"
	tell m "write 4096 4096 $1"
	is "$(answer m 1)" NOTHING "with queue_if_no_path a write waits when all paths have failed"
}
check "a map with queue_if_no_path" dm_make rmt-a "$one_group"
ask m "open $(dm_node rmt-a)" >/dev/null
parked 11
check "a path is reinstated" message reinstate_path "/dev/$b"
is "$(answer m)" OK "the write completes"
is "$(sysio "open /dev/$a" "verify 4096 4096 11")" OK "the data is there"
parked 12
is "$(dm_errno remove rmt-a)" EBUSY "a map that is open is not removed"
like "$(dmset info rmt-a)" 'State: +ACTIVE' "nor suspended by that"
check "noflush suspend does not wait for it" within 120 dmset suspend --noflush rmt-a
is "$(answer m 1)" NOTHING "it still waits"
check "resume" within 120 dmset resume rmt-a
is "$(answer m 1)" NOTHING "it waits again"
check "a path is reinstated" message reinstate_path "/dev/$a"
is "$(answer m)" OK "the write completes"
is "$(sysio "open /dev/$a" "verify 4096 4096 12")" OK "the data is there"
message reinstate_path "/dev/$b"
parked 13
check "suspend ends though a write is parked" within 120 dmset suspend rmt-a
is "$(answer m)" EIO "which fails"
check "resume" within 120 dmset resume rmt-a
like "$(dmset table rmt-a)" queue_if_no_path "queue_if_no_path is kept over the suspend"
parked 14
check "reload with a table that has paths" dmset load rmt-a --table "0 $len $target $queueing 0 1 1 $(group "$c" "$d")"
count_is 2 "a table that is loaded is a reference too"
check "noflush suspend" within 120 dmset suspend --noflush rmt-a
check "resume with the new table" within 120 dmset resume rmt-a
is "$(answer m)" OK "the write completes through it"
is "$(sysio "open /dev/$a" "verify 4096 4096 14")" OK "the data is there"
count_is 1 "the old table's reference is back"
if [ -e "$(inject_file "$c")" ]; then
	inject "$c" READ RESOURCE && inject "$d" READ RESOURCE || bail "no errors can be injected"
	tell m "read 0 4096"
	check "noflush suspend while the paths are short of resources" within 120 dmset suspend --noflush rmt-a
	inject_none "$c"
	inject_none "$d"
	is "$(answer m 1)" NOTHING "the read has not failed"
	check "resume" within 120 dmset resume rmt-a
	is "$(answer m)" OK "and succeeds when they are not"
fi
check "back to the old table" dmset load rmt-a --table "$one_group"
check "resume alone suspends too" within 120 dmset resume rmt-a
parked 15
if [ "$target" = rmpath ]; then
	like "$(rmmod rmpath 2>&1)" 'in use' "rmmod is refused"
fi
check "forced removal does not wait" within 120 sh -c 'dmsetup --noudevsync remove --force rmt-a 2>/dev/null; :'
is "$(answer m)" EIO "the write fails"
ask m close >/dev/null
dmset remove rmt-a 2>/dev/null
eventually 60 "the map has gone" sh -c '! dmsetup info rmt-a >/dev/null 2>&1'
count_is 0 "no map, no reference"

# Verified I/O while the paths take turns in failing, by message and by error.
check "a map for I/O" dm_make rmt-a "0 $len $target $queueing 0 2 1 $(group "$a" "$b") $(group "$c" "$d")"
fio_verify "$(dm_node rmt-a)" "${RMPATH_FIO_SECS:-20}" --ioengine=libaio --iodepth=8 --numjobs=2 --verify_backlog=64 \
	>"$TMP/fio" 2>&1 &
fio_pid=$!
rounds=0
while ! ended $fio_pid; do
	for disk in "$a" "$b" "$c" "$d"; do
		message fail_path "/dev/$disk"
	done
	for disk in "$d" "$a" "$c" "$b"; do
		message reinstate_path "/dev/$disk"
		if [ -e "$(inject_file "$disk")" ]; then
			inject "$disk" WRITE TRANSPORT
			inject "$disk" READ TRANSPORT chance=3
			nap 0.3
			inject_none "$disk"
			message reinstate_path "/dev/$disk"
		fi
	done
	rounds=$((rounds + 1))
done
if wait $fio_pid; then ok "no error, no wrong data ($rounds rounds)"; else not_ok "no error, no wrong data" "$(tail -n 20 "$TMP/fio")"; fi
check "each path failed at least once" test "$rounds" -ge 1
check "remove" dmset remove --retry rmt-a
count_is 0 "no map, no reference"

done_testing
