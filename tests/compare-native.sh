#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# compare-native.sh native|rmpath: the sequences of events in which native NVMe multipath of Linux 7.2 goes wrong, on the
# one or the other, in the VM (scripts/compare-native.sh runs both, and says what is compared). Prints a line for each
# thing that is looked at: a name, and what came of it.
#
# Both have the same namespace behind two loop ports, on a map whose reads can be made to hang.
. "$(dirname "$0")/lib.sh"

system=${1:-}
[ "$system" = native ] || [ "$system" = rmpath ] || bail "native or rmpath?"
# The native part leaves what cannot be taken down: the VM ends with it.
trap - EXIT
say() { printf '%s\t%s\n' "$1" "$2"; }
# stop WHAT...: a step that is no part of the comparison has gone wrong.
stop() { say error "$*"; dmesg | tail -n 40; exit 1; }
must() { "$@" || stop "$*"; }
# soon SECS CMD...
soon() { wait_for "$@" || stop "not within $1 s: ${*:2}"; }

modprobe dm-mod && modprobe dm-delay && modprobe nvmet || stop "no modules"
modprobe -r nvme-loop nvme-tcp nvme nvme-fabrics nvme-core 2>/dev/null
if [ "$system" = native ]; then
	modprobe nvme-core multipath=Y io_timeout=240 && modprobe nvme-loop || stop "no nvme"
	counter=/sys/module/nvme_core/refcnt
else
	modprobe nvme-core multipath=N io_timeout=240 && modprobe nvme-loop || stop "no nvme"
	rmpath_load auto_attach=2 || stop "no rmpath"
	counter=/sys/module/rmpath/refcnt
fi

# --- The namespace -----------------------------------------------------------------------------------------------------

# slow MS: how long a read of the upper half takes. Those that wait already are let go.
slow() {
	dmset load rmt-slow <<-EOT && dmset suspend --noflush rmt-slow && dmset resume rmt-slow
		0 32768 linear /dev/nbstore 0
		32768 32768 delay /dev/nbstore 32768 $1
	EOT
}
must nullb nbstore 32
must dmset create rmt-slow --notable
must slow 0
below=$(basename "$(dm_node rmt-slow)")
# A read hangs in the path. (dm-delay does not count as in flight what it holds back.)
read_hangs() { local reads; read -r reads _ <"/sys/block/$first/inflight"; [ "$reads" = 1 ]; }
mkdir "$NVMET/subsystems/$NQN" && echo 1 >"$NVMET/subsystems/$NQN/attr_allow_any_host"
for port in 1 2; do
	mkdir "$NVMET/ports/$port" && echo loop >"$NVMET/ports/$port/addr_trtype" &&
		echo $port >"$NVMET/ports/$port/addr_traddr" &&
		ln -s "$NVMET/subsystems/$NQN" "$NVMET/ports/$port/subsystems/$NQN" || stop "port $port"
done
must nvmet_ns 1 "/dev/$below" "$NGUID1"
namespace=$NVMET/subsystems/$NQN/namespaces/1

# --- The same words for both ---------------------------------------------------------------------------------------------

# disks: all that show the namespace to users.
disks() {
	local d
	if [ "$system" = rmpath ]; then
		for d in $(heads); do reads "$(hattr "$d" wwid)" "$(eui "$NGUID1")" && echo "$d"; done
	else
		for d in /sys/block/nvme*; do reads "$d/nguid" "$NGUID1" && echo "${d##*/}"; done
	fi
}
nr_disks() { disks | grep -c .; }
# path_of PORT: what lies behind it.
path_of() {
	local c p
	c=$(nvme_ctrl "$1") || return 1
	for p in /sys/class/nvme/"$c"/nvme*n*; do
		[ -e "$p/nsid" ] && echo "${p##*/}" && return 0
	done
	return 1
}
# on PORT DISK: that path is in use. off PATH DISK: it is not any more, and whoever removes it has decided what follows.
on() {
	local p
	p=$(path_of "$1") || return 1
	if [ "$system" = native ]; then [ -e "/sys/block/$2/multipath/$p" ]; else has_path "$2" "$p"; fi
}
off() {
	if [ "$system" = native ]; then
		[ ! -e "/sys/block/$2/multipath/$1" ]
	else
		[ "$(value "$(path_dir "$2" "$1")/state")" = dead ] || no_path "$2" "$1"
	fi
}
set_delay() { echo "$2" >"/sys/block/$1/delayed_removal_secs"; }
there() { [ -e "/sys/block/$1" ]; }
# there_after SECS DISK: "there" or "gone" so much later, or as soon as it is gone.
there_after() { if wait_for "$1" gone "/sys/block/$2"; then echo gone; else echo there; fi; }

# connect PORT: sets $disk to what users see, and $path to what lies below.
connect() {
	must sh -c "echo transport=loop,nqn=$NQN,traddr=$1 >/dev/nvme-fabrics"
	soon 60 path_of "$1" >/dev/null
	path=$(path_of "$1")
	[ -n "${2:-}" ] && return
	soon 60 joined "$1"
	soon 60 test -b "/dev/$disk"
}
joined() {
	for disk in $(disks); do
		on "$1" "$disk" && return 0
	done
	return 1
}
disconnect() { echo 1 >"/sys/class/nvme/$(nvme_ctrl "$1")/delete_controller"; }
no_ctrl() { ! nvme_ctrl "$1" >/dev/null; }

