#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Persistent reservations through a head, on a target that knows them (nvmet): registered on every path or on none, on
# a path that joins before it carries I/O, and not again once another host has taken the key away; the rest by one path.
# A path with a host identity of its own stands for what SCSI does: each path registers for itself.
. "$(dirname "$0")/lib.sh"

OTHER=aaaaaaaa-0000-4000-8000-000000000001
WERO=3 # write exclusive, registrants only

rmpath_load auto_attach=0 && nullb nbstore 64 && nvmet_up || bail "no target"
ns=$NVMET/subsystems/$NQN/namespaces/1
mkdir "$ns" && echo /dev/nbstore >"$ns/device_path" && echo $NGUID1 >"$ns/device_nguid" &&
	echo 1 >"$ns/resv_enable" && echo 1 >"$ns/enable" || bail "no namespace with reservations"
nvme_connect 1 && nvme_connect 2 || bail "the namespace does not appear"
p1=$(nvme_disk 1) p2=$(nvme_disk 2)

# The other host's controller, by port 1.
other_ctrl() {
	local c
	for c in /sys/class/nvme/nvme*; do
		reads "$c/hostid" "$OTHER" && echo "${c##*/}" && return 0
	done
	return 1
}
other_disk() { local d; d=$(echo /sys/class/nvme/"$(other_ctrl)"/nvme*n*); echo "${d##*/}"; }
other_ready() { opens "/dev/$(other_disk)"; }
other_leaves() { local c; c=$(other_ctrl) || return 0; echo 1 >"/sys/class/nvme/$c/delete_controller"; }
other_connect() {
	nvme_new transport=loop traddr=1 hostnqn="nqn.2014-08.org.rmpath:$OTHER" hostid="$OTHER" &&
		wait_for 120 other_ready
}
other_connect || bail "no other host"
defer other_leaves
o=$(other_disk)

add_path "device=/dev/$p1" && add_path "device=/dev/$p2" || bail "no head"
HEAD=$(heads)
d1=$(path_dir "$HEAD" "$p1") d2=$(path_dir "$HEAD" "$p2")
server h
server o
is "$(ask h "open /dev/$HEAD") $(ask o "open /dev/$o")" "OK OK" "the head and the other host's disk are open"
failures() { echo "$(value "$d1/failures") $(value "$d2/failures")"; }

# Registering.
is "$(ask h "pr keys")" "keys" "nothing is registered"
is "$(ask h "pr register 0 a1")" OK "a key is registered"
is "$(ask h "pr keys") / $(ask o "pr keys")" "keys a1 / keys a1" "the target has it"
is "$(ask h "pr register 0 a1")" OK "again it is no change"
is "$(ask h "pr register a1 a2")" OK "it is replaced, though the target knows one host where we have two paths"
is "$(ask h "pr keys")" "keys a2" "there is one key still"
is "$(ask h "pr register a1 a3")" CONFLICT "not with a wrong old key"
is "$(ask h "pr keys")" "keys a2" "which changes nothing"
is "$(ask h "pr register a2 a3 ignore")" OK "nor is the old key needed"
is "$(ask h "pr register a3 a2")" OK "back again"

# Reserving.
is "$(ask h "pr reserve a2 $WERO")" OK "the disk is reserved"
is "$(ask h "pr holder") / $(ask o "pr holder")" "a2 $WERO / a2 $WERO" "for us"
is "$(ask o "write 0 4096 1")" EBADE "the other host cannot write"
for n in 1 2 3 4; do quick "open /dev/$HEAD"; quick "write $((n * 4096)) 4096 $n"; got+=" $reply"; done
is "$got" " OK OK OK OK" "we can, by each path"
is "$(ask o "pr register 0 b1") $(ask o "write 0 4096 1")" "OK OK" "the other host can when it is registered"
is "$(ask o "pr reserve b1 $WERO")" CONFLICT "but not reserve it"
is "$(ask h "pr release a2 $WERO") $(ask h "pr holder")" "OK 0 0" "it is released"
is "$(failures)" "0 0" "no path has failed for all that"

# A path that is not there for a while.
is "$(ask h "pr reserve a2 $WERO")" OK "it is reserved again"
check "a path is disconnected" nvme_disconnect 2
eventually 60 "it leaves" has_paths "$HEAD" "$p1"
check "it is connected again" nvme_connect 2
p2=$(nvme_disk 2)
ask h "pr keys" >/dev/null
before=$(ask h generation)
is "$(attr $CLASS/add_path "device=/dev/$p2")" OK "it joins"
ask h "pr keys" >/dev/null
is "$(ask h generation)" $((before + 1)) "after it has been registered"
is "$(ask h "pr keys")" "keys a2 b1" "with the same key"
d2=$(path_dir "$HEAD" "$p2")
echo failed >"$d2/state"
is "$(attr "$d2/state" optimized)" OK "a path that failed is reinstated"
ask h "pr keys" >/dev/null
is "$(ask h generation)" $((before + 2)) "after it has been registered, too"
if [ -e "$(inject_file "$p2")" ]; then
	echo 1 >"$(hattr "$HEAD" probe_secs)"
	echo non-optimized >"$d1/state"
	inject "$p2" READ TRANSPORT
	is "$(ask h "read 0 4096") $(value "$d2/state")" "OK failed" "a path fails under I/O"
	inject_none "$p2"
	eventually 60 "a probe finds it well" reads "$d2/state" optimized
	ask h "pr keys" >/dev/null
	is "$(ask h generation)" $((before + 3)) "but not before it has been registered"
	echo optimized >"$d1/state"
