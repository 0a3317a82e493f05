#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Tables of all selectors and features, made up from a seed, on the kernel's own multipath target and on rmpath, with
# the same messages, I/O and errors, which are made up too: status, table and IMA strings are the same, byte for byte
# but for the target's name. So are what the selectors choose and count while I/O is under way, the uevents, and the
# reasons for which wrong tables are refused.
#
# RMPATH_SEED= and RMPATH_TABLES= set the seed and the number of tables.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

seed=${RMPATH_SEED:-7207212} tables=${RMPATH_TABLES:-45}
modprobe dm-multipath || skip_all "no dm-multipath"
for selector in round-robin queue-length service-time historical-service-time io-affinity; do
	modprobe dm-$selector || skip_all "no dm-$selector"
done
rmpath_load auto_attach=0 && sdebug 5 || bail "no paths"
read -r -a disks < <(sdebug_disks | paste -sd ' ')
diag "seed $seed, $tables tables, errors: $([ -e "$(inject_file "${disks[0]}")" ] && echo injected || echo none)"

# compared WANT ARG...: each line of dmcompare.py that says ok or not ok is a check.
compared() {
	local want=$1 got=0 line name='' details=()
	shift
	while IFS= read -r line; do
		case $line in
		'# '*) details+=("${line#\# }"); continue ;;
		esac
		[ -z "$name" ] || not_ok "$name" "${details[@]}"
		name='' details=()
		case $line in
		'ok '*) ok "${line#ok }"; got=$((got + 1)) ;;
		'not ok '*) name=${line#not ok } got=$((got + 1)) ;;
		*) diag "$line" ;;
		esac
	done < <(python3 "$TESTS/dmcompare.py" "$@" 2>&1)
	[ -z "$name" ] || not_ok "$name" "${details[@]}"
	is "$got" "$want" "$1: all of them were compared"
}

compared "$tables" generated "$seed" "$tables" "${disks[@]}"
compared 6 inflight "${disks[0]}"
compared 1 events "${disks[@]}"
compared 2 reasons "${disks[@]}"
count_is 0 "no reference is left"

done_testing
