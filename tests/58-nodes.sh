#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A machine of two nodes: with numa each CPU uses the path that is near to it, and another one only when that is not as
# good any more; with io-affinity the paths that its table gives it.
. "$(dirname "$0")/lib.sh"

[ -d /sys/devices/system/node/node1 ] || skip_all "this machine has one node"
read -r cpu0 < <(cut -d- -f1 /sys/devices/system/node/node0/cpulist | cut -d, -f1)
read -r cpu1 < <(cut -d- -f1 /sys/devices/system/node/node1/cpulist | cut -d, -f1)

modprobe dm-mod
rmpath_load auto_attach=0 && nullb nba 16 home_node=0 && nullb nbb 16 home_node=1 || bail "no disks"
# The far one first: it is not the order that decides.
add_path "device=/dev/nbb wwid=n" && add_path "device=/dev/nba wwid=n" || bail "no head"
HEAD=$(head_of n)
settled_node "$HEAD" || bail "the head has no node"
A=$(path_dir "$HEAD" nba) B=$(path_dir "$HEAD" nbb)
for cpu in "$cpu0" "$cpu1"; do
	server "on$cpu"
	is "$(ask "on$cpu" "cpu $cpu")" OK "somebody runs on CPU $cpu"
done

# near NAME WHERE0 WHERE1: how many of ten reads from the one node, and from the other, go to each path.
near() {
	is "$(counted_reads "on$cpu0" 10 nba nbb), $(counted_reads "on$cpu1" 10 nba nbb)" "OK $2, OK $3" "$1"
}
open_both() {
	is "$(ask "on$cpu0" "open /dev/$1 ro") $(ask "on$cpu1" "open /dev/$1 ro")" "OK OK" "$1 is open on both"
}
nodes() { echo "$(value "$A/numa_nodes") $(value "$B/numa_nodes")"; }
open_both "$HEAD"
attr "$(hattr "$HEAD" iopolicy)" numa >/dev/null
near "each node uses its own path" "10 0" "0 10"
is "$(nodes)" "0 1" "which numa_nodes shows"
attr "$A/state" non-optimized >/dev/null
near "the far one, if that is better" "0 10" "0 10"
is "$(value "$B/numa_nodes")" "0-1" "which numa_nodes shows"
attr "$A/state" optimized >/dev/null
near "and the near one again" "10 0" "0 10"
attr "$B/state" failed >/dev/null
near "the far one, if the near one has failed" "10 0" "10 0"
attr "$B/state" optimized >/dev/null
check "a path leaves" remove_path nba
near "the far one, if the near one has left" "0 10" "0 10"
check "it returns" add_path "device=/dev/nba wwid=n"
A=$(path_dir "$HEAD" nba)
near "and is used by its own node" "10 0" "0 10"
is "$(nodes)" "0 1" "which numa_nodes shows"
attr "$(hattr "$HEAD" iopolicy)" round-robin >/dev/null
near "round-robin does not care" "5 5" "5 5"
ask "on$cpu0" close >/dev/null
ask "on$cpu1" close >/dev/null
check "the head goes" remove_head "$HEAD"

# Masks are hexadecimal.
printf -v mask0 %x $((1 << cpu0))
printf -v mask1 %x $((1 << cpu1))
dm_make rmt-near "0 32768 rmpath 0 0 1 1 io-affinity 0 2 1 /dev/nba $mask0 /dev/nbb $mask1" || bail "no map"
map=$(dm_node rmt-near)
open_both "${map##*/}"
near "io-affinity: each CPU has its path" "10 0" "0 10"
dmset message rmt-near 0 fail_path /dev/nba
near "and the other's, when that has failed" "0 10" "0 10"
dmset message rmt-near 0 reinstate_path /dev/nba
near "until it is reinstated" "10 0" "0 10"
ask "on$cpu0" close >/dev/null
ask "on$cpu1" close >/dev/null
check "the map goes" dmset remove --retry rmt-near
done_testing
