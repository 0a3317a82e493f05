#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# compare-native.sh: the sequences of events in which native NVMe multipath of Linux 7.2 goes wrong, there and on rmpath.
#
# Each runs in a VM of its own, with the debug kernel (tests/compare-native.sh, on nvmet's loop transport and a device
# whose reads can be made to hang). Prints both results side by side, and what is right. Fails when rmpath's is not;
# native's is for information. Holes 1, 2, 4 and 5 of Documentation/lifetimes.rst; the third needs luck, and is shown by
# `make model`.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

"$TOP/scripts/setup.sh"
"$TOP/scripts/build.sh" debug >/dev/null
out=$TOP/build/compare-native
rm -rf "$out"
mkdir -p "$out"
for system in rmpath native; do
	say "the sequences on $system (some minutes)"
	"$TOP/scripts/vm.sh" --flavour debug --memory 3G --timeout 1800 --console "$out/$system.console" -- \
		tests/compare-native.sh "$system" >"$out/$system" 2>&1 || say "$system: status $?; see $out/$system"
done

exec python3 - "$out" <<'PYTHON'
import pathlib, re, sys

out = pathlib.Path(sys.argv[1])

# What is right, as far as the beginning of the line tells which it is.
RIGHT = [
    ("0 is written", "gone"),
    ("a head waits for 17179870 s", "there"),
    ("the delay becomes 30", "1"),
    ("and who had it open reads", "OK"),
    ("two paths go at once", r"(\d+), \1"),
    ("a path returns and cannot be attached", "gone"),
    ("and its references", "0"),
    ("what the kernel has complained of", "0"),
]


def results(system):
    found = {}
    for line in (out / system).read_text(errors="replace").splitlines():
        name, tab, value = line.partition("\t")
        if tab:
            found[name] = value
    return found


native, rmpath = results("native"), results("rmpath")
wrong = 0
print(f"{'':<106}{'right':>7}{'native':>10}{'rmpath':>10}")
for start, right in RIGHT:
    name = next((n for n in [*rmpath, *native] if n.startswith(start)), start)
    ours, theirs = rmpath.get(name, "?"), native.get(name, "-")
    ok = re.fullmatch(right, ours) is not None
    wrong += not ok
    shown = "equal" if "(" in right else right
    print(f"{name:<106}{shown:>7}{theirs:>10}{ours:>10}{'' if ok else '   WRONG'}")
for system, found in (("native", native), ("rmpath", rmpath)):
    if "end" not in found:
        print(f"{system} did not come to its end: {found.get('error', '')} (see {out / system})")
        wrong += system == "rmpath"
sys.exit(1 if wrong else 0)
PYTHON
