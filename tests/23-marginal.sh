#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Marginal paths: one that is slow, or fails now and then, is marked, used after all others, and forgiven: by writing a
# state, by turning this off, and after a while; and none is marked while it is off, or when it is the only one.
# Time limit: 1800 s
. "$(dirname "$0")/lib.sh"

modprobe dm-mod && modprobe dm-delay
rmpath_load auto_attach=0 && nullb nbstore 64 || bail "no disk"
dmset create rmt-good --table "0 131072 linear /dev/nbstore 0" && dmset create rmt-bad --notable || bail "no maps"
good=$(dm_node rmt-good) bad=$(dm_node rmt-bad)
delay() {
	is "$(sysio_all "dm load rmt-bad 131072 delay /dev/nbstore 0 $1" "dm suspend rmt-bad noflush" "dm resume rmt-bad")" \
		"OK OK OK" "the bad path takes $1 ms more"
}
delay 100
add_path "device=$good wwid=m" && add_path "device=$bad wwid=m" || bail "no head can be made"
HEAD=$(head_of m)
settled_node "$HEAD" || bail "the head has no node"
good=${good##*/} bad=${bad##*/}
GOOD=$(path_dir "$HEAD" "$good") BAD=$(path_dir "$HEAD" "$bad")
knob() { hattr "$HEAD" "marginal_path_$1"; }
states() { echo "$(value "$GOOD/state") $(value "$BAD/state")"; }

# The attributes.
is "$(value "$(knob err_sample_time)") $(value "$(knob err_rate_threshold)") $(value "$(knob latency_pct)") $(
	value "$(knob err_recheck_gap_time)")" "0 10 1000 300" "it is off"
for k in err_sample_time err_rate_threshold latency_pct err_recheck_gap_time; do
	before=$(value "$(knob $k)")
	for row in x=EINVAL =EINVAL -1=EINVAL 4294967296=ERANGE; do
		is "$(attr "$(knob $k)" "${row%=*}") $(value "$(knob $k)")" "${row#*=} $before" "$k cannot be '${row%=*}'"
	done
	is "$(attr "$(knob $k)" 777) $(value "$(knob $k)")" "OK 777" "but 777"
	attr "$(knob $k)" "$before" >/dev/null
done
is "$(attr "$(knob err_rate_threshold)" 1001) $(attr "$(knob latency_pct)" 100)" "ERANGE ERANGE" \
	"rates are up to 1000, percent above 100"

ask sys "open /dev/$HEAD" >/dev/null
# some N: N reads; says which results came, and how many of them the bad path had.
some() {
	local i cmds=() n
	n=$(stat_of "$bad" 1)
	for ((i = 0; i < $1; i++)); do cmds+=("read $((i * 4096)) 4096"); done
	sysio_each "${cmds[@]}"
	got=$(printf '%s\n' "${replies[@]}" | sort -u | paste -sd ' ')
	used=$(($(stat_of "$bad" 1) - n))
}
# Reads that say enough about both paths, until that has been seen.
marked() { some 40; [ "$(states)" = "optimized marginal" ]; }
unmarked() { [ "$(states)" = "optimized optimized" ]; }

some 60
is "$(states)" "optimized optimized" "while it is off no path is marked"
attr "$(knob latency_pct)" 300 >/dev/null
attr "$(knob err_sample_time)" 1 >/dev/null
log_mark
eventually 120 "the slow path is marginal" marked
like "$(log_ours)" "path $bad is marginal: [0-9]+ us for a bio, the fastest needs [0-9]+ us" "and the log says why"
some 20
is "$got $used" "OK 0" "it is not used"
attr "$GOOD/state" non-optimized >/dev/null
some 20
is "$got $used" "OK 0" "nor when the other is not optimized"
attr "$GOOD/state" failed >/dev/null
some 20
is "$got $used" "OK 20" "but when it is the only one"
is "$(value "$BAD/state")" marginal "and stays what it is"
attr "$GOOD/state" optimized >/dev/null
for p in numa queue-depth service-time historical-service-time round-robin; do
	attr "$(hattr "$HEAD" iopolicy)" $p >/dev/null
	some 10
	is "$got $used" "OK 0" "$p does not use it"
