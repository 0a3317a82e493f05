# SPDX-License-Identifier: GPL-2.0
# Devices to make paths from, for lib.sh: null_blk, an NVMe namespace behind two loop ports, two SCSI disks with
# one store, device-mapper maps. What is made here is taken down by devices_release and devices_down.
# shellcheck shell=bash

CONFIGFS=/sys/kernel/config
mountpoint -q $CONFIGFS || mount -t configfs none $CONFIGFS
mountpoint -q /sys/kernel/debug || mount -t debugfs none /sys/kernel/debug

sectors() { value "/sys/block/$1/size"; }
settled_node() { wait_for 60 test -b "/dev/$1"; }

# --- null_blk ----------------------------------------------------------------------------------------------------------

# nullb NAME SIZE_MB [ATTR=VALUE...]: a memory backed disk /dev/NAME.
nullb() {
	local dir=$CONFIGFS/nullb/$1 name=$1 setting
	[ -d $CONFIGFS/nullb ] || modprobe null_blk nr_devices=0 || return 1
	mkdir "$dir" || return 1
	for setting in size="$2" memory_backed=1 "${@:3}"; do
		echo "${setting#*=}" >"$dir/${setting%%=*}" || return 1
	done
	echo 1 >"$dir/power" && settled_node "$name"
}

nullb_remove() { echo 0 >"$CONFIGFS/nullb/$1/power"; rmdir "$CONFIGFS/nullb/$1"; }

# --- NVMe over nvmet's loop transport -------------------------------------------------------------------------------------

NVMET=$CONFIGFS/nvmet
NQN=nqn.2014-08.org.rmpath:test
NGUID1=10000000-0000-4000-8000-00000000000a
# shellcheck disable=SC2034 # the tests use it
NGUID2=20000000-0000-4000-8000-00000000000b

eui() { echo "eui.${1//-/}"; }

# nvmet_up: a subsystem that the loop ports 1 and 2 lead to. Path disks need nvme_core's own multipathing off; its time
# limit is for tests that keep I/O in flight.
nvmet_up() {
	if reads /sys/module/nvme_core/parameters/multipath Y; then
		modprobe -r nvme-loop nvme-tcp nvme nvme-fabrics nvme-core || return 1
	fi
	modprobe nvme-core multipath=N && modprobe nvmet && modprobe nvme-loop || return 1
	echo 240 >/sys/module/nvme_core/parameters/io_timeout
	mkdir "$NVMET/subsystems/$NQN" || return 1
	echo 1 >"$NVMET/subsystems/$NQN/attr_allow_any_host"
	nvmet_port 1 && nvmet_port 2
}

# nvmet_port PORT: one more.
nvmet_port() {
	mkdir "$NVMET/ports/$1" || return 1
	echo loop >"$NVMET/ports/$1/addr_trtype"
	echo "$1" >"$NVMET/ports/$1/addr_traddr"
	ln -s "$NVMET/subsystems/$NQN" "$NVMET/ports/$1/subsystems/$NQN"
}

# nvmet_ns NSID DEVICE NGUID
nvmet_ns() {
	local dir=$NVMET/subsystems/$NQN/namespaces/$1
	mkdir "$dir" && echo "$2" >"$dir/device_path" && echo "$3" >"$dir/device_nguid" && echo 1 >"$dir/enable"
}

nvmet_ns_remove() {
	local dir=$NVMET/subsystems/$NQN/namespaces/$1
	echo 0 >"$dir/enable"
	rmdir "$dir"
}

# nvme_ctrl PORT: the controller that is connected through this port.
nvme_ctrl() {
	local c
	for c in /sys/class/nvme/nvme*; do
		reads "$c/address" "traddr=$1" && reads "$c/subsysnqn" "$NQN" && echo "${c##*/}" && return 0
	done
	return 1
}

# nvme_disk PORT [NSID]: the disk of that namespace there.
nvme_disk() {
	local c d
	c=$(nvme_ctrl "$1") || return 1
	for d in /sys/class/nvme/"$c"/nvme*; do
		reads "$d/nsid" "${2:-1}" && echo "${d##*/}" && return 0
	done
	return 1
}

# Its node comes before it can be opened.
opens() { { : <"$1"; } 2>/dev/null; }
nvme_ready() { opens "/dev/$(nvme_disk "$1" "${2:-1}")"; }

# nvme_new OPTION...: connects with these. A VM that is stalled for seconds is no reason for nvmet to give a host up.
nvme_new() { local IFS=,; echo "nqn=$NQN,keep_alive_tmo=120,$*" >/dev/nvme-fabrics; }

