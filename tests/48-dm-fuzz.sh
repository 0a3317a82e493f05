#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# 20,000 tables and messages with mistakes in them, and some without: nothing but OK or an errno that says what was wrong
# comes back, and nothing is left: no reference, no claim on a device, no map, no memory. What is taken prints a table that is taken.
#
# RMPATH_SEED=, RMPATH_TABLES= and RMPATH_MESSAGES= set the seed and the numbers.
# Time limit: 2400 s
. "$(dirname "$0")/lib.sh"

seed=${RMPATH_SEED:-7207212} tables=${RMPATH_TABLES:-15500} messages=${RMPATH_MESSAGES:-6500}
modprobe dm-mod
rmpath_load auto_attach=0 && sdebug 4 || bail "no paths"
read -r -a disks < <(sdebug_disks | paste -sd ' ')
diag "seed $seed"

# Each refusal is a line in the log, and each line on the console takes its time.
read -r level _ </proc/sys/kernel/printk
defer sh -c "echo $level >/proc/sys/kernel/printk"
echo 1 >/proc/sys/kernel/printk

# Each table that goes waits for grace periods.
echo 1 >/sys/kernel/rcu_expedited
defer sh -c "echo 0 >/sys/kernel/rcu_expedited"

percpu() { awk '$1 == "Percpu:" {print $2}' /proc/meminfo; }
# The first ones make what the kernel keeps for later.
python3 "$TESTS/dmfuzz.py" $((seed + 1)) 300 100 "${disks[@]}" >"$TMP/first" || bail "it does not run" "$(cat "$TMP/first")"
before=$(percpu)
relay "$TESTS/dmfuzz.py" "$seed" "$tables" "$messages" "${disks[@]}"
# Each group of round-robin has some; a leak of one in ten would be megabytes.
grown=$(($(percpu) - before))
if ((grown < 512)); then ok "per-CPU memory has not grown"; else not_ok "per-CPU memory has not grown" "by $grown KB"; fi
count_is 0 "no reference is left"
is "$(dmsetup ls 2>/dev/null | grep -c '^rmt-')" 0 "nor a map"
for disk in "${disks[@]}"; do
	is "$(sysio "open /dev/$disk excl")" OK "nor a claim on $disk"
done

done_testing
