#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-bench.sh: the part of bench.sh that runs in the VM: sets up the devices, measures, prints the tables.

set -euo pipefail
case "${1:-}" in
-h|--help) sed -n '3s/^# //p' "$0"; exit 0 ;;
esac
IOS=${IOS:-50000}
PATHS=${PATHS:-2}
# What was measured, for who compares: a name and what it adds, a line each.
rows=$RESULTS/bench.tsv
: >"$rows"

MEAN=0 ADDED=0

die() { echo "bench: error: $*" >&2; exit 1; }
[ -n "${RMPATH_VM:-}" ] || die "this is for the VM only; run 'make bench'"
# udev would open the devices while they are measured.
udevadm control --stop-exec-queue 2>/dev/null || true

# kthread_ms: the CPU time that all kernel threads have had, in milliseconds.
kthread_ms() { cat /proc/[0-9]*/stat 2>/dev/null | sed 's/([^)]*)/-/' | awk '$4 == 2 {s += $14 + $15} END {print s * 10}'; }

# fio_mean DEV: the mean latency of IOS reads in nanoseconds, which are instructions here, and the share of it in
# percent in which neither fio nor a kernel thread can have run: waiting is not counted in instructions.
cd /run
fio_mean() {
	local before
	before=$(kthread_ms)
	fio --name=bench --filename="$1" --rw=randread --bs=4k --direct=1 --ioengine=psync --thread --randseed=1 \
		--allrandrepeat=1 --norandommap --number_ios="$IOS" --size=1000M --clocksource=clock_gettime \
		--output-format=json --output=/run/fio.json >/dev/null || return 1
	python3 - "$before" "$(kthread_ms)" <<-'EOF'
	import json, sys

	with open("/run/fio.json") as f:
	    job = json.load(f)["jobs"][0]
	if job["error"] or job["read"]["total_ios"] < 1000:
	    sys.exit("fio failed")
	mean = job["read"]["clat_ns"]["mean"]
	waited = mean * job["read"]["total_ios"] / 1e6
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
	printf '%s\t%d\n' "$1" "$ADDED" >>"$rows"
	local ratio=-
	if [ -n "$4" ] && (( $4 > 0 )); then
		ratio=$(awk -v a="$ADDED" -v b="$4" 'BEGIN {printf "%.2f", a / b}')
	fi
	printf '%-34s %9d %9s %9s%s\n' "$1" "$MEAN" "$( (( $3 )) && echo "+$ADDED" || echo - )" "$ratio" \
		"$( (( IDLE > 10 )) && echo "  (the CPU was idle for $IDLE %: do not trust it)" )"
}

header() { printf '\n%-34s %9s %9s %9s\n' "$1" ns/read added "$2"; }

insmod "${RMPATH_KO:?was not built}" || die "the module does not load"
echo "4 KiB reads, $IOS per run; a nanosecond is an instruction"

# map NAME TABLE: into MAP the disk of a new map. Its node has no name, since udev is stopped.
map() {
	dmsetup create --noudevsync "$1" --table "$2" || return 1
	MAP=/dev/dm-$(dmsetup info -c --noheadings -o minor "$1" | tr -d ' ')
}

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
	# The disk has the item's name; before Linux 6.11 it had a number.
	disk=/dev/bench$i
	[ -b "$disk" ] || disk=/dev/nullb$(cat "$d/index")
	disks+=("$disk")
done
sectors=$(blockdev --getsz "${disks[0]}")
paths=
for d in "${disks[@]}"; do
	paths+=" $d 1"
done

header "null_blk, $PATHS paths" "/dm-mpath"
row "raw null_blk" "${disks[0]}" 0 ''
raw=$MEAN
if [ "${FAST:-}" != yes ]; then
	map bench-linear "0 $sectors linear ${disks[0]} 0"
	row "dm-linear" "$MAP" "$raw" ''
	dmsetup remove --noudevsync bench-linear
fi
table="2 queue_mode bio 0 1 1 round-robin 0 $PATHS 1$paths"
map bench-mpath "0 $sectors multipath $table"
row "dm-multipath, bio, round-robin" "$MAP" "$raw" ''
reference=$ADDED
dmsetup remove --noudevsync bench-mpath
if map bench-rmpath "0 $sectors rmpath $table"; then
	row "rmpath target, round-robin" "$MAP" "$raw" "$reference"
	dmsetup remove --noudevsync bench-rmpath
else
	echo "the rmpath target refuses the table"
fi

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
	if ! echo "$policy" 2>/dev/null >"/sys/block/$HEAD/rmpath/iopolicy"; then
		echo "rmpath head, $policy: this version does not have the policy"
		head_gone
		return 1
	fi
}
head_gone() {
	echo 1 >"/sys/block/$HEAD/rmpath/delete"
	while [ -e "/sys/block/$HEAD" ]; do sleep 0.1; done
}
if [ -e /sys/class/rmpath/add_path ]; then
	policies='numa round-robin queue-depth service-time historical-service-time'
	[ "${FAST:-}" != yes ] || policies=round-robin
	for policy in $policies; do
		head_over bench "$policy" "${disks[@]}" || continue
		row "rmpath head, $policy" "/dev/$HEAD" "$raw" "$reference"
		head_gone
	done
else
	echo "this rmpath has no head node"
fi

# --- nvme-loop -----------------------------------------------------------------------------------------------------------

if [ "${NVME:-}" = no ] || [ "${FAST:-}" = yes ]; then
	exit 0
fi
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
if [ -e /sys/module/rmpath/parameters/auto_attach ]; then
	echo 0 >/sys/module/rmpath/parameters/auto_attach
fi
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
	if head_over bench-nvme "$policy" "${nvme[@]}"; then
		row "rmpath head, $policy" "/dev/$HEAD" "$raw" "$reference"
		head_gone
	fi
	nvme_down
done
rmmod rmpath
