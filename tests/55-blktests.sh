#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The test group for blktests (tests/blktests/rmpath/), by the stand-in for its check; or by blktests itself, with
# BLKTESTS=, a checkout (see scripts/blktests.sh): then also blktests' own tests that BLKTESTS_RUN names, on a head and on
# a map that have two paths each.
#
# RMPATH_FIO_SECS  how long each fio runs (default 4)
# Time limit: 2400 s
. "$(dirname "$0")/lib.sh"

export TIMEOUT=${RMPATH_FIO_SECS:-4} RMPATH_KO

# result LINE: of check, as a check of ours. What follows it is kept for the next one's diagnostic.
result() {
	local name
	case $1 in
	*'[passed]')
		name=${1%\[passed\]}
		ok "${name%"${name##*[! ]}"}"
		;;
	*'[failed]')
		name=${1%\[failed\]}
		not_ok "${name%"${name##*[! ]}"}"
		;;
	*'[not run]')
		name=${1%\[not run\]}
		skip "${name%"${name##*[! ]}"}" "not run"
		;;
	*) diag "$1" ;;
	esac
}

if [ -z "${BLKTESTS:-}" ]; then
	check_ours() { (cd "$TMP" && TMPDIR=$TMP RMPATH_TRTYPES=$1 "$TESTS/blktests/stand-in/check" "${@:2}" 2>&1); }
	# Over TCP too what is about the transport.
	while IFS= read -r line; do
		result "$line"
	done < <(check_ours "${RMPATH_TRTYPES:-loop tcp}" 001 006; check_ours loop 002 003 004 005 007 008 009 010)
	done_testing
fi

# blktests looks at the files of its tests, not at links, and writes its results beside them: to a copy of it.
cp -r "$BLKTESTS" "$TMP/blktests" && cp -r "$TESTS/blktests/rmpath" "$TMP/blktests/tests/" || bail "no copy of $BLKTESTS"
cd "$TMP/blktests" || bail "no copy of $BLKTESTS"
: >config
read -ra wanted <<<"${BLKTESTS_RUN:-rmpath}"
own=()
for t in "${wanted[@]}"; do
	[[ $t = rmpath* ]] || own+=("$t")
done
if [ ${#own[@]} -gt 0 ]; then
	rmpath_load auto_attach=0 && nvme_pair 512 && nvme_head && sdebug 2 dev_size_mb=256 || bail "no devices"
	a=$(sdebug_disk 0) b=$(sdebug_disk 1)
	dm_make rmt-bt "0 $(sectors "$a") rmpath 1 queue_if_no_path 0 1 1 round-robin 0 2 1 /dev/$a 1 /dev/$b 1" ||
		bail "no map"
	echo "TEST_DEVS=(/dev/$HEAD $(dm_node rmt-bt))" >>config
fi
while IFS= read -r line; do
	# Each test is there twice: when it begins, with what it took the last time, and when it has ended.
	case $line in
	*\[*\]) result "$line" ;;
	'    '*) diag "$line" ;;
	esac
done < <(./check -o "$TMP/results" "${wanted[@]}" 2>&1)
cd "$TESTS" || exit

done_testing
