#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# htmldocs.sh: Documentation/ as HTML in build/html; a warning is an error.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

"$TOP/scripts/setup.sh"
[ -d "$TOP/Documentation" ] || die "there is no Documentation/"
"$CACHE/venv/bin/python3" "$TOP/scripts/htmldocs.py" "$TOP/Documentation" "$TOP/build/html"
say "$TOP/build/html/index.html"
