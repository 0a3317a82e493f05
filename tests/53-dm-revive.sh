#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A map with probe_secs reads from paths that have failed by themselves, and reinstates those that answer; not those that
# were failed by message. A read that hangs keeps no other path from that, and the map's end waits for it.
# Time limit: 600 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod
rmpath_load auto_attach=0 && sdebug 1 || bail "no disk"
disk=$(sdebug_disk 0) len=$(sectors "$(sdebug_disk 0)")
dm() { quick "dm $*"; echo "$reply"; }
# Paths that work or give errors as they are told to.
become() { quick "dm load $1 $len $2"; quick "dm suspend $1 noflush"; quick "dm resume $1"; }
works() { become "$1" "linear /dev/$disk 0"; }
broken() { become "$1" "error "; }
for n in 1 2; do dm_make rmt-p$n "0 $len linear /dev/$disk 0" || bail "no path"; done
p1=$(dm_node rmt-p1) p2=$(dm_node rmt-p2)
paths="0 1 1 round-robin 0 2 1 $p1 1 $p2 1"
letters() { dm status rmt-a | grep -oE '\b[ADEF]\b' | tr -d '\n'; }
# Of the paths alone: without a path no group is in use.
paths_are() { [ "$(letters | cut -c2-)" = "$1" ]; }
read_ios() { stat_of "$(basename "$1")" 1; }
message() { quick "dm message rmt-a $*"; }
# A first error may not be the path's fault.
four_reads() { local n; for n in 1 2 3 4; do tell m "read 0 4096"; receive m; done; }
server m

for bad in "1 probe_secs" "2 probe_secs -1" "2 probe_secs x" "2 probe_secs 86401"; do
	is "$(dm_errno create rmt-a --table "0 $len rmpath $bad $paths")" EINVAL "refused: $bad"
done
check "a map that probes" dm_make rmt-a "0 $len rmpath 2 probe_secs 1 $paths"
like "$(dm table rmt-a)" 'rmpath 2 probe_secs 1 0 1 1 ' "its table says so"
ask m "open $(dm_node rmt-a)" >/dev/null

# One that comes back.
log_mark
broken rmt-p1
four_reads
is "$(letters)" AFA "a path fails"
before=$(read_ios "$p1")
probed() { [ "$(read_ios "$p1")" -gt "$before" ]; }
works rmt-p1
eventually 60 "it is reinstated when it works" paths_are AA
check "because it was read from" probed
says() { log_ours | grep -q 'reinstating path'; }
eventually 60 "the log says so" says
like "$(dm status rmt-a)" " A 1 .* A 0" "its failure stays counted"

# One that somebody has failed.
message fail_path "$p1"
before=$(read_ios "$p1")
broken rmt-p2
four_reads
works rmt-p2
eventually 60 "another one comes and goes" paths_are FA
is "$(read_ios "$p1")" "$before" "one that was failed by message was not read from"
message fail_path "$p2"
message reinstate_path "$p1"
broken rmt-p1
four_reads
message fail_path "$p1"
works rmt-p1
nap 3
is "$(letters | cut -c2-)" FF "nor is one reinstated that was failed by message after that"
message reinstate_path "$p1"
message reinstate_path "$p2"
is "$(letters | cut -c2-)" AA "but by message"
ask m close >/dev/null
check "it is removed" dmset remove --retry rmt-a
count_is 0 "no reference is left"

# None is left, and nobody is there to say when one is.
check "a map that probes and keeps I/O" dm_make rmt-a "0 $len rmpath 3 queue_if_no_path probe_secs 1 $paths"
ask m "open $(dm_node rmt-a)" >/dev/null
broken rmt-p1
broken rmt-p2
tell m "write 4096 4096 5"
eventually 60 "both paths fail" sh -c "dmsetup status rmt-a | grep -qE 'F [0-9]+ .*F [0-9]+'"
is "$(answer m 1)" NOTHING "a write waits"
works rmt-p2
is "$(answer m)" OK "until the map has found a path"
is "$(sysio "open /dev/$disk" "verify 4096 4096 5")" OK "the data is there"

# One that hangs.
check "a disk to stand on" dm_make rmt-q1 "0 $len linear /dev/$disk 0"
quick "dm suspend rmt-q1 noflush"
become rmt-p1 "linear $(dm_node rmt-q1) 0"
eventually 60 "a path is read from and does not answer" sh -c "awk '{exit \$1 + \$2 == 0}' /sys/block/$(basename "$p1")/inflight"
broken rmt-p2
tell m "write 8192 4096 6"
nap 1
works rmt-p2
is "$(answer m)" OK "another one fails and comes back meanwhile"
check "the map is suspended meanwhile" within 120 dmset suspend rmt-a
check "and resumed" within 120 dmset resume rmt-a
is "$(ask m "verify 8192 4096 6")" OK "it reads"
ask m close >/dev/null
dmset remove rmt-a 2>/dev/null &
remover=$!
nap 2
check "its end waits for the read" kill -0 $remover
quick "dm resume rmt-q1"
eventually 60 "and comes when that has ended" ended $remover
refuse "it is gone" dmsetup info rmt-a
check "a path is free" dmset remove --retry rmt-p1
count_is 0 "no reference is left"

# One that is about to probe, and the module goes.
check "a path of errors" dm_make rmt-p1 "0 $len error"
check "a map that has to wait for its first probe" dm_make rmt-a "0 $len rmpath 2 probe_secs 8 $paths"
ask m "open $(dm_node rmt-a)" >/dev/null
four_reads
is "$(letters)" AFA "a path fails"
ask m close >/dev/null
check "the map is removed" dmset remove --retry rmt-a
check "and the module unloaded" rmpath_unload
# What were pending would run now.
nap 10

done_testing
