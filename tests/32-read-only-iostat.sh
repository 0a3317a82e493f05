#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A head that is set read-only refuses writes. A path that can only be read leaves a head that can be written; when all
# can only be read, so can the head. The head's statistics count each read, write, discard and flush once, however often
# it was sent, and nothing stays in flight.
. "$(dirname "$0")/lib.sh"

nullb nba 64 discard=1 cache_size=8 && nullb nbb 64 discard=1 cache_size=8 || bail "null_blk cannot be set up"
rmpath_load || bail "the module does not load"
add_path "device=/dev/nba wwid=ro" && add_path "device=/dev/nbb wwid=ro" || bail "no head"
HEAD=$(head_of ro)
rescan() { echo 1 >"$(hattr "$HEAD" rescan)"; }
rescan_no_path() { rescan; no_path "$HEAD" "$1"; }
rescan_ro_is() { rescan; reads "/sys/block/$HEAD/ro" "$1"; }

# Its user says so (BLKROSET).
server f
is "$(ask f "open /dev/$HEAD")" OK "a file is open for writing"
check "the head is set read-only" blockdev --setro "/dev/$HEAD"
is "$(ask f "write 0 4096 1")" EPERM "a write is refused"
is "$(ask f "read 0 4096")" OK "a read is not"
is "$(sysio "open /dev/$HEAD" "write 0 4096 1")" EPERM "a new file cannot write either"
rescan
nap 1
is "$(blockdev --getro "/dev/$HEAD")" 1 "and its paths do not change that"
check "it can be written again" blockdev --setrw "/dev/$HEAD"
is "$(ask f "write 0 4096 1")" OK "and is"

# A path.
log_mark
blockdev --setro /dev/nbb
eventually 60 "a path that can only be read leaves" rescan_no_path nbb
is "$(log_ours | grep -c "path nbb can only be read now")" 1 "with one line that says why"
is "$(attr $CLASS/add_path "device=/dev/nbb wwid=ro")" EROFS "and may not come back"
blockdev --setro /dev/nba
eventually 60 "when all can only be read, so can the head" rescan_ro_is 1
is "$(ask f "write 0 4096 2")" EPERM "a write is refused"
check "the path stays" has_paths "$HEAD" nba
blockdev --setrw /dev/nba
eventually 60 "until they can be written" rescan_ro_is 0
is "$(ask f "write 0 4096 1")" OK "then the head can be, too"
blockdev --setrw /dev/nbb
check "the other may come back" add_path "device=/dev/nbb wwid=ro"

# Statistics.
# counts: reads, their sectors, writes, theirs, discards, theirs, flushes
counts() { local s; read -r -a s <"/sys/block/$HEAD/stat"; now=("${s[0]}" "${s[2]}" "${s[4]}" "${s[6]}" "${s[11]}" "${s[13]}" "${s[15]}"); }
# counted WANT NAME: since begin.
begin() { counts; was=("${now[@]}"); }
counted() {
	local i diff=()
	counts
	for i in "${!now[@]}"; do diff+=($((now[i] - was[i]))); done
	is "${diff[*]}" "$1" "$2"
}
inflight_is() { local r w; read -r r w <"/sys/block/$HEAD/inflight"; [ "$r $w" = "$1" ]; }
begin
for n in 1 2 3; do ask f "read $((n * 8192)) 8192"; done >/dev/null
counted "3 48 0 0 0 0 0" "three reads"
begin
for n in 1 2 3 4; do ask f "write $((n * 4096)) 4096 $n"; done >/dev/null
counted "0 0 4 32 0 0 0" "four writes"
begin
# BLKDISCARD, without what blkdiscard reads to see whether that is wise.
is "$(ask f "ioctl 0x1277 00001000000000000000020000000000")" "0 00001000000000000000020000000000" "a discard is taken"
counted "0 0 0 0 1 256 0" "a discard"
begin
ask f fsync >/dev/null
ask f fsync >/dev/null
counted "0 0 0 0 0 0 2" "two flushes"
check "nothing is in flight" inflight_is "0 0"

if [ -e "$(inject_file nba)" ]; then
	# Paths return by hand only.
	echo 0 >"$(hattr "$HEAD" probe_secs)"
	inject nba READ TRANSPORT
	inject nbb READ IOERR chance=2
	begin
	for n in 1 2 3 4 5 6; do ask f "read $((n * 4096)) 4096"; done >/dev/null
	counted "6 48 0 0 0 0 0" "six reads that were sent more than once count once"
	inject_none nbb
	inject nbb READ MEDIUM
	begin
	like "$(ask f "read 0 4096")" '^(EIO|ENODATA)$' "a read fails"
	counted "1 8 0 0 0 0 0" "and counts"
	check "nothing is in flight after that" inflight_is "0 0"
	inject_none nba
	inject_none nbb
	for p in nba nbb; do echo optimized >"$(path_dir "$HEAD" $p)/state"; done
else
	skip "reads that fail" "no error injection in this kernel"
fi

# What waits is in flight.
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
remove_path nba && remove_path nbb
begin
tell f "write 0 4096 5"
eventually 60 "a write that waits for a path is in flight" inflight_is "0 1"
check "a path comes" add_path "device=/dev/nba wwid=ro"
is "$(answer f 60)" OK "it ends"
counted "0 0 1 8 0 0 0" "and counts once"
check "and nothing is in flight" inflight_is "0 0"
echo 0 >"/sys/block/$HEAD/queue/iostats"
begin
ask f "read 0 4096" >/dev/null
counted "0 0 0 0 0 0 0" "nothing is counted with iostats switched off"
server_stop f

done_testing
