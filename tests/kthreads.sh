# SPDX-License-Identifier: GPL-2.0
# What the kernel's own threads do; shared by the benchmark and a test.
# shellcheck shell=bash

# kthread_ms: the CPU time that all kernel threads have had, in milliseconds.
kthread_ms() { cat /proc/[0-9]*/stat 2>/dev/null | sed 's/([^)]*)/-/' | awk '$4 == 2 {s += $14 + $15} END {print s * 10}'; }
