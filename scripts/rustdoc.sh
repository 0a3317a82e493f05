#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# rustdoc.sh: the crate's documentation in build/rustdoc, private items too, since nothing of a module is public.
#
# A warning is an error, a broken link among them. FLAVOUR=debug or KDIR= as for the module.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

flavour=${1:-dev}
[ -n "${KDIR:-}" ] || "$TOP/scripts/setup.sh"
ko=$("$TOP/scripts/build.sh" "$flavour" 2>/dev/null) || die "the module does not build; see 'make'"
kdir=$("$TOP/scripts/kernel.sh" "$flavour")
use_toolchain_of "$kdir"

# The kernel has no such target for a module, but the command that compiled it says all that rustdoc must know.
objdir=$(dirname "$ko")
command=$(sed -n '1s/^savedcmd_[^:]* := //p' "$objdir/rust/.rmpath_main.o.cmd")
command=${command%% ; *}
command=$(sed -E 's/--(emit|remap-path-scope|remap-path-prefix)=[^ ]*//g; s/--out-dir [^ ]*//; s/-Zbinary_dep_depinfo=y//' <<<"$command")
command=${command/ $RUSTC / $RUSTDOC }
[[ $command == *" $RUSTDOC "* ]] || die "the command that compiled the crate is not understood"

cd "$objdir"
rm -rf "$TOP/build/rustdoc"
export RUSTC_BOOTSTRAP=1 RMPATH_BINDINGS=$objdir/rust/bindings/rmpath_bindings_generated.rs
eval "$command --crate-name rmpath --document-private-items -Dwarnings -Arustdoc::private_intra_doc_links \
	-Cunsafe-allow-abi-mismatch=fixed-x18 --output $(printf '%q' "$TOP/build/rustdoc")" >&2 ||
	die "rustdoc failed"
say "$TOP/build/rustdoc/rmpath/index.html"