done

# Forgiven by hand, and marked again; then by turning it off.
is "$(attr "$BAD/state" optimized) $(states)" "OK optimized optimized" "writing a state forgives it"
eventually 120 "it is marked again" marked
is "$(attr "$(knob err_sample_time)" 0) $(states)" "OK optimized optimized" "turning it off forgives it"
some 20
check "and it is used ($used)" test "$used" -ge 5
attr "$(knob err_sample_time)" 1 >/dev/null
eventually 120 "it is marked when it is on again" marked

# The fast one goes: the only one is not marked, and a mark does not outlive a path.
check "the good path leaves" remove_path "$good"
some 20
is "$got $used" "OK 20" "I/O goes on"
check "it returns" add_path "device=/dev/$good wwid=m"
GOOD=$(path_dir "$HEAD" "$good")
check "the bad path leaves" remove_path "$bad"
attr "$(knob err_recheck_gap_time)" 2 >/dev/null
check "and returns" add_path "device=/dev/$bad wwid=m"
BAD=$(path_dir "$HEAD" "$bad")
is "$(states)" "optimized optimized" "without a mark"
log_mark
# By the log: two seconds later the mark may be gone again.
earned() { some 40; log_ours | grep -q "path $bad is marginal"; }
eventually 120 "which it earns again" earned

# It behaves: forgiven after the time of the recheck, without I/O, and not marked again.
delay 0
attr "$(knob latency_pct)" 100000 >/dev/null
eventually 120 "the path that behaves is forgiven" unmarked
like "$(log_ours)" "path $bad is forgiven" "and the log says so"
for i in 1 2 3; do some 60; nap 1; done
is "$(states)" "optimized optimized" "and stays so"
check "it is used ($used)" test "$used" -ge 15

# Errors: of 50 sectors on one path, which never come twice in a row there.
if [ ! -e "$(inject_file "$bad")" ]; then
	skip "errors" "this kernel has no CONFIG_BLK_ERROR_INJECTION"
else
	attr "$(knob latency_pct)" 0 >/dev/null
	attr "$(knob err_recheck_gap_time)" 0 >/dev/null
	inject "$bad" READ IOERR start=8192,nr_sectors=8
	failing() {
		local i cmds=()
		for ((i = 0; i < 10; i++)); do
			cmds+=("read 4194304 4096" "read 0 4096" "read 4096 4096" "read 8192 4096" "read 12288 4096")
		done
		sysio_each "${cmds[@]}"
		got=$(printf '%s\n' "${replies[@]}" | sort -u | paste -sd ' ')
		[ "$got" = OK ] || return 1
		[ "$(states)" = "optimized marginal" ]
	}
	log_mark
	eventually 120 "the path that fails now and then is marginal" failing
	like "$(log_ours)" "path $bad is marginal: [0-9]+ errors in [0-9]+ bios" "and the log says why"
	is "$got" OK "no read has failed"
	some 20
	is "$got $used" "OK 0" "it is not used"
	# Errors of the target are nobody's fault.
	inject_none "$bad"
	attr "$BAD/state" optimized >/dev/null
	inject "$bad" READ MEDIUM start=8192,nr_sectors=8
	for i in 1 2 3; do failing; nap 0.7; done
	is "$(states)" "optimized optimized" "errors that any path would give do not count"
	inject_none "$bad"
fi
# The timer is pending when the head goes, and has a reference.
attr "$(knob err_sample_time)" 3000 >/dev/null
some 20
ask sys close >/dev/null
check "the head goes" remove_head "$HEAD"
count_is 0 "with its reference"

done_testing
