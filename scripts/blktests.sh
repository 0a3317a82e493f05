#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# blktests.sh DIR [TEST...]: run tests by blktests itself, from a checkout of it in DIR, in the VM with the debug kernel.
#
# Without a TEST it is the group of this project (tests/blktests/rmpath/), else what is named, as blktests' check takes
# it: a group (rmpath, block), or single tests (rmpath/001 block/004). Those of blktests' own that want a device get a
# head node and a map of the device-mapper target. The checkout is not changed. Prints TAP.
#
#   FLAVOUR=          dev or debug (debug)
#   RMPATH_FIO_SECS=  how long each fio runs (10)
#
# Without a checkout, a small stand-in runs the group: make check KUNIT=no TESTS=55-blktests.sh.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

dir=${1:-}
[ -n "$dir" ] || die "which checkout of blktests? (see --help)"
if [ ! -x "$dir/check" ] || [ ! -f "$dir/common/rc" ]; then
	die "$dir is no checkout of blktests"
fi
dir=$(realpath "$dir")
shift
flavour=${FLAVOUR:-debug}
"$TOP/scripts/setup.sh"
"$TOP/scripts/build.sh" "$flavour" >/dev/null
# Some of its tests use small programs.
if [ ! -x "$dir/src/openclose" ] && [ -w "$dir/src" ]; then
	make -C "$dir" >"$TOP/build/blktests-make.log" 2>&1 || say "blktests' own programs do not build; see build/blktests-make.log"
fi
exec "$TOP/scripts/vm.sh" --flavour "$flavour" --memory 4G --env "BLKTESTS=$dir" --env "BLKTESTS_RUN=$*" \
	--env "RMPATH_FIO_SECS=${RMPATH_FIO_SECS:-10}" -- tests/55-blktests.sh