# nvme_connect PORT [NSID]: connects, and waits for the namespace's disk. Limits here and below are for two CPUs that are
# emulated and busy with I/O: connecting and disconnecting wait for a dozen grace periods.
nvme_connect() {
	nvme_new transport=loop traddr="$1" || return 1
	wait_for 300 nvme_ready "$1" "${2:-1}"
}

nvme_disconnect() {
	local c
	c=$(nvme_ctrl "$1") || return 1
	within 300 sh -c "echo 1 >/sys/class/nvme/$c/delete_controller" && wait_for 300 gone "/sys/class/nvme/$c"
}

# nvme_pair [SIZE_MB]: the usual set-up, one namespace reached through both ports; its disks are $DISK1 and $DISK2.
nvme_pair() {
	nullb nbstore "${1:-64}" discard=1 cache_size=1 &&
		nvmet_up && nvmet_ns 1 /dev/nbstore "$NGUID1" &&
		nvme_connect 1 && nvme_connect 2 || return 1
	DISK1=$(nvme_disk 1) DISK2=$(nvme_disk 2)
}

# nvme_head: the pair's head, made by hand from both; the module is loaded. Prints nothing, sets $HEAD.
nvme_head() {
	add_path "device=/dev/$DISK1" || return 1
	has_path "$(head_of "$(eui "$NGUID1")")" "$DISK2" || add_path "device=/dev/$DISK2" 2>/dev/null
	HEAD=$(head_of "$(eui "$NGUID1")") || return 1
	wait_for 60 has_path "$HEAD" "$DISK2" && settled_node "$HEAD"
}

# --- SCSI ---------------------------------------------------------------------------------------------------------------

# sdebug_disks: the disks of scsi_debug, ordered by host.
sdebug_disks() {
	local d
	for d in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
		[ ! -e "$d" ] || echo "${d##*/}"
	done
}
# sdebug_host N: the Nth adapter's SCSI host; sdebug_disk N: its disk.
sdebug_host() { local h; h=$(echo /sys/bus/pseudo/drivers/scsi_debug/adapter"$1"/host*); echo "${h##*/}"; }
sdebug_disk() { local d; d=$(echo /sys/bus/pseudo/drivers/scsi_debug/adapter"$1"/host*/target*/*/block/*); echo "${d##*/}"; }
sdebug_count_is() { [ "$(sdebug_disks | grep -c .)" = "$1" ]; }

# sdebug_unload: for a moment somebody else may have a disk open.
sdebug_unload() { wait_for 120 modprobe -r -q scsi_debug; }

# sdebug N [PARAM=VALUE...]: N hosts whose disks share one store and one NAA identity: N real paths to one disk.
sdebug() {
	modprobe sd_mod
	# Or what it is asked for here would count for nothing.
	[ ! -d /sys/module/scsi_debug ] || sdebug_unload || return 1
	modprobe scsi_debug add_host="$1" per_host_store=0 vpd_use_hostno=0 dev_size_mb=32 delay=0 lbpu=1 "${@:2}" ||
		return 1
	wait_for 120 sdebug_count_is "$1"
}

# sdebug_paths: loads the module; $a and $b are two SCSI disks with one identity.
sdebug_paths() {
	rmpath_load auto_attach=0 && sdebug 2 || bail "no paths"
	a=$(sdebug_disk 0) b=$(sdebug_disk 1)
}
# sdebug_head: the head of these, $HEAD, and the folders of its paths, $A and $B.
# shellcheck disable=SC2034 # the tests use them
sdebug_head() {
	add_path "device=/dev/$a" && add_path "device=/dev/$b" || bail "no head can be made"
	HEAD=$(heads)
	settled_node "$HEAD" || bail "the head has no node"
	A=$(path_dir "$HEAD" "$a") B=$(path_dir "$HEAD" "$b")
}

# --- Device mapper --------------------------------------------------------------------------------------------------------

dmset() { dmsetup --noudevsync "$@"; }
# dm_node MAP: devtmpfs has /dev/dm-N whether or not udev makes /dev/mapper.
dm_node() { echo "/dev/dm-$(dmset info -c --noheadings -o minor "$1" | tr -d ' ')"; }
devno() { value "/sys/block/$1/dev"; }

# dm_errno ARG...: runs dmsetup, prints OK or the errno's name.
dm_errno() {
	local out
	if out=$(dmset "$@" 2>&1); then
		echo OK
		return
	fi
	case $out in
	*'Invalid argument'*) echo EINVAL ;;
	*'No such device or address'*) echo ENXIO ;;
	*'No such device'*) echo ENODEV ;;
	*'No such file or directory'*) echo ENOENT ;;
	*'resource busy'*) echo EBUSY ;;
	*'Block device required'*) echo ENOTBLK ;;
	*'Operation not supported'*) echo EOPNOTSUPP ;;
	*) echo "$out" ;;
	esac
}
# dm_multipath_unload: dm-multipath, and its selectors, which hold it. (modprobe would take dm-mod away too.)
dm_multipath_unload() {
	local m
	for m in dm_round_robin dm_queue_length dm_service_time dm_historical_service_time dm_io_affinity dm_multipath; do
		[ ! -d /sys/module/$m ] || rmmod $m
	done
}
# dm_make MAP TABLE
dm_make() { dmset create "$1" --table "$2" && wait_for 60 test -b "$(dm_node "$1")"; }

