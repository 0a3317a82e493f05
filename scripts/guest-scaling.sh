#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# guest-scaling.sh: the part of bench.sh that measures, with two CPUs, how much more two jobs read than one.
#
# It runs in the VM, whose CPUs are threads of the machine: the clock counts time here, not instructions, so that the
# machine must have nothing else to do. The median of ROUNDS (5) is printed, and added to the table.

set -euo pipefail
case "${1:-}" in
-h | --help) sed -n '3,6s/^# \?//p' "$0"; exit 0 ;;
esac
die() { echo "bench: error: $*" >&2; exit 1; }
[ -n "${RMPATH_VM:-}" ] || die "this is for the VM only; run 'make bench'"
udevadm control --stop-exec-queue 2>/dev/null || true
cd /run

insmod "${RMPATH_KO:?was not built}" auto_attach=0 || die "the module does not load"
modprobe null_blk nr_devices=0
modprobe dm-multipath
modprobe dm-round-robin
for d in a b c d; do
	mkdir "/sys/kernel/config/nullb/$d"
	echo 256 >"/sys/kernel/config/nullb/$d/size"
	echo 2 >"/sys/kernel/config/nullb/$d/submit_queues"
	echo 1 >"/sys/kernel/config/nullb/$d/power"
done
table="2 queue_mode bio 0 1 1 round-robin 0 2 0 /dev/a /dev/b"
dmsetup create --noudevsync mpath --table "0 524288 multipath $table"
dmsetup create --noudevsync target --table "0 524288 rmpath $table"
node() { echo "/dev/dm-$(dmsetup info -c --noheadings -o minor "$1" | tr -d ' ')"; }
for d in c d; do echo "device=/dev/$d wwid=scaling" >/sys/class/rmpath/add_path; done
for head in /sys/block/rmpath*; do :; done

# iops DEV JOBS: reads a second.
iops() {
	fio --name=scaling --filename="$1" --rw=randread --bs=4k --direct=1 --ioengine=psync --thread --size=256m --randseed=1 \
		--norandommap --numjobs="$2" --cpus_allowed=0,1 --cpus_allowed_policy=split --time_based --runtime=2 \
		--group_reporting --output-format=json --output=/run/fio.json >/dev/null || return 1
	python3 -c 'import json; print(round(json.load(open("/run/fio.json"))["jobs"][0]["read"]["iops"]))'
}

names=("raw null_blk" "dm-multipath, bio" "rmpath target" "rmpath head")
nodes=(/dev/a "$(node mpath)" "$(node target)" "/dev/${head##*/}")
: >found
# All in each round: what disturbs one round disturbs all.
for ((round = 0; round <= ${ROUNDS:-5}; round++)); do
	for i in "${!nodes[@]}"; do
		for jobs in 1 2; do
			n=$(iops "${nodes[i]}" "$jobs") || die "fio failed on ${names[i]}"
			# The first round warms up.
			((round == 0)) || printf '%s\t%d\t%d\n' "${names[i]}" "$jobs" "$n" >>found
		done
	done
done
python3 - "$RESULTS/bench.tsv" <<'EOF'
import statistics, sys

found = {}
for line in open("found"):
    name, jobs, iops = line.rstrip("\n").split("\t")
    found.setdefault(name, {}).setdefault(int(jobs), []).append(int(iops))
title = "null_blk, 2 paths, 2 CPUs: reads by two jobs, in percent of those by one"
print(f"\n{'null_blk, 2 paths, 2 CPUs, reads a second':<39} {'one job':>9} {'two':>9} {'ratio':>9} {'/raw':>6}")
raw = None
with open(sys.argv[1], "a") as rows:
    for name, by_jobs in found.items():
        one, two = (statistics.median(by_jobs[jobs]) for jobs in (1, 2))
        ratio = statistics.median(b / a for a, b in zip(by_jobs[1], by_jobs[2]))
        raw = raw or ratio
        print(f"{name:<39} {one:9.0f} {two:9.0f} {ratio:9.2f} {ratio / raw:6.2f}")
        print(title, name, round(100 * ratio), round(100 * ratio), f"{ratio / raw:.2f}", sep="\t", file=rows)
EOF
dmsetup remove --noudevsync target
dmsetup remove --noudevsync mpath
echo 1 >"$head/rmpath/delete"
while [ -e "$head" ]; do sleep 0.1; done
rmmod rmpath
