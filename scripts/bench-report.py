#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""bench-report.py compare OLD NEW | chart TSV SVG: what can be made of the bench.tsv that bench.sh writes.

compare prints each line that is in both files, with what it added before and adds now, in instructions per I/O; chart
draws the tables as bars.
"""

import pathlib
import sys
from html import escape

BAR, GAP, LEFT, WIDTH = 16, 6, 330, 520
COLOURS = {"rmpath": "#c04f15", "dm-multipath": "#4a6fa5", "native": "#4a6fa5", "dm-linear": "#9aa5b1"}


def read(file):
    """(table, name) -> (per I/O, added), in the order of the file; what stands on nothing adds nothing."""
    found = {}
    for line in pathlib.Path(file).read_text(encoding="utf-8").splitlines():
        table, name, mean, added, _ = line.split("\t")
        found[table, name] = int(mean), 0 if name.startswith("raw") else int(added)
    return found


def compare(old, new):
    old, new = read(old), read(new)
    table = None
    for key in (key for key in new if key in old):
        if key[0] != table:
            table = key[0]
            print(f"\n{table:<48} {'old':>8} {'new':>8} {'change':>8}")
        before, after = old[key][1], new[key][1]
        if not before:
            before, after = old[key][0], new[key][0]
        print(f"{key[1]:<48} {before:8} {after:8} {100 * (after / before - 1):+7.1f} %")
    for key in new.keys() ^ old.keys():
        print(f"only in the {'new' if key in new else 'old'} one: {key[0]}: {key[1]}")


def chart(file, svg):
    rows = {key: added for key, (_, added) in read(file).items() if added}
    if not rows:
        sys.exit(f"bench-report: error: there is nothing in {file}")
    scale = WIDTH / max(rows.values())
    parts, y, table = [], 10, None
    for (title, name), added in rows.items():
        if title != table:
            table = title
            y += 26
            parts.append(f'<text x="10" y="{y}" font-weight="bold">{escape(title)}: added instructions per I/O</text>')
            y += 8
        colour = next((c for start, c in COLOURS.items() if name.startswith(start)), "#9aa5b1")
        parts.append(f'<text x="{LEFT - 8}" y="{y + BAR - 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{max(1, added * scale):.0f}" height="{BAR}" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + max(1, added * scale) + 6:.0f}" y="{y + BAR - 4}">{added:,}</text>')
        y += BAR + GAP
    pathlib.Path(svg).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 80}" height="{y + 10}" font-size="12" '
        f'font-family="sans-serif">\n<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n",
        encoding="utf-8",
    )


def main():
    match sys.argv[1:]:
        case ["compare", old, new]:
            compare(old, new)
        case ["chart", file, svg]:
            chart(file, svg)
        case _:
            print(__doc__)
            sys.exit(sys.argv[1:2] not in (["-h"], ["--help"]))


main()
