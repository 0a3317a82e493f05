#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# The head's limits are those of its paths at every moment: discard, write zeroes and NOWAIT where all have them, a
# write cache where any has one, sizes the smallest. They get wider again when a path leaves, follow what is changed
# below, and leave alone what is set in queue/. A flush reaches the path that has a cache. A path with other limits
# joins a head whose I/O waits for it.
. "$(dirname "$0")/lib.sh"

nullb nbfull 64 discard=1 cache_size=8 max_sectors=512 && nullb nbplain 64 max_sectors=256 &&
	nullb nbfull2 64 discard=1 cache_size=8 max_sectors=512 || bail "null_blk cannot be set up"
rmpath_load || bail "the module does not load"
queue() { value "/sys/block/$1/queue/$2"; }
# follows ATTR DISK: the head has what that disk has.
follows() { [ "$(queue "$HEAD" "$1")" = "$(queue "$2" "$1")" ]; }
join() { add_path "device=/dev/$1 wwid=limits"; }
queue_is() { [ "$(queue "$HEAD" "$1")" = "$2" ]; }
# rescanned ATTR VALUE: looks at the paths until the head has it.
rescanned() { echo 1 >"$(hattr "$HEAD" rescan)"; queue_is "$1" "$2"; }

# Where all have them, where any has them, and the smallest.
check "a path without cache and discard makes a head" join nbplain
HEAD=$(head_of limits)
is "$(queue "$HEAD" write_cache) $(queue "$HEAD" fua)" "write through 0" "it has no write cache, and no FUA"
is "$(queue "$HEAD" discard_max_bytes)" 0 "and no discard"
is "$(queue "$HEAD" max_hw_sectors_kb)" 128 "its bios are as large as the path's"
is "$(queue "$HEAD" nr_zones)" 0 "it has no zones"
check "a path with both joins" join nbfull
is "$(queue "$HEAD" write_cache) $(queue "$HEAD" fua)" "write back $(queue nbfull fua)" "the head has a write cache"
is "$(queue nbfull fua)" 1 "and FUA, as that path"
is "$(queue "$HEAD" discard_max_bytes)" 0 "but no discard"
is "$(queue "$HEAD" discard_granularity)" 0 "and no granularity for it"
is "$(queue "$HEAD" max_hw_sectors_kb)" 128 "the smaller size holds"
refuse "a discard is refused" blkdiscard -o 0 -l 65536 "/dev/$HEAD"

# Flushes go to the one that has the cache, whosever turn it is.
before=$(stat_of nbfull 16)
for n in 1 2 3 4; do
	is "$(sysio "open /dev/$HEAD buffered" "write $((n * 8192)) 4096 $n" fsync)" OK "flush $n ends well"
done
is "$(($(stat_of nbfull 16) - before))" 4 "all four have reached the path with the cache"
is "$(stat_of nbplain 16)" 0 "and none the one without"

# A path leaves.
before=$(stat_of nbfull 16)
check "the path with the cache is taken away" remove_path nbfull
is "$(($(stat_of nbfull 16) - before))" 1 "its cache is flushed for the last time"
is "$(queue "$HEAD" write_cache)" "write through" "the head has none any more"
check "it joins again" join nbfull
check "and so does another one" join nbfull2
check "the one without is taken away" remove_path nbplain
is "$(queue "$HEAD" discard_max_bytes)" "$(queue nbfull discard_max_bytes)" "now all have discard, and so has the head"
like "$(queue "$HEAD" discard_max_bytes)" '^[1-9]' "which is something"
is "$(queue "$HEAD" max_hw_sectors_kb)" 256 "and its bios are larger"
before=$(stat_of nbfull 12)$(stat_of nbfull2 12)
check "a discard is taken" blkdiscard -o 1048576 -l 65536 "/dev/$HEAD"
refuse "and reaches a path" test "$before" = "$(stat_of nbfull 12)$(stat_of nbfull2 12)"

