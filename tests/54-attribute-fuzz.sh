#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# Thousands of writes with mistakes in them to every attribute of the class, the head and its paths: OK or an errno that
# says what was wrong comes back, what is refused changes nothing, and what is taken is shown. No reference is left, no
# claim on a device, no memory.
#
# RMPATH_SEED= and RMPATH_WRITES= set the seed and the number; `make stress` has a longer form.
# Time limit: 600 s
. "$(dirname "$0")/lib.sh"

seed=${RMPATH_SEED:-5407212} writes=${RMPATH_WRITES:-4000}
rmpath_load auto_attach=0 && nullb nba 16 && nullb nbb 16 && nullb nbfree 16 && nullb nbsmall 8 || bail "no devices"
diag "seed $seed"

# Each refusal is a line in the log, and each line on the console takes its time.
read -r level _ </proc/sys/kernel/printk
defer sh -c "echo $level >/proc/sys/kernel/printk"
echo 1 >/proc/sys/kernel/printk

relay "$TESTS/attrfuzz.py" "$seed" "$writes" nba nbb nbfree nbsmall
count_is 1 "one head, one reference"
check "it goes" remove_head "$(head_of fuzz)"
count_is 0 "with its reference"
for disk in nba nbb nbfree nbsmall; do
	is "$(sysio "open /dev/$disk excl")" OK "nor is a claim left on $disk"
done

done_testing
