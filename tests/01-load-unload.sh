#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Loading and unloading: twenty times over, with nothing held while it is loaded (reference count 0) and nothing
# left when it is gone: no class, no target, no thread, no slab cache. Bad parameters are refused at load.
. "$(dirname "$0")/lib.sh"

has_target() { dmsetup targets | grep -q '^rmpath '; }
leftovers() {
	local f
	[ ! -e $CLASS ] || echo "$CLASS"
	[ -z "$(heads)" ] || heads
	grep '^rmpath ' /proc/modules
	grep 'rmpath$' /proc/devices
	for f in /sys/kernel/slab/*rmpath* /sys/kernel/debug/rmpath*; do [ ! -e "$f" ] || echo "$f"; done
	# Not the workers of the system, which show what they did last.
	grep -H rmpath /proc/[0-9]*/comm 2>/dev/null | grep -v "^/proc/$$/" | grep -v ':kworker/[^R]'
	has_target && echo "the target rmpath"
}

modprobe dm-mod || bail "dm-mod cannot be loaded"
like "$(modinfo -F license "$RMPATH_KO")" '^GPL' "the module says it is GPL"
like "$(modinfo -F alias "$RMPATH_KO")" 'dm-rmpath' "the module has the alias that dm core asks for"
for text in description parm; do
	isset=$(modinfo -F $text "$RMPATH_KO")
	like "$isset" '.' "modinfo has: $text"
done

cycles=20 problems=
for ((i = 1; i <= cycles; i++)); do
	rmpath_load || { problems+="cycle $i: insmod failed"$'\n'; break; }
	[ "$(refcnt)" = 0 ] || problems+="cycle $i: refcnt $(refcnt)"$'\n'
	[ -e $CLASS/add_path ] && [ -e $CLASS/remove_path ] || problems+="cycle $i: no class attributes"$'\n'
	rmmod rmpath || { problems+="cycle $i: rmmod failed"$'\n'; break; }
	! loaded && [ ! -e $CLASS ] || problems+="cycle $i: it is not gone"$'\n'
done
is "$problems" "" "insmod and rmmod $cycles times"
is "$(leftovers)" "" "nothing is left after that"

rmpath_load
check "the target is there" has_target
is "$(stat -c %a $CLASS/add_path)" 200 "add_path can only be written"
is "$(stat -c %a $CLASS/remove_path)" 200 "remove_path can only be written"
is "$(cat $CLASS/auto_attach)" 1 "auto_attach is 1 by default"
like "$(insmod "$RMPATH_KO" 2>&1)" 'File exists' "a second insmod is refused"
check "it unloads after that" rmpath_unload

for value in 0 1 2; do
	check "auto_attach=$value is accepted" rmpath_load auto_attach=$value
	is "$(cat $CLASS/auto_attach)" $value "auto_attach reads $value"
	check "it unloads with auto_attach=$value" rmpath_unload
done
for value in 3 -1 x '' 4294967296; do
	log_mark
	like "$(rmpath_load "auto_attach=$value" 2>&1)" '(Invalid parameters|Invalid argument|Numerical result out of range)' \
		"auto_attach='$value' is refused"
	refuse "and the module is not there (auto_attach='$value')" loaded
	[ "$value" != 3 ] || is "$(log_ours | grep -c 'auto_attach=3 is not known')" 1 "with one line that says so"
done
check "delayed_removal_secs=30 is accepted" rmpath_load delayed_removal_secs=30
is "$(cat $CLASS/delayed_removal_secs)" 30 "delayed_removal_secs reads 30"
is "$(stat -c %a $CLASS/delayed_removal_secs)" 644 "and can be written"
check "it unloads with delayed_removal_secs=30" rmpath_unload
for value in -1 x 4294967296; do
	refuse "delayed_removal_secs='$value' is refused" rmpath_load "delayed_removal_secs=$value"
	refuse "and the module is not there (delayed_removal_secs='$value')" loaded
done
is "$(leftovers)" "" "a refused load leaves nothing"

done_testing
