#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# bench.sh: what rmpath adds to an I/O, against dm-multipath and native NVMe multipath, in instructions.
#
# One virtual CPU counts a nanosecond for each instruction (qemu -icount), on the dev kernel; fio then reads 4 KiB with
# O_DIRECT a fixed number of times from a fixed seed, after one run to warm up. The mean latency repeats to about
# 0.1 %. It counts work: neither contention nor cache misses show. What two CPUs do together is measured at last, by the
# clock, on two CPUs: leave the machine alone meanwhile.
#
#   IOS=     I/Os per run (50000)
#   PATHS=   null_blk paths of the maps and of the head (2)
#   MORE=no  leave out writes, larger I/O, io_uring, polling, other numbers of paths, failover, memory and two CPUs
#   NVME=no  leave out these and the part over nvme-loop
#   FAST=yes only dm-multipath, the target and the head on null_blk, with round-robin
#   OLD=     a bench.tsv of before, to be compared with
#
# The tables are in build/bench/bench.tsv too (a table, a name, instructions per I/O, what is added and the ratio), and
# as bars in build/bench/bench.svg.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

"$TOP/scripts/setup.sh"
"$TOP/scripts/kernel.sh" dev >/dev/null
"$TOP/scripts/build.sh" dev >/dev/null
vars=()
for v in IOS PATHS NVME MORE FAST; do
	[ -z "${!v:-}" ] || vars+=(--env "$v=${!v}")
done
"$TOP/scripts/vm.sh" --flavour dev --icount --idle 1200 --results "$TOP/build/bench" "${vars[@]}" -- scripts/guest-bench.sh
if [ "${FAST:-}" != yes ] && [ "${NVME:-}" != no ] && [ "${MORE:-}" != no ]; then
	# It adds to the same table.
	"$TOP/scripts/vm.sh" --flavour dev --cpus 2 --idle 600 --results "$TOP/build/bench" -- scripts/guest-scaling.sh
fi
"$TOP/scripts/bench-report.py" chart "$TOP/build/bench/bench.tsv" "$TOP/build/bench/bench.svg"
[ -z "${OLD:-}" ] || "$TOP/scripts/bench-report.py" compare "$OLD" "$TOP/build/bench/bench.tsv"
