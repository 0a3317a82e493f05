# SPDX-License-Identifier: GPL-2.0
# Shared by every script here: where things are, which toolchain, how to speak.
# shellcheck shell=bash

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${RMPATH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/rmpath}
JOBS=${JOBS:-$(nproc)}
export TOP CACHE JOBS
# Every script starts its own make; the flags of the one that called it (jobserver, KDIR=) are not for the kernel's.
unset MAKEFLAGS MFLAGS MAKELEVEL

say()  { printf '%s: %s\n' "$(basename "$0" .sh)" "$*" >&2; }
die()  { printf '%s: error: %s\n' "$(basename "$0" .sh)" "$*" >&2; exit 1; }

# Prints the comment at the top of the calling script when it is asked for help.
help_if_asked() {
	case "${1:-}" in
	-h|--help) sed -n '3,/^[^#]/{/^#/s/^# \{0,1\}//p}' "$0"; exit 0 ;;
	esac
}

# with_progress LABEL LOG CMD...: runs CMD with its output in LOG, one line of progress every 20 seconds,
# and the end of the log when it fails.
with_progress() {
	local label=$1 log=$2 start=$SECONDS pid rc=0
	shift 2
	mkdir -p "$(dirname "$log")"
	say "$label (log: $log)"
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		if (( (SECONDS - start) % 20 == 19 )); then
			say "  $label: $((SECONDS - start)) s, $(wc -l <"$log") lines: $(tail -n 1 "$log" | cut -c1-100)"
		fi
	done
	wait "$pid" || rc=$?
	if (( rc )); then
		tail -n 40 "$log" >&2
		die "$label failed with status $rc; the whole log is $log"
	fi
	say "$label: done in $((SECONDS - start)) s"
}

# A rustc that has its library source: RUSTC= if given, else the distribution's, else the one in PATH.
find_rustc() {
	local r
	for r in ${RUSTC:-/usr/bin/rustc rustc}; do
		r=$(type -P "$r") || continue
		[ -f "$("$r" --print sysroot)/lib/rustlib/src/rust/library/core/src/lib.rs" ] || continue
		printf '%s\n' "$r"
		return 0
	done
	return 1
}

# The folder of the newest LLVM >= 17 that has clang and ld.lld: LLVM_BIN= if given.
find_llvm() {
	local d
	if [ -n "${LLVM_BIN:-}" ]; then
		[ -x "$LLVM_BIN/clang" ] && [ -x "$LLVM_BIN/ld.lld" ] && printf '%s\n' "$LLVM_BIN" && return 0
		return 1
	fi
	for d in $(printf '%s\n' /usr/lib/llvm-*/bin | sort -t- -k2 -rV); do
		if ! [ -x "$d/clang" ] || ! [ -x "$d/ld.lld" ]; then continue; fi
		[ "$(basename "$(dirname "$d")" | tr -dc 0-9)" -ge 17 ] || continue
		printf '%s\n' "$d"
		return 0
	done
	return 1
}

# bindgen >= 0.71.1: BINDGEN= if given, else the cache's, else the one in PATH.
find_bindgen() {
	local b v
	for b in ${BINDGEN:-"$CACHE/tools/bin/bindgen" bindgen}; do
		b=$(type -P "$b") || continue
		v=$("$b" --version 2>/dev/null | awk '{print $2}')
		[ "$(printf '%s\n0.71.1\n' "$v" | sort -V | head -n 1)" = 0.71.1 ] || continue
		printf '%s\n' "$b"
		return 0
	done
	return 1
}

# Sets RUSTC, RUSTFMT-like companions, LLVM_BIN, BINDGEN, LIBCLANG_PATH and PATH for a kernel or module build.
use_toolchain() {
	RUSTC=$(find_rustc) || die "no rustc with its library source; run 'make setup' (a rustup toolchain needs the rust-src component)"
	LLVM_BIN=$(find_llvm) || die "no clang and ld.lld of LLVM 17 or newer; run 'make setup'"
	BINDGEN=$(find_bindgen) || die "no bindgen 0.71.1 or newer; run 'make setup'"
	PATH=$LLVM_BIN:$PATH
	LIBCLANG_PATH=$(dirname "$LLVM_BIN")/lib
	export RUSTC LLVM_BIN BINDGEN PATH LIBCLANG_PATH
	# The companions of the chosen rustc, not whatever rustup proxy is first in PATH.
	RUSTFMT=$(dirname "$RUSTC")/rustfmt
	CLIPPY_DRIVER=$(dirname "$RUSTC")/clippy-driver
	RUSTDOC=$(dirname "$RUSTC")/rustdoc
	export RUSTFMT CLIPPY_DRIVER RUSTDOC
	KMAKE=(make LLVM=1 "RUSTC=$RUSTC" "RUSTFMT=$RUSTFMT" "CLIPPY_DRIVER=$CLIPPY_DRIVER"
	       "RUSTDOC=$RUSTDOC" "BINDGEN=$BINDGEN" "-j$JOBS")
}

