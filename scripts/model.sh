#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# model.sh [--long]: look at every order of events in the models of the removal protocol (tests/model/*.pml), by spin.
#
# Prints TAP. The protocol as it is must hold in all of them. Broken by hand, one rule each, and in the order of native
# NVMe multipath and of dm-multipath in Linux 7.2, it must give a counterexample: a model that cannot fail shows nothing.
#
#   --long     larger models too: some minutes, and 4 GB of memory (else less than a minute, 1 GB)
#   JOBS=      how many run at once (all processors, at most 2)
#
# What spin says is in build/model/, with the trail of each counterexample: spin -t -p -k TRAIL MODEL.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

long=
case "${1:-}" in
--long) long=1 ;;
'') ;;
*) die "no such option: $1 (see --help)" ;;
esac
command -v spin >/dev/null || die "spin is missing; run 'make setup'"
models=$TOP/tests/model
out=$TOP/build/model
rm -rf "$out"
mkdir -p "$out"
memory=1500
[ -z "$long" ] || memory=6000

# Name, what is expected, how it is looked at, the model, and its macros.
runs=(
	"kick: what waits is tried again after the grace period|holds|safety|kick|"
	"kick: before it, something waits for ever (native, hole 3)|fails|safety|kick|-DKICK_FIRST"
	"timeout: the end of a map's wait for a path|holds|safety|timeout|"
	"timeout: the timer is deleted after the lock (dm-multipath, race a)|fails|safety|timeout|-DDELETED_OUTSIDE"
	"timeout: its work does not look again (dm-multipath, race b)|fails|safety|timeout|-DNOT_LOOKED_AGAIN"
	"nopath: the end of a head's wait for a path, and one on probation|holds|safety|nopath|"
	"nopath, broken: who brings the path looks at the wait once|fails|safety|nopath|-DNOT_LOOKED_TWICE"
	"nopath, broken: a path that has failed again ends the wait|fails|safety|nopath|-DNOT_USABLE"
	"nopath, broken: whether it has is looked at before the lock|fails|safety|nopath|-DUNLOCKED"
	"nopath, broken: a probe ends the wait|fails|safety|nopath|-DENDED_BY_PROBE"
	"nopath, broken: a time that is over is forgotten while the path is on probation|fails|safety|nopath|-DFORGOTTEN"
	"nopath, broken: what is parked is kicked before the grace period|fails|safety|nopath|-DKICK_FIRST"
	"native: one path alone goes right|holds|safety|native|-DPATHS=1 -DCHECK_LEAK -DCHECK_PUT -DCHECK_ORPHAN -DCHECK_FOUND"
	"native: two see the last path, a reference is lost (hole 1)|fails|safety|native|-DCHECK_LEAK"
	"native: the same, and a reference is put twice|fails|safety|native|-DCHECK_PUT"
	"native: attaching fails after the cancel (hole 2)|fails|safety|native|-DFAILING -DCHECK_ORPHAN"
	"native: the delay becomes N in between (hole 4)|fails|safety|native|-DPATHS=1 -DSTORING -DCHECK_FOUND"
	"native: what is written does not move the timer (hole 5)|fails|safety|native|-DPATHS=1 -DSTORING -DCHECK_OBEY"
	"removal: two paths, and writes to the attributes|holds|safety|removal|-DOPENS=0 -DSTORES=1 -DDOOM -DROUNDS=1"
	"removal: an opener|holds|safety|removal|-DOPENS=1 -DSTORES=0 -DROUNDS=1"
	"removal: discovery, and timers that fire early|holds|safety|removal|-DOPENS=0 -DSTORES=1 -DROUNDS=1 -DDISCOVERY -DTIMERS_FIRE_EARLY"
	"removal: a head without a path ends or gets one|holds|ends|removal|-DOPENS=0 -DSTORES=1 -DROUNDS=1"
)
wrong=(
	"the token that arm gives back is forgotten|SPARE_FORGOTTEN"
	"a cancel does not put|CANCEL_WITHOUT_PUT"
	"last path is decided in one section and acted on in another|DECIDED_AND_DONE_APART"
	"run does not decide anew|NOT_DECIDED_ANEW"
	"nobody comes back when the last device is closed|NOBODY_COMES_BACK"
	"attach disarms before its last step that can fail|DISARM_FIRST"
	"exit waits for counts only|EXIT_WAITS_FOR_COUNTS_ONLY"
	"a head that was given up leaves the registry by its name|ABANDONED_BY_NAME"
)
for w in "${wrong[@]}"; do
	runs+=("removal, broken: ${w%|*}|fails|safety|removal|-DOPENS=0 -DSTORES=1 -DROUNDS=1 -DWRONG_${w#*|}")