# begin DELAY: one path, its disk open, a read that hangs in it, and its removal that waits for the read.
begin() {
	connect 1
	first=$path
	set_delay "$disk" "$1"
	server r
	[ "$(ask r "open /dev/$disk ro")" = OK ] || stop "the disk cannot be opened"
	must slow 200000
	tell r "read 25165824 4096"
	soon 60 read_hangs
	disconnect 1 &
	remover=$!
	soon 60 off "$first" "$disk"
}
# The read is let go, and with it the removal.
let_go() {
	must slow 0
	soon 120 ended "$remover"
	soon 60 no_ctrl 1
}

# --- Hole 5: what is written while a removal is pending ---------------------------------------------------------------------

log_mark
connect 1
set_delay "$disk" 300
disconnect 1
soon 60 off "$path" "$disk"
set_delay "$disk" 0
say "0 is written to a head that waits for 300 s: 20 s later it is" "$(there_after 20 "$disk")"
# A path ends the wait, and then nothing delays the removal.
connect 1
set_delay "$disk" 0
disconnect 1
soon 60 gone "/sys/block/$disk"
soon 60 no_ctrl 1

connect 1
set_delay "$disk" 17179870
disconnect 1
soon 60 off "$path" "$disk"
say "a head waits for 17179870 s (199 days): 20 s later it is" "$(there_after 20 "$disk")"
if there "$disk"; then connect 1; set_delay "$disk" 0; disconnect 1; soon 60 gone "/sys/block/$disk"; fi
soon 60 no_ctrl 1

# --- Hole 4: the delay becomes N while the last path is going --------------------------------------------------------------------

begin 0
set_delay "$disk" 30
let_go
connect 1
say "the delay becomes 30 while the last path goes, and a path returns: disks of the namespace" "$(nr_disks)"
receive r 60 # the slow read
# As long as the old one is there, reading from it waits for a path that does not come.
tell r "read 0 4096"
receive r 90
say "and who had it open reads" "$reply"
server_stop r
for d in $(disks); do set_delay "$d" 0; done
disconnect 1
soon 60 no_ctrl 1
for d in $(disks); do soon 120 gone "/sys/block/$d"; done

# --- Hole 1: two threads see the last path -----------------------------------------------------------------------------------------

before=$(value $counter)
begin 40
connect 2
second=$path
disconnect 2
soon 60 off "$second" "$disk"
soon 60 no_ctrl 2
let_go
receive r 60
server_stop r
soon 240 gone "/sys/block/$disk"
nap 3
after=$(value $counter)
say "two paths go at once, the slower one last: references on the module, before and after" "$before, $after"

# --- Hole 2: a path returns, and then cannot be attached ------------------------------------------------------------------------------

# native: the one admin command fails that comes so many commands later, which ends nvme_alloc_ns() late enough.
attach_fails() {
	local n p inject
	inject=/sys/kernel/debug/$(nvme_ctrl 1)/fault_inject
	[ -e "$inject/probability" ] || { say "$1" "cannot be tried here (no CONFIG_FAULT_INJECTION_DEBUG_FS)"; return; }
	for n in 3 4 5 6 7 2 8; do
		soon 60 joined 1
		set_delay "$disk" 20
		p=$(path_of 1)
		echo 0 >"$namespace/enable"
		soon 60 off "$p" "$disk"
		echo 1 >"$inject/times" && echo $n >"$inject/space" && echo 0 >"$inject/verbose" && echo 100 >"$inject/probability"
		echo 1 >"$namespace/enable"
		wait_for 15 reads "$inject/times" 0
		echo 0 >"$inject/probability"
		if [ "$(there_after 60 "$disk")" = there ] && ! on 1 "$disk"; then
			say "$1" there
			return
		fi
		# That command was too early, and nothing came of the path, or too late, and all went well.
		echo 0 >"$namespace/enable"
		echo 1 >"$namespace/enable"
	done
	say "$1" "not reached: none of these commands failed at the right moment"
}
# rmpath: each allocation of the attempt fails in turn.
allocations_fail() {
	local n answer
	echo N >/sys/kernel/debug/failslab/ignore-gfp-wait
	echo 0 >/sys/kernel/debug/failslab/verbose
	add_path "device=/dev/$path" || stop "no head"
	disk=$(disks)
	set_delay "$disk" 3000
	remove_path "$path"
	soon 60 hstate_is "$disk" removal-pending
	for ((n = 1; n < 1000; n++)); do
		answer=$(ask sys "failnth $n $CLASS/add_path device=/dev/$path")
		case $answer in
		OK*UNTOUCHED) break ;;
		OK*) remove_path "$path"; soon 60 hstate_is "$disk" removal-pending ;;
		*) hstate_is "$disk" removal-pending || { say "$1" "after allocation $n: $(hstate "$disk")"; return; } ;;
		esac
	done
	[[ $answer != OK* ]] || remove_path "$path"
	soon 60 hstate_is "$disk" removal-pending
	set_delay "$disk" 20
	say "$1" "$(there_after 60 "$disk")"
}
what="a path returns and cannot be attached: 60 s after a delay of 20 s the head without a path is"
if [ "$system" = native ]; then
	connect 1
	attach_fails "$what"
else
	# By hand, so that it is one attempt that fails; and before the path is there, which would get its head.
	must rmpath_unload
	must rmpath_load auto_attach=0
	connect 1 quiet
	allocations_fail "$what"
	count=$(value $counter)
	say "and its references" "$count"
fi
say "what the kernel has complained of: lines" "$(log_complaints | grep -c .)"
say end end
exit 0