# The value of a string option in the .config of KDIR.
kconfig_text() {
	sed -n "s/^$2=\"\(.*\)\"\$/\1/p" "$1/.config"
}

# use_toolchain_of KDIR: like use_toolchain, for a module against a kernel that somebody else may have built. Crate
# metadata loads in the very rustc that wrote it only, so that one is looked for; C follows the kernel's compiler.
use_toolchain_of() {
	local kdir=$1 want r found='' d
	[ -f "$kdir/.config" ] || die "$kdir is not a configured kernel tree (it has no .config)"
	grep -qx CONFIG_RUST=y "$kdir/.config" || die "the kernel in $kdir was built without CONFIG_RUST=y"
	[ -f "$kdir/rust/libkernel.rmeta" ] || die "$kdir has no rust/libkernel.rmeta: build that kernel first, or prepare it for modules"
	want=$(kconfig_text "$kdir" CONFIG_RUSTC_VERSION_TEXT)
	for r in ${RUSTC:-/usr/bin/rustc rustc}; do
		r=$(type -P "$r") || continue
		if [ -z "$want" ] || [ "$("$r" --version)" = "$want" ]; then found=$r; break; fi
	done
	[ -n "$found" ] || die "the kernel in $kdir was built with '$want'; set RUSTC= to that one"
	RUSTC=$found
	want=$(kconfig_text "$kdir" CONFIG_CC_VERSION_TEXT)
	if grep -qx CONFIG_CC_IS_CLANG=y "$kdir/.config" && [ -z "${LLVM_BIN:-}" ]; then
		for d in /usr/lib/llvm-*/bin; do
			if ! [ -x "$d/clang" ] || ! [ -x "$d/ld.lld" ]; then continue; fi
			[ "$("$d/clang" --version | head -n 1)" = "$want" ] || continue
			LLVM_BIN=$d
			break
		done
	fi
	use_toolchain
	grep -qx CONFIG_CC_IS_CLANG=y "$kdir/.config" || KMAKE=("${KMAKE[@]/LLVM=1/LLVM=}")
}

# The kernel's source: LINUX_SRC= if given, else the one set-up unpacked (newest, should there be several).
find_source() {
	local s
	if [ -n "${LINUX_SRC:-}" ]; then
		[ -f "$LINUX_SRC/rust/kernel/lib.rs" ] || return 1
		printf '%s\n' "$LINUX_SRC"
		return 0
	fi
	for s in $(printf '%s\n' "$CACHE"/src/linux-7.2* | sort -rV); do
		[ -f "$s/.unpacked" ] && printf '%s\n' "$s" && return 0
	done
	return 1
}

# kernel_dir FLAVOUR: where that kernel is or will be built; the name changes with all that goes into it.
kernel_dir() {
	local src key
	src=$(find_source) || return 1
	key=$( { cat "$TOP/scripts/configs/common.config" "$TOP/scripts/configs/$1.config"
		 sed -n '1,5p' "$src/Makefile"; printf '%s\n' "$src"
		 "$RUSTC" --version; "$LLVM_BIN/clang" --version | head -n 1; "$BINDGEN" --version
	       } | sha256sum | cut -c1-12 )
	printf '%s/kernel/%s-%s\n' "$CACHE" "$1" "$key"
}

# print_summary PROGRESS: adds up what guest-check.py wrote; fails when anything failed or nothing passed.
print_summary() {
	local passed failed skipped
	read -r passed failed skipped < <(awk '$1 == "end" {p += $3; f += $4; s += $5}
		END {print p + 0, f + 0, s + 0}' "$1")
	echo "$passed passed, $failed failed, $skipped skipped"
	(( failed == 0 && passed > 0 ))
}

# How many VMs work at once: two if there are two cores and memory for both, since one keeps little more than one busy.
default_vms() {
	local available
	available=$(awk '/^MemAvailable:/ {print int($2 / 1048576)}' /proc/meminfo)
	if (( $(nproc) >= 2 && available >= 8 )); then echo 2; else echo 1; fi
}
