#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What compile-fail.sh does: compile-fail.py TOP BUILD OUT JOBS, with the checkout, the folder in which the module was
built, one for what is made here, and how many compilers may run at once.

A compiler that has found a wrong name does not look for wrong types, and one that has found those does not look for
wrong borrows. So the lines that must fail are divided by when their error is found, and for each part all files are
compiled with the lines of that part only.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

# By the compiler's stages: an error of one hides those of the next. Lints, and the fields of structures, are last.
STAGES = {
    "names": {"E0423", "E0425", "E0432", "E0433", "E0603"},
    "types": {"E0061", "E0271", "E0277", "E0308", "E0599", "E0616", "E0624"},
    "borrows": {"E0133", "E0382", "E0499", "E0505", "E0515", "E0521", "E0597", "lifetime"},
    "lints": {"E0451", "unsafe_code", "unused_must_use"},
}

MARK = re.compile(r"//~ (\w+): (.*)$")
INSTEAD = re.compile(r"^(\s*)//\+ (.*)$")
FUNCTION = re.compile(r"^\s*(?:unsafe )?(?:fn|struct) (\w+)|^unsafe impl (\w+)")


class Case:
    """One line that must not compile."""

    def __init__(self, file, number, what, code, text):
        self.file, self.number, self.what, self.code, self.text = file, number, what, code, text
        self.stage = next((stage for stage, codes in STAGES.items() if code in codes), None)


def read_cases(file):
    cases, what = [], file.stem
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if m := FUNCTION.match(line):
            what = m[1] or "unsafe_" + m[2]
        if m := MARK.search(line):
            cases.append(Case(file.name, number, what, m[1], m[2]))
            if cases[-1].stage is None:
                sys.exit(f"compile-fail: error: {file}:{number}: which stage finds {m[1]} is not known")
    return cases


def keep(text, numbers):
    """The source with those marked lines only; each line keeps its number."""
    lines, dropped = [], False
    for number, line in enumerate(text.splitlines(), 1):
        if MARK.search(line) and number not in numbers:
            lines.append("")
            dropped = True
        elif (m := INSTEAD.match(line)) and dropped:
            lines.append(m[1] + m[2])
        else:
            lines.append(line)
            dropped = dropped and not line.strip()
    return "\n".join(lines) + "\n"


def command(build):
    """How the kernel's build compiled the crate's root, up to what it was to make, and the source."""
    text = (build / "rust/.rmpath_main.o.cmd").read_text().splitlines()[0]
    words = shlex.split(text.partition(" := ")[2].partition(" ; ")[0])
    env = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    at = words.index("--out-dir")
    del words[at : at + 2]
    return env, [w for w in words if not w.startswith("--emit=")][:-1]


def compile_stage(top, build, out, files, cases, stage):
    """Compiles the module with those lines that this stage is to find. What the compiler says: code, text, file, line."""
    folder = out / stage
    (folder / "rust/misuse").mkdir(parents=True)
    for entry in (top / "rust").iterdir():
        if entry.name != "rmpath_main.rs":
            (folder / "rust" / entry.name).symlink_to(entry)
    root = (top / "rust/rmpath_main.rs").read_text()
    (folder / "rust/rmpath_main.rs").write_text(root + "\n#[allow(dead_code, missing_docs, rust_2018_idioms)]\nmod misuse;\n")
    (folder / "rust/misuse.rs").write_text("".join(f"mod {file.stem};\n" for file in files))
    for file in files:
        numbers = {case.number for case in cases if case.stage == stage and case.file == file.name}
        (folder / "rust/misuse" / file.name).write_text(keep(file.read_text(), numbers))

    env, words = command(build)
    words += ["--out-dir", str(folder), "--emit=metadata", "--error-format=json", str(folder / "rust/rmpath_main.rs")]
    env = {**os.environ, **env, "RUSTC_BOOTSTRAP": "1"}
    env["RMPATH_BINDINGS"] = str(build / "rust/bindings/rmpath_bindings_generated.rs")
    done = subprocess.run(words, cwd=build, env=env, capture_output=True, text=True, check=False)
    (folder / "log").write_text(done.stderr)
    found = []
    for line in done.stderr.splitlines():
        try:
            said = json.loads(line)
        except json.JSONDecodeError:
            found.append(("", line, "", 0))
            continue
        if said.get("level") != "error" or not said.get("spans"):
            continue
        span = next((s for s in said["spans"] if s["is_primary"]), said["spans"][0])
        # What is written on the line itself, if the error is in a macro.
        while span.get("expansion") and "/misuse/" not in span["file_name"]:
            span = span["expansion"]["span"]
        texts = [said["message"]] + [s["label"] or "" for s in said["spans"]]
        texts += [child["message"] for child in said.get("children", [])]
        code = (said.get("code") or {}).get("code", "lifetime")
        found.append((code, "; ".join(texts), span["file_name"], span["line_start"]))
    if done.returncode and not found:
        found.append(("", f"the compiler ended with {done.returncode}", "", 0))
    return stage, found


def main():
    top, build, out = (pathlib.Path(arg) for arg in sys.argv[1:4])
    files = sorted((top / "tests/compile-fail").glob("*.rs"))
    cases = [case for file in files for case in read_cases(file)]
    subprocess.run(["rm", "-rf", out], check=True)
    said = {}
    with concurrent.futures.ThreadPoolExecutor(int(sys.argv[4])) as pool:
        stages = [stage for stage in STAGES if any(case.stage == stage for case in cases)]
        for stage, found in pool.map(lambda s: compile_stage(top, build, out, files, cases, s), ["right"] + stages):
            said[stage] = found

    failed = number = 0
    print(f"1..{len(cases) + len(said)}")

    def check(ok, name, why=()):
        nonlocal failed, number
        number += 1
        failed += not ok
        print(f"{'ok' if ok else 'not ok'} {number} - {name}")
        for line in why if not ok else ():
            print(f"# {line}")

    check(not said["right"], "it compiles without the lines that are wrong", [f"{f}:{n}: {c} {t}" for c, t, f, n in said["right"]])
    for stage in stages:
        rest = list(said[stage])
        for case in cases:
            if case.stage != stage:
                continue
            ours = [f for f in rest if pathlib.Path(f[2]).name == case.file and f[3] == case.number]
            rest = [f for f in rest if f not in ours]
            right = all(f[0] == case.code for f in ours) and any(case.text in f[1] for f in ours)
            why = [f"{case.file}:{case.number} must fail with {case.code}: {case.text}"]
            why += [f"it fails with {f[0]}: {f[1]}" for f in ours] or ["it compiles"]
            check(right, f"{case.file[:-3]}: {case.what.replace('_', ' ')} ({case.code})", why)
        check(not rest, f"{stage}: nothing else is wrong", [f"{f}:{n}: {c} {t}" for c, t, f, n in rest])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