# What its user sets stays.
echo 64 >"/sys/block/$HEAD/queue/max_sectors_kb"
echo 65536 >"/sys/block/$HEAD/queue/discard_max_bytes"
remove_path nbfull && join nbplain && remove_path nbplain && join nbfull
is "$(queue "$HEAD" max_sectors_kb)" 64 "max_sectors_kb stays as it was set"
is "$(queue "$HEAD" discard_max_bytes)" 65536 "and discard_max_bytes"

# What is changed below.
is "$(attr "$(hattr "$HEAD" rescan)" 2)" EINVAL "rescan takes nothing but 1"
is "$(attr "$(hattr "$HEAD" rescan)" "")" EINVAL "not nothing either"
echo "write through" >/sys/block/nbfull/queue/write_cache
nap 1
is "$(queue "$HEAD" write_cache)" "write back" "with one cache switched off the head has the other"
before=$(stat_of nbfull2 16)
wait_for 60 rescanned write_cache "write back"
for n in 1 2; do is "$(sysio "open /dev/$HEAD buffered" "write 0 4096 $n" fsync)" OK "flush $n ends well"; done
is "$(($(stat_of nbfull2 16) - before))" 2 "flushes go there"
echo "write through" >/sys/block/nbfull2/queue/write_cache
eventually 60 "with both switched off it has none" rescanned write_cache "write through"
echo "write back" >/sys/block/nbfull2/queue/write_cache
eventually 60 "nobody needs to ask for it" queue_is write_cache "write back"

# NOWAIT: device-mapper's delay target does not have it.
is "$(sysio "open /dev/$HEAD" "nowait 0 4096")" OK "a read that shall not wait is taken"
dm_make rmt-wait "0 131072 delay /dev/nbplain 0 0" || bail "no slow path"
wait=$(dm_node rmt-wait)
check "a path that may wait joins" add_path "device=$wait wwid=limits"
is "$(sysio "open /dev/$HEAD" "nowait 0 4096")" EOPNOTSUPP "such a read is refused"
check "it is taken away" remove_path "${wait#/dev/}"
is "$(sysio "open /dev/$HEAD" "nowait 0 4096")" OK "such a read is taken again"
maps_remove

# The one path that has a cache is not usable: a flush waits for it, and is not said to be done.
F=$(path_dir "$HEAD" nbfull2)
before=$(stat_of nbfull2 16)
server f
is "$(ask f "open /dev/$HEAD buffered") $(ask f "write 0 4096 5")" "OK OK" "something is written"
# So long that it looks again by itself only every hour or so.
another_waits() {
	echo 100000 >"$(hattr "$HEAD" no_path_timeout_secs)"
	echo inaccessible >"$F/state"
	is "$(ask f "write 0 4096 5")" OK "something else is written"
	tell f fsync
	is "$(answer f 2)" NOTHING "another flush waits"
}
all_is_well() {
	echo optimized >"$F/state"
	is "$(ask f "write 0 4096 5") $(ask f fsync)" "OK OK" "then all is well"
}
echo 100000 >"$(hattr "$HEAD" no_path_timeout_secs)"
echo failed >"$F/state"
tell f fsync
is "$(answer f 2)" NOTHING "a flush waits for the path with the cache"
echo optimized >"$F/state"
is "$(answer f)" OK "and ends well as soon as that is usable"
check "when it has been there" test "$(stat_of nbfull2 16)" -gt "$before"
another_waits
echo 0 >"$(hattr "$HEAD" no_path_timeout_secs)"
is "$(answer f)" EIO "until nothing is to wait"
all_is_well
another_waits
echo 1 >"$(hattr "$HEAD" no_path_timeout_secs)"
is "$(answer f)" EIO "only as long as it is to wait now"
all_is_well
another_waits
check "the path that it waits for is taken away" remove_path nbfull2
is "$(answer f)" OK "and with it what it waited for"
check "the path comes back" join nbfull2
F=$(path_dir "$HEAD" nbfull2)
all_is_well
echo 1 >"$(hattr "$HEAD" no_path_timeout_secs)"
echo inaccessible >"$F/state"
is "$(ask f "write 0 4096 6") $(ask f fsync)" "OK EIO" "or in an error, when the path has not become usable"
echo 60 >"$(hattr "$HEAD" no_path_timeout_secs)"
echo optimized >"$F/state"
is "$(ask f "write 0 4096 7") $(ask f fsync)" "OK OK" "then all is well"
server_stop f

