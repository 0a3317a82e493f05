#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-bench.sh: the part of bench.sh that runs in the VM: sets up the devices, measures, prints the tables.

set -euo pipefail
case "${1:-}" in
-h|--help) sed -n '3s/^# //p' "$0"; exit 0 ;;
esac
IOS=${IOS:-20000}
PATHS=${PATHS:-2}

die() { echo "bench: error: $*" >&2; exit 1; }
[ -n "${RMPATH_VM:-}" ] || die "this is for the VM only; run 'make bench'"
# udev would open the devices while they are measured.
udevadm control --stop-exec-queue 2>/dev/null || true

# idle_ns: how long the CPU has had nothing to do, in units of 10 ms.
idle() { awk '$1 == "cpu" {print $5 + $6}' /proc/stat; }

# fio_mean DEV: the mean latency of IOS reads in nanoseconds, which are instructions here.
fio_mean() {
	fio --name=bench --filename="$1" --rw=randread --bs=4k --direct=1 --ioengine=psync --thread --randseed=1 \
		--allrandrepeat=1 --number_ios="$IOS" --size=128M --io_size=100% --time_based=0 --loops=1000 \
		--clocksource=clock_gettime --output-format=json 2>/dev/null |
		python3 -c '
import json, sys
job = json.load(sys.stdin)["jobs"][0]
if job["error"] or job["read"]["total_ios"] < 1000:
    sys.exit("fio failed")
print(round(job["read"]["clat_ns"]["mean"]))'
}

# measure DEV: into MEAN; a first run warms up, and a CPU that was idle in the second would have counted no instructions.
measure() {
	local before after
	fio_mean "$1" >/dev/null
	before=$(idle)
	MEAN=$(fio_mean "$1") || die "fio failed on $1"
	after=$(idle)
	IDLE=$(( (after - before) * 10 ))
}

# row NAME DEV BASE REFERENCE: a line of the table; into ADDED what it adds to BASE.
row() {
	measure "$2"
	ADDED=$((MEAN - $3))
	local ratio=-
	if [ -n "$4" ] && (( $4 > 0 )); then
		ratio=$(awk -v a="$ADDED" -v b="$4" 'BEGIN {printf "%.2f", a / b}')
	fi
	printf '%-34s %9d %9s %9s%s\n' "$1" "$MEAN" "$( (( $3 )) && echo "+$ADDED" || echo - )" "$ratio" \
		"$( (( IDLE > 50 )) && echo "  (idle for $IDLE ms: do not trust it)" )"
}

header() { printf '\n%-34s %9s %9s %9s\n' "$1" ns/read added "$2"; }

insmod "$RMPATH_KO" || die "the module does not load"
echo "4 KiB reads, $IOS per run; a nanosecond is an instruction"

# --- null_blk ----------------------------------------------------------------------------------------------------------

modprobe null_blk nr_devices=0
modprobe dm-mod
modprobe dm-multipath
modprobe dm-round-robin 2>/dev/null || true
disks=()
for (( i = 0; i < PATHS; i++ )); do
	d=/sys/kernel/config/nullb/bench$i
	mkdir "$d"
	echo 1024 >"$d/size"
	echo 1 >"$d/power"
	disks+=("/dev/nullb$(cat "$d/index")")
done
sectors=$(blockdev --getsz "${disks[0]}")
paths=
for d in "${disks[@]}"; do
	paths+=" $d 1"
done

header "null_blk, $PATHS paths" "/dm-mpath"
row "raw null_blk" "${disks[0]}" 0 ''
raw=$MEAN
dmsetup create --noudevsync bench-linear --table "0 $sectors linear ${disks[0]} 0"
row "dm-linear" /dev/mapper/bench-linear "$raw" ''
dmsetup remove --noudevsync bench-linear
table="2 queue_mode bio 0 1 1 round-robin 0 $PATHS 1$paths"
dmsetup create --noudevsync bench-mpath --table "0 $sectors multipath $table"
row "dm-multipath, bio, round-robin" /dev/mapper/bench-mpath "$raw" ''
reference=$ADDED
dmsetup remove --noudevsync bench-mpath
if dmsetup create --noudevsync bench-rmpath --table "0 $sectors rmpath $table"; then
	row "rmpath target, round-robin" /dev/mapper/bench-rmpath "$raw" "$reference"
	dmsetup remove --noudevsync bench-rmpath
else
	echo "the rmpath target refuses the table"
fi

# head WWID POLICY DISK...: into HEAD the disk over them.
head_over() {
	local wwid=$1 policy=$2 d
	shift 2
	for d in "$@"; do
		echo "device=$d wwid=$wwid" >/sys/class/rmpath/add_path
	done
	for d in /sys/block/rmpath*; do
		[ "$(cat "$d/rmpath/wwid")" != "$wwid" ] || HEAD=${d##*/}
	done
	echo "$policy" >"/sys/block/$HEAD/rmpath/iopolicy"
}
head_gone() {
	echo 1 >"/sys/block/$HEAD/rmpath/delete"
	while [ -e "/sys/block/$HEAD" ]; do sleep 0.1; done
}
if [ -e /sys/class/rmpath/add_path ]; then
	for policy in numa round-robin queue-depth service-time; do
		head_over bench "$policy" "${disks[@]}"
		row "rmpath head, $policy" "/dev/$HEAD" "$raw" "$reference"
		head_gone
	done
else
	echo "this rmpath has no head node"
fi

# --- nvme-loop -----------------------------------------------------------------------------------------------------------

[ "${NVME:-}" != no ] || exit 0
# A namespace on null_blk, reached twice; the kernel's own multipath makes one disk of it, or with multipath=N two.
nqn=nqn.2014-08.org.nvmexpress:bench
target=/sys/kernel/config/nvmet
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
	for p in 1 2; do
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
		echo 1 >"$c/delete_controller"
	done
	for p in 1 2; do
		rm "$target/ports/$p/subsystems/$nqn"
		rmdir "$target/ports/$p"
	done
	echo 0 >"$target/subsystems/$nqn/namespaces/1/enable"
	rmdir "$target/subsystems/$nqn/namespaces/1" "$target/subsystems/$nqn"
	modprobe -r nvme-loop
	modprobe -r nvme-fabrics nvmet 2>/dev/null || true
	modprobe -r nvme-core 2>/dev/null || true
}

# What a new disk brings must not become a head by itself while it is measured raw.
echo 0 >/sys/module/rmpath/parameters/auto_attach 2>/dev/null || true
header "nvme-loop, 2 paths" "/native"
nvme_up N
nvme=(/dev/nvme[0-9]*n1)
row "raw nvme-loop" "${nvme[0]}" 0 ''
raw=$MEAN
nvme_down
for policy in numa round-robin; do
	nvme_up Y
	disk=$(basename "$(ls -d /sys/block/nvme*n1)")
	echo "$policy" >"$(ls -d /sys/class/nvme-subsystem/nvme-subsys*)/iopolicy"
	row "native, $policy" "/dev/$disk" "$raw" ''
	reference=$ADDED
	nvme_down
	[ -e /sys/class/rmpath/add_path ] || continue
	nvme_up N
	nvme=(/dev/nvme[0-9]*n1)
	head_over bench-nvme "$policy" "${nvme[@]}"
	row "rmpath head, $policy" "/dev/$HEAD" "$raw" "$reference"
	head_gone
	nvme_down
done
rmmod rmpath
