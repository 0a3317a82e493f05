#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# lint.sh: rustfmt, clippy with warnings denied, checkpatch, shellcheck, unsafe code only where it belongs, and mutations
# that fit the source.
#
# Everything is looked at before it fails; the last line says what did.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

"$TOP/scripts/setup.sh"
use_toolchain
src=$(find_source) || die "no kernel source; run 'make setup', or set LINUX_SRC="
cd "$TOP"
bad=()

# lint NAME CMD...
lint() {
	local name=$1 start=$SECONDS
	shift
	if "$@"; then
		say "$name: fine, $((SECONDS - start)) s"
	else
		say "$name: NOT fine, $((SECONDS - start)) s"
		bad+=("$name")
	fi
}

sources() { find rust -name "$1" | sort; }

rustfmt_check() {
	sources '*.rs' | xargs -r "$RUSTFMT" --check --edition 2021 --color never \
		--config-path "$src/.rustfmt.toml" --config skip_children=true
}

# In a directory of its own, so that the ordinary build keeps its objects; an object that is up to date would not be
# looked at again, so the crate's goes first.
clippy() {
	local out=$TOP/build/lint log=$TOP/build/lint.log
	mkdir -p "$out"
	rm -f "$out/rust/rmpath_main.o"
	if "$TOP/scripts/build.sh" debug CLIPPY=1 KCFLAGS=-Werror "MO=$out" >"$log" 2>&1 &&
		grep -q 'CLIPPY.*rust/rmpath_main.o' "$log" && ! grep -qE '^(warning|error)' "$log"; then
		return 0
	fi
	head -n 200 "$log" >&2
	say "the whole log is $log"
	return 1
}

# Ours to decide: long lines of a comment are as wide as the Rust around them, helpers are exported to nobody, and the
# IDR is there to be wrapped although new code prefers the XArray.
checkpatch() {
	local f rc=0
	for f in $(sources '*.[ch]'); do
		"$src/scripts/checkpatch.pl" --no-tree --no-summary --terse --strict --max-line-length=100 \
			--ignore FILE_PATH_CHANGES,NEW_TYPEDEFS,DEPRECATED_API -f "$f" || rc=1
	done
	return $rc
}

shell_scripts() {
	{ git ls-files --cached --others --exclude-standard -- scripts tests .ci; } | while read -r f; do
		[ -f "$f" ] || continue
		case "$f" in
		*.sh) echo "$f" ;;
		*) if head -n 1 "$f" | grep -qE '^#!.*\b(ba)?sh\b'; then echo "$f"; fi ;;
		esac
	done
}

shell() {
	local rc=0 f
	shell_scripts | xargs -r -P "$JOBS" -n 4 shellcheck -x -P SCRIPTDIR || rc=1
	# Each one that is run explains itself.
	for f in $(shell_scripts | grep '^scripts/'); do
		[ -x "$f" ] || continue
		"$f" --help </dev/null 2>/dev/null | grep -q . || { echo "$f has no --help"; rc=1; }
	done
	return $rc
}

python() {
	local f rc=0
	for f in $(git ls-files --cached --others --exclude-standard -- 'scripts/*.py' 'tests/*.py'); do
		[ ! -f "$f" ] || python3 -W error -c 'import pathlib, sys
compile(pathlib.Path(sys.argv[1]).read_text(), sys.argv[1], "exec")' "$f" || rc=1
	done
	return $rc
}

# The compiler enforces deny(unsafe_code) as far as it stands at the top and nobody allows it below; this finds both.
unsafe_free() {
	local rc=0
	if grep -rnE '\bunsafe\b' --include='*.rs' rust |
		grep -vE '^rust/(abstractions/|abstractions\.rs|bindings\.rs)' |
		grep -vE '^[^:]+:[0-9]+:\s*//|(deny|forbid)\(unsafe_code\)'; then
		echo "the word unsafe stands outside rust/abstractions/ and rust/bindings.rs"
		rc=1
	fi
	if grep -rnE '(allow|expect)\(.*unsafe_code' --include='*.rs' rust |
		grep -vE '^rust/(abstractions/|(rmpath_main|abstractions|bindings)\.rs:)'; then
		echo "unsafe code is allowed elsewhere than for rust/abstractions/ and rust/bindings.rs"
		rc=1
	fi
	if ! grep -qE '^#!\[(deny|forbid)\(.*unsafe_code' rust/rmpath_main.rs; then
		echo "rust/rmpath_main.rs does not deny unsafe code"
		rc=1
	fi
	if grep -rnE 'SAFETY: *(TODO|FIXME|$)' --include='*.rs' rust; then
		echo "a SAFETY comment says nothing"
		rc=1
	fi
	return $rc
}

# Every file says its licence. Kernel configuration fragments do not, as in the kernel; nor what a test must print.
spdx() {
	local rc=0 f
	for f in $(git ls-files --cached --others --exclude-standard); do
		[ -f "$f" ] || continue
		case "$f" in
		LICENSE|*.config|tests/blktests/rmpath/*.out) continue ;;
		esac
		head -n 3 "$f" | grep -q 'SPDX-License-Identifier: ' || { echo "$f: no SPDX line at its top"; rc=1; }
	done
	return $rc
}

# Each mutation is still one of the source as it is.
mutations() {
	local out
	out=$(scripts/mutants.sh --apply 2>&1) || { grep -A 1 '^not ok' <<<"$out" || echo "$out"; return 1; }
}

lint mutations mutations
lint rustfmt rustfmt_check
lint "unsafe code" unsafe_free
lint checkpatch checkpatch
lint shellcheck shell
lint python python
lint licences spdx
lint clippy clippy
(( ${#bad[@]} == 0 )) || die "lint failed: ${bad[*]}"
