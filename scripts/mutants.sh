#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# mutants.sh [--build | --apply]: whether the tests notice when a rule of the code is broken (tests/mutants/*.mut).
#
# Each mutation is applied to a copy of the source, which is built for the debug kernel, and the tests that are expected
# to notice run in a VM of its own, up to the first that fails. A check that fails, a kernel that dies or complains, of tasks
# that hang too: all of that kills the mutant. One that no test notices survives, and is a failure. Prints TAP.
#
#   MUTANTS='03 17'   these only (all)
#   VMS=              how many are looked at at once (2 if there are two cores and memory for both)
#   LIMIT=            seconds for each test of a mutant (900); what takes longer hangs
#   --apply           only see that each mutation fits the source
#   --build           and that it compiles
#
# First the tests run without a mutation (00), since a test that fails anyway kills nobody. What has been found is kept
# in build/mutants/, so that a run that was interrupted goes on where it was; it counts as long as neither the source nor
# the mutation changes. A mutant takes two minutes or so, all of them some hours.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

mode=run
case "${1:-}" in
--build | --apply) mode=${1#--} ;;
'') ;;
*) die "no such option: $1 (see --help)" ;;
esac
if [ "$mode" != apply ]; then
	"$TOP/scripts/setup.sh"
	"$TOP/scripts/kernel.sh" debug >/dev/null
fi
exec python3 "$TOP/scripts/mutants.py" "$TOP" "$mode" "${LIMIT:-900}" "${VMS:-$(default_vms)}" "${MUTANTS:-}"
