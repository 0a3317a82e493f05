#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A path's folder in sysfs: its state decides where I/O goes, delete takes it away from inside its own file, and
# inflight and failures count. Injected errors: those of a path fail it over without the caller noticing, those of the
# medium or the target come back as they are and fail nothing, and with no path left the caller gets an error.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

sdebug_paths

make() {
	sdebug_head
	# Paths return by hand only, and nothing waits for one.
	echo 0 >"$(hattr "$HEAD" probe_secs)"
	echo 0 >"$(hattr "$HEAD" no_path_timeout_secs)"
	ask sys "open /dev/$HEAD" >/dev/null
}
# uses NAME DISK-OR-BOTH: ten reads go there and succeed.
uses() {
	local ra rb got
	read -r got ra rb <<<"$(counted_reads sys 10 "$a" "$b")"
	case $2 in
	both) is "$got $((ra >= 4)) $((rb >= 4))" "OK 1 1" "$1 ($ra and $rb)" ;;
	"$a") is "$got $ra $rb" "OK 10 0" "$1" ;;
	"$b") is "$got $ra $rb" "OK 0 10" "$1" ;;
	esac
}

make
ask sys "write 0 131072 1" >/dev/null
uses "two optimized paths share the I/O" both

# States by hand.
is "$(attr "$A/state" failed)" OK "a path is failed by hand"
is "$(value "$A/state")" failed "and says so"
uses "I/O goes to the other" "$b"
is "$(attr "$A/state" optimized)" OK "it is reinstated"
is "$(value "$A/state")" optimized "and says so"
uses "I/O goes to both again" both
is "$(attr "$A/state" inaccessible)" OK "a path is inaccessible"
is "$(value "$A/state")" inaccessible "and says so"
uses "I/O goes to the other" "$b"
is "$(attr "$A/state" non-optimized)" OK "a path is not optimized"
is "$(value "$A/state")" non-optimized "and says so"
uses "I/O goes to the optimized one" "$b"
is "$(attr "$B/state" failed)" OK "the optimized one is failed"
uses "I/O goes to the one that is left" "$a"
is "$(attr "$B/state" non-optimized)" OK "both are not optimized"
uses "I/O goes to both" both
for bad in dead live foo '' 'optimized x' OPTIMIZED optimize optimizedd; do
	before=$(snapshot)
	is "$(attr "$A/state" "$bad")" EINVAL "'$bad' is no state to write"
	is "$(snapshot)" "$before" "and changes nothing"
done
is "$(ask sys "read 0 4096")" OK "I/O is well"

# No usable path.
fails=$(hattr "$HEAD" io_fail_no_available_path_count)
for how in "failed failed" "inaccessible inaccessible" "failed inaccessible"; do
	before=$(value "$fails")
	attr "$A/state" "${how% *}" >/dev/null
	attr "$B/state" "${how#* }" >/dev/null
	is "$(ask sys "read 0 4096")" EIO "with paths $how a read gives EIO"
	is "$(ask sys "write 0 4096 1")" EIO "and a write"
	check "which is counted" at_least "$fails" $((before + 2))
done
is "$(hstate "$HEAD")" live "the head is live"
attr "$A/state" optimized >/dev/null
is "$(ask sys "read 0 4096")" OK "one path reinstated is enough"
attr "$B/state" optimized >/dev/null
uses "and both share again" both

# Errors of a path, of the target, of the moment. The read side; `every read` meets both paths.
if [ ! -e "$(inject_file "$a")" ]; then
	skip "injected errors" "this kernel has no CONFIG_BLK_ERROR_INJECTION"