else
	skip "a path that a probe reinstates" "this kernel has no CONFIG_BLK_ERROR_INJECTION"
fi
tell h "repeat 8 pr keys"
for n in 1 2; do
	check "a path is disconnected" nvme_disconnect 2
	check "and connected" nvme_connect 2
	p2=$(nvme_disk 2)
	is "$(attr $CLASS/add_path "device=/dev/$p2")" OK "and added"
done
like "$(answer h)" '^keys=[0-9]+$' "commands meanwhile have not noticed"

# None for a while.
d1=$(path_dir "$HEAD" "$p1") d2=$(path_dir "$HEAD" "$p2")
echo 600 >"$(hattr "$HEAD" no_path_timeout_secs)"
echo failed >"$d1/state"
echo failed >"$d2/state"
tell h "pr keys"
is "$(answer h 1)" NOTHING "with no path a command waits"
echo optimized >"$d1/state"
is "$(answer h)" "keys a2 b1" "for one"
echo optimized >"$d2/state"

# Fenced.
log_mark
is "$(ask o "pr preempt b1 a2 $WERO")" OK "the other host takes our key away"
is "$(ask h "write 0 4096 1")" EBADE "we cannot write"
is "$(pstate "$HEAD" "$p1") $(pstate "$HEAD" "$p2")" "optimized optimized" "that is no path's fault"
check "a path is disconnected" nvme_disconnect 2
check "and connected" nvme_connect 2
p2=$(nvme_disk 2)
is "$(attr $CLASS/add_path "device=/dev/$p2")" OK "and joins"
is "$(ask o "pr keys")" "keys b1" "it does not bring our key back"
is "$(log_ours | grep -c "reservation key has been taken away")" 1 "and says so"
is "$(ask h "write 0 4096 1")" EBADE "we still cannot write"
is "$(ask o "pr clear b1") $(ask o "pr keys")" "OK keys" "the other host clears everything"

# Unregistering. (nvme registers the key 0 in place of the old one.)
is "$(ask h "pr register 0 a1") $(ask h "pr register a1 0")" "OK OK" "a key is registered and taken back"
like "$(ask h "pr keys")" '^keys( 0)?$' "it is gone"
is "$(ask o "pr register 0 b1") $(ask o "pr clear b1")" "OK OK" "nothing is left"
server_stop o

# Two paths that register for themselves.
remove_path "$p2"
is "$(ask h "pr register 0 a1")" OK "a key is registered with one path"
nullb nbmute 64 || bail "no disk without reservations"
log_mark
is "$(attr $CLASS/add_path "device=/dev/nbmute wwid=$(value "$(hattr "$HEAD" wwid)")")" EOPNOTSUPP \
	"a disk that cannot take the key does not join"
is "$(log_ours | grep -c "reservation key")" 1 "and one line says why"
is "$(paths "$HEAD")" "$p1" "the head is as it was"
delay=$(value "$(hattr "$HEAD" delayed_removal_secs)")
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
check "the last path is taken away" remove_path "$p1"
eventually 60 "the removal is pending" hstate_is "$HEAD" removal-pending
is "$(attr $CLASS/add_path "device=/dev/nbmute wwid=$(value "$(hattr "$HEAD" wwid)")")" EOPNOTSUPP \
	"nor does it join a head without a path"
is "$(hstate "$HEAD")" removal-pending "whose removal stays pending"
is "$(attr $CLASS/add_path "device=/dev/$p1")" OK "the path returns"
is "$(hstate "$HEAD")" live "and ends that"
echo "$delay" >"$(hattr "$HEAD" delayed_removal_secs)"
for n in 1 2 3 4; do quick "open /dev/$HEAD"; quick "write $((n * 4096)) 4096 $n"; done
is "$(stat_of nbmute 5) $(sysio "open /dev/nbmute excl")" "0 OK" "nothing has been written there, and it is free"
is "$(attr $CLASS/add_path "device=/dev/$o")" OK "a path with an identity of its own joins"
is "$(ask h "pr keys")" "keys a1 a1" "it has registered the key for itself"
dx=$(path_dir "$HEAD" "$o")
d1=$(path_dir "$HEAD" "$p1")
is "$(ask h "pr reserve a1 $WERO")" OK "the disk is reserved"
got=
for n in 1 2 3 4; do quick "open /dev/$HEAD"; quick "write $((n * 4096)) 4096 $n"; got+=" $reply"; done
is "$got" " OK OK OK OK" "both paths can write"

