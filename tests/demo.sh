#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# demo.sh: the whole story on real devices, for people to read. Runs as root in the VM (`make demo` starts it there).
#
# One NVMe namespace is reached through two loop ports. rmpath makes one disk of the two paths; verified I/O runs on it
# while each path drops and returns; then all paths drop at once, a write waits, and a path returns in time; then none
# does. A device-mapper map follows. The module's reference count is shown throughout, and is zero when it is unloaded.
# Every step is checked; the first that goes wrong ends the demo with status 1.

. "$(dirname "$0")/lib.sh"
set -eo pipefail

bold='' dim='' red='' off=''
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' off=$'\e[0m'; fi
chapter() { printf '\n%s%s%s\n' "$bold" "$1" "$off"; }
say() { printf '  %s\n' "$@"; }
# fail REASON: what the kernel said last, and the end.
fail() {
	printf '  %sFAILED: %s%s\n' "$red" "$1" "$off"
	dmesg | tail -n 15 | sed 's/^/    /'
	exit 1
}
# run CMD...: shows the command, then what it prints; it must succeed.
run() {
	printf '  %s# %s%s\n' "$dim" "$*" "$off"
	eval "$*" >"$TMP/run" 2>&1 || { sed 's/^/    /' "$TMP/run"; fail "$*"; }
	sed 's/^/    /' "$TMP/run"
}
# must SECS WHAT CMD...: it becomes true in time.
must() { wait_for "$1" "${@:3}" || fail "$2"; say "$2"; }
# references N WHY
references() {
	wait_for 30 refcnt_is "$1" || fail "the module has $(refcnt) references, not $1 ($2)"
	say "module references: $1 ($2)"
}

trap 'rc=$?; set +e; demo_down; exit $rc' EXIT
demo_down() {
	devices_release
	loaded && rmmod rmpath
	devices_down
	rm -rf "$TMP"
}
drop() { nvme_disconnect "$1" || fail "path $1 does not drop"; say "path $1 has dropped"; }
# back N: with auto_attach=1, the default, nothing else is needed.
back() {
	nvme_connect "$1" || fail "path $1 does not connect"
	wait_for 120 has_path "$HEAD" "$(nvme_disk "$1")" || fail "path $1 does not rejoin $HEAD"
	say "path $1 is back as $(nvme_disk "$1") and has rejoined $HEAD by itself"
}
show_head() {
	local p
	say "/dev/$HEAD: $(value "$(hattr "$HEAD" state)"), $(value "$(hattr "$HEAD" wwid)"), paths:"
	for p in $(paths "$HEAD"); do
		say "  $p  $(pstate "$HEAD" "$p"), $(value "$(path_dir "$HEAD" "$p")/failures") failures"
	done
}

chapter "1. One namespace, two paths"
nvme_pair 64 || fail "nvmet cannot be set up"
say "An NVMe target exports one namespace through two loop ports. Without native multipath" \
	"the host sees two disks, $DISK1 and $DISK2, that report the same identity."
run "lsblk -o NAME,SIZE /dev/$DISK1 /dev/$DISK2"

chapter "2. One disk over both"
run "insmod $RMPATH_KO"
references 0 "loaded, nothing made yet"
run "echo device=/dev/$DISK1 >$CLASS/add_path"
HEAD=$(head_of "$(eui "$NGUID1")") || fail "there is no head"
has_path "$HEAD" "$DISK2" || run "echo device=/dev/$DISK2 >$CLASS/add_path"
wait_for 60 test -b "/dev/$HEAD" || fail "there is no /dev/$HEAD"
[ "$(heads)" = "$HEAD" ] || fail "there are several heads: $(heads)"
has_paths "$HEAD" "$DISK1" "$DISK2" || fail "the paths are $(paths "$HEAD")"
show_head
before=$(refcnt)
references 1 "one disk"

chapter "3. Verified I/O while paths drop and return"
secs=${RMPATH_FIO_SECS:-12}
say "fio writes blocks with checksums for $secs s and reads them back, through /dev/$HEAD:"
fio_verify "/dev/$HEAD" "$secs" --ioengine=libaio --iodepth=8 --numjobs=2 --verify_backlog=64 >"$TMP/fio" 2>&1 &
fio_pid=$!
losses=0
while [ $losses -lt 2 ] || ! ended $fio_pid; do
	port=$((losses % 2 + 1))
	drop $port
	back $port
	losses=$((losses + 1))
done
wait $fio_pid || { tail -n 5 "$TMP/fio"; fail "fio found an error"; }
say "fio: no error, every checksum right, over $losses losses of a path"
show_head
[ "$(refcnt)" = "$before" ] || fail "references: $(refcnt), were $before"
references 1 "as before"

chapter "4. All paths are lost, and one returns in time"
run "echo 60 >$(hattr "$HEAD" delayed_removal_secs)"
dev=$(devno "$HEAD")
drop 1
drop 2
must 60 "the removal of $HEAD is pending, for 60 s" hstate_is "$HEAD" removal-pending
references 2 "one disk and its pending removal"
server w
[ "$(ask w "open /dev/$HEAD")" = OK ] || fail "/dev/$HEAD cannot be opened"
tell w "write 0 4096 1"
[ "$(answer w 3)" = NOTHING ] || fail "the write does not wait"
say "a write waits (parked now: $(value "$(hattr "$HEAD" requeued)"))"
back 1
[ "$(answer w)" = OK ] || fail "the waiting write failed"
say "the write has completed"
[ "$(ask w "verify 0 4096 1")" = OK ] || fail "the data is not there"
server_stop w
must 30 "$HEAD is live" hstate_is "$HEAD" live
[ "$(devno "$HEAD")" = "$dev" ] || fail "the disk has another number"
references 1 "the pending removal was cancelled and gave its reference back"
back 2

chapter "5. All paths are lost, and none returns"
run "echo 5 >$(hattr "$HEAD" delayed_removal_secs)"
server w
[ "$(ask w "open /dev/$HEAD")" = OK ] || fail "/dev/$HEAD cannot be opened"
drop 1
drop 2
tell w "write 0 4096 2"
got=$(answer w)
[ "$got" = EIO ] || fail "the write ended with $got, not EIO"
say "the write waited for 5 s and failed with EIO"
server_stop w
must 60 "/dev/$HEAD has gone" gone "/sys/block/$HEAD"
references 0 "nothing is held"

chapter "6. A device-mapper map of two paths"
nvme_connect 1 && nvme_connect 2 || fail "the paths do not connect"
DISK1=$(nvme_disk 1) DISK2=$(nvme_disk 2)
run "dmsetup --noudevsync create rmt-demo --table '0 $(sectors "$DISK1") rmpath 0 0 1 1 round-robin 0 2 1 /dev/$DISK1 1 /dev/$DISK2 1'"
references 1 "one map"
node=$(dm_node rmt-demo)
wait_for 60 test -b "$node" || fail "there is no $node"
[ "$(sysio "open $node" "write 0 65536 3" "verify 0 65536 3")" = OK ] || fail "the map does not work"
run "dmsetup status rmt-demo"
run "dmsetup message rmt-demo 0 fail_path /dev/$DISK1"
run "dmsetup status rmt-demo"
[[ $(dmsetup status rmt-demo) =~ $(devno "$DISK1")\ F ]] || fail "the path has not failed"
[ "$(sysio "open $node" "verify 0 65536 3")" = OK ] || fail "the map does not work on one path"
say "the data reads back through the other path"
run "dmsetup message rmt-demo 0 reinstate_path /dev/$DISK1"
run "dmsetup status rmt-demo"
run "dmsetup --noudevsync remove --retry rmt-demo"
references 0 "nothing is held"

chapter "7. The end"
run "rmmod rmpath"
loaded && fail "the module is still there"
complaints=$(log_complaints) && fail "the kernel complained: $complaints"
say "the module is unloaded, and the kernel has not complained"