# I/O waits for a path whose limits are others.
echo 3000 >"$(hattr "$HEAD" delayed_removal_secs)"
remove_path nbfull && remove_path nbfull2
check "without a path the removal is pending" hstate_is "$HEAD" removal-pending
is "$(queue "$HEAD" write_cache)" "write back" "with no path left the limits stay"
server f
is "$(ask f "open /dev/$HEAD")" OK "a file is open"
tell f "write 0 4096 7"
eventually 60 "a write waits" reads "$(hattr "$HEAD" requeued)" 1
check "a path of other limits joins" within 60 join nbplain
is "$(answer f 60)" OK "the write ends"
is "$(queue "$HEAD" max_hw_sectors_kb)" 128 "the head has the limits of that path"
is "$(queue "$HEAD" write_cache)" "write through" "all of them"
tell f close
server_stop f
echo 0 >"$(hattr "$HEAD" delayed_removal_secs)"

# A flush waits while the last path with a cache leaves, which takes as long as it takes to empty that.
dm_make rmt-cache "0 131072 linear /dev/nbfull2 0" || bail "no slow cache"
slow=$(dm_node rmt-cache)
check "a path with a cache joins one without" add_path "device=$slow wwid=limits"
is "$(queue "$HEAD" write_cache)" "write back" "the head has a cache"
server f
is "$(ask f "open /dev/$HEAD buffered")" OK "a file is open"
before=$(stat_of nbfull2 16)
dmset suspend --nolockfs --noflush rmt-cache
remove_path "${slow#/dev/}" &
remover=$!
wait_for 60 pstate_is "$HEAD" "${slow#/dev/}" dead || not_ok "it is leaving"
is "$(ask f "write 0 4096 1")" OK "something is written"
tell f fsync
is "$(answer f 1)" NOTHING "a flush waits"
dmset resume rmt-cache
is "$(answer f)" OK "and ends well"
refuse "but not before the cache is empty" test "$(stat_of nbfull2 16)" = "$before"
check "the path leaves" wait $remover
is "$(ask f "write 0 4096 2") $(ask f fsync)" "OK OK" "flushes end well without it"
server_stop f
maps_remove

# Blocks.
nullb nbbig1 64 blocksize=4096 && nullb nbbig2 64 blocksize=4096 || bail "null_blk cannot be set up"
add_path "device=/dev/nbbig1 wwid=big" && add_path "device=/dev/nbbig2 wwid=big" || bail "no head"
HEAD=$(head_of big)
for a in logical_block_size physical_block_size minimum_io_size; do
	check "$a is the paths'" follows "$a" nbbig1
done
is "$(sysio "open /dev/$HEAD" "read 512 512")" EINVAL "half a block cannot be read"

# Zeroes: null_blk does not write them by itself.
sdebug 1 dev_size_mb=64 lbpws=1 || bail "scsi_debug cannot be set up"
disk=$(sdebug_disk 0)
like "$(queue "$disk" write_zeroes_max_bytes)" '^[1-9]' "a SCSI disk writes zeroes"
add_path "device=/dev/$disk" || bail "no head"
HEAD=$(basename "$(dirname "$(readlink -f "/sys/block/$disk/holders"/rmpath*/rmpath)")")
check "write_zeroes_max_bytes is the path's" follows write_zeroes_max_bytes "$disk"
is "$(sysio "open /dev/$HEAD" "write 0 65536 5")" OK "something is written"
check "and zeroes over it" blkdiscard -z -o 0 -l 65536 "/dev/$HEAD"
is "$(sysio "open /dev/$HEAD" "zero 0 65536")" OK "they are there"
nullb nbnone 64 || bail "null_blk cannot be set up"
check "a path that does not write them joins" add_path "device=/dev/nbnone wwid=$(value "$(hattr "$HEAD" wwid)")"
is "$(queue "$HEAD" write_zeroes_max_bytes)" 0 "then the head does not either"

done_testing
