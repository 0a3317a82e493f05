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

# churn WHAT COUNT ARG...: does it so often, or until the time is up, and says how far it came.
churn() { relay "$TESTS/churn.py" "$1" "$2" "$part_secs" "${@:3}"; }

# Arming against disarming: the case of KUnit that has 10,000 races, which runs whenever the module is loaded.
part_arm() {
	local want=${RMPATH_RACES:-1000000} n=0 start=$SECONDS beat=$SECONDS
	kunit_runs "rmpath_workqueue.ten_thousand_races*" || { skip "arm and disarm" "this kernel has no KUnit"; return; }
	while ((n < want && SECONDS - start < part_secs)); do
		races || { not_ok "arm and disarm: $n of $want" "$(tail -n 20 "$TMP/races")"; break; }
		n=$((n + 10000))
		((SECONDS - beat < 60)) || { diag "arm and disarm: $n in $((SECONDS - start)) s"; beat=$SECONDS; }
	done
	((n == 0)) || ok "arm and disarm: $n of $want in $((SECONDS - start)) s"
	kunit_runs none
}
races() {
	# What is cleared here, other readers of the log still see.
	dmesg -C
	rmpath_load auto_attach=0 && rmpath_unload && dmesg >"$TMP/races" && ! grep -q 'not ok' "$TMP/races" &&
		grep -q ' ok 1 ten_thousand_races' "$TMP/races"
}

# One path of two goes and comes, the head stays. Several heads, for all wait for grace periods.
part_flaps() {
	local i flaps=()
	rmpath_load auto_attach=0 || bail "the module does not load"
	for ((i = 0; i < 6; i++)); do
		nullb "nba$i" 16 && nullb "nbb$i" 16 && add_path "device=/dev/nba$i wwid=flap$i" &&
			add_path "device=/dev/nbb$i wwid=flap$i" || bail "no head"
		settled_node "$(head_of "flap$i")"
		flaps+=("flap$i=nbb$i")
	done
	count_is 6 "one head, one reference"
	churn flaps "${RMPATH_FLAPS:-100000}" "${flaps[@]}"
	for ((i = 0; i < 6; i++)); do
		HEAD=$(head_of "flap$i")
		check "both paths of head $i are there" has_paths "$HEAD" "nba$i" "nbb$i"
	done
	count_is 6 "and no other reference"
	for ((i = 0; i < 6; i++)); do
		check "head $i goes" remove_head "$(head_of "flap$i")"
		nullb_remove "nba$i"
		nullb_remove "nbb$i"
	done
	rmpath_unload
}

# Controllers of a head are disconnected and connected, under verified I/O, which one more carries on.
part_reconnects() {
	local port ports=(1 2 3 4) disks=()
	rmpath_load auto_attach=2 && nvme_pair 64 && nvmet_port 3 && nvmet_port 4 && nvmet_port 5 && nvme_connect 3 &&
		nvme_connect 4 && nvme_connect 5 || bail "no namespace"
	wait_for 120 head_of "$(eui "$NGUID1")" >/dev/null || bail "no head"
	HEAD=$(head_of "$(eui "$NGUID1")")
	settled_node "$HEAD"
	count_is 1 "one head, one reference"
	fio_verify "/dev/$HEAD" 864000 --ioengine=libaio --iodepth=4 >"$TMP/fio" 2>&1 &
	fio_pid=$!
	disown
	churn reconnects "${RMPATH_RECONNECTS:-1000}" "$HEAD" "${ports[@]}"
	refuse "the I/O went on all the time" ended "$fio_pid"
	pkill -INT -P "$fio_pid"
	kill -INT "$fio_pid"
	eventually 120 "and ends" ended "$fio_pid"
	is "$(awk -F ';' '/^3;/ {print $5}' "$TMP/fio")" 0 "without an error"
	for port in "${ports[@]}" 5; do disks+=("$(nvme_disk "$port")"); done
	check "all paths are there" has_paths "$HEAD" "${disks[@]}"
	count_is 1 "and no other reference"
	check "it goes" remove_head "$HEAD"
	rmpath_unload
	# Or the next part's module makes a head of them.
	for port in "${ports[@]}" 5; do check "controller $port goes" nvme_disconnect "$port"; done
}

# The module comes and goes, while the devices that it looks at do.
part_reloads() {
	kunit_runs none
	# A load and an unload wait for a dozen of them, one after the other.
	echo 1 >/sys/kernel/rcu_expedited
	defer sh -c "echo 0 >/sys/kernel/rcu_expedited"
	modprobe null_blk nr_devices=0
	nullb nba 16
	cp "$RMPATH_KO" "$TMP/rmpath.ko"
	churn reloads "${RMPATH_RELOADS:-10000}" "$TMP/rmpath.ko" nba nbr
	refuse "the module is gone" loaded
	check "and its slabs with it" sh -c '! grep -q rmpath /proc/slabinfo'
}

for part in ${RMPATH_PARTS:-arm flaps reconnects reloads}; do
	part_"$part"
done

done_testing
