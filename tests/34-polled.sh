#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Polled I/O: a head polls if its paths do, through retries, with a path that cannot be polled, and while paths come and
# go under it.
. "$(dirname "$0")/lib.sh"
fio --enghelp=io_uring >/dev/null 2>&1 || skip_all "fio has no io_uring"

# Not memory backed: null_blk then sleeps where it is polled.
for n in 1 2; do nullb nbpoll$n 64 memory_backed=0 poll_queues=1 submit_queues=1; done &&
	nullb nbirq 64 memory_backed=0 poll_queues=0 ||
	bail "null_blk cannot be set up"
rmpath_load || bail "the module does not load"
queue() { value "/sys/block/$1/queue/$2"; }
join() { add_path "device=/dev/$1 wwid=poll"; }
join nbirq || bail "no head"
HEAD=$(head_of poll)
is "$(queue nbirq io_poll) $(queue nbpoll1 io_poll)" "0 1" "one disk can be polled and one cannot"
is "$(queue "$HEAD" io_poll)" 0 "a head over the latter cannot"
remove_head "$HEAD"
join nbpoll1 && join nbpoll2 || bail "no head"
HEAD=$(head_of poll)
is "$(queue "$HEAD" io_poll)" 1 "one over the former can"

# polled NAME [ARG...]: no error. These disks have their own data each, so that nothing is verified.
polled() {
	local name=$1
	shift
	if within 300 fio --name=polled --filename="/dev/$HEAD" --direct=1 --ioengine=io_uring --hipri=1 --iodepth=8 \
		--numjobs=2 --size=16m --bs=4k --rw=randrw --minimal --group_reporting "$@" >"$TMP/fio" 2>&1; then
		ok "$name"
	else
		not_ok "$name" "$(tail -n 20 "$TMP/fio")"
	fi
}
ios() { echo $(($(stat_of "$1" 1) + $(stat_of "$1" 5))); }
uring=$(value /proc/sys/kernel/io_uring_disabled)
[ "$uring" = none ] || echo 0 >/proc/sys/kernel/io_uring_disabled
before=$(ios nbpoll1)
polled "reads and writes end" --io_size=4m
refuse "and went by the paths" test "$(ios nbpoll1)" = "$before"
quiet() { local r w; read -r r w <"/sys/block/$HEAD/inflight"; [ "$r $w" = "0 0" ]; }
check "nothing is in flight" quiet

# What is in a queue for polling ends when it is polled, at once; anything else takes half a second here.
nullb nbslow 64 memory_backed=0 poll_queues=1 submit_queues=1 irqmode=2 completion_nsec=500000000 || bail "no slow disk"
add_path "device=/dev/nbslow wwid=slow" || bail "no slow head"
# took N ARG...: how long N reads of it take, in milliseconds.
took() {
	fio --name=took --filename="/dev/$(head_of slow)" --direct=1 --ioengine=io_uring --iodepth=1 --bs=4k --rw=randread \
		--size=16m --number_ios="$1" --minimal "${@:2}" 2>"$TMP/fio" | cut -d ';' -f 9
}
ms=$(took 4)
if [ "${ms:-0}" -ge 1500 ]; then ok "four reads that are not polled take $ms ms"; else not_ok "four reads take ${ms:-?} ms" "$(cat "$TMP/fio")"; fi
ms=$(took 60 --hipri=1)
if [ "${ms:-99999}" -le 15000 ]; then ok "sixty that are polled take $ms ms, not 30,000"; else not_ok "sixty polled reads take ${ms:-?} ms" "$(cat "$TMP/fio")"; fi
check "the slow head goes" remove_head "$(head_of slow)"

# Some have to be sent again.
if [ -e "$(inject_file nbpoll1)" ]; then
	inject nbpoll1 READ IOERR chance=4
	inject nbpoll1 WRITE RESOURCE chance=64
	polled "also when some fail on one path" --io_size=2m
	like "$(value "$(path_dir "$HEAD" nbpoll1)/failures")" '^[0-9]+$' "the path counts"
	inject_none nbpoll1
	echo optimized >"$(path_dir "$HEAD" nbpoll1)/state"
else
	skip "polled I/O that fails" "no error injection in this kernel"
fi

# One of the paths cannot be polled, and comes and goes.
join nbirq || bail "no third path"
is "$(queue "$HEAD" io_poll)" 1 "with a path that cannot be polled the head still can"
polled "and I/O ends" --io_size=2m
before=$(ios nbirq)
fio --name=polled --filename="/dev/$HEAD" --direct=1 --ioengine=io_uring --hipri=1 --iodepth=8 --numjobs=2 --size=16m \
	--bs=4k --rw=randrw --minimal --time_based --runtime=15 --group_reporting >"$TMP/fio" 2>&1 &
fio_pid=$!
rounds=0
while ! ended $fio_pid; do
	remove_path nbirq
	remove_path nbpoll2
	join nbirq
	join nbpoll2
	rounds=$((rounds + 1))
done
if wait $fio_pid; then ok "I/O ends while paths come and go ($rounds times)"; else
	not_ok "I/O ends while paths come and go ($rounds times)" "$(tail -n 20 "$TMP/fio")"
fi
check "nothing is in flight at the end" quiet

done_testing
