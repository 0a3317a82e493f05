#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# auto_attach=2: NVMe namespaces form heads by themselves, as in native multipath. Connecting through two ports makes a
# head of two paths, disconnecting one leaves it, disconnecting the last begins the delayed removal, connecting again
# ends that. The nvme and nvmet modules can be unloaded as soon as the paths are gone. What exists at insmod is found,
# what others hold is left alone, and a disk of another size is refused with both sizes.
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"

wwid=$(eui "$NGUID1")
head_is_there() { HEAD=$(head_of "$wwid"); }
target() { nvmet_up && nvmet_ns 1 "/dev/${1:-nbstore}" "$NGUID1"; }
# target_down: nothing is connected any more.
target_down() {
	rm -f "$NVMET"/ports/[12]/subsystems/"$NQN" && nvmet_ns_remove 1 &&
		rmdir "$NVMET"/ports/[12] "$NVMET/subsystems/$NQN"
}
# Those that stand on them too, which tests before this one may have loaded.
modules_unload() {
	local m
	for m in nvmet_tcp nvme_tcp nvme_loop nvmet nvme_fabrics nvme_core; do
		[ ! -d "/sys/module/$m" ] || modprobe -r "$m" || return 1
	done
}

rmpath_load auto_attach=2 delayed_removal_secs=600 || bail "the module does not load"
is "$(value $CLASS/auto_attach)" 2 "auto_attach reads 2"
is "$(value $CLASS/delayed_removal_secs)" 600 "delayed_removal_secs reads 600"
nullb nbstore 32 && nullb nbsmall 16 && target || bail "nvmet cannot be set up"

# Two ports, one head.
check "port 1 is connected" nvme_connect 1
eventually 60 "which makes a head" head_is_there
eventually 60 "with that path" has_paths "$HEAD" "$(nvme_disk 1)"
eventually 60 "it is live" hstate_is "$HEAD" live
is "$(value "$(hattr "$HEAD" delayed_removal_secs)")" 600 "it has the default delay"
dev=$(devno "$HEAD")
check "port 2 is connected" nvme_connect 2
eventually 60 "which joins the head" has_paths "$HEAD" "$(nvme_disk 1)" "$(nvme_disk 2)"
is "$(heads)" "$HEAD" "there is one head"
count_is 1 "and one reference"
is "$(sysio "open /dev/$HEAD" "write 0 65536 1" "verify 0 65536 1")" OK "it carries data"

# A map over the head reports the head's identity; it is not a way to it. Neither is one over that.
modprobe dm-mod
size=$(sectors "$HEAD")
if ! dm_make rmt-one "0 $size linear /dev/$HEAD 0" || ! dm_make rmt-two "0 $size linear $(dm_node rmt-one) 0"; then
	bail "no maps over the head"
fi
for map in rmt-two rmt-one; do
	log_mark
	before=$(snapshot)
	is "$(attr $CLASS/add_path "device=$(dm_node $map)")" ELOOP "a map over the head is refused ($map)"
	is "$(attr $CLASS/add_path "device=$(dm_node $map) wwid=other")" ELOOP "under any name"
	is "$(log_ours | grep -c 'add_path: .*stands on a head')" 2 "with a line each"
	is "$(snapshot)" "$before" "and nothing changes"
	dmset remove $map
done

# One goes, then the other; and back.
check "port 1 is disconnected" nvme_disconnect 1
eventually 60 "the head stays with the other path" has_paths "$HEAD" "$(nvme_disk 2)"
is "$(hstate "$HEAD")" live "and is live"
check "port 2 is disconnected" nvme_disconnect 2
eventually 60 "its removal is pending" hstate_is "$HEAD" removal-pending
count_is 2 "with a reference of its own"
eventually 60 "no path is left" has_paths "$HEAD"
check "port 2 is connected again" nvme_connect 2
eventually 60 "the head is live" hstate_is "$HEAD" live
is "$(devno "$HEAD")" "$dev" "it is the same disk"
count_is 1 "the pending removal's reference is back"

