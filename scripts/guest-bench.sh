#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-bench.sh: the part of bench.sh that runs in the VM: sets up the devices, measures, prints the tables.

set -euo pipefail
case "${1:-}" in
-h|--help) sed -n '3s/^# //p' "$0"; exit 0 ;;
esac
IOS=${IOS:-50000}
PATHS=${PATHS:-2}
# What was measured, for who compares: the table, the name, the mean, what it adds and in relation to what, a line each.
rows=$RESULTS/bench.tsv
: >"$rows"
# What fio does, apart from the table's device.
JOB=(--rw=randread --bs=4k --ioengine=psync)

MEAN=0 ADDED=0 TABLE=

die() { echo "bench: error: $*" >&2; exit 1; }
[ -n "${RMPATH_VM:-}" ] || die "this is for the VM only; run 'make bench'"
# udev would open the devices while they are measured.
udevadm control --stop-exec-queue 2>/dev/null || true

. "$(dirname "$0")/../tests/kthreads.sh"

# fio_mean DEV: what each of IOS I/Os takes, in nanoseconds, which are instructions here, and the share of it in percent in
# which neither fio nor a kernel thread can have run: waiting is not counted in instructions. With a system call for each
# that is the mean latency, else the time of all of them by their number. fio is not to read the statistics of the disk and
# of all that it stands on meanwhile, which it does four times a second: that is work, and grows with the paths.
cd /run
fio_mean() {
	local before
	before=$(kthread_ms)
	fio --name=bench --filename="$1" "${JOB[@]}" --direct=1 --thread --randseed=1 \
		--allrandrepeat=1 --norandommap --number_ios="$IOS" --size=1000M --clocksource=clock_gettime --disk_util=0 \
		--output-format=json --output=/run/fio.json >/dev/null || return 1
	python3 - "$before" "$(kthread_ms)" <<-'EOF'
	import json, sys

	with open("/run/fio.json") as f:
	    job = json.load(f)["jobs"][0]
	what = max(job["read"], job["write"], key=lambda way: way["total_ios"])
	if job["error"] or what["total_ios"] < 1000:
	    sys.exit("fio failed")
	one = job["job options"]["ioengine"] == "psync"
	mean = what["clat_ns"]["mean"] if one else what["runtime"] * 1e6 / what["total_ios"]
	waited = mean * what["total_ios"] / 1e6
	ran = job["job_runtime"] * (job["usr_cpu"] + job["sys_cpu"]) / 100 + int(sys.argv[2]) - int(sys.argv[1])
	print(round(mean), max(0, round(100 * (1 - ran / waited))))
	EOF
}

# measure DEV: into MEAN and IDLE; a first run warms up. With TRACE=yes it only keeps the device busy, until who looks on
# has seen enough and ends the VM.
measure() {
	local got
	fio_mean "$1" >/dev/null || die "fio failed on $1"
	if [ "${TRACE:-}" = yes ]; then
		cat /proc/kallsyms >"$RESULTS/kallsyms"
		local stat before
		stat=/sys/block/$(basename "$1")/stat
		before=$(awk '{print $1}' "$stat")
		(IOS=1000000000 fio_mean "$1" >/dev/null) &
		while (( $(awk '{print $1}' "$stat") < before + 1000 )); do sleep 0.2; done
		echo "tracing $1"
		wait
	fi
	got=$(fio_mean "$1") || die "fio failed on $1"
	read -r MEAN IDLE <<<"$got"
}

# row NAME DEV BASE REFERENCE: a line of the table; into ADDED what it adds to BASE.
row() {
	[[ $1 = "${ONLY:-$1}" ]] || return 0
	measure "$2"
	ADDED=$((MEAN - $3))
	local ratio=-
	if [ -n "$4" ] && (( $4 > 0 )); then
		ratio=$(awk -v a="$ADDED" -v b="$4" 'BEGIN {printf "%.2f", a / b}')
	fi
	printf '%s\t%s\t%d\t%d\t%s\n' "$TABLE" "$1" "$MEAN" "$ADDED" "$ratio" >>"$rows"
	printf '%-39s %9d %9s %9s%s\n' "$1" "$MEAN" "$( (( $3 )) && echo "+$ADDED" || echo - )" "$ratio" \
		"$( (( IDLE > 10 )) && echo "  (the CPU was idle for $IDLE %: do not trust it)" )"
}

