#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# check.sh: everything that must pass: the KUnit suites and the system tests, on the debug kernel in the VM, and beside
# them the models of the removal protocol, misuse that must not compile, and, on the dev kernel, what an I/O and many
# heads cost.
#
# Prints KTAP as it goes and, last, "N passed, N failed, N skipped": every KUnit case and every check of every system
# test counts. Fails on any of them, on a splat in the kernel's log, on leaked memory, on a module that cannot be
# unloaded, on a suite that the source declares and that has not run, and when nothing ran at all.
#
#   TESTS='04* 11*'   the system tests whose file names match (all), and 'model', 'compile-fail', 'cost', 'scale'
#   KUNIT=only        nothing else; KUNIT=no: no KUnit suites
#   VMS=              how many VMs share the work (2 if there are two cores and memory for both: one VM keeps little
#                     more than one core busy)
#   CPUS= MEMORY=     of each VM (2, 3G)
#   SECS=             begin nothing more after so many seconds, and skip what is left, with that as the reason (no limit)
#   KDIR=             a configured, built kernel in place of the project's debug kernel
#
# Set-up and the kernel come first if they are missing. The console of the VM is in build/check/console-*.log.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

IDLE=600	# seconds without a line from the VM until it counts as dead
LOCAL=(model compile-fail cost scale)	# scripts that print TAP

"$TOP/scripts/setup.sh"
"$TOP/scripts/kernel.sh" debug >/dev/null
"$TOP/scripts/build.sh" debug >/dev/null

items=()
[ "${KUNIT:-}" = no ] || items+=(kunit)
local=()
read -ra patterns <<<"${TESTS:-*}"

# wanted NAME
wanted() {
	local pattern
	for pattern in "${patterns[@]}"; do
		# shellcheck disable=SC2053 # it is a pattern
		[[ $1 != $pattern && ${1%.sh} != $pattern ]] || return 0
	done
	return 1
}

# by_limit: the system tests, those that ask for the most time first, so that no VM is left with a long one at the end.
by_limit() {
	local t limit
	for t in "$TOP"/tests/[0-9][0-9]-*.sh; do
		[ -x "$t" ] || continue
		limit=$(sed -n 's/^# Time limit: \([0-9]*\) s/\1/p' "$t")
		echo "${limit:-0} $(basename "$t")"
	done | sort -k1,1nr -k2 | cut -d' ' -f2
}

if [ "${KUNIT:-}" != only ]; then
	while read -r t; do
		! wanted "$t" || items+=("$t")
	done < <(by_limit)
	for t in "${LOCAL[@]}"; do
		! wanted "$t" || local+=("$t")
	done
fi
total=${#items[@]}
(( total + ${#local[@]} )) || die "there is nothing to run (TESTS='${TESTS:-}', KUNIT='${KUNIT:-}')"

vms=${VMS:-$(default_vms)}
(( vms <= total )) || vms=$total

out=$TOP/build/check
rm -rf "$out"
mkdir -p "$out/claim"
echo "KTAP version 1"
# Each VM looks for leaks at its end.
echo "1..$((total + vms + ${#local[@]}))"

# run_local NUMBER NAME: scripts/NAME.sh, which prints TAP, on this machine.
run_local() {
	local line passed=0 failed=0 skipped=0 plan=none start=$SECONDS
	printf '    KTAP version 1\n    # Subtest: %s\n' "$2"
	while IFS= read -r line; do
		printf '    %s\n' "$line"
		case "$line" in
		'not ok '*) failed=$((failed + 1)) ;;
		'ok '*' # SKIP'*) skipped=$((skipped + 1)) ;;
		'ok '*) passed=$((passed + 1)) ;;
		1..*) plan=${line#1..} ;;
		esac
	done < <("$TOP/scripts/$2.sh" 2>&1 </dev/null)
	if [ "$plan" != $((passed + failed + skipped)) ]; then
		printf '    not ok - %s keeps its plan\n' "$2"
		failed=$((failed + 1))
	fi
	printf '    # %s: %d passed, %d failed, %d skipped, %d s\n' "$2" $passed $failed $skipped $((SECONDS - start))
	(( failed )) && printf 'not '
	printf 'ok %d %s\n' "$1" "$2"
	echo "end $2 $passed $failed $skipped" >>"$out/progress-local"
}

# print_blocks WHO: an item's lines in one piece, since several VMs speak at once.
print_blocks() {
	local line block=
	(( vms > 1 )) || { tee -a "$out/ktap"; return; }
	{
		while IFS= read -r line; do
			case "$line" in
			' '*)
				[[ $line != '    # Subtest: '* ]] || printf '# %s: %s\n' "$1" "${line##* }"
				block+=$line$'\n'
				continue
				;;
			esac
			flock 7
			printf '%s%s\n' "$block" "$line" | tee -a "$out/ktap"
			flock -u 7
			block=
		done
		printf '%s' "$block" | tee -a "$out/ktap"
	} 7>"$out/print.lock"
}

