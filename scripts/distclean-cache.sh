#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# distclean-cache.sh: delete the cache with the kernels, their source and the tools. Set-up makes it anew.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

[ -d "$CACHE" ] || exit 0
# The name comes from the environment: what does not look like our cache stays.
if [ ! -d "$CACHE/log" ] || [ ! -f "$CACHE/setup.lock" ]; then
	die "$CACHE does not look like rmpath's cache; nothing was deleted"
fi
say "deleting $CACHE ($(du -sh "$CACHE" 2>/dev/null | cut -f 1))"
rm -rf "$CACHE"
