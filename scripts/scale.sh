#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# scale.sh: what many heads cost in time and memory (tests/42-scale.sh), on the dev kernel: KASAN, in the debug kernel,
# makes everything larger and keeps what is freed.
#
# Prints TAP.
#
#   RMPATH_HEADS=   how many heads (64; 1024 takes some minutes)
#   MEMORY=         of the VM (3G; 5G for 1024 heads)

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

if [ -n "${KDIR:-}" ]; then
	echo "ok 1 - many heads are as cheap as few # SKIP the limits are for the project's dev kernel"
	echo "1..1"
	exit 0
fi
"$TOP/scripts/kernel.sh" dev >/dev/null
"$TOP/scripts/build.sh" dev >/dev/null 2>&1 || die "the module does not build"
exec "$TOP/scripts/vm.sh" --flavour dev --memory "${MEMORY:-3G}" --idle 600 ${RMPATH_HEADS:+--env "RMPATH_HEADS=$RMPATH_HEADS"} \
	-- tests/42-scale.sh
