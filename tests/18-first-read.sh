#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# A head is complete before it can be found: whoever opens it the moment its node appears reads from it, and never
# gets an error for want of a path. (The path is published before the disk is added.)
. "$(dirname "$0")/lib.sh"

rmpath_load auto_attach=0 && nullb nba 16 || bail "no path"

# Says that it looks, opens the node as soon as that can be, reads once, and says how that went. (The node comes before the
# block layer lets it be opened.)
first_read() {
	python3 - "$1" <<'PYTHON'
import errno, mmap, os, sys, time

print("looking", flush=True)
end = time.monotonic() + 120
while time.monotonic() < end:
    try:
        fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENXIO):
            continue
        print("open", errno.errorcode[e.errno])
        break
    try:
        print("OK" if os.readv(fd, [mmap.mmap(-1, 4096)]) == 4096 else "short")
    except OSError as e:
        print("read", errno.errorcode[e.errno])
    os.close(fd)
    break
else:
    print("never there")
PYTHON
}

rounds=10 results=
for ((i = 1; i <= rounds; i++)); do
	exec {reader}< <(first_read /dev/rmpath0)
	read -r -u "$reader" result
	add_path device=/dev/nba wwid=first || { results+="add "; break; }
	read -r -u "$reader" result
	exec {reader}<&-
	results+="$result "
	remove_head rmpath0 || { results+="remove "; break; }
	wait_for 60 gone /dev/rmpath0 || { results+="node "; break; }
	# Only then is its number free.
	wait_for 60 refcnt_is 0 || { results+="reference "; break; }
done
is "$results" "$(printf 'OK %.0s' $(seq $rounds))" "the first read of a new head works, $rounds times"
count_is 0 "all references are back"

done_testing
