#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Bad input to add_path and remove_path: each kind has its errno and one line in the kernel's log, and changes nothing:
# not the heads, not their paths, not the reference count. Random bytes too. The attributes of heads and paths refuse
# what they do not know and say at most one line.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod
modprobe loop
rmpath_load auto_attach=0 && nullb nba 32 && nullb nbb 32 && nullb nbfree 32 && nullb nbsmall 16 &&
	nullb nbblock 32 blocksize=4096 || bail "no devices"
check "a head to disturb" add_path "device=/dev/nba wwid=good"
check "with a path" add_path "device=/dev/nbb wwid=good"
HEAD=$(head_of good)

# try CMD: carries it out by sysio.py, and sets got, log (number|lines of ours), before and after (snapshots).
try() {
	quick snapshot
	before=$reply
	quick mark
	quick "$1"
	got=$reply
	quick "log rmpath: "
	log=$reply
	quick snapshot
	after=$reply
}
# refused WANT FILE NAME CMD: the answer to CMD is WANT (a pattern), with one line that begins with the file's name, and
# nothing has changed.
refused() {
	try "$4"
	if [[ $got =~ ^($1)$ && $log = "1|rmpath: ${2##*/}: "* && $after = "$before" ]]; then
		ok "${2##*/}: $3: $got"
	else
		not_ok "${2##*/}: $3" "answer: $got (want $1)" "log: ${log//|/$'\n'}" "before: $before" "after:  $after"
	fi
}
bad() { refused "$1" $CLASS/add_path "$2" "echo $CLASS/add_path $3"; }
bad_remove() { refused "$1" $CLASS/remove_path "$2" "echo $CLASS/remove_path $3"; }
# hex TEXT, with \-escapes
hex() { printf '%b' "$1" | od -An -v -tx1 | tr -d ' \n'; }
bad_bytes() { refused "$1" "$2" "$3" "put $2 $(hex "$4")"; }
repeat() { printf "%.0s$2" $(seq "$1"); }

# What is written.
bad EINVAL "an empty line" ""
bad EINVAL "a blank" " "
bad EINVAL "no key" "/dev/nbfree"
bad EINVAL "a key without a value" "device"
bad EINVAL "an empty device" "device="
bad EINVAL "an empty key" "=/dev/nbfree"
bad EINVAL "no device" "wwid=x"
bad EINVAL "an unknown key" "device=/dev/nbfree wwid=x colour=red"
bad EINVAL "a key in capitals" "DEVICE=/dev/nbfree wwid=x"
bad EINVAL "two devices" "device=/dev/nbfree device=/dev/nba wwid=x"
bad EINVAL "two wwids" "device=/dev/nbfree wwid=x wwid=x"
bad EINVAL "two states" "device=/dev/nbfree wwid=x state=optimized state=optimized"
bad EINVAL "two weights" "device=/dev/nbfree wwid=x weight=1 weight=1"
bad EINVAL "a word too many" "device=/dev/nbfree wwid=x more"
bad EINVAL "an empty wwid" "device=/dev/nbfree wwid="
bad EINVAL "a wwid of 128 characters" "device=/dev/nbfree wwid=$(repeat 128 x)"
bad EINVAL "a wwid with a slash" "device=/dev/nbfree wwid=a/b"
bad EINVAL "a wwid with a letter that is not ASCII" "device=/dev/nbfree wwid=é"
bad EINVAL "an unknown state" "device=/dev/nbfree wwid=x state=fine"
bad EINVAL "an empty state" "device=/dev/nbfree wwid=x state="
bad EINVAL "a state that is no access state" "device=/dev/nbfree wwid=x state=dead"
bad EINVAL "a weight that is no number" "device=/dev/nbfree wwid=x weight=heavy"
bad EINVAL "a negative weight" "device=/dev/nbfree wwid=x weight=-1"
bad 'EINVAL|ERANGE' "a weight out of range" "device=/dev/nbfree wwid=x weight=99999999999999999999"
bad EINVAL "an empty weight" "device=/dev/nbfree wwid=x weight="
bad_bytes EINVAL $CLASS/add_path "a NUL in the middle" 'device=/dev/nbfree\x00 wwid=x\n'
bad_bytes EINVAL $CLASS/add_path "a NUL at the end" 'device=/dev/nbfree wwid=x\x00'
bad_bytes EINVAL $CLASS/add_path "an escape character" 'device=/dev/nbfree wwid=\x1bx\n'
bad_bytes EINVAL $CLASS/add_path "a tab in the wwid" 'device=/dev/nbfree wwid=a\tb\n'
bad_bytes EINVAL $CLASS/add_path "a newline in the middle" 'device=/dev/nbfree\nwwid=x\n'
bad_bytes EINVAL $CLASS/add_path "a DEL character" 'device=/dev/nbfree wwid=\x7fx\n'
bad_bytes EINVAL $CLASS/add_path "bytes that are no UTF-8" 'device=/dev/\xff\xfe wwid=x\n'
bad E2BIG "1024 bytes" "device=/dev/nbfree wwid=$(repeat 1000 x)"
bad E2BIG "4000 bytes" "device=/dev/$(repeat 3987 x)"
for seed in 1 2 3 4 5; do
	refused 'E2BIG|EINVAL' $CLASS/add_path "4096 random bytes, seed $seed" "random $CLASS/add_path $seed 4096"
	refused EINVAL $CLASS/add_path "$((seed * 200)) random bytes, seed 1$seed" "random $CLASS/add_path 1$seed $((seed * 200))"
