#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# kernel.sh FLAVOUR: configure and build the dev or debug kernel in the cache, and print its directory.
#
# Does nothing but print when that kernel is there already. KDIR= (a configured, built tree) replaces it.
# Progress goes to standard error, the directory to standard output.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

flavour=${1:-dev}
[ -f "$TOP/scripts/configs/$flavour.config" ] || die "no such flavour: $flavour (dev or debug)"
if [ -n "${KDIR:-}" ]; then
	printf '%s\n' "$KDIR"
	exit 0
fi
use_toolchain
src=$(find_source) || die "no kernel source; run 'make setup', or set LINUX_SRC= or KDIR="
out=$(kernel_dir "$flavour")
if [ -f "$out/.complete" ]; then
	printf '%s\n' "$out"
	exit 0
fi

configure() {
	local fragment=$out/rmpath.fragment line missing=0
	mkdir -p "$out"
	cat "$TOP/scripts/configs/common.config" "$TOP/scripts/configs/$flavour.config" >"$fragment"
	"${KMAKE[@]}" -C "$src" O="$out" KCONFIG_ALLCONFIG="$fragment" allnoconfig || return 1
	# allnoconfig drops in silence what cannot be; a kernel without KUnit or Rust would test nothing.
	while read -r line; do
		case "$line" in
		\#*|'') continue ;;
		# What is C becomes part of the Rust that calls it.
		CONFIG_RUST_INLINE_HELPERS=y)
			if ! grep -qx CONFIG_RUSTC_CLANG_LLVM_COMPATIBLE=y "$out/.config"; then
				echo "left out, since clang and rustc do not have the same LLVM: $line"
				continue
			fi
			;;&
		*=n) ! grep -q "^${line%=n}=" "$out/.config" || { echo "not off: $line"; missing=1; } ;;
		*) grep -qxF "$line" "$out/.config" || { echo "did not arrive: $line"; missing=1; } ;;
		esac
	done <"$fragment"
	return "$missing"
}

build() {
	"${KMAKE[@]}" -C "$src" O="$out" || return 1
	touch "$out/.complete"
}

(
	mkdir -p "$CACHE/kernel"
	exec 9>"$CACHE/kernel/$flavour.lock"
	flock -n 9 || { say "another build of the $flavour kernel is under way; waiting"; flock 9; }
	if [ ! -f "$out/.complete" ]; then
		free=$(df -Pk "$CACHE" | awk 'NR==2 {print int($4 / 1048576)}')
		(( free >= 6 )) || die "the $flavour kernel needs 6 GiB in $CACHE, $free GiB are free"
		with_progress "configuring the $flavour kernel" "$CACHE/log/config-$flavour.log" configure
		with_progress "building the $flavour kernel (about 10 to 15 minutes on two cores)" \
			"$CACHE/log/kernel-$flavour.log" build
	fi
)
printf '%s\n' "$out"
