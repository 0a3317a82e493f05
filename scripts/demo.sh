#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# demo.sh: the whole story on real devices, in the VM with the dev kernel (tests/demo.sh tells it).
#
# Set-up, kernel and module come first if they are missing. The exit status is the demonstration's.
#
#   KDIR=    a configured, built kernel in place of the project's dev kernel

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

[ -x "$TOP/tests/demo.sh" ] || die "tests/demo.sh is missing"
"$TOP/scripts/setup.sh"
"$TOP/scripts/kernel.sh" dev >/dev/null
"$TOP/scripts/build.sh" dev >/dev/null
"$TOP/scripts/vm.sh" --flavour dev --idle 600 -- tests/demo.sh