# Nothing of the path is left behind: its modules can go, while the head waits. Nobody has done anything for that.
check "it is disconnected" nvme_disconnect 2
eventually 60 "the removal is pending again" hstate_is "$HEAD" removal-pending
eventually 60 "no path is left again" has_paths "$HEAD"
check "the target is taken down" target_down
eventually 60 "the modules of nvme and nvmet unload" modules_unload
refuse "they are gone" test -e /sys/module/nvme_core -o -e /sys/module/nvmet

# Another disk of that identity, of another size.
target nbsmall || bail "nvmet cannot be set up again"
log_mark
check "a smaller namespace of that identity is connected" nvme_connect 1
refused_line() { log_ours | grep -q "does not join its head: size 32768 sectors .* head's 65536"; }
eventually 60 "it is refused, with both sizes" refused_line
is "$(log_ours | grep -c .)" 1 "in one line"
is "$(hstate "$HEAD")" removal-pending "the head still waits"
is "$(heads)" "$HEAD" "and there is no other"
is "$(sysio "open /dev/$(nvme_disk 1) excl")" OK "the disk is free"
check "it is disconnected again" nvme_disconnect 1
check "and taken down" target_down
target || bail "nvmet cannot be set up once more"
check "the right one is connected" nvme_connect 1
eventually 60 "it brings the head back" hstate_is "$HEAD" live
is "$(devno "$HEAD")" "$dev" "it is still the same disk"
is "$(sysio "open /dev/$HEAD" "verify 0 65536 1")" OK "with its data"

# By hand it is taken away for good, as long as the disk stays.
check "the head is removed" remove_head "$HEAD"
count_is 0 "with all references"
check "the module unloads" rmpath_unload

# Those that exist when the module is loaded. No delay: the last disconnect removes.
check "port 2 is connected, without the module" nvme_connect 2
rmpath_load auto_attach=2 || bail "the module does not load again"
eventually 60 "what exists makes a head" head_is_there
eventually 60 "of both paths" has_paths "$HEAD" "$(nvme_disk 1)" "$(nvme_disk 2)"
is "$(value "$(hattr "$HEAD" delayed_removal_secs)")" 0 "without a delay"
is "$(attr $CLASS/delayed_removal_secs 4294967296)" ERANGE "a default that is too large is refused"
is "$(attr $CLASS/delayed_removal_secs soon)" EINVAL "as is one that is no number"
is "$(value $CLASS/delayed_removal_secs)" 0 "and changes nothing"
check "port 1 is disconnected" nvme_disconnect 1
check "port 2 is disconnected" nvme_disconnect 2
eventually 60 "the head goes with its last path" gone "/sys/block/$HEAD"
count_is 0 "with its reference"
check "the module unloads again" rmpath_unload

# A disk that somebody holds is left alone, silently. One that is held for a moment is not.
check "port 1 is connected for somebody else" nvme_connect 1
check "and port 2 after that" nvme_connect 2
server holder
is "$(ask holder "open /dev/$(nvme_disk 1) excl")" OK "its disk is held"
server moment
is "$(ask moment "open /dev/$(nvme_disk 2) excl")" OK "the other one too"
log_mark
rmpath_load auto_attach=2 || bail "the module does not load once more"
is "$(ask moment close)" OK "the other one is released"
eventually 60 "it makes a head" head_is_there
eventually 60 "with that path" has_paths "$HEAD" "$(nvme_disk 2)"
# Those that are held are tried for 12 seconds.
nap 14
check "the held one is no path" has_paths "$HEAD" "$(nvme_disk 2)"
is "$(log_ours | grep -vc "rmpath0: ")" 0 "nothing is said about it"
server_stop holder
server_stop moment
nvme_disconnect 1
nvme_disconnect 2
eventually 60 "the head goes" gone "/sys/block/$HEAD"

# Only NVMe namespaces do this.
if sdebug 1 dev_size_mb=8; then
	log_mark
	check "a namespace is connected after a SCSI disk" nvme_connect 1
	eventually 60 "it makes a head" head_is_there
	is "$(heads)" "$HEAD" "the SCSI disk makes none"
else
	skip "only NVMe namespaces make heads" "no scsi_debug"
fi

done_testing
