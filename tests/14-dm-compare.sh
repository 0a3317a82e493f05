#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The same tables and messages on the target rmpath and on the kernel's own multipath target (queue_mode bio) give the
# same table, the same status and the same errors, byte for byte but for the target's name.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

modprobe dm-multipath && modprobe dm-round-robin && modprobe dm-queue-length && modprobe dm-service-time || skip_all "no dm-multipath"
rmpath_load auto_attach=0 && sdebug 4 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2) d=$(sdebug_disk 3) len=$(sectors "$(sdebug_disk 0)")

# dm CMD...: the ioctls without a process each, since there are hundreds; prints the answer.
dm() { quick "dm $*"; echo "$reply"; }
show() {
	echo "== $1"
	dm table rmt-c
	dm status rmt-c
}
msg() {
	quick "dm message rmt-c $*"
	echo "== $* -> $reply"
	dm status rmt-c
}
io() {
	sysio_each "open $node" "$*"
	echo "== $* -> $reply"
	dm status rmt-c
}

# with TARGET PARAMETERS FUNCTION: one map, one story.
with() {
	dm create rmt-c
	quick "dm load rmt-c $len $1 $2"
	echo "== load: $2 -> $reply"
	if [ "$reply" = OK ]; then
		dm resume rmt-c
		node=$(dm_node rmt-c)
		wait_for 60 test -b "$node"
		show fresh
		"$3"
	fi
	dm remove rmt-c
}
plain() { io read 0 4096; show "after I/O"; }
messages() {
	io read 0 4096
	msg fail_path "/dev/$a"
	msg fail_path "$(devno "$a")"
	io read 0 4096
	msg FAIL_PATH "/dev/$b"
	io read 0 4096
	io write 0 4096 1
	msg reinstate_path "/dev/$a"
	msg reinstate_path "/dev/$a"
	io write 0 4096 1
	msg Reinstate_Path "$(devno "$b")"
	show "after the messages"
	msg fail_path "/dev/$d"
	msg fail_path /dev/null
	msg fail_path 999:999
	msg fail_path nonsense
	msg fail_path
	msg
	msg one two three
	msg fail_path "/dev/$a" now
	dm suspend rmt-c
	msg fail_path "/dev/$a"
	show suspended
	dm resume rmt-c
	show resumed
}
failover() {
	io read 0 4096
	msg fail_path "/dev/$a"
	io read 0 4096
	msg fail_path "/dev/$b"
	io read 0 4096
	msg reinstate_path "/dev/$a"
	io read 0 4096
	msg fail_path "/dev/$c"
	msg fail_path "/dev/$d"
	show "before I/O finds out"
	io read 0 4096
	msg fail_path "/dev/$a"
	io read 0 4096
	msg reinstate_path "/dev/$d"
	io write 0 4096 1
	show end
}
suspends() {
	local how
	for how in "" noflush; do
		dm suspend rmt-c "$how"
		show "suspended $how"
		dm resume rmt-c
		show "resumed"
		io read 0 4096
	done
}
injected() {
	[ -e "$(inject_file "$a")" ] || return
	inject "$a" READ TRANSPORT
	io read 0 4096
	io read 0 4096
	inject_none "$a"
	io read 0 4096
	inject "$b" READ MEDIUM
	io read 0 4096
	inject_none "$b"
	msg reinstate_path "/dev/$a"
	show end
}
# which: the disks that have been read from since it was asked last.
which() {
	local p now
	for p in $a $b $c $d; do
		read -r now _ <"/sys/block/$p/stat"
		[ "${seen[$p]:-$now}" = "$now" ] || echo "== read from $p"
		seen[$p]=$now
	done
}
# Which path is next after one that was away.
turns() {
	local -A seen=()
	which
	io read 0 4096
	which
	msg fail_path "/dev/$b"
	msg reinstate_path "/dev/$b"
	for _ in 1 2 3 4; do
		io read 0 4096
		which
	done
	msg fail_path "/dev/$a"
	io read 0 4096
	which
	msg reinstate_path "/dev/$a"
	for _ in 1 2 3; do
		io read 0 4096
		which
	done
}

