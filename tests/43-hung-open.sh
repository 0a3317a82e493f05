#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A disk that cannot be opened for as long as its partition table is being read, from a device that does not answer:
# discovery hangs on it, and so does who adds it by hand, but no other disk and no other head has to wait for that.
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod
nullb nba 16 && nullb nbb 16 && nullb nbc 16 && dm_make rmt-hang "0 32768 linear /dev/nba 0" || bail "no devices"
nvmet_up && nvmet_ns 1 "$(dm_node rmt-hang)" "$NGUID1" || bail "nvmet cannot be set up"
# A controller looks at one namespace after the other, so the second one is behind another.
other_nqn=$NQN:other
other_dir=$NVMET/subsystems/$other_nqn
other_up() {
	mkdir "$other_dir" && echo 1 >"$other_dir/attr_allow_any_host" && mkdir "$other_dir/namespaces/1" &&
		echo /dev/nbb >"$other_dir/namespaces/1/device_path" &&
		echo "$NGUID2" >"$other_dir/namespaces/1/device_nguid" && echo 1 >"$other_dir/namespaces/1/enable" &&
		ln -s "$other_dir" "$NVMET/ports/2/subsystems/$other_nqn"
}
other_down() {
	local c
	for c in /sys/class/nvme/nvme*; do
		[ "$(value "$c/subsysnqn")" != "$other_nqn" ] || echo 1 >"$c/delete_controller"
	done
	rm -f "$NVMET/ports/2/subsystems/$other_nqn"
	echo 0 >"$other_dir/namespaces/1/enable"
	rmdir "$other_dir/namespaces/1" "$other_dir"
}
other_up || bail "no second subsystem"
let_go() { dmset resume rmt-hang; }
defer other_down
defer let_go
is_head() { head_of "$(eui "$1")" >/dev/null; }

# Somebody has the partition table read again, and holds the disk's lock for that: whoever opens the disk now waits. (The
# driver does that too for a new disk. But then it is up to chance whether discovery opens it before.)
check "a namespace is connected" nvme_connect 1
hung=$(nvme_disk 1)
wait_for 60 answers OK "open /dev/$hung excl"
dmset suspend --nolockfs --noflush rmt-hang || bail "the map cannot be suspended"
blockdev --rereadpt "/dev/$hung" &
reader=$!
reading() { (($(inflight "$hung") > 0)); }
inflight() { local n; read -r -a n <"/sys/block/$1/inflight"; echo "${n[0]}"; }
eventually 60 "its partition table is being read" reading
server s
tell s "open /dev/$hung ro"
is "$(answer s 1)" NOTHING "opening its disk hangs"
rmpath_load auto_attach=2 || bail "the module does not load"

NQN=$other_nqn nvme_new transport=loop traddr=2
eventually 60 "another one that appears later makes its head" is_head "$NGUID2"
OTHER=$(head_of "$(eui "$NGUID2")")
eventually 60 "which is live" hstate_is "$OTHER" live
add_path "device=/dev/$hung" 2>/dev/null &
by_hand=$!
check "while the hung one is added by hand another is added" within 60 add_path "device=/dev/nbc wwid=third"
refuse "the first write has not returned" ended $by_hand
check "the third head is removed" within 60 remove_head "$(head_of third)"
is "$(sysio "open /dev/$OTHER ro" "read 0 4096")" OK "the second one reads"
refuse "the hung one has made no head" is_head "$NGUID1"

refuse "and the first write has not returned to this moment" ended $by_hand

let_go
is "$(answer s)" OK "when it answers it is opened"
server_stop s
wait $reader
eventually 120 "and makes its head" is_head "$NGUID1"
wait_for 60 ended $by_hand
wait $by_hand
eventually 60 "with one path" has_paths "$(head_of "$(eui "$NGUID1")")" "$hung"
for h in $(heads); do check "$h is removed" remove_head "$h"; done
count_is 0 "all references are back"

done_testing
