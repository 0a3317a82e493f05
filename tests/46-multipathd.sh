#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# multipath-tools, as Debian has them, on our target under dm-multipath's name: multipathd assembles a map from two SCSI
# paths with the selector it takes by itself, sees one fail and return, and removes the map. kpartx finds the partitions.
# Time limit: 900 s
RMPATH_UDEV=1 # multipathd takes what it knows of disks from udev
. "$(dirname "$0")/lib.sh"

for program in multipathd multipath kpartx sfdisk udevadm; do
	command -v $program >/dev/null || skip_all "no $program"
done
pgrep -x multipathd >/dev/null && skip_all "a multipathd runs here"
modprobe -r dm-multipath 2>/dev/null
modprobe dm-mod
dm_multipath_unload
check "the module is loaded under the name multipath" rmpath_load auto_attach=0 dm_multipath=1
# The VM has its own /etc; elsewhere what is there comes back.
mkdir -p /etc/multipath /run/multipath
[ ! -e /etc/multipath.conf ] || { cp /etc/multipath.conf "$TMP/was" && defer cp "$TMP/was" /etc/multipath.conf; }
defer rm -f /etc/multipath.conf
cat >/etc/multipath.conf <<'CONF'
defaults {
	find_multipaths no
	user_friendly_names no
	polling_interval 1
	max_polling_interval 1
	path_checker tur
	no_path_retry queue
	uxsock_timeout 60000
}
blacklist_exceptions {
	device {
		vendor Linux
		product scsi_debug
	}
}
CONF

# udev would run kpartx too, whenever it is told that the map has changed (skip_kpartx does not keep it from that
# after each kind of event), and would bring back what kpartx has just removed.
mkdir -p /run/udev/rules.d
ln -s /dev/null /run/udev/rules.d/60-kpartx.rules && defer rm -f /run/udev/rules.d/60-kpartx.rules
udevadm control --reload

sdebug 2 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1)
udevadm settle --timeout=120
multipathd -d -s -v 2 >"$TMP/multipathd.log" 2>&1 &
daemon=$!
end_daemon() { ended "$daemon" || kill -9 "$daemon"; }
defer end_daemon
eventually 60 "multipathd runs" sh -c "multipathd show daemon | grep -qE 'running|idle'"

maps() { dmsetup ls --target multipath | awk '$1 != "No" {print $1}'; }
one_map() { [ "$(maps | grep -c .)" = 1 ]; }
eventually 120 "multipathd makes a map" one_map ||
	bail "there is nothing to go on with" "$(tail -n 40 "$TMP/multipathd.log")" "$(udevadm info "/dev/$a")" \
		"$(multipath -v3 -d 2>&1 | tail -n 60)"
map=$(maps)
letters() { dmsetup status "$map" | grep -oE ' [0-9]+:[0-9]+ [AF] ' | awk '{printf "%s", $2}'; }
letters_are() { [ "$(letters)" = "$1" ]; }
one_failed() { [[ $(letters) = [AF][AF] && $(letters) = *F* ]]; }
eventually 60 "with two paths" letters_are AA
like "$(dmsetup table "$map")" "^0 [0-9]+ multipath .* service-time 0 [12] 2 " "of the target multipath, with service-time"
like "$(dmsetup table "$map")" queue_if_no_path "and queue_if_no_path"
check "which is ours" at_least /sys/module/rmpath/refcnt 1
refuse "not the kernel's" test -d /sys/module/dm_multipath
like "$(multipath -ll "$map")" "$a .*active ready" "multipath -ll shows the first path"
like "$(multipath -ll "$map")" "$b .*active ready" "and the second"
node=$(dm_node "$map")
is "$(sysio "open $node" "write 4096 4096 1" "verify 4096 4096 1")" OK "it writes and reads"

# A path fails: the checker finds it, multipathd tells the target; and back.
echo offline >"/sys/block/$a/device/state"
eventually 120 "multipathd fails a path that is offline" one_failed
is "$(sysio "open $node" "write 8192 4096 2" "verify 8192 4096 2")" OK "I/O goes on"
echo running >"/sys/block/$a/device/state"
eventually 120 "and reinstates it when it is back" letters_are AA
is "$(multipathd fail path "$b")" ok "multipathd is told to fail a path"
eventually 60 "which is failed" one_failed
multipathd reinstate path "$b" >/dev/null
eventually 120 "and reinstated" letters_are AA

# All of them: the target keeps I/O, as multipathd has told it to.
server m
ask m "open $node" >/dev/null
for path in "$a" "$b"; do echo offline >"/sys/block/$path/device/state"; done
eventually 120 "both paths are failed" letters_are FF
tell m "write 12288 4096 3"
is "$(answer m 1)" NOTHING "I/O waits"
for path in "$a" "$b"; do echo running >"/sys/block/$path/device/state"; done
is "$(answer m)" OK "until multipathd has found a path"
eventually 120 "and both" letters_are AA
server_stop m

# Partitions.
echo ',8M,L' | sfdisk -q "$node" >/dev/null 2>&1
partitions() { dmsetup ls | awk '{print $1}' | grep -E "^$map.+"; }
check "kpartx runs" kpartx -a -s "$node"
is "$(partitions | grep -c .)" 1 "the partition is a map"
like "$(dmsetup table "$(partitions)" 2>/dev/null)" "^0 16384 linear [0-9]+:[0-9]+ 2048\$" "of its size, on ours"
eventually 60 "kpartx removes it" kpartx -d -s "$node"
is "$(partitions)" "" "it is gone"

eventually 60 "multipathd removes the map" sh -c "multipathd del map '$map' | grep -q ok"
is "$(maps)" "" "it is gone"
multipathd shutdown >/dev/null 2>&1
wait_for 60 ended $daemon || kill -9 $daemon
check "multipathd ends" ended $daemon
[ "$tap_failed" = 0 ] || diag "$(tail -n 40 "$TMP/multipathd.log")"
count_is 0 "no reference is left"
done_testing