done

# What is named.
bad ENOENT "a missing device" "device=/dev/no-such-disk wwid=x"
bad ENOENT "a missing folder" "device=/no/such/folder wwid=x"
bad 'ENOENT|ENOTDIR' "a file as a folder" "device=/dev/nbfree/x wwid=x"
bad "ENAMETOOLONG|EINVAL" "a name that is too long" "device=/dev/$(repeat 300 x) wwid=x"
bad ENOTBLK "a folder" "device=/dev wwid=x"
bad ENOTBLK "a character device" "device=/dev/null wwid=x"
: >"$TMP/file"
bad ENOTBLK "a regular file" "device=$TMP/file wwid=x"
mknod "$TMP/nothing" b 259 1048000
bad 'ENXIO|ENODEV' "a node without a device" "device=$TMP/nothing wwid=x"
bad ENODATA "no identity and no wwid" "device=/dev/nbfree"
bad EEXIST "a path of the head" "device=/dev/nba wwid=good"
bad EEXIST "a path of a head, under another name" "device=/dev/nba wwid=other"
bad ELOOP "a head" "device=/dev/$HEAD wwid=x"
bad EINVAL "another size than the head's" "device=/dev/nbsmall wwid=good"
bad EINVAL "another block size than the head's" "device=/dev/nbblock wwid=good"
bad EINVAL "no size" "device=/dev/loop0 wwid=x"

mkfs.ext4 -q -F /dev/nbfree && mkdir "$TMP/mnt" && mount /dev/nbfree "$TMP/mnt" || bail "cannot mount"
bad EBUSY "a mounted device" "device=/dev/nbfree wwid=x"
umount "$TMP/mnt"
dm_make rmt-claim "0 32768 linear /dev/nbfree 0" || bail "cannot make a map"
bad EBUSY "a device of a map" "device=/dev/nbfree wwid=x"
dmset remove --retry rmt-claim
server o
is "$(ask o "open /dev/nbfree excl")" OK "a device is claimed by a program"
bad EBUSY "a claimed device" "device=/dev/nbfree wwid=x"
server_stop o
blockdev --setro /dev/nbfree
bad EROFS "a device that can only be read" "device=/dev/nbfree wwid=x"
blockdev --setrw /dev/nbfree
nullb nbzoned 32 zoned=1 zone_size=4 || bail "no zoned device"
bad EOPNOTSUPP "a zoned device" "device=/dev/nbzoned wwid=x"
{
	head -c 446 /dev/zero
	printf '\000\000\000\000\203\000\000\000\000\010\000\000\000\100\000\000'
	head -c 48 /dev/zero
	printf '\125\252'
} | dd of=/dev/nbsmall bs=512 count=1 iflag=fullblock status=none
blockdev --rereadpt /dev/nbsmall
wait_for 60 test -b /dev/nbsmall1 || bail "no partition"
bad EINVAL "a partition" "device=/dev/nbsmall1 wwid=x"