# And it comes anew under writes, with another identity each time: none gets there before the key.
at_least_written() { (($(stat_of "$1" 5) >= $2)); }
server w
ask w "open /dev/$HEAD" >/dev/null
for n in 2 3 4; do
	check "it goes" other_leaves
	eventually 60 "as a path too" has_paths "$HEAD" "$p1"
	OTHER=${OTHER%?}$n
	check "it comes with another identity" other_connect
	o=$(other_disk)
	tell w "repeat $((5 * PATIENCE)) write 4096 4096 1"
	is "$(attr $CLASS/add_path "device=/dev/$o")" OK "and joins"
	like "$(answer w)" '^OK=[0-9]+$' "no write has met a path that was not registered"
	# Should it have joined when they were done.
	is "$(ask w "write 4096 4096 1") $(ask w "write 4096 4096 1") $(ask w "write 4096 4096 1")" "OK OK OK" "nor do more"
	eventually 30 "and some have gone there" at_least_written "$o" 1
done
server_stop w
dx=$(path_dir "$HEAD" "$o")
is "$(ask h "pr clear a1") $(ask h "pr register 0 a1") $(ask h "pr keys")" "OK OK keys a1 a1" "all begins anew"
is "$(ask h "pr reserve a1 $WERO")" OK "the disk is reserved"

for p in "$d1" "$dx"; do
	echo non-optimized >"$d1/state"
	echo non-optimized >"$dx/state"
	echo optimized >"$p/state"
	is "$(ask h "pr reserve a1 $WERO")" OK "who reserves it again does so by the path that has it"
done
for p in "$d1" "$dx"; do
	echo non-optimized >"$d1/state"
	echo non-optimized >"$dx/state"
	echo optimized >"$p/state"
	is "$(ask h "pr preempt a1 a1 $WERO")" OK "the host preempts its own key"
	is "$(ask h "pr keys")" "keys a1 a1" "no path loses its registration by that"
	is "$(ask h "write 0 4096 1")" OK "nor the right to write"
done
is "$(ask h "pr release a1 $WERO") $(ask h "pr holder")" "OK 0 0" "released by whichever path it takes"
is "$(ask h "pr register a1 a2") $(ask h "pr keys")" "OK keys a2 a2" "both keys are replaced"
is "$(ask h "pr clear a2") $(ask h "pr keys")" "OK keys" "and cleared"
log_mark
echo failed >"$d1/state"
is "$(attr "$d1/state" optimized) $(log_ours | grep -c "has been taken away")" "OK 0" "a path that returns does not miss that key"

# All or nothing.
for p in "$p1" "$o"; do
	remove_path "$p1"
	remove_path "$o"
	eventually 60 "the head goes" gone "/sys/block/$HEAD"
	server_stop h
	server h
	quick "open /dev/$p"
	quick "pr register 0 c1"
	is "$reply" OK "$p has another key"
	quick close
	add_path "device=/dev/$p1" && add_path "device=/dev/$o" || bail "no head"
	HEAD=$(heads)
	is "$(ask h "open /dev/$HEAD")" OK "a head"
	is "$(ask h "pr register 0 a1")" CONFLICT "no key is registered by that path"
	like "$(ask h "pr keys")" '^keys( 0)? c1$' "so by none"
	is "$(sysio "open /dev/$p" "pr clear c1") $(ask h "pr keys")" "OK keys" "all is cleared"
	is "$(ask h "pr register 0 a1") $(ask h "pr keys")" "OK keys a1 a1" "then both do"
	is "$(ask h "pr clear a1")" OK "and are cleared"
done
server_stop h
remove_path "$p1"
remove_path "$o"
eventually 60 "the head goes" gone "/sys/block/$HEAD"

# Who knows nothing of it.
nullb nbplain 32 && add_path device=/dev/nbplain wwid=plain || bail "no other head"
is "$(sysio "open /dev/$(head_of plain)" "pr register 0 a1")" EOPNOTSUPP "a path without reservations has none"
check "the head goes" remove_head "$(head_of plain)"
sdebug 2 && add_path "device=/dev/$(sdebug_disk 0)" || bail "no SCSI head"
is "$(sysio "open /dev/$(heads)" "pr keys")" "$(sysio "open /dev/$(sdebug_disk 0)" "pr keys")" \
	"a SCSI disk without them answers as it does by itself"
check "the head goes" remove_head "$(heads)"
count_is 0 "all references are back"
check "the other host leaves" within 120 other_leaves

done_testing
