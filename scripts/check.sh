#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check.sh: everything that must pass: the KUnit suites and the system tests, on the debug kernel in the VM.
#
# Prints KTAP as it goes and, last, "N passed, N failed, N skipped": every KUnit case and every check of every system
# test counts. Fails on any of them, on a splat in the kernel's log, on leaked memory, on a module that cannot be
# unloaded, on a suite that the source declares and that has not run, and when nothing ran at all.
#
#   TESTS='04* 11*'   the system tests whose file names match (all)
#   KUNIT=only        no system tests; KUNIT=no: no KUnit suites
#   CPUS= MEMORY=     of the VM (2, 3G)
#   KDIR=             a configured, built kernel in place of the project's debug kernel
#
# Set-up and the kernel come first if they are missing. The console of the VM is in build/check/console-*.log.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

IDLE=600	# seconds without a line from the VM until it counts as dead

"$TOP/scripts/setup.sh"
"$TOP/scripts/kernel.sh" debug >/dev/null
"$TOP/scripts/build.sh" debug >/dev/null

todo=()
[ "${KUNIT:-}" = no ] || todo+=(kunit)
if [ "${KUNIT:-}" != only ]; then
	read -ra patterns <<<"${TESTS:-*}"
	for t in "$TOP"/tests/[0-9][0-9]-*.sh; do
		[ -x "$t" ] || continue
		t=$(basename "$t")
		wanted=
		for pattern in "${patterns[@]}"; do
			# shellcheck disable=SC2053 # it is a pattern
			[[ $t != $pattern && ${t%.sh} != $pattern ]] || wanted=1
		done
		[ -z "$wanted" ] || todo+=("$t")
	done
fi
(( ${#todo[@]} )) || die "there is nothing to run (TESTS='${TESTS:-}', KUNIT='${KUNIT:-}')"
todo+=(kmemleak)

out=$TOP/build/check
rm -rf "$out"
mkdir -p "$out"
: >"$out/progress"
total=${#todo[@]}
echo "KTAP version 1"
echo "1..$total"

# A VM runs what is left until it has done all or is no longer fit; then the next one goes on.
boot=0
while (( ${#todo[@]} )); do
	boot=$((boot + 1))
	before=${#todo[@]}
	console=$out/console-$boot.log
	rc=0
	"$TOP/scripts/vm.sh" --flavour debug --cpus "${CPUS:-2}" --memory "${MEMORY:-3G}" --idle "$IDLE" \
		--results "$out" --console "$console" --append log_buf_len=8M -- \
		scripts/guest-check.py --number $((total - before + 1)) "${todo[@]}" || rc=$?
	running=
	while read -r what item _; do
		case "$what" in
		begin) running=$item ;;
		end) running= ;;
		esac
		[ "$what" != end ] || todo=("${todo[@]:1}")
	done < <(tail -n "+$((${seen:-0} + 1))" "$out/progress")
	if [ -n "$running" ]; then
		echo "    not ok - the VM survived $running # see $console"
		echo "not ok $((total - ${#todo[@]} + 1)) $running"
		echo "end $running 0 1 0" >>"$out/progress"
		todo=("${todo[@]:1}")
	elif (( rc != 0 && rc != 75 )) || (( ${#todo[@]} == before )); then
		echo "# the VM ended with status $rc; ${#todo[@]} items did not run: ${todo[*]}"
		for item in "${todo[@]}"; do
			echo "not ok $((total - ${#todo[@]} + 1)) $item # did not run"
			echo "end $item 0 1 0" >>"$out/progress"
			todo=("${todo[@]:1}")
		done
	fi
	seen=$(wc -l <"$out/progress")
done

print_summary "$out/progress"