# remove_path.
bad_remove EINVAL "an empty line" ""
bad_remove EINVAL "no key" "/dev/nba"
bad_remove EINVAL "a key without a value" "device="
bad_remove EINVAL "an unknown key" "device=/dev/nba now=1"
bad_remove EINVAL "a key of add_path" "device=/dev/nba wwid=good"
bad_remove EINVAL "two devices" "device=/dev/nba device=/dev/nbb"
bad_remove ENOENT "a missing device" "device=/dev/no-such-disk"
bad_remove ENODEV "a disk that is no path" "device=/dev/nbfree"
bad_remove ENODEV "a head" "device=/dev/$HEAD"
bad_remove ENOTBLK "a character device" "device=/dev/null"
bad_remove ENOTBLK "a folder" "device=/dev"
bad_remove E2BIG "1100 bytes" "device=/dev/$(repeat 1100 x)"
bad_bytes EINVAL $CLASS/remove_path "a NUL" 'device=/dev/nba\x00\n'
bad_bytes EINVAL $CLASS/remove_path "an escape character" 'device=/dev/nba\x1b\n'
for seed in 1 2 3 4 5; do
	refused 'E2BIG|EINVAL' $CLASS/remove_path "4096 random bytes, seed $seed" "random $CLASS/remove_path $seed 4096"
	refused EINVAL $CLASS/remove_path "$((seed * 200)) random bytes, seed 1$seed" "random $CLASS/remove_path 1$seed $((seed * 200))"
done
is "$(paths "$HEAD")" "nba nbb" "the head has both its paths after all that"

# quiet_refusal WANT FILE CMD: the attributes; a line in the log is not owed, two would be too many.
quiet_refusal() {
	try "$3"
	if [[ $got =~ ^($1)$ && ${log%%|*} -le 1 && $after = "$before" ]]; then
		ok "${2#/sys/block/}: ${3:0:60}: $got"
	else
		not_ok "${2#/sys/block/}: ${3:0:60}" "answer: $got (want $1)" "log: ${log//|/$'\n'}" "before: $before" "after:  $after"
	fi
}
P=$(path_dir "$HEAD" nba)
for f in "$(hattr "$HEAD" iopolicy)" "$(hattr "$HEAD" delete)" "$P/state" "$P/delete" \
	"$(hattr "$HEAD" delayed_removal_secs)" "/sys/block/$HEAD/delayed_removal_secs" "$P/weight" \
	"$(hattr "$HEAD" marginal_path_latency_pct)"; do
	for text in '' ' ' nonsense '1 1' -1 "$(repeat 200 x)"; do
		quiet_refusal EINVAL "$f" "echo $f $text"
	done
	quiet_refusal EINVAL "$f" "put $f $(hex '1\x00\n')"
	quiet_refusal EINVAL "$f" "put $f $(hex '\x00')"
	for seed in 1 2 3; do
		quiet_refusal EINVAL "$f" "random $f $seed 4096"
		quiet_refusal EINVAL "$f" "random $f 2$seed 7"
	done
done
for policy in Numa queue-length service_time Round-Robin round-robi; do
	quiet_refusal EINVAL "$(hattr "$HEAD" iopolicy)" "echo $(hattr "$HEAD" iopolicy) $policy"
done
is "$(attr "$(hattr "$HEAD" iopolicy)" round-robin)" OK "iopolicy takes what it has"
# What can only be read or only be written.
for f in wwid state requeued; do
	like "$(stat -c %a "$(hattr "$HEAD" $f)")" '^4[04][04]$' "$f can only be read"
done
for f in "$P/inflight" "$P/failures" "$P/queue_depth" "$P/numa_nodes"; do like "$(stat -c %a "$f")" '^4[04][04]$' "${f##*/} can only be read"; done
for f in "$P/delete" "$(hattr "$HEAD" delete)"; do is "$(stat -c %a "$f")" 200 "${f#/sys/block/} can only be written"; done

# A blank more and no newline at the end are no errors.
is "$(ask sys "put $CLASS/add_path $(hex 'device=/dev/nbfree wwid=fine')")" OK "a line without its newline is taken"
check "and removed" remove_head "$(head_of fine)"
count_is 1 "one head, one reference"

done_testing
