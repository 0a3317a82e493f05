#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""htmldocs.py SOURCE OUTPUT: every .rst under SOURCE as HTML under OUTPUT, with docutils alone.

The few things of Sphinx that kernel documents use are understood: toctree, code-block, the roles doc, ref and file,
and links to other .rst files. A warning is an error, and so is a link to a document that is not there.
"""

import argparse
import os
import re
import sys

from docutils import nodes, utils
from docutils.core import publish_file
from docutils.parsers.rst import Directive, directives, roles
from docutils.parsers.rst.directives.body import CodeBlock


def link(base, target, text=None):
    """A reference to another document, by its path without .rst."""
    path = os.path.join(os.path.dirname(base), target)
    if not os.path.isfile(path + ".rst"):
        raise ValueError(f"there is no document {target}")
    if text is None:
        with open(path + ".rst", encoding="utf-8") as f:
            # The first line of text that is underlined.
            m = re.search(r"^(?!\.\.)(\S.*)\n([=\-~^*#])\2{2,}$", f.read(), re.M)
        text = m[1].strip() if m else target
    return nodes.reference(text, text, refuri=target + ".html")


class TocTree(Directive):
    """A list of links."""

    has_content = True
    option_spec = {"maxdepth": int, "caption": str, "titlesonly": directives.flag, "numbered": directives.flag}

    def run(self):
        items = nodes.bullet_list()
        for line in filter(None, (line.strip() for line in self.content)):
            try:
                ref = link(self.state.document.current_source, line.removesuffix(".rst"))
            except ValueError as e:
                raise self.error(str(e))
            items += nodes.list_item("", nodes.paragraph("", "", ref))
        return [items]


def doc_role(_name, rawtext, text, lineno, inliner, _options=None, _content=None):
    """:doc:`target` and :doc:`title <target>`"""
    m = re.match(r"(.*?)\s*<(.*)>$", text, re.S)
    title, target = (m[1], m[2]) if m else (None, text)
    try:
        return [link(inliner.document.current_source, target, title)], []
    except ValueError as e:
        message = inliner.reporter.error(str(e), line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]


def literal_role(_name, rawtext, text, _lineno, _inliner, _options=None, _content=None):
    return [nodes.literal(rawtext, utils.unescape(text))], []


def ref_role(_name, rawtext, text, _lineno, inliner, _options=None, _content=None):
    """:ref:`label` and :ref:`title <label>`, for labels of the same document."""
    m = re.match(r"(.*?)\s*<(.*)>$", text, re.S)
    title, target = (m[1], m[2]) if m else (text, text)
    ref = nodes.reference(rawtext, title, name=title, refname=nodes.fully_normalize_name(target))
    inliner.document.note_refname(ref)
    return [ref], []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("output")
    args = parser.parse_args()
    directives.register_directive("toctree", TocTree)
    directives.register_directive("code-block", CodeBlock)
    roles.register_local_role("doc", doc_role)
    roles.register_local_role("ref", ref_role)
    for name in ("file", "c:func", "c:type", "command", "program", "kbd"):
        roles.register_local_role(name, literal_role)

    bad, made = [], 0
    for folder, _, files in sorted(os.walk(args.source)):
        for name in sorted(files):
            if not name.endswith(".rst"):
                continue
            source = os.path.join(folder, name)
            target = os.path.join(args.output, os.path.relpath(source, args.source))[:-4] + ".html"
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                publish_file(
                    source_path=source,
                    destination_path=target,
                    writer="html5",
                    settings_overrides={
                        "report_level": 2, "halt_level": 2, "traceback": True, "syntax_highlight": "none",
                        "input_encoding": "utf-8", "embed_stylesheet": True,
                    },
                )
            except utils.SystemMessage:
                bad.append(source)
                continue
            with open(target, encoding="utf-8") as f:
                text = f.read()
            for m in re.finditer(r'href="([^":#]+)\.rst(#[^"]*)?"', text):
                if not os.path.isfile(os.path.join(folder, m[1] + ".rst")):
                    print(f"{source}: there is no {m[1]}.rst", file=sys.stderr)
                    bad.append(source)
            with open(target, "w", encoding="utf-8") as f:
                f.write(re.sub(r'href="([^":#]+)\.rst(#[^"]*)?"', r'href="\1.html\2"', text))
            made += 1
    print(f"{made} documents, {len(bad)} with errors", file=sys.stderr)
    return 1 if bad or not made else 0


if __name__ == "__main__":
    sys.exit(main())
