#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# stress.sh [MINUTES]: the long lifetime and fault tests (tests/stress.sh), over and over on the debug kernel in the VM.
#
#   LONG=1   once, by numbers: a million races of arming and disarming, 100,000 flaps, 1,000 reconnects, 10,000 loads and
#            unloads (tests/stress-counts.sh), an hour of CPUs that go and requests that fail, a million wrong writes.
#            RMPATH_PARTS=, RMPATH_PART_SECS=, RMPATH_RACES=, RMPATH_FLAPS=, RMPATH_RECONNECTS=, RMPATH_RELOADS=,
#            RMPATH_HOTPLUG_SECS=, RMPATH_WRITES= and RMPATH_SEED= say otherwise; ITEMS= which of the files
#   FLAVOUR= dev or debug (debug): on the dev kernel about eight times as fast, but nobody looks for leaked memory
#   CPUS= MEMORY=   of the VM (2, 3G)
#
# Prints KTAP and, last, "N passed, N failed, N skipped". Leaked memory, a splat in the kernel's log and a module that
# cannot be unloaded fail it, as in check.sh. The last round ends after MINUTES (10), not at them.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

minutes=${1:-10}
[[ $minutes =~ ^[0-9]+$ ]] || die "MINUTES is a number, not '$minutes'"
[ -x "$TOP/tests/stress.sh" ] || die "tests/stress.sh is missing"
"$TOP/scripts/setup.sh"
flavour=${FLAVOUR:-debug}
"$TOP/scripts/kernel.sh" "$flavour" >/dev/null
"$TOP/scripts/build.sh" "$flavour" >/dev/null

items=(stress.sh) args=(--minutes "$minutes") vars=(--env "MINUTES=$minutes")
if [ -n "${LONG:-}" ]; then
	read -ra items <<<"${ITEMS:-stress-counts.sh 56-hotplug-faults.sh 54-attribute-fuzz.sh}"
	# Once: the time is up when the first round is over.
	args=(--minutes 0)
	: "${RMPATH_HOTPLUG_SECS:=3600}" "${RMPATH_WRITES:=1000000}" "${RMPATH_LIMIT_SECS:=864000}"
	for v in ${!RMPATH_*}; do
		[ "$v" = RMPATH_KVM ] || vars+=(--env "$v=${!v}")
	done
fi

out=$TOP/build/stress
rm -rf "$out"
mkdir -p "$out"
rc=0
"$TOP/scripts/vm.sh" --flavour "$flavour" --cpus "${CPUS:-2}" --memory "${MEMORY:-3G}" --idle 900 \
	--results "$out" --console "$out/console.log" --append log_buf_len=8M "${vars[@]}" -- \
	scripts/guest-check.py "${args[@]}" "${items[@]}" || rc=$?
(( rc == 0 )) || { echo "not ok - the VM ended with status $rc # see $out/console.log"; echo "end vm 0 1 0" >>"$out/progress-1"; }
print_summary "$out/progress-1"
