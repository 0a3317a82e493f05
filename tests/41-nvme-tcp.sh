#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Paths over NVMe/TCP, on the loopback device: a head over two ports, verified I/O while the connection of one is lost,
# and the path's return.
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"

modprobe -n -q nvme-tcp && modprobe -n -q nvmet-tcp || skip_all "no nvme-tcp"
ip link set lo up 2>/dev/null || ifconfig lo up
nullb nbstore 32 && nvmet_up && nvmet_ns 1 /dev/nbstore "$NGUID1" || bail "nvmet cannot be set up"
modprobe nvme-tcp && modprobe nvmet-tcp || bail "nvme-tcp cannot be loaded"
wwid=$(eui "$NGUID1")

# tcp_listen PORT: lets the subsystem be reached there; tcp_mute PORT: ends that, and every connection through it.
tcp_listen() { ln -s "$NVMET/subsystems/$NQN" "$NVMET/ports/$1/subsystems/$NQN"; }
tcp_mute() { rm "$NVMET/ports/$1/subsystems/$NQN"; }
tcp_down() {
	local port c
	for c in /sys/class/nvme/nvme*; do
		[ ! -e "$c" ] || [ "$(value "$c/transport")" != tcp ] || echo 1 >"$c/delete_controller"
	done
	for port in 4420 4421; do
		rm -f "$NVMET/ports/$port/subsystems/$NQN"
		rmdir "$NVMET/ports/$port"
	done
}
defer tcp_down
for port in 4420 4421; do
	mkdir "$NVMET/ports/$port" && echo tcp >"$NVMET/ports/$port/addr_trtype" &&
		echo ipv4 >"$NVMET/ports/$port/addr_adrfam" && echo 127.0.0.1 >"$NVMET/ports/$port/addr_traddr" &&
		echo $port >"$NVMET/ports/$port/addr_trsvcid" && tcp_listen $port || bail "no port $port"
done

# tcp_disk PORT: the namespace's disk there.
tcp_disk() {
	local c d
	for c in /sys/class/nvme/nvme*; do
		[[ $(value "$c/address") = *"trsvcid=$1"* ]] || continue
		for d in "$c"/nvme*n*; do
			[ -b "/dev/${d##*/}" ] && echo "${d##*/}" && return 0
		done
	done
	return 1
}
tcp_connect() {
	nvme_new transport=tcp traddr=127.0.0.1 trsvcid="$1" nr_io_queues=1 reconnect_delay=1 ctrl_loss_tmo=2 &&
		wait_for 120 tcp_disk "$1" >/dev/null
}
head_is_there() { HEAD=$(head_of "$wwid"); }

rmpath_load auto_attach=2 delayed_removal_secs=300 || bail "the module does not load"
check "the first port is connected" tcp_connect 4420
eventually 60 "it makes a head" head_is_there
check "the second port is connected" tcp_connect 4421
first=$(tcp_disk 4420) second=$(tcp_disk 4421)
eventually 60 "it joins the head" has_paths "$HEAD" "$first" "$second"
eventually 60 "the head has a node" test -b "/dev/$HEAD"

reads_before=$(stat_of "$second" 1)
fio_verify "/dev/$HEAD" "${RMPATH_FIO_SECS:-20}" >"$TMP/fio" 2>&1 &
fio=$!
uses() { (($(stat_of "$1" 5) > 0)); }
eventually 60 "the first path is used" uses "$first"
eventually 60 "the second path is used" uses "$second"
check "the connection of the first is lost" tcp_mute 4420
eventually 120 "its controller goes, and the path with it" has_paths "$HEAD" "$second"
wait_for 300 ended $fio || not_ok "the I/O ends"
check "verified I/O goes on over the other" wait $fio
[ "$tap_failed" -eq 0 ] || diag "$(cat "$TMP/fio")"
is "$(sysio "open /dev/$HEAD ro" "read 0 4096")" OK "a read"
check "the second path has done it" test "$(stat_of "$second" 1)" -gt "$reads_before"
is "$(hstate "$HEAD")" live "the head is live"

check "the first port listens again" tcp_listen 4420
check "it is connected" tcp_connect 4420
first=$(tcp_disk 4420)
eventually 60 "the path is back" has_paths "$HEAD" "$first" "$second"
stat_start=$(stat_of "$first" 1)
uses_again() {
	sysio "open /dev/$HEAD ro" "read 0 4096" "read 4096 4096" "read 8192 4096" >/dev/null
	(($(stat_of "$first" 1) > stat_start + 1))
}
eventually 60 "and used" uses_again

# The last one goes, and one returns.
check "both are lost" tcp_mute 4420
check "at once" tcp_mute 4421
eventually 120 "the removal is pending" hstate_is "$HEAD" removal-pending
server r
tell r "open /dev/$HEAD ro"
is "$(answer r)" OK "the head can be opened"
tell r "read 0 4096"
is "$(answer r 1)" NOTHING "a read waits"
check "a port listens again" tcp_listen 4421
check "and is connected" tcp_connect 4421
is "$(answer r)" OK "the read is done"
eventually 60 "the head is live again" hstate_is "$HEAD" live
server_stop r
check "the head is removed" remove_head "$HEAD"
count_is 0 "all references are back"

done_testing
