#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# vm-guest.sh: what vm.sh runs inside the VM; it prepares the guest and starts the command or a shell.

case "${1:-}" in
-h|--help) sed -n '3p' "$0"; exit 0 ;;
esac
run=$(sed -n 's/.*\brmpath_run=\([^ "]*\).*/\1/p' /proc/cmdline)
[ -n "$run" ] || { echo "vm-guest.sh: this is for the VM only" >&2; exit 1; }
# shellcheck disable=SC1091 # made by vm.sh
. "$run/env"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The console is a file of its own, so errors may go where the output goes, in the right order.
[ ! -f "$run/command" ] || exec 2>&1

mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
mountpoint -q /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
mkdir -p /run/home
export HOME=/run/home TMPDIR=/run

# KUnit would run at every load of the module; only the one who asks for it waits for that.
if [ -z "${RMPATH_KUNIT:-}" ] && [ -w /sys/module/kunit/parameters/filter_glob ]; then
	echo none >/sys/module/kunit/parameters/filter_glob
fi

# What the module needs is loaded, so that insmod works; modprobe finds the module where it was built, by name and by alias (dm core asks for dm-rmpath).
if [ -n "${RMPATH_KO:-}" ]; then
	mkdir -p /run/modprobe.d
	depends=$(modinfo -F depends "$RMPATH_KO" | tr ',' ' ')
	# shellcheck disable=SC2086 # names, one word each
	[ -z "$depends" ] || modprobe -a $depends
	{
		echo "install rmpath ${depends:+/sbin/modprobe -a $depends && }/sbin/insmod $RMPATH_KO \$CMDLINE_OPTS"
		modinfo -F alias "$RMPATH_KO" | sed 's/^/alias /; s/$/ rmpath/'
	} >/run/modprobe.d/rmpath.conf
fi

cd "$TOP" || exit 1
[ -f "$run/command" ] || exec bash -i
eval "exec $(cat "$run/command")"
