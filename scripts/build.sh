#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# build.sh FLAVOUR [TARGET or VARIABLE=...]...: build the module for the dev or debug kernel, and print its path.
#
# The output goes to build/FLAVOUR, so that the flavours do not disturb each other; with KDIR= (a configured, built
# kernel tree) to build/kdir. The kernel is built first if it is not there. More arguments go to the kernel's make
# (modules_install INSTALL_MOD_PATH=..., CLIPPY=1, MO=... for another output directory). V=1 shows the commands.
# The compilers' output goes to standard error, the path of rmpath.ko to standard output.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

flavour=${1:-dev}
shift || true
out=$TOP/build/${KDIR:+kdir}
[ -n "${KDIR:-}" ] || out=$TOP/build/$flavour
for arg in "$@"; do
	case "$arg" in
	MO=*) out=${arg#MO=} ;;
	esac
done

kdir=$("$TOP/scripts/kernel.sh" "$flavour")
kdir=$(realpath -e "$kdir") || die "no such directory: $KDIR"
use_toolchain_of "$kdir"

mkdir -p "$out"
exec 9>"$out/.lock"
flock -n 9 || { say "another build in $out is under way; waiting"; flock 9; }
args=()
[ -z "${V:-}" ] || args+=("V=$V")
[ -z "${W:-}" ] || args+=("W=$W")
"${KMAKE[@]}" --no-print-directory -C "$kdir" M="$TOP" MO="$out" "${args[@]}" "$@" >&2
printf '%s\n' "$out/rmpath.ko"
