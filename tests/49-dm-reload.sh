#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Tables that are replaced: under verified I/O, from each selector to the next; by larger ones when the paths have grown;
# and a map that is removed when its last user closes it. Nothing that was counted stays counted.
# Time limit: 900 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod
rmpath_load auto_attach=0 && sdebug 3 || bail "no paths"
a=$(sdebug_disk 0) b=$(sdebug_disk 1) c=$(sdebug_disk 2) len=$(sectors "$(sdebug_disk 0)")
dm() { quick "dm $*"; echo "$reply"; }
server m

# Under I/O.
tables=(
	"1 queue_if_no_path 0 1 1 round-robin 0 3 1 /dev/$a 1 /dev/$b 1 /dev/$c 1"
	"1 queue_if_no_path 0 1 1 queue-length 0 3 1 /dev/$a 1 /dev/$b 1 /dev/$c 1"
	"1 queue_if_no_path 0 2 2 service-time 0 2 2 /dev/$a 1 1 /dev/$b 1 3 round-robin 0 1 1 /dev/$c 1"
	"1 queue_if_no_path 0 1 1 historical-service-time 2 500 2 3 1 /dev/$a 1 /dev/$b 1 /dev/$c 1"
	"1 queue_if_no_path 0 2 1 io-affinity 0 1 1 /dev/$b 1 queue-length 0 2 0 /dev/$c /dev/$a"
	"1 queue_if_no_path 0 3 1 service-time 0 1 1 /dev/$a 1 queue-length 0 1 1 /dev/$b 1 round-robin 0 1 1 /dev/$c 1"
)
check "a map" dm_make rmt-a "0 $len rmpath ${tables[0]}"
node=$(dm_node rmt-a)
fio_verify "$node" "${RMPATH_FIO_SECS:-15}" --ioengine=libaio --iodepth=8 --numjobs=2 --bsrange=4k-64k >"$TMP/fio" 2>&1 &
fio_pid=$!
rounds=0 bad=
while ! ended $fio_pid; do
	for table in "${tables[@]}"; do
		for step in "load rmt-a $len rmpath $table" "suspend rmt-a $([ $((rounds % 2)) = 0 ] || echo noflush)" "resume rmt-a"; do
			quick "dm ${step% }"
			[ "$reply" = OK ] || bad+="$step: $reply; "
		done
		# The last one comes back only in the next table.
		for path in "$a" "$b" "$c"; do quick "dm message rmt-a fail_path /dev/$path"; done
		quick "dm message rmt-a reinstate_path /dev/$c"
	done
	rounds=$((rounds + 1))
done
if wait $fio_pid; then ok "no error, no wrong data ($rounds rounds of ${#tables[@]} tables)"
else not_ok "no error, no wrong data" "$(tail -n 20 "$TMP/fio")"; fi
is "$bad" "" "each table was taken"
count_is 1 "one table is left"

# under_way TABLE STATUS: how much each path has under way whose selector counts that, a line each.
under_way() {
	awk -v table="$1" '
		BEGIN {
			place["queue-length"] = place["service-time"] = 1
			place["historical-service-time"] = 2
			words = split(table, word)
			for (i = 1; i <= words; i++) if (word[i] ~ /^[a-z-]*-(robin|length|time|affinity)$/) selector[++groups] = word[i]
		}
		{
			for (i = 1; i <= NF; i++) {
				if ($i ~ /^[AED]$/) group++
				if ($i !~ /^[0-9]+:[0-9]+$/) continue
				# Its state and failures; then what the selector says of it.
				i += 2
				if (selector[group] in place) print $(i + place[selector[group]])
			}
		}' <<<"$2"
}
# counts TABLE: what that is at the end.
counts() { [[ ! $1 =~ queue-length|service-time ]] || echo 0; }
# What a selector counts is counted out, whatever has become of the I/O.
for table in "${tables[@]}"; do
	selector=${table#*0 ? ? } selector=${selector%% *}
	dm load rmt-a "$len" rmpath "$table" >/dev/null
	dm resume rmt-a >/dev/null
	fio --name=load --filename="$node" --direct=1 --rw=randrw --bsrange=4k-64k --size=16m --ioengine=libaio \
		--iodepth=16 --number_ios=300 --minimal >"$TMP/fio" 2>&1 &
	fio_pid=$!
	while ! ended $fio_pid; do
		for path in "$a" "$b" "$c"; do
			quick "dm message rmt-a fail_path /dev/$path"
			quick "dm message rmt-a reinstate_path /dev/$path"
		done
	done
	wait $fio_pid || diag "$(tail -n 5 "$TMP/fio")"
	status=$(dm status rmt-a)
	is "$(under_way "$table" "$status" | sort -u)" "$(counts "$table")" "$selector: nothing is under way any more ($status)"
done

# Growing.
check "the map is removed" dmset remove --retry rmt-a
for n in 1 2; do
	check "a path of 16 MiB" dm_make rmt-p$n "0 32768 linear /dev/$a 0"
done
paths="0 0 1 1 service-time 0 2 2 $(dm_node rmt-p1) 1 1 $(dm_node rmt-p2) 1 1"
check "a map over both" dm_make rmt-a "0 32768 rmpath $paths"
ask m "open $(dm_node rmt-a)" >/dev/null
size() { value "/sys/class/block/$(basename "$(dm_node rmt-a)")/size"; }
is "$(size)" 32768 "it is as large"
is "$(ask m "read 16777216 4096")" "SHORT 0" "and ends there"
# dm core looks at the sizes when the table is to be used, and leaves the map suspended with the old one.
grow() { dm load rmt-a 65536 rmpath "$paths" >/dev/null; dm resume rmt-a; }
is "$(grow)" EINVAL "a table that is larger than the paths is refused"
dm load rmt-p1 65536 linear "/dev/$a" 0 >/dev/null
dm resume rmt-p1 >/dev/null
is "$(grow)" EINVAL "also if one has grown"
is "$(dm resume rmt-a) $(size)" "OK 32768" "the old one is resumed"
is "$(ask m "write 0 4096 6") $(ask m "verify 0 4096 6")" "OK OK" "and works"
dm load rmt-p2 65536 linear "/dev/$a" 0 >/dev/null
dm resume rmt-p2 >/dev/null
is "$(grow)" OK "but not if both have"
is "$(size)" 65536 "it has grown, open as it is"
is "$(ask m "write 16777216 4096 7") $(ask m "verify 16777216 4096 7")" "OK OK" "who has it open writes to the new part"
is "$(sysio "open /dev/$a" "verify 16777216 4096 7")" OK "which is where it should be"
is "$(dm load rmt-a 32768 rmpath "$paths") $(dm resume rmt-a) $(size)" "OK OK 32768" "it can be made smaller again"

# Removed when it is closed.
is "$(dm remove rmt-a)" EBUSY "a map in use cannot be removed"
is "$(dm remove rmt-a deferred)" OK "but it can be told to go when it is not"
is "$(ask m "write 4096 4096 8") $(ask m "verify 4096 4096 8")" "OK OK" "until then it works"
count_is 1 "and is a reference"
is "$(ask m close)" OK "it is closed"
map_gone() { [ "$(dm status rmt-a)" = ENXIO ]; }
eventually 60 "and gone" map_gone
count_is 0 "with its reference"
for n in 1 2; do check "its path is free" dmset remove --retry rmt-p$n; done

done_testing
