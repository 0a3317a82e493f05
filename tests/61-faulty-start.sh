#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Faults while something begins: all I/O of a device fails that becomes the first path of a head or another one, by hand
# or by itself, that a table names, or that is closed; and allocations fail while the module is loaded. What was begun
# works without that path, or goes and leaves nothing behind.
#
# RMPATH_LOADS  how often the module is loaded, with an allocation that fails (20)
# RMPATH_SEED   which (the time)
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"

fail=/sys/kernel/debug/fail_make_request
[ -d $fail ] || skip_all "this kernel has no CONFIG_FAIL_MAKE_REQUEST"
[ -e /proc/self/fail-nth ] || skip_all "this kernel has no CONFIG_FAULT_INJECTION"
RANDOM=${RMPATH_SEED:=$EPOCHSECONDS}
diag "RMPATH_SEED=$RMPATH_SEED"
defer sh -c "echo 0 >$fail/probability"
for setting in interval=1 verbose=0 times=-1 task-filter=N probability=100; do
	echo "${setting#*=}" >"$fail/${setting%=*}"
done
fails() { echo 1 >"/sys/block/$1/make-it-fail"; }
works() { echo 0 >"/sys/block/$1/make-it-fail"; }
free_disk() { [ "$(sysio "open /dev/$1 excl")" = OK ]; }

rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 cache_size=1 || bail "no paths"

# The first path. The look for partitions finds out.
fails nba
check "a device that fails all I/O makes a head" add_path "device=/dev/nba wwid=faulty"
HEAD=$(head_of faulty)
eventually 60 "its path fails" pstate_is "$HEAD" nba failed
check "the head can be removed all the same" remove_head "$HEAD"
count_is 0 "with its reference"
eventually 60 "nothing holds the device" free_disk nba

# The same, and another one that works comes to its help.
check "a device that fails all I/O makes a head" add_path "device=/dev/nba wwid=faulty"
HEAD=$(head_of faulty)
settled_node "$HEAD"
eventually 60 "its path fails" pstate_is "$HEAD" nba failed
check "another one joins" add_path "device=/dev/nbb wwid=faulty"
is "$(sysio "open /dev/$HEAD" "write 0 4096 1" "verify 0 4096 1")" OK "the head works"
is "$(pstate "$HEAD" nba)" failed "without the first"
check "which is taken away" remove_path nba
works nba

# One that fails joins under I/O.
fio_verify "/dev/$HEAD" $((5 * PATIENCE)) --ioengine=libaio --iodepth=4 >"$TMP/fio" 2>&1 &
fio_pid=$!
fails nba
came=0 trouble=''
found_out() { pstate_is "$HEAD" nba failed || ended "$fio_pid"; }
while ! ended $fio_pid; do
	add_path "device=/dev/nba wwid=faulty" && wait_for 60 found_out || { trouble="it does not join"; break; }
	! pstate_is "$HEAD" nba failed || came=$((came + 1))
	remove_path nba || { trouble="it does not leave"; break; }
done
is "$trouble" "" "a path that fails joins and leaves, over and over"
wait $fio_pid
is "$?" 0 "I/O notices nothing of paths that join and fail"
check "there were some" test $came -gt 0
diag "$came"
count_is 1 "one head, one reference"

# The last one is closed, and cannot write back its cache.
is "$(sysio "open /dev/$HEAD buffered" "write 4096 4096 2")" OK "something is written"
fails nbb
check "its path is taken away" remove_path nbb
eventually 60 "the head goes" gone "/sys/block/$HEAD"
count_is 0 "with its reference"
eventually 60 "nothing holds the device" free_disk nbb

# Now and then.
echo 50 >$fail/probability
lost=0
for ((i = 0; i < 10; i++)); do
	add_path "device=/dev/nba wwid=faulty" && add_path "device=/dev/nbb wwid=faulty" &&
		remove_head "$(head_of faulty)" || { lost=1; break; }
done
is $lost 0 "heads come and go of devices that fail half of the time"
count_is 0 "no reference is left"

# A table.
echo 100 >$fail/probability
modprobe dm-mod
check "a map of devices that fail" dm_make rmt-f "0 $(sectors nba) rmpath 0 0 1 1 round-robin 0 2 0 /dev/nba /dev/nbb"
is "$(sysio "open $(dm_node rmt-f) ro" "read 0 4096")" EIO "gives errors"
like "$(dmset status rmt-f)" ' F 1 .* F 1' "both paths have failed"
check "it goes" dmset remove --retry rmt-f
count_is 0 "with its reference"
works nba
works nbb
rmpath_unload

# Namespaces that are there when the module comes.
nvme_pair 64 || bail "no namespace"
fails "$DISK1"
fails "$DISK2"
rmpath_load auto_attach=2
wwid=$(eui "$NGUID1")
formed() { head_of "$wwid" >/dev/null; }
eventually 120 "namespaces that fail make a head" formed
HEAD=$(head_of "$wwid")
eventually 120 "of both" has_paths "$HEAD" "$DISK1" "$DISK2"
for d in "$DISK1" "$DISK2"; do works "$d"; done
echo 1 >"$(hattr "$HEAD" probe_secs)"
settled_node "$HEAD"
is "$(sysio "open /dev/$HEAD" "write 0 4096 3" "verify 0 4096 3")" OK "which works when they do"
check "it goes" remove_head "$HEAD"
count_is 0 "with its reference"
rmpath_unload
for p in 1 2; do check "controller $p goes" nvme_disconnect $p; done

# The module itself. Its own allocations lie behind those of the loader, which a parameter that is refused counts.
kunit_runs none
for kind in failslab fail_page_alloc; do
	echo N >/sys/kernel/debug/$kind/ignore-gfp-wait
	echo 0 >/sys/kernel/debug/$kind/verbose
done
quick "failload 1000000 $RMPATH_KO auto_attach=9"
like "$reply" '^EINVAL [0-9]+ UNTOUCHED$' "a parameter is refused"
first=$(cut -d ' ' -f 2 <<<"$reply")
quick "failload 1000000 $RMPATH_KO auto_attach=0"
all=$(cut -d ' ' -f 2 <<<"$reply")
like "$reply" '^OK [0-9]+ UNTOUCHED$' "the module is loaded"
is "$(ask sys unload)" OK "and unloaded"
before=$(ls -d /sys/class/rmpath /sys/kernel/debug/rmpath /sys/module/rmpath 2>/dev/null)
refused=0 taken=0 trouble=''
for ((i = 0; i < ${RMPATH_LOADS:-20}; i++)); do
	n=$((first + RANDOM % (all - first)))
	quick "failload $n $RMPATH_KO auto_attach=0"
	case $reply in
	OK*)
		taken=$((taken + 1))
		rmpath_unload || { trouble="$n: it stays"; break; }
		;;
	ENOMEM | EAGAIN) refused=$((refused + 1)) ;;
	*) trouble="$n: $reply"; break ;;
	esac
	[ "$before" = "$(ls -d /sys/class/rmpath /sys/kernel/debug/rmpath /sys/module/rmpath 2>/dev/null)" ] ||
		{ trouble="$n: something is left"; break; }
done
is "$trouble" "" "it is loaded or not, and nothing is left"
diag "of $first to $all allocations: $refused refusals, $taken loads"
check "there were refusals" test $refused -gt 0

done_testing