# header TITLE REFERENCE [UNIT]
header() {
	TABLE=$1
	printf '\n%-39s %9s %9s %9s\n' "$1" "${3:-ns/IO}" added "$2"
}

# What a new disk brings must not become a head by itself while it is measured raw.
insmod "${RMPATH_KO:?was not built}" auto_attach=0 || die "the module does not load"
echo "$IOS I/Os per run; a nanosecond is an instruction"

# map NAME TABLE: into MAP the disk of a new map. Its node has no name, since udev is stopped.
map() {
	dmsetup create --noudevsync "$1" --table "$2" || return 1
	MAP=/dev/dm-$(dmsetup info -c --noheadings -o minor "$1" | tr -d ' ')
}

# --- null_blk ----------------------------------------------------------------------------------------------------------

modprobe null_blk nr_devices=0
modprobe dm-mod
modprobe dm-multipath
modprobe dm-round-robin
disks=()
# null_disks N [KIND QUEUES]: so many disks, with so many queues that are polled.
null_disks() {
	local i d disk
	for (( i = ${#disks[@]}; i < $1; i++ )); do
		d=/sys/kernel/config/nullb/${2:-bench}$i
		mkdir "$d"
		echo 1024 >"$d/size"
		echo "${3:-0}" >"$d/poll_queues"
		echo 1 >"$d/power"
		# The disk has the item's name; before Linux 6.11 it had a number.
		disk=/dev/${2:-bench}$i
		[ -b "$disk" ] || disk=/dev/nullb$(cat "$d/index")
		disks+=("$disk")
	done
}

# maps SELECTOR: dm-multipath and the target with it, over PATHS disks.
maps() {
	local table="2 queue_mode bio 0 1 1 $1 0 $PATHS 0" d
	for d in "${disks[@]:0:$PATHS}"; do
		table+=" $d"
	done
	modprobe "dm-$1" 2>/dev/null || true
	map bench-mpath "0 $sectors multipath $table" || die "dm-multipath refuses $table"
	row "dm-multipath, bio, $1" "$MAP" "$raw" ''
	reference=$ADDED
	dmsetup remove --noudevsync bench-mpath
	map bench-rmpath "0 $sectors rmpath $table" || die "the target refuses $table"
	row "rmpath target, $1" "$MAP" "$raw" "$reference"
	dmsetup remove --noudevsync bench-rmpath
}

# head_over WWID POLICY DISK...: into HEAD the disk over them; fails if it does not have the policy.
head_over() {
	local wwid=$1 policy=$2 d
	shift 2
	for d in "$@"; do
		echo "device=$d wwid=$wwid" >/sys/class/rmpath/add_path
	done
	for d in /sys/block/rmpath*; do
		[ "$(cat "$d/rmpath/wwid")" != "$wwid" ] || HEAD=${d##*/}
	done
	echo "$policy" >"/sys/block/$HEAD/rmpath/iopolicy" || die "the head does not have the policy $policy"
}
head_gone() {
	echo 1 >"/sys/block/$HEAD/rmpath/delete"
	while [ -e "/sys/block/$HEAD" ]; do sleep 0.1; done
}
# null_table TITLE SELECTORS POLICIES: PATHS null_blk disks, and what stands on them.
null_table() {
	local selector policy against=
	null_disks "$PATHS"
	sectors=$(blockdev --getsz "${disks[0]}")
	header "$1" "/dm-mpath"
	row "raw null_blk" "${disks[0]}" 0 ''
	raw=$MEAN
	for selector in $2; do
		if [ "$selector" = linear ]; then
			map bench-linear "0 $sectors linear ${disks[0]} 0"
			row "dm-linear" "$MAP" "$raw" ''
			dmsetup remove --noudevsync bench-linear
			continue
		fi
		maps "$selector"
		against=${against:-$reference}
	done
	for policy in $3; do
		head_over bench "$policy" "${disks[@]:0:$PATHS}"
		row "rmpath head, $policy" "/dev/$HEAD" "$raw" "$against"
		head_gone
	done
}

selectors='linear round-robin queue-length service-time historical-service-time'
policies='numa round-robin queue-depth service-time historical-service-time'
[ "${FAST:-}" != yes ] || selectors=round-robin policies=round-robin
null_table "null_blk, $PATHS paths, 4 KiB reads" "$selectors" "$policies"

# --- nvme-loop -----------------------------------------------------------------------------------------------------------

if [ "${NVME:-}" = no ] || [ "${FAST:-}" = yes ]; then
	exit 0
fi
# A namespace on null_blk, reached more than once; the kernel's own multipath makes one disk of it, or with multipath=N
# as many as there are paths.
nqn=nqn.2014-08.org.nvmexpress:bench
target=/sys/kernel/config/nvmet
# nvme_up Y|N PATHS: what native multipath is to do with so many paths.
nvme_up() {
	modprobe nvme-core multipath="$1"
	modprobe nvme-loop
	mkdir "$target/subsystems/$nqn"
	echo 1 >"$target/subsystems/$nqn/attr_allow_any_host"
	mkdir "$target/subsystems/$nqn/namespaces/1"
	echo "${disks[0]}" >"$target/subsystems/$nqn/namespaces/1/device_path"
	echo 01234567-89ab-cdef-0123-456789abcdef >"$target/subsystems/$nqn/namespaces/1/device_nguid"
	echo 1 >"$target/subsystems/$nqn/namespaces/1/enable"
	local p
	for (( p = 1; p <= $2; p++ )); do
		mkdir "$target/ports/$p"
		echo loop >"$target/ports/$p/addr_trtype"
		echo "$p" >"$target/ports/$p/addr_traddr"
		ln -s "$target/subsystems/$nqn" "$target/ports/$p/subsystems/$nqn"
		echo "transport=loop,nqn=$nqn,traddr=$p" >/dev/nvme-fabrics
	done
	sleep 3
}
nvme_down() {
	local c p
	for c in /sys/class/nvme/nvme*; do
		[ ! -e "$c" ] || echo 1 >"$c/delete_controller"
	done
	for p in "$target"/ports/*; do
		rm "$p/subsystems/$nqn"
		rmdir "$p"
	done
	echo 0 >"$target/subsystems/$nqn/namespaces/1/enable"
	rmdir "$target/subsystems/$nqn/namespaces/1" "$target/subsystems/$nqn"
	modprobe -r nvme-loop
	modprobe -r nvme-fabrics nvmet 2>/dev/null || true
	modprobe -r nvme-core 2>/dev/null || true
	[ ! -d /sys/module/nvme_core ] || die "nvme-core is still in use"
}
# nvme_table TITLE PATHS POLICIES: native multipath and the head over them, with each policy.
nvme_table() {
	local policy reference disk
	header "$1" "/native"
	nvme_up N "$2"
	nvme=(/dev/nvme[0-9]*n1)
	row "raw nvme-loop" "${nvme[0]}" 0 ''
	raw=$MEAN
	nvme_down
	for policy in $3; do
		nvme_up Y "$2"
		disk=$(basename "$(ls -d /sys/block/nvme[0-9]n1)")
		echo "$policy" >"$(ls -d /sys/class/nvme-subsystem/nvme-subsys*)/iopolicy"
		row "native, $policy" "/dev/$disk" "$raw" ''
		reference=$ADDED
		nvme_down
		nvme_up N "$2"
		nvme=(/dev/nvme[0-9]*n1)
		head_over bench-nvme "$policy" "${nvme[@]}"
		row "rmpath head, $policy" "/dev/$HEAD" "$raw" "$reference"
		head_gone
		nvme_down
	done
}
natives='numa round-robin queue-depth'
nvme_table "nvme-loop, 2 paths, 4 KiB reads" 2 "$natives"

# --- Other I/O, other numbers of paths -----------------------------------------------------------------------------------

[ "${MORE:-}" != no ] || exit 0
for PATHS in 1 8 32; do
	null_table "null_blk, $PATHS paths, 4 KiB reads" round-robin "$natives"
	nvme_table "nvme-loop, $PATHS paths, 4 KiB reads" "$PATHS" "$natives"
done
PATHS=2
# both WHAT: on null_blk, and on nvme-loop.
both() {
	null_table "null_blk, 2 paths, $1" round-robin round-robin
	nvme_table "nvme-loop, 2 paths, $1" 2 round-robin
}
JOB=(--rw=randwrite --bs=4k --ioengine=psync)
both "4 KiB writes"
for size in 64k 1m; do
	JOB=(--rw=randread "--bs=$size" --ioengine=psync)
	# They take long, and there is little to be told apart from them.
	IOS=$((IOS / 2))
	both "$size reads"
done
# In batches: what is left of a system call's share is small.
JOB=(--rw=randread --bs=4k --ioengine=io_uring --iodepth=16 --iodepth_batch_submit=16 --iodepth_batch_complete_min=16)
IOS=$((IOS * 16))
both "4 KiB reads, io_uring by 16"
IOS=$((IOS / 16))
JOB=(--rw=randread --bs=4k --ioengine=io_uring --hipri)
others=("${disks[@]}") disks=()
null_disks "$PATHS" polled 1
null_table "null_blk, 2 paths, 4 KiB reads, polled" 'linear round-robin' round-robin
disks=("${others[@]}")

# --- How long it takes by another path, and until one is back; memory ----------------------------------------------------

# found: "NAME: WHAT<tab>NUMBER" from standard input as lines of the table: the target's in relation to dm-multipath's, the
# head's to native's, if there is that.
found() {
	local name took what against
	local -A theirs
	while IFS=$'\t' read -r name took; do
		what=${name#*: } name=${name%%: *}
		case $name in
		dm-multipath*) theirs[$what,dm]=$took ;;
		native) theirs[$what,native]=$took ;;
		esac
		against=${theirs[$what,dm]:-}
		[[ $name != *head ]] || against=${theirs[$what,native]:-$against}
		printf '%s\t%s\t%d\t%d\t%s\n' "$TABLE, $what" "$name" "$took" "$took" \
			"$(awk -v a="$took" -v b="${against:-$took}" 'BEGIN {printf "%.2f", a / b}')" | tee -a "$rows" |
			awk -F '\t' -v name="$name: $what" '{printf "%-39s %9d %9s %9s\n", name, $3, "-", $5}'
	done
}
header "null_blk, 2 paths, a path fails or returns" "/dm-mpath" ns
failover=$("$(dirname "$0")/guest-failover.py" "$(basename "${disks[0]}")" "$(basename "${disks[1]}")") ||
	die "the paths do not fail as they should"
found <<<"$failover"

header "nvme-loop, 2 paths, a controller goes or returns" "/theirs" ns
gone=
# disappear SYSTEM
disappear() {
	gone+=$("$(dirname "$0")/guest-disappear.py" "$1" "$nqn")$'\n' || die "the controllers do not go as they should"
}
nvme_up Y 2
disappear native
nvme_down
nvme_up N 2
disappear multipath
disappear rmpath
# That what returns joins without being asked.
rmmod rmpath
insmod "$RMPATH_KO" auto_attach=1
disappear head
nvme_down
found <<<"${gone%$'\n'}"
rmmod rmpath
insmod "$RMPATH_KO" auto_attach=0

header "memory" "/dm-mpath" bytes
memory=$("$(dirname "$0")/guest-memory.py") || die "the memory cannot be measured"
found <<<"$memory"
rmmod rmpath
