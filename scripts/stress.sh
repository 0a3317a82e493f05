#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# stress.sh [MINUTES]: the long lifetime and fault tests (tests/stress.sh), over and over on the debug kernel in the VM.
#
# Prints KTAP and, last, "N passed, N failed, N skipped". Leaked memory, a splat in the kernel's log and a module that
# cannot be unloaded fail it, as in check.sh. The last round ends after MINUTES (10), not at them.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

minutes=${1:-10}
[[ $minutes =~ ^[0-9]+$ ]] || die "MINUTES is a number, not '$minutes'"
[ -x "$TOP/tests/stress.sh" ] || die "tests/stress.sh is missing"
"$TOP/scripts/setup.sh"
"$TOP/scripts/kernel.sh" debug >/dev/null
"$TOP/scripts/build.sh" debug >/dev/null

out=$TOP/build/stress
rm -rf "$out"
mkdir -p "$out"
rc=0
"$TOP/scripts/vm.sh" --flavour debug --cpus "${CPUS:-2}" --memory "${MEMORY:-3G}" --idle 900 \
	--results "$out" --console "$out/console.log" --append log_buf_len=8M --env "MINUTES=$minutes" -- \
	scripts/guest-check.py --minutes "$minutes" stress.sh || rc=$?
(( rc == 0 )) || { echo "not ok - the VM ended with status $rc # see $out/console.log"; echo "end vm 0 1 0" >>"$out/progress-1"; }
print_summary "$out/progress-1"