g="round-robin 0 2 1 /dev/$a 1 /dev/$b 1"
two="$g round-robin 0 2 1 /dev/$c 1 /dev/$d 1"
stories=(
	"2 queue_mode bio 0 1 1 $g|messages"
	"2 queue_mode bio 0 2 1 $two|failover"
	"2 queue_mode bio 0 2 2 $two|failover"
	"3 queue_if_no_path queue_mode bio 0 1 1 $g|suspends"
	"3 queue_mode bio queue_if_no_path 0 2 1 $two|suspends"
	# One path a group: within a group each CPU has a turn of its own here, so which path a read takes is not certain.
	"2 queue_mode bio 0 2 1 round-robin 0 1 1 /dev/$a 1 round-robin 0 1 1 /dev/$b 1|injected"
	# What has failed is not under way on its path any more.
	"2 queue_mode bio 0 1 1 queue-length 0 2 1 /dev/$a 1 /dev/$b 1|injected"
	"2 queue_mode bio 0 1 1 service-time 0 2 2 /dev/$a 1 1 /dev/$b 1 1|injected"
	"2 queue_mode bio 0 1 1 queue-length 0 3 1 /dev/$a 1 /dev/$b 1 /dev/$c 1|turns"
	"2 queue_mode bio 0 1 1 service-time 0 3 2 /dev/$a 1 1 /dev/$b 1 1 /dev/$c 1 1|turns"
	"2 queue_mode bio 0 1 1 service-time 0 3 2 /dev/$a 1 1 /dev/$b 1 2 /dev/$c 1 1|turns"
	"2 queue_mode bio 0 2 2 $two|plain"
	"2 Queue_Mode BIO 0 1 1 $g|plain"
	"3 QUEUE_IF_NO_PATH queue_mode bio 0 1 1 $g|plain"
	"2 queue_mode bio 0 1 1 round-robin 0 2 1 /dev/$a 1000 /dev/$b 1|plain"
	"2 queue_mode bio 0 1 1 round-robin 0 2 1 /dev/$a 0 /dev/$b 1|plain"
	"2 queue_mode bio 0 1 1 round-robin 0 2 0 /dev/$a /dev/$b|plain"
	"2 queue_mode bio 0 1 1 round-robin 0 2 1 $(devno "$a") 1 $(devno "$b") 1|plain"
	"2 queue_mode bio 0 1 1 round-robin 0 1 1 /dev/$a 1|plain"
	"2 queue_mode bio 0 4 3 $(for p in $a $b $c $d; do echo "round-robin 0 1 1 /dev/$p 1"; done | paste -sd ' ')|plain"
	"2 queue_mode bio 1 alua 1 1 $g|plain"
	"3 queue_mode bio retain_attached_hw_handler 0 1 1 $g|plain"
	"4 queue_mode bio pg_init_retries 50 0 1 1 $g|plain"
	"4 queue_mode bio pg_init_delay_msecs 100 0 1 1 $g|plain"
	"7 queue_if_no_path queue_mode bio pg_init_retries 3 pg_init_delay_msecs 0 0 1 1 $g|plain"
	"2 queue_mode bio 0 0 0|plain"
)
for story in "${stories[@]}"; do
	for target in multipath rmpath; do
		with $target "${story%|*}" "${story##*|}" 2>&1 | sed "s/\\b$target\\b/TARGET/g" >"$TMP/$target"
	done
	if diff -u "$TMP/multipath" "$TMP/rmpath" >"$TMP/diff" && [ -s "$TMP/multipath" ]; then
		ok "${story##*|}: ${story%|*}"
	else
		not_ok "${story##*|}: ${story%|*}" "$(cat "$TMP/diff")"
	fi
done

# Without queue_mode, which dm-multipath takes for request-based and this target for its only mode: what it prints makes
# the same map again.
check "a map without queue_mode" dm_make rmt-c "0 $len rmpath 0 0 2 1 $two"
table=$(dmset table rmt-c)
check "is removed" dmset remove --retry rmt-c
check "its own table makes a map" dm_make rmt-c "$table"
is "$(dmset table rmt-c)" "$table" "which prints the same table"
check "is removed" dmset remove --retry rmt-c
count_is 0 "no map, no reference"

done_testing
