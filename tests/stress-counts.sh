#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# What has to be done very often: each part until its number is reached or its time is up, and it says how far it came.
#
#   RMPATH_PARTS          which parts ("arm flaps reconnects reloads")
#   RMPATH_PART_SECS      the time of each (no limit)
#   RMPATH_RACES, RMPATH_FLAPS, RMPATH_RECONNECTS, RMPATH_RELOADS   the numbers (1000000, 100000, 1000, 10000)
# Time limit: 864000 s
. "$(dirname "$0")/lib.sh"

part_secs=${RMPATH_PART_SECS:-864000}
# Each refusal and each path is a line in the log, and each line on the console takes its time.
read -r level _ </proc/sys/kernel/printk
defer sh -c "echo $level >/proc/sys/kernel/printk"
echo 1 >/proc/sys/kernel/printk

# until_done NAME WANT STEP: carries out STEP, which adds what it did to $n, until that is WANT or the time is up.
until_done() {
	local start=$SECONDS beat=$SECONDS
	n=0
	while ((n < $2 && SECONDS - start < part_secs)); do
		"$3" || { not_ok "$1: $n of $2" "$3 failed"; return 1; }
		((SECONDS - beat < 60)) || { diag "$1: $n in $((SECONDS - start)) s"; beat=$SECONDS; }
	done
	((n > 0)) || { not_ok "$1: none of $2"; return 1; }
	ok "$1: $n of $2 in $((SECONDS - start)) s"
}

# Arming against disarming: the case of KUnit that has 10,000 races, which runs whenever the module is loaded.
part_arm() {
	local glob=/sys/module/kunit/parameters/filter_glob
	[ -e "$glob" ] || { skip "arm and disarm" "this kernel has no KUnit"; return; }
	# Without a newline, which would be a part of it.
	printf %s "rmpath_workqueue.ten_thousand_races*" >"$glob"
	until_done "arm and disarm" "${RMPATH_RACES:-1000000}" races
	echo none >"$glob"
}
races() {
	# What is cleared here, other readers of the log still see.
	dmesg -C
	rmpath_load auto_attach=0 && rmpath_unload && dmesg >"$TMP/races" && ! grep -q 'not ok' "$TMP/races" &&
		grep -q ' ok 1 ten_thousand_races' "$TMP/races" && n=$((n + 10000))
}

# One path of two goes and comes, the head stays.
part_flaps() {
	rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 && add_path "device=/dev/nba wwid=flap" &&
		add_path "device=/dev/nbb wwid=flap" || bail "no head"
	HEAD=$(head_of flap)
	settled_node "$HEAD"
	count_is 1 "one head, one reference"
	until_done "flaps" "${RMPATH_FLAPS:-100000}" flap
	check "both paths are there" has_paths "$HEAD" nba nbb
	count_is 1 "and no other reference"
	check "it goes" remove_head "$HEAD"
	rmpath_unload
	nullb_remove nba
	nullb_remove nbb
}
flap() { remove_path nbb && add_path "device=/dev/nbb wwid=flap" && n=$((n + 1)); }

# A controller of a head is disconnected and connected, under verified I/O.
part_reconnects() {
	rmpath_load auto_attach=2 && nvme_pair 64 || bail "no namespace"
	wait_for 120 head_of "$(eui "$NGUID1")" >/dev/null || bail "no head"
	HEAD=$(head_of "$(eui "$NGUID1")")
	settled_node "$HEAD"
	count_is 1 "one head, one reference"
	fio_verify "/dev/$HEAD" 864000 --ioengine=libaio --iodepth=4 >"$TMP/fio" 2>&1 &
	fio_pid=$!
	disown
	port=1
	until_done "reconnects" "${RMPATH_RECONNECTS:-1000}" reconnect
	refuse "the I/O went on all the time" ended "$fio_pid"
	pkill -INT -P "$fio_pid"
	kill -INT "$fio_pid"
	eventually 120 "and ends" ended "$fio_pid"
	eventually 120 "both paths are there" two_paths
	count_is 1 "and no other reference"
	check "it goes" remove_head "$HEAD"
	rmpath_unload
	# Or the next part's module makes a head of them.
	check "the controllers go" nvme_disconnect 1
	check "both" nvme_disconnect 2
}
two_paths() { has_paths "$HEAD" "$(nvme_disk 1)" "$(nvme_disk 2)"; }
reconnect() {
	nvme_disconnect "$port" && nvme_connect "$port" && wait_for 120 two_paths && n=$((n + 1)) || return 1
	port=$((3 - port))
}

# The module comes and goes, while the devices that it looks at do.
part_reloads() {
	modprobe null_blk nr_devices=0
	while sleep 0.01; do nullb nbr 16 && nullb_remove nbr; done 2>/dev/null &
	comer=$!
	disown
	nullb nba 16
	until_done "loads and unloads" "${RMPATH_RELOADS:-10000}" reload
	kill "$comer"
	wait_for 60 ended "$comer"
	refuse "the module is gone" loaded
	check "and its slabs with it" sh -c '! grep -q rmpath /proc/slabinfo'
}
reload() {
	rmpath_load "auto_attach=$((n % 3))" && add_path "device=/dev/nba wwid=reload" &&
		remove_head "$(head_of reload)" && rmpath_unload && n=$((n + 1))
}

for part in ${RMPATH_PARTS:-arm flaps reconnects reloads}; do
	part_"$part"
done

done_testing
