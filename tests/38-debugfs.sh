#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The whole state of a head in one file of debugfs: right, there at any time, and safe: who has it open keeps the module,
# but not the head.
. "$(dirname "$0")/lib.sh"

D=/sys/kernel/debug/rmpath
rmpath_load auto_attach=0 && nullb nba 32 && nullb nbb 32 || bail "no disks"
check "the folder is there with the module" test -d $D
is "$(ls $D)" "" "and empty"
add_path device=/dev/nba wwid=w1 && add_path "device=/dev/nbb wwid=w1 state=non-optimized weight=7" || bail "no head"

# has LINE...: the file has these lines.
has() { local l; for l; do grep -qxF -- "$l" "$D/rmpath0" || { echo "not there: $l"; cat "$D/rmpath0"; return 1; }; done; }
is "$(stat -c %a "$D/rmpath0")" 400 "a head has a file that root may read"
check "it says what the head is" has "head: rmpath0" "wwid: w1" "state: live" "sectors: 65536" "pr_key: 0x0"
check "what becomes of I/O" has "gate: park" "waiting: false" "parked: 0" "deadline: none"
# Once its partitions have been looked for.
eventually 60 "and what its paths are" has "members: 2" "path_set: 2" \
	"path0: nba $(devno nba) optimized weight=1 inflight=0 load=0/0 failures=0 failovers=0 suspect=false" \
	"path1: nbb $(devno nbb) non-optimized weight=7 inflight=0 load=0/0 failures=0 failovers=0 suspect=false"

# I/O that waits.
echo 600 >"$(hattr rmpath0 delayed_removal_secs)"
for p in nba nbb; do echo failed >"$(path_dir rmpath0 $p)/state"; done
server f
is "$(ask f "open /dev/rmpath0")" OK "a file is open"
tell f "write 0 4096 1"
eventually 30 "a bio that waits is counted" has "gate: park" "parked: 1" "waiting: true"
check "the paths have failed" grep -q "^path0: nba .* failed .* failures=1 " "$D/rmpath0"
for p in nba nbb; do echo optimized >"$(path_dir rmpath0 $p)/state"; done
is "$(answer f)" OK "it is written"
check "and counted no more" has "parked: 0" "waiting: false"
server_stop f
remove_path nba
remove_path nbb
eventually 30 "a removal that is pending is shown" has "state: removal-pending" "members: 0"
check "with its deadline" grep -q "^deadline: [0-9]* of 600000 ms" "$D/rmpath0"
count_is 2 "a head that waits has two references"

# Open, and the head goes.
server k
is "$(ask k "keep $D/rmpath0")" OK "the file is open"
count_is 3 "which is a reference on the module"
like "$(ask k reread)" '^[1-9][0-9]+$' "it can be read"
check "the head is removed" remove_head rmpath0
is "$(ask k reread)" EIO "then it cannot"
check "its name is gone" gone "$D/rmpath0"
count_is 1 "the file keeps the module"
refuse "which is not unloaded" rmmod rmpath
is "$(ask k let_go)" OK "the file is closed"
server_stop k
count_is 0 "the last reference is back"

# Read all the time.
(while :; do cat $D/rmpath*; done >/dev/null 2>&1) &
reader=$!
trouble=
for _ in 1 2 3 4 5 6; do
	# Its number is not always the same: the old one is free only when nothing is left of the old head.
	{ add_path device=/dev/nba wwid=w1 && add_path device=/dev/nbb wwid=w1 && remove_path nba &&
		remove_head "$(head_of w1)"; } || trouble="a head cannot be made and removed"
done
is "$trouble" "" "heads come and go while their file is read"
kill $reader
wait $reader 2>/dev/null
check "the module unloads" rmpath_unload
check "the folder goes with the module" gone $D

done_testing