run_all_local() {
	local item
	for item in "${local[@]}"; do
		! claim "$item" || run_local "$(number_of "$item")" "$item" | print_blocks host
	done
}

# claim ITEM: an item is for one VM only, or for the host; the VMs take theirs in the same way.
claim() { mkdir "$out/claim/$1" 2>/dev/null; }

# time_up: takes all items that nobody has begun, and skips them.
time_up() {
	local item
	trap '' TERM # what is claimed here is said here
	for item in "${items[@]}" "${local[@]}"; do
		claim "$item" || continue
		echo "ok $(number_of "$item") $item # SKIP not begun after $SECS s (SECS=)" | print_blocks time
		echo "end $item 0 0 1" >>"$out/progress-time"
	done
}

# failed VM NUMBER ITEM WHY: an item that could not speak for itself.
failed() {
	printf '    not ok - %s\nnot ok %d %s\n' "$4" "$2" "$3" | print_blocks "VM $1"
	echo "end $3 0 1 0" >>"$out/progress-$1"
}

number_of() {
	local i
	for i in "${!items[@]}"; do
		[ "${items[i]}" != "$1" ] || echo $((i + 1))
	done
	for i in "${!local[@]}"; do
		[ "${local[i]}" != "$1" ] || echo $((total + vms + i + 1))
	done
}

anything_left() {
	local item
	for item in "${items[@]}"; do
		[ -d "$out/claim/$item" ] || return 0
	done
	return 1
}

# work VM: boots it, again if it has died, or an item has failed, which may have left anything, until all are taken.
work() {
	local vm=$1 boot=0 fruitless=0 rc running console item
	touch "$out/progress-$vm"
	while true; do
		boot=$((boot + 1))
		console=$out/console-$vm-$boot.log
		"$TOP/scripts/vm.sh" --flavour debug --cpus "${CPUS:-2}" --memory "${MEMORY:-3G}" --idle "$IDLE" \
			--results "$out" --console "$console" --append log_buf_len=8M \
			--env "RMPATH_PATIENCE=${RMPATH_PATIENCE:-1}" -- \
			scripts/guest-check.py --stop --vm "$vm" --kmemleak $((total + vm)) "${items[@]}" | print_blocks "VM $vm"
		rc=${PIPESTATUS[0]}
		(( rc )) || return 0
		running=$(awk '{r = $1 == "begin" ? $2 : ""} END {print r}' "$out/progress-$vm")
		if [ "$running" = kmemleak ]; then
			failed "$vm" $((total + vm)) kmemleak "the VM survived this # see $console"
			return 0
		elif [ -n "$running" ]; then
			failed "$vm" "$(number_of "$running")" "$running" "the VM survived this # see $console"
		elif (( rc != 75 && ++fruitless > 1 )); then
			# It does not even start.
			for item in "${items[@]}"; do
				! claim "$item" || failed "$vm" "$(number_of "$item")" "$item" "a VM started for this # see $console"
			done
		fi
		anything_left || break
	done
	echo "ok $((total + vm)) kmemleak # SKIP the VM was not fit for it any more" | print_blocks "VM $vm"
	echo "end kmemleak 0 0 1" >>"$out/progress-$vm"
}

# In process groups of their own, so that what ends this script ends them.
set -m
set +e
pids=() timer=''
# shellcheck disable=SC2317 # the trap calls it
stop() {
	local p
	for p in "${pids[@]}" $timer; do
		kill -TERM -- "-$p"
	done
	exit 130
}
trap stop INT TERM
if [ -n "${SECS:-}" ]; then
	{ sleep $((SECS > SECONDS ? SECS - SECONDS : 0)); time_up; } </dev/null &
	timer=$!
fi
(( vms > 0 )) || run_all_local
for (( vm = 1; vm <= vms; vm++ )); do
	# These keep one core busy, as a VM does: the last VM waits for them.
	{ (( vm < vms )) || run_all_local; work "$vm"; } </dev/null &
	pids+=($!)
done
# Without any, wait would wait for the timer.
(( vms == 0 )) || wait "${pids[@]}"
trap - INT TERM
[ -z "$timer" ] || { kill -TERM -- "-$timer"; wait "$timer"; } 2>/dev/null
set +m

# What failed is far up by now.
awk '/^    # Subtest: / {test = $NF}
	/^    not ok/ {print "# failed: " test ":" substr($0, 4); more = 25; next}
	/^    #/ && more-- > 0 {print substr($0, 5, 400); next}
	{more = 0}' "$out/ktap"

cat "$out"/progress-* >"$out/progress"
# What was never begun would be missing in silence.
for item in "${items[@]}"; do
	grep -q "^end $item " "$out/progress" || { echo "not ok $(number_of "$item") $item # did not run"; echo "end $item 0 1 0" >>"$out/progress"; }
done
print_summary "$out/progress"
