#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# cost.sh: whether an I/O costs more than it did: what the target and the head add, against tests/cost.limits.
#
# Prints TAP. It measures as bench.sh does, and compares with what dm-multipath adds in the same boot, so that neither
# the machine nor, much, the kernel and the compiler matter. What has grown by more than 2 % is a failure, and so is
# what has become smaller by more than 5 %: then the limit is to be lowered, or it would let that be lost again.
#
#   IOS=   reads per run (20000)

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

if [ -n "${KDIR:-}" ]; then
	echo "ok 1 - an I/O costs what it did # SKIP the limits are for the project's dev kernel"
	echo "1..1"
	exit 0
fi
if ! grep -qx CONFIG_RUST_INLINE_HELPERS=y "$("$TOP/scripts/kernel.sh" dev)/.config"; then
	echo "ok 1 - an I/O costs what it did # SKIP the limits are for CONFIG_RUST_INLINE_HELPERS, which wants one LLVM for clang and rustc"
	echo "1..1"
	exit 0
fi
log=$TOP/build/cost.log
mkdir -p "$TOP/build"
IOS=${IOS:-20000} FAST=yes "$TOP/scripts/bench.sh" >"$log" 2>&1 || {
	echo "not ok 1 - it can be measured # see $log"
	echo "1..1"
	exit 1
}
awk -F '\t' '
	FNR == NR {
		if ($0 !~ /^#/ && NF == 2)
			limit[$1] = $2
		next
	}
	$2 ~ /^dm-multipath/ { reference = $4 }
	{ added[$2] = $4 }
	END {
		for (name in limit) {
			ratio = reference > 0 ? 1000 * added[name] / reference : 0
			change = 100 * (ratio / limit[name] - 1)
			ok = ratio > 0 && change <= 2 && change >= -5
			failed += !ok
			printf "%sok %d - %s adds %d instructions, %d thousandths of dm-multipath'"'"'s, %+.1f %%\n",
				ok ? "" : "not ", ++n, name, added[name], ratio, change
		}
		printf "1..%d\n", n
		exit failed || !n
	}' "$TOP/tests/cost.limits" "$TOP/build/bench/bench.tsv"
