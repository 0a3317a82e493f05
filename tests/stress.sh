#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# One round of the long tests, which `make stress` repeats for MINUTES: everything at once for a minute, then loss of
# paths under verified I/O for longer than in `make check`, then wrong writes, CPUs that go and requests that fail,
# allocations that do, maps, and the failure of each single allocation. The plans of the parts become one.
# Time limit: 7200 s

cd "$(dirname "$0")" || exit 1
export RMPATH_RACE_SECS=60 RMPATH_FIO_SECS=60 RMPATH_HOTPLUG_SECS=60 RMPATH_WRITES=20000 RMPATH_STRIDE=1
RMPATH_SEED=$(date +%s)
export RMPATH_SEED
n=0 status=0
for t in 13-races.sh 04-path-loss.sh 12-scsi.sh 16-removal-races.sh 54-attribute-fuzz.sh 56-hotplug-faults.sh \
	60-failing-allocations.sh 49-dm-reload.sh 10-dm-map.sh 17-no-memory.sh; do
	plan='' seen=0
	while IFS= read -r line; do
		case $line in
		'ok '* | 'not ok '*)
			n=$((n + 1)) seen=$((seen + 1))
			[[ $line = ok* ]] || status=1
			echo "${line%%ok *}ok $n - ${t%.sh}: ${line#* - }"
			;;
		1..0*)
			n=$((n + 1)) plan=0
			echo "ok $n - ${t%.sh} # SKIP ${line#*SKIP }"
			;;
		1..*) plan=${line#1..} ;;
		*) echo "$line" ;;
		esac
	done < <("./$t" 2>&1)
	if [ "$plan" != "$seen" ]; then
		n=$((n + 1)) status=1
		echo "not ok $n - ${t%.sh} comes to its end"
		echo "# ${plan:-none} planned, $seen ran"
	fi
done
echo "1..$n"
exit $status
