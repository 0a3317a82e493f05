#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# compile-fail.sh: that misuse of the types in rust/abstractions/ does not compile (tests/compile-fail/*.rs).
#
# Prints TAP: one check per line that must not compile, which fails unless the compiler refuses that very line, with the
# error that stands behind it ("//~ CODE: text"), and nothing else; and one that all of it compiles without these lines
# (or with those after "//+" instead). The sources are compiled as a part of the module, with the command by which the
# kernel's build compiles that (for the debug kernel, or KDIR=), as far as the metadata.
#
#   JOBS=      how many compilers run at once (all processors, at most 2)

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

built=$("$TOP/scripts/build.sh" debug 2>"$CACHE/log/compile-fail-build.log") ||
	{ tail -n 20 "$CACHE/log/compile-fail-build.log" >&2; die "the module does not build"; }
exec python3 "$TOP/scripts/compile-fail.py" "$TOP" "$(dirname "$built")" "$TOP/build/compile-fail" "$(( JOBS > 2 ? 2 : JOBS ))"