# --- Errors on demand -------------------------------------------------------------------------------------------------------

inject_file() { echo "/sys/kernel/debug/block/$1/error_injection"; }
# inject DISK OP STATUS [MORE]: e.g. inject sda READ TRANSPORT chance=2
inject() { echo "add,op=$2,status=$3${4:+,$4}" >"$(inject_file "$1")"; }
inject_none() { echo removeall >"$(inject_file "$1")"; }

# protected_file DISK PATH: a file system on that disk that makes protection information itself; the path loses every other
# bio of it for a while.
protected_file() {
	local file=$TMP/mnt/file
	modprobe xfs
	mkdir -p "$TMP/mnt"
	if ! mkfs.xfs --unsupported -q -f "$1" >"$TMP/mkfs" 2>&1 || ! mount "$1" "$TMP/mnt"; then
		skip "a file system with protection information" "$(tail -n 1 "$TMP/mkfs")"
		return
	fi
	: >"$file"
	is "$(sysio "open $file" "write 0 1048576 4" fsync "verify 0 1048576 4" "verify 0 1048576 4")" OK \
		"a file is written and read"
	if [ -e "$(inject_file "$2")" ]; then
		inject "$2" WRITE RESOURCE chance=2
		inject "$2" READ IOERR chance=2
		is "$(sysio "open $file" "write 0 1048576 5" fsync "verify 0 1048576 5" "verify 0 1048576 5")" OK \
			"and again while bios have to be sent again"
		inject_none "$2"
	else
		skip "bios that are sent again" "no error injection in this kernel"
	fi
	check "unmounted" umount "$TMP/mnt"
}

# --- fio ---------------------------------------------------------------------------------------------------------------------

# fio_verify FILE SECS [ARG...]: writes with checksums and reads them back for so long; any error ends it. (With a time
# limit but without a backlog fio would only write.)
fio_verify() {
	fio --name=verify --filename="$1" --direct=1 --rw=randwrite --bs=4k --size=4m --offset_increment=4m \
		--verify=crc32c --verify_backlog=32 --verify_fatal=1 --time_based --runtime="$2" --minimal \
		--group_reporting "${@:3}"
}

# --- Down again ----------------------------------------------------------------------------------------------------------------

# devices_release: nothing of ours uses the module any more.
devices_release() {
	local m h
	for m in $(awk -v dir="$TMP/" 'index($2, dir) == 1 {print $2}' /proc/mounts | tac); do
		within 120 umount "$m" || diag "cannot unmount $m"
	done
	# Those that a device of ours stands on can go only after that.
	maps_remove
	for h in $(heads); do
		within 120 remove_head "$h" || diag "cannot remove $h"
	done
}

# maps_remove: all that can be removed; fails if some are left.
maps_remove() {
	local m rc=0
	for m in $(dmsetup ls 2>/dev/null | awk '/^rmt-/ {print $1}'); do
		within 120 dmsetup --noudevsync remove --force --retry "$m" >/dev/null 2>&1 || rc=1
	done
	return $rc
}

# devices_down: the devices themselves.
devices_down() {
	local d port
	for port in {1..9}; do
		nvme_ctrl "$port" >/dev/null && { nvme_disconnect "$port" || diag "cannot disconnect port $port"; }
	done
	if [ -d "$NVMET/subsystems/$NQN" ]; then
		rm -f "$NVMET"/ports/[1-9]/subsystems/"$NQN"
		for d in "$NVMET/subsystems/$NQN"/namespaces/*; do
			[ -d "$d" ] && nvmet_ns_remove "$(basename "$d")"
		done
		rmdir "$NVMET"/ports/[1-9] "$NVMET/subsystems/$NQN" 2>/dev/null
	fi
	[ ! -d /sys/module/scsi_debug ] || within 300 sdebug_unload || diag "cannot remove scsi_debug"
	maps_remove || diag "cannot remove all maps"
	for d in "$CONFIGFS"/nullb/nb*; do
		[ -d "$d" ] && nullb_remove "$(basename "$d")"
	done
}
