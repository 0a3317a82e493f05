#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Verified I/O while each path in turn is lost and returns by itself: no error, no wrong data, and afterwards the same
# head, the same reference count and both paths.
#
# RMPATH_FIO_SECS  how long each fio runs (default 40)
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

secs=${RMPATH_FIO_SECS:-40}
rmpath_load && nvme_pair 96 && nvme_head || bail "no head can be made"
dev=$(devno "$HEAD")
before=1 # the head; who looks for its partitions has one more for a moment

# lose_and_return PORT: that path goes, and comes back into the head.
lose_and_return() {
	nvme_disconnect "$1" || { echo "port $1 does not disconnect"; stuck; return 1; }
	nvme_connect "$1" || { echo "port $1 does not connect"; return 1; }
	wait_for 300 has_path "$HEAD" "$(nvme_disk "$1")" || { echo "port $1 does not rejoin"; return 1; }
}

# storm NAME FIO-ARG...
storm() {
	local name=$1 pid rounds=0 trouble=
	shift
	fio_verify "/dev/$HEAD" "$secs" "$@" >"$TMP/fio" 2>&1 &
	pid=$!
	while ! ended "$pid" && [ -z "$trouble" ]; do
		trouble=$(lose_and_return $((rounds % 2 + 1))) && rounds=$((rounds + 1))
	done
	is "$trouble" "" "$name: paths go and come back"
	check "$name: each path was lost at least once ($rounds losses)" test "$rounds" -ge 2
	wait_for 600 ended "$pid" || { not_ok "$name: fio ends"; kill -9 "$pid"; return; }
	if wait "$pid"; then ok "$name: no I/O error, no wrong data"; else
		not_ok "$name: no I/O error, no wrong data" "$(tail -n 20 "$TMP/fio")" "$(log_after "test $$ begins" | tail -n 20)"
	fi
	is "$(devno "$HEAD")" "$dev" "$name: the head is the same disk"
	check "$name: it has both paths" has_paths "$HEAD" "$(nvme_disk 1)" "$(nvme_disk 2)"
	is "$(hstate "$HEAD")" live "$name: it is live"
	count_is "$before" "$name: the reference count is what it was"
}

storm psync --ioengine=psync --numjobs=3 --verify_backlog=64
storm libaio --ioengine=libaio --iodepth=16 --numjobs=2 --verify_backlog=128
storm io_uring --ioengine=io_uring --iodepth=8 --numjobs=2 --bs=16k
storm "mixed sizes" --ioengine=libaio --iodepth=8 --numjobs=2 --bsrange=4k-256k --rw=write --verify_backlog=32

is "$(heads)" "$HEAD" "there is one head"
is "$(value "$(hattr "$HEAD" requeued)")" 0 "no I/O is left parked"
for p in $(paths "$HEAD"); do
	eventually 30 "$p has nothing in flight" reads "$(path_dir "$HEAD" "$p")/inflight" 0
done

done_testing