else
	for status in TRANSPORT OFFLINE TIMEOUT; do
		before=$(value "$A/failures") over=$(value "$(hattr "$HEAD" failovers)")
		inject "$a" READ $status
		is "$(sysio_reads 6)" OK "$status on one path: no read fails"
		is "$(value "$A/state") $(value "$B/state")" "failed optimized" "$status fails that path and not the other"
		check "$status is counted on the path" at_least "$A/failures" $((before + 1))
		check "$status is counted as a failover" at_least "$(hattr "$HEAD" failovers)" $((over + 1))
		inject_none "$a"
		attr "$A/state" optimized >/dev/null
		uses "after $status and reinstating, both are used" both
		inject "$a" WRITE $status
		# Each CPU has a turn of its own: of three on two CPUs, two follow each other on one.
		sysio_each "write 0 131072 2" "write 131072 131072 3" "write 0 131072 2" "write 131072 131072 3"
		is "${replies[*]}" "OK OK OK OK" "$status on one path: no write fails"
		is "$(value "$A/state")" failed "$status on a write fails the path"
		is "$(ask sys "verify 0 131072 2") $(ask sys "verify 131072 131072 3")" "OK OK" "the data is there"
		inject_none "$a"
		attr "$A/state" optimized >/dev/null
	done
	# status=what the caller sees
	for row in NOTSUPP=EOPNOTSUPP NOSPC=ENOSPC TARGET=EREMOTEIO RESV_CONFLICT=EBADE MEDIUM=ENODATA \
		PROTECTION=EILSEQ INVAL=EINVAL AGAIN=EAGAIN; do
		before="$(value "$A/failures") $(value "$B/failures") $(value "$(hattr "$HEAD" failovers)")"
		inject "$a" READ "${row%=*}"
		is "$(sysio_reads 6)" "${row#*=} OK" "${row%=*} comes back to the caller, from the path that has it"
		is "$(value "$A/state") $(value "$B/state")" "optimized optimized" "${row%=*} fails no path"
		is "$(value "$A/failures") $(value "$B/failures") $(value "$(hattr "$HEAD" failovers)")" "$before" \
			"${row%=*} counts as no failure"
		inject_none "$a"
	done
	inject "$a" READ RESOURCE chance=2
	is "$(sysio_reads 10)" OK "RESOURCE is tried again, and no read fails"
	is "$(value "$A/state") $(value "$B/state")" "optimized optimized" "RESOURCE fails no path"
	inject_none "$a"
	inject "$a" READ IOERR
	is "$(sysio_reads 20)" OK "IOERR on one path: no read fails"
	is "$(value "$A/state") $(value "$B/state")" "failed optimized" "IOERR that repeats fails the path"
	inject_none "$a"
	attr "$A/state" optimized >/dev/null
	inject "$a" READ IOERR
	inject "$b" READ IOERR
	like "$(sysio_reads 6)" '^EIO$' "IOERR on both paths gives EIO"
	inject_none "$a"
	inject_none "$b"
	attr "$A/state" optimized >/dev/null
	attr "$B/state" optimized >/dev/null
	inject "$a" READ TRANSPORT
	inject "$b" READ TRANSPORT
	like "$(sysio_reads 6)" '^(EIO|EIO ENOLINK|ENOLINK)$' "TRANSPORT on both paths gives an error"
	is "$(value "$A/state") $(value "$B/state")" "failed failed" "and fails both"
	is "$(sysio_reads 2)" EIO "with both failed the error is EIO"
	inject_none "$a"
	inject_none "$b"
	attr "$A/state" optimized >/dev/null
	attr "$B/state" optimized >/dev/null
	uses "both are well again" both
	# A part of a big read fails on one path: all of it must be right in the end.
	inject "$a" READ TRANSPORT start=64,nr_sectors=8
	is "$(ask sys "verify 0 131072 2")" OK "an error in the middle of a big read"
	is "$(ask sys "verify 0 131072 2")" OK "and on its other path"
	inject_none "$a"
	attr "$A/state" optimized >/dev/null
fi

# Inflight: a read that the path keeps. The disk answers after so many jiffies.
echo 2500 >/sys/bus/pseudo/drivers/scsi_debug/delay
server slow
ask slow "open /dev/$HEAD ro" >/dev/null
tell slow "read 65536 4096"
one() { [ $(($(value "$A/inflight") + $(value "$B/inflight"))) = 1 ]; }
eventually 30 "a read on its way is in flight on one path" one
is "$(answer slow)" OK "it arrives"
is "$(value "$A/inflight") $(value "$B/inflight")" "0 0" "then nothing is in flight"
# A path taken away under its I/O: the read still ends well.
tell slow "read 65536 4096"
tell slow "read 131072 4096"
wait_for 30 one
check "a path is deleted while it has I/O" within 120 sh -c "echo 1 >$A/delete"
is "$(answer slow) $(answer slow)" "OK OK" "the reads end well"
echo 0 >/sys/bus/pseudo/drivers/scsi_debug/delay
server_stop slow

# Deleting from inside the objects' own files.
eventually 60 "the deleted path is gone" no_path "$HEAD" "$a"
check "its folder too" gone "$A"
eventually 60 "and its disk is free" answers OK "open /dev/$a excl"
ask sys "open /dev/$HEAD" >/dev/null
is "$(ask sys "read 0 4096")" OK "the head lives on the other"
is "$(attr "$B/delete" 0)" EINVAL "only 1 deletes a path"
is "$(attr "$(hattr "$HEAD" delete)" 2)" EINVAL "only 1 deletes a head"
check "both are there" exists "$B/state"
check "the path is added again" add_path "device=/dev/$a"
check "and deleted again" within 60 sh -c "echo 1 >$(path_dir "$HEAD" "$a")/delete"
eventually 60 "it is gone" no_path "$HEAD" "$a"
ask sys close >/dev/null
check "the last path's delete returns" within 60 sh -c "echo 1 >$B/delete"
eventually 60 "and the head goes with it" gone "/sys/block/$HEAD"
count_is 0 "with its reference"
make
ask sys close >/dev/null
check "the head's own delete returns" within 60 sh -c "echo 1 >$(hattr "$HEAD" delete)"
eventually 60 "and the head goes" gone "/sys/block/$HEAD"
count_is 0 "with its reference"
make
ask sys close >/dev/null
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
check "delete does not wait for delayed_removal_secs" within 60 sh -c "echo 1 >$(hattr "$HEAD" delete)"
eventually 60 "the head goes at once" gone "/sys/block/$HEAD"
count_is 0 "with its reference"

done_testing