done
runs+=("removal, broken: the disk lets go of its head while it is open|fails|safety|removal|-DOPENS=1 -DSTORES=0 -DROUNDS=1 -DWRONG_DISK_PUT_EARLY")
runs+=("removal, broken: a head without a path stays|fails|ends|removal|-DOPENS=0 -DSTORES=1 -DROUNDS=1 -DWRONG_NOBODY_COMES_BACK")
if [ -n "$long" ]; then
	runs+=(
		"removal: two paths, and more writes to the attributes|holds|safety|removal|-DOPENS=0 -DSTORES=2 -DDOOM -DROUNDS=1"
		"removal: paths that come twice|holds|safety|removal|-DOPENS=0 -DSTORES=0 -DROUNDS=2"
		"removal: three paths|holds|safety|removal|-DOPENS=0 -DSTORES=0 -DROUNDS=1 -DPATHS=3"
		"removal: an opener, and writes to the attributes|holds|safety|removal|-DOPENS=1 -DSTORES=1 -DROUNDS=1 -DDOOM"
		"removal: a head without a path ends, whatever is written|holds|ends|removal|-DOPENS=0 -DSTORES=2 -DROUNDS=1 -DDOOM"
	)
fi

# look NUMBER EXPECTED HOW MODEL MACRO...: leaves "ok", or what is wrong, in NUMBER/result.
look() {
	local dir=$out/$1 want=$2 how=$3 model=$4 errors
	local -a cc=(-DSAFETY -DNOCLAIM) pan=()
	shift 4
	mkdir -p "$dir"
	cd "$dir"
	# Weak fairness: who can go on all the time does so in the end. Assertions are looked at elsewhere.
	[ "$how" != ends ] || { cc=(-DNFAIR=4); pan=(-a -f -A -E); }
	# A counterexample is soon found, and takes longer to compile than to find.
	if [ "$want" = holds ]; then cc+=(-O1); else cc+=(-O0); fi
	if ! { spin -a "$@" "$models/$model.pml" && gcc "${cc[@]}" -DMEMLIM="$memory" -w -o pan pan.c; } >log 2>&1; then
		echo "it cannot be compiled" >result
		return
	fi
	./pan -m100000 "${pan[@]}" >>log 2>&1
	rm -f pan pan.[bchmpt]
	errors=$(sed -n 's/.*errors: \([0-9]*\)$/\1/p' log)
	if grep -qE 'max search depth too small|reached -DMEMLIM bound|out of memory|hash table full' log; then
		echo "the search was not completed" >result
	elif [ "$want" = holds ] && [ "$errors" != 0 ]; then
		echo "there is a counterexample: $(grep -m 1 '^pan:1:' log)" >result
	elif [ "$want" = fails ] && { [ -z "$errors" ] || [ "$errors" = 0 ]; }; then
		echo "there is no counterexample" >result
	elif [ "$want" = fails ] && ! grep -qE '^pan:1: (assertion violated|acceptance cycle)' log; then
		echo "it is wrong in another way than expected: $(grep -m 1 '^pan:1:' log)" >result
	else
		echo ok >result
	fi
}

# summary NUMBER: how much was looked at, or what was found.
summary() {
	awk '/states, stored/ {states = $1} /elapsed time/ {secs = $4} /^pan:1:/ {sub(/^pan:1: /, ""); found = $0}
		END {print found ? found : states " states in " secs + 0 " s"}' "$out/$1/log"
}

jobs=$JOBS
(( jobs <= 2 )) || jobs=2
set +e
number=0
for run in "${runs[@]}"; do
	number=$((number + 1))
	IFS='|' read -r _ want how model macros <<<"$run"
	while (( $(jobs -rp | wc -l) >= jobs )); do wait -n; done
	# shellcheck disable=SC2086 # one macro a word
	look "$number" "$want" "$how" "$model" $macros &
done
wait

echo "1..${#runs[@]}"
number=0 status=0
for run in "${runs[@]}"; do
	number=$((number + 1))
	result=$(cat "$out/$number/result" 2>/dev/null)
	if [ "$result" = ok ]; then
		echo "ok $number - ${run%%|*}"
		echo "# $(summary "$number")"
	else
		echo "not ok $number - ${run%%|*}"
		printf '# %s\n# see %s\n' "${result:-it did not come to its end}" "$out/$number/log"
		status=1
	fi
done
exit $status
