#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The module cannot be unloaded while anything of it is in use: a disk, an open file on a disk that has gone, a
# pending removal, a mounted file system, a map. It can afterwards. A disk that is going away or gone cannot be opened
# (ENXIO), and what is open on it gives nothing and takes nothing and can be closed.
. "$(dirname "$0")/lib.sh"

modprobe dm-mod
rmpath_load auto_attach=0 && nullb nba 48 && nullb nbb 48 || bail "no path can be made"
make() {
	add_path "device=/dev/nba wwid=use" && add_path "device=/dev/nbb wwid=use" || bail "no head can be made"
	HEAD=$(head_of use)
	wait_for 60 test -b "/dev/$HEAD" || bail "the head has no node"
}
# in_use NAME: rmmod is refused, and the module is there still.
in_use() {
	local out
	if out=$(rmmod rmpath 2>&1); then not_ok "rmmod is refused $1"; else like "$out" 'in use' "rmmod is refused $1"; fi
	check "  and the module is there" test -e $CLASS/add_path
}
# works NAME
works() {
	check "rmmod works $1" rmpath_unload
	rmpath_load auto_attach=0 || bail "the module does not load"
}

make
in_use "while a disk exists"
check "the disk goes" remove_head "$HEAD"
works "when it has gone"

make
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
remove_path nba
remove_path nbb
eventually 60 "removal is pending" hstate_is "$HEAD" removal-pending
in_use "while removal is pending"
echo 0 >"$(hattr "$HEAD" delayed_removal_secs)"
eventually 60 "the disk goes" gone "/sys/block/$HEAD"
works "after the pending removal"

# An open file on a disk that goes, and opens of it while it goes and when it has gone.
make
IFS=: read -r major minor <<<"$(devno "$HEAD")"
mknod "$TMP/node" b "$major" "$minor"
server f
server g
is "$(ask f "open /dev/$HEAD")" OK "a file is open on the disk"
is "$(ask f "write 0 4096 1")" OK "and can be written"
is "$(sysio "open $TMP/node ro")" OK "the disk opens through a node of our own"
like "$(ask g "opens $TMP/node 0.5")" '^OK=[0-9]+$' "over and over"
tell g "opens $TMP/node 120"
check "the disk is removed" remove_head "$HEAD"
results=$(answer g)
like "$results" '^ENXIO=[0-9]+( OK=[0-9]+)?$' "opening it meanwhile gives OK or ENXIO, nothing else ($results)"
is "$(sysio "open $TMP/node ro")" ENXIO "opening it afterwards gives ENXIO, though a file is open still"
in_use "while a file is open on the removed disk"
like "$(ask f "read 0 4096")" "$NO_DATA" "reading from the file gives no data"
like "$(ask f "write 0 4096 1")" "$NO_ROOM" "writing to it is refused"
is "$(ask f "close")" OK "closing it works"
is "$(sysio "open $TMP/node ro")" ENXIO "the disk stays gone"
for p in nba nbb; do is "$(sysio "open /dev/$p excl")" OK "$p is free"; done
works "when it is closed"
is "$(sysio "open $TMP/node ro")" ENXIO "the number leads nowhere in a new life of the module"

# A mounted file system on a disk that goes.
make
# Both paths have their own store here, and a file system needs one: the second stays out.
remove_path nbb
wait_for 60 no_path "$HEAD" nbb
mkfs.ext4 -q -F "/dev/$HEAD"
mkdir "$TMP/mnt"
check "a file system is mounted" mount "/dev/$HEAD" "$TMP/mnt"
echo data >"$TMP/mnt/file"
sync -f "$TMP/mnt/file"
in_use "while a file system is mounted"
check "the disk is removed under it" remove_head "$HEAD"
in_use "while a file system is mounted on the removed disk"
refuse "writing to it fails" sh -c "echo more >$TMP/mnt/other && sync -f $TMP/mnt/other" 2>/dev/null
check "it can be unmounted" umount "$TMP/mnt"
works "when it is unmounted"

# A map.
check "a map is made" dm_make rmt-use "0 $(sectors nba) rmpath 0 0 1 1 round-robin 0 1 1 /dev/nba 1"
in_use "while a map exists"
check "the map is removed" dmset remove --retry rmt-use
works "when the map has gone"
check "a map without a table" dmset create rmt-use --notable
check "a table is loaded but not resumed" dmset load rmt-use --table "0 $(sectors nba) rmpath 0 0 1 1 round-robin 0 1 1 /dev/nba 1"
in_use "while a table is loaded"
check "the map is removed" dmset remove --retry rmt-use
works "when the table has gone"

done_testing
