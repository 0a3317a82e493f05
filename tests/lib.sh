# SPDX-License-Identifier: GPL-2.0
# Shared by the system tests: TAP, bounded waits, the kernel's log, the module. devices.sh has the devices.
# shellcheck shell=bash
#
# A test sources this file, says what it checks with ok(), is() and so on, and ends with done_testing. On exit,
# whatever happened, what the test set up is taken down again, the module is unloaded, and the kernel's log is
# searched for complaints; both count as checks. The plan is printed last.
#
# RMPATH_KO       the module (default: build/rmpath.ko, or rmpath.ko at the top)
# RMPATH_PATIENCE factor on every limit of time, for machines that are slower still (default 1)
# RMPATH_UDEV=1   have udev do its work; reference counts are then compared with its noise
# RMPATH_VM=1     nobody else uses this machine: it may do without udev altogether

set -u
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

TESTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TMP=$(mktemp -d "${TMPDIR:-/tmp}/rmpath-test.XXXXXX")
CLASS=/sys/class/rmpath
PATIENCE=${RMPATH_PATIENCE:-1}
if [ -z "${RMPATH_KO:-}" ]; then
	RMPATH_KO=$TESTS/../build/rmpath.ko
	[ -e "$RMPATH_KO" ] || RMPATH_KO=$TESTS/../rmpath.ko
fi

# --- TAP -------------------------------------------------------------------------------------------------------------

tap_count=0
tap_failed=0
tap_done=

diag() { printf '%s\n' "$@" | sed 's/^/# /'; }

ok() { tap_count=$((tap_count + 1)); echo "ok $tap_count - $1"; }

# not_ok NAME [DIAGNOSTIC...]
not_ok() {
	tap_count=$((tap_count + 1))
	tap_failed=$((tap_failed + 1))
	echo "not ok $tap_count - $1"
	shift
	[ $# -eq 0 ] || diag "$@"
	return 1
}

# skip NAME REASON: one check that cannot be made here.
skip() { tap_count=$((tap_count + 1)); echo "ok $tap_count - $1 # SKIP $2"; }

# skip_all REASON: the whole test cannot run here.
skip_all() { echo "1..0 # SKIP $1"; tap_done=skipped; exit 0; }

# bail REASON: the test cannot go on.
bail() { not_ok "$1" "${@:2}"; exit 1; }

# is GOT WANT NAME
is() {
	if [ "$1" = "$2" ]; then ok "$3"; else not_ok "$3" "got:  $1" "want: $2"; fi
}

# like GOT REGEX NAME
like() {
	if [[ $1 =~ $2 ]]; then ok "$3"; else not_ok "$3" "got:        $1" "want match: $2"; fi
}

# check NAME CMD...: the command succeeds; its output is the diagnostic if not.
check() {
	local name=$1 out rc=0
	shift
	out=$("$@" 2>&1) || rc=$?
	if [ "$rc" -eq 0 ]; then ok "$name"; else not_ok "$name" "$* -> $rc" "${out:-(no output)}"; fi
}

# refuse NAME CMD...: the command fails.
refuse() {
	local name=$1 out
	shift
	if out=$("$@" 2>&1); then not_ok "$name" "$* succeeded" "${out:-(no output)}"; else ok "$name"; fi
}

done_testing() { tap_done=yes; exit 0; }

# --- Time ------------------------------------------------------------------------------------------------------------

# nap SECS: sleeps without starting a process.
exec {nap_fd}<> <(:)
nap() { read -r -t "$1" -u "$nap_fd" _; return 0; }

# wait_for SECS CMD...: polls until the command succeeds. Limits are generous; nothing depends on how fast it is.
wait_for() {
	local end=$((SECONDS + $1 * PATIENCE))
	shift
	until "$@"; do
		(( SECONDS < end )) || return 1
		nap 0.1
	done
}

# eventually SECS NAME CMD...: wait_for as a check.
eventually() {
	local limit=$1 name=$2
	shift 2
	if wait_for "$limit" "$@"; then ok "$name"; else not_ok "$name" "not within $((limit * PATIENCE)) s: $*" "$(stuck)"; fi
}

# stuck: the tasks that wait uninterruptibly, a line each with the functions they are in.
stuck() { local all; all=$(ask sys stuck); printf 'stuck: %s\n' "${all//; /$'\n'}"; }

# reads FILE VALUE
reads() {
	local value=
	{ IFS= read -r value <"$1"; } 2>/dev/null || return 1
	[ "$value" = "$2" ]
}
# at_least FILE N
at_least() { local v; v=$(value "$1"); [[ $v =~ ^[0-9]+$ ]] && (( v >= $2 )); }
# value FILE: its first line, or none.
value() { local v=none; { IFS= read -r v <"$1"; } 2>/dev/null; echo "$v"; }
gone() { [ ! -e "$1" ]; }
exists() { [ -e "$1" ]; }
ended() { ! kill -0 "$1" 2>/dev/null; }

# relay CMD...: of what it prints, the lines "ok NAME" and "not ok NAME" are checks of ours, and the rest explains them.
relay() {
	local line
	while IFS= read -r line; do
		case $line in
		'ok '*) ok "${line#ok }" ;;
		'not ok '*) not_ok "${line#not ok }" ;;
		*) diag "${line#\# }" ;;
		esac
	done < <("$@" 2>&1 || echo "not ok it runs to its end")
}

# within SECS CMD...: the command's status, or 124 if it has not ended by then. Unlike timeout(1) this does not
# wait for a process that is stuck in the kernel.
within() {
	local limit=$1 pid
	shift
	"$@" &
	pid=$!
	wait_for "$limit" ended "$pid" || { kill -9 "$pid"; return 124; }
	wait "$pid"
}

# --- System calls with named errors (sysio.py) -------------------------------------------------------------------------

command -v python3 >/dev/null || skip_all "no python3"
declare -A server_in server_out server_pid

# server NAME: a process that carries out commands, one after the other, for ask() and tell().
server() {
	local in out
	mkfifo "$TMP/$1.in" "$TMP/$1.out"
	python3 "$TESTS/sysio.py" <"$TMP/$1.in" >"$TMP/$1.out" 2>"$TMP/$1.err" &
	server_pid[$1]=$!
	disown
	exec {in}>"$TMP/$1.in" {out}<"$TMP/$1.out"
	server_in[$1]=$in
	server_out[$1]=$out
}

# tell NAME CMD: does not wait for the answer.
tell() { printf '%s\n' "$2" >&"${server_in[$1]}"; }

# receive NAME [SECS]: sets $reply to the answer, or to NOTHING if none has come by then. A new process costs a tenth of
# a second on the slowest machines, so what is used often does without the $(...) around answer.
receive() {
	IFS= read -r -t "${2:-$((120 * PATIENCE))}" -u "${server_out[$1]}" reply || reply=NOTHING
}
# quick CMD: the same by the server that every test has.
quick() { tell sys "$1"; receive sys; }
answer() { receive "$@"; echo "$reply"; }
ask() { tell "$@"; receive "$1"; echo "$reply"; }

# server_stop NAME
server_stop() {
	local in=${server_in[$1]} out=${server_out[$1]}
	exec {in}>&- {out}<&-
	wait_for 60 ended "${server_pid[$1]}" || { diag "server $1 does not end"; kill -9 "${server_pid[$1]}"; }
	unset "server_in[$1]" "server_out[$1]" "server_pid[$1]"
	rm -f "$TMP/$1.in" "$TMP/$1.out"
}

# sysio CMD...: by the server that every test has; prints the last answer. What they open is closed behind them.
sysio() { sysio_each "$@"; echo "$reply"; }
# sysio_all CMD...: the same, and prints all answers on one line.
sysio_all() { sysio_each "$@"; echo "${replies[*]}"; }
sysio_each() {
	local cmd last
	replies=()
	for cmd; do
		quick "$cmd"
		replies+=("$reply")
	done
	last=$reply
	[[ $1 != open* ]] || quick close
	reply=$last
}

# sysio_reads N: reads the first N blocks of 4 KiB, one after the other; says which results came.
sysio_reads() {
	local i cmds=()
	for ((i = 0; i < $1; i++)); do cmds+=("read $((i * 4096)) 4096"); done
	sysio_each "${cmds[@]}"
	printf '%s\n' "${replies[@]}" | sort -u | paste -sd ' '
}

# poor CMD...: as sysio, by a process without the privileges that are needed for what is a whole disk's.
poor() { setpriv --bounding-set=-sys_admin,-sys_rawio python3 "$TESTS/sysio.py" "$@" | tail -n 1; }

# answers WANT CMD...: for wait_for.
answers() { [ "$(sysio "${@:2}")" = "$1" ]; }

# --- Kernel log ------------------------------------------------------------------------------------------------------

# log_mark: log_ours prints our lines from here on.
log_mark() { ask sys mark >/dev/null; }
log_ours() {
	local all
	all=$(ask sys "log rmpath: ")
	all=${all#*|}
	[[ $all =~ ^[0-9]+$ ]] || printf '%s\n' "${all//|/$'\n'}"
}
# log_after TEXT: the log behind that line; all of it when the line has left the ring.
log_after() { dmesg | awk -v mark="$1" '{ l[NR] = $0 } index($0, mark) { m = NR } END { while (m++ < NR) print l[m] }'; }

# What the kernel said since the test began that no test may cause. A slab cache that cannot be made for want of memory
# is reported with a stack trace, and so is what vmalloc cannot give.
log_complaints() {
	log_after "test $$ begins" |
		awk '/__kmem_cache_create_args.* failed with error|vmalloc error: / { skip = 1 } !skip; /<\/TASK>/ { skip = 0 }' |
		grep -nE 'BUG:|WARNING:|KASAN|INFO: (task|rcu|possible)|possible (circular|recursive|irq|deadlock)|suspicious RCU|ODEBUG|refcount_t|Oops|Call Trace|unreferenced object|hung_task|blocked for more than|sleeping function|inconsistent lock|workqueue lockup|panicked' |
		grep -vE 'injecting|KTAP|ok [0-9]+'
}

# --- The module --------------------------------------------------------------------------------------------------------

refcnt() { value /sys/module/rmpath/refcnt; }
refcnt_is() { reads /sys/module/rmpath/refcnt "$1"; }
loaded() { [ -d /sys/module/rmpath ]; }
# scanned HEAD N: its partitions have been looked for, and there are N references. As long as nobody else has read from it.
scanned() { [ "$(stat_of "$1" 1)" -gt 0 ] && refcnt_is "$2"; }

# kunit_runs GLOB: what of KUnit runs when the module is loaded; fails without KUnit. (A newline would be a part of it.)
kunit_runs() {
	local glob=/sys/module/kunit/parameters/filter_glob
	[ -e "$glob" ] && printf %s "$1" >"$glob"
}

# rmpath_load [PARAM=VALUE...]
rmpath_load() { insmod "$RMPATH_KO" "$@"; }

# rmpath_unload: fails when the module stays in use.
rmpath_unload() {
	loaded || return 0
	wait_for 60 refcnt_is 0 || { echo "reference count stays at $(refcnt)"; return 1; }
	rmmod rmpath || return 1
	! loaded
}

# count_comes N: the reference count comes to N. If it is another at first, says what it is and who has a head open;
# prints what it is if it stays so.
count_comes() {
	refcnt_is "$1" && return 0
	diag "refcnt $(refcnt), to be $1; open: $(ask sys openers); then $(refcnt)" >&2
	wait_for 30 refcnt_is "$1" || { echo "refcnt $(refcnt)"; return 1; }
}

# count_is N NAME: the reference count comes to N. Opens that close in the background may lag, so this polls.
count_is() {
	if wait_for 30 refcnt_is "$1"; then ok "$2"; else not_ok "$2" "refcnt $(refcnt), want $1" "openers: $(ask sys openers)"; fi
}

# --- Heads and paths -----------------------------------------------------------------------------------------------------

heads() { local h; for h in /sys/block/rmpath*; do [ ! -e "$h" ] || echo "${h##*/}"; done; }

# head_of WWID: its name.
head_of() {
	local h
	for h in $(heads); do
		reads "/sys/block/$h/rmpath/wwid" "$1" && echo "$h" && return 0
	done
	return 1
}
no_head() { ! head_of "$1" >/dev/null; }
# only_head HEAD: it is there, and no other.
only_head() { [ "$(heads)" = "$1" ]; }

# What a file gives that is open on a removed disk. I/O in flight ends with EIO; but the block layer makes a dead disk's
# capacity 0, so that later reads are at the end of the file and writes find no room.
# shellcheck disable=SC2034 # the tests use them
NO_DATA='^(EIO|SHORT 0)$' NO_ROOM='^(EIO|ENOSPC)$'

hattr() { echo "/sys/block/$1/rmpath/$2"; }
hstate() { value "/sys/block/$1/rmpath/state"; }
hstate_is() { reads "/sys/block/$1/rmpath/state" "$2"; }

# path_dir HEAD DISK: the folder of that path.
path_dir() {
	local d
	for d in /sys/block/"$1"/rmpath/path[0-9]*; do
		[ "$d/device" -ef "/sys/block/$2" ] && echo "$d" && return 0
	done
	return 1
}
has_path() { path_dir "$1" "$2" >/dev/null; }
no_path() { ! has_path "$1" "$2"; }
# has_paths HEAD DISK...: exactly these.
has_paths() {
	local p have
	have=" $(paths "$1") "
	for p in "${@:2}"; do
		[[ $have = *" $p "* ]] || return 1
		have=${have/" $p "/ }
	done
	[ -z "${have// /}" ]
}
pstate() { value "$(path_dir "$1" "$2")/state"; }
pstate_is() { [ "$(pstate "$1" "$2")" = "$3" ]; }

# paths HEAD: the disks that are its paths, sorted, on one line.
paths() { ask sys "paths $1"; }

add_path() { echo "$*" >$CLASS/add_path; }
remove_path() { echo "device=/dev/$1" >$CLASS/remove_path; }

# attr FILE TEXT: writes it, prints OK or the errno's name.
attr() { ask sys "echo $1 $2"; }

# remove_head HEAD: at once, and waits until the disk is gone.
remove_head() {
	echo 1 >"/sys/block/$1/rmpath/delete" && wait_for 120 gone "/sys/block/$1"
}

# stat_of DISK FIELD: read_ios is 1, write_ios 5, discard_ios 12, flush_ios 16 (Documentation/block/stat.rst).
stat_of() { local fields; read -r -a fields <"/sys/block/$1/stat"; echo "${fields[$2 - 1]}"; }

# counted_reads SERVER N DISK...: N direct reads of what the server has open; prints OK, or what one of them ended with,
# and how many reads each of these disks had. If that is more than N, somebody else has read from them (who has them open
# is said), or less, it is done again.
counted_reads() {
	local try disk i got sum nodes=("${@:3}")
	declare -A reads_then
	for try in 1 2 3 4 5; do
		got=OK sum=0
		for disk in "${@:3}"; do reads_then[$disk]=$(stat_of "$disk" 1); done
		for ((i = 0; i < $2; i++)); do
			tell "$1" "read $((i * 4096)) 4096"
			receive "$1"
			[ "$reply" = OK ] || { got=$reply; break; }
		done
		for disk in "${@:3}"; do
			i=$(($(stat_of "$disk" 1) - reads_then[$disk]))
			got+=" $i" sum=$((sum + i))
		done
		# The last one may be counted a little later than it is done.
		[[ $got = OK\ * ]] && ((sum != $2)) || break
		diag "try $try: $got; open: $(ask sys "openers ${nodes[*]/#//dev/}")" >&2
	done
	echo "$got"
}

# snapshot: all that a refused request must leave as it was.
snapshot() { ask sys snapshot; }

# udev COMMAND: to its daemon.
udev() { udevadm control --timeout=120 "--$1" 2>/dev/null; }

# --- Beginning and end -----------------------------------------------------------------------------------------------------

cleanups=()
# defer CMD...: runs on exit, the last first.
defer() { cleanups+=("$(printf '%q ' "$@")"); }

finish() {
	local rc=$? i name out
	trap - EXIT
	if [ "$tap_done" = skipped ]; then rm -rf "$TMP"; exit 0; fi
	[ "$tap_done" = yes ] || not_ok "the test runs to its end" "exit status $rc"
	for name in "${!server_pid[@]}"; do
		kill -9 "${server_pid[$name]}" 2>/dev/null
	done
	for ((i = ${#cleanups[@]} - 1; i >= 0; i--)); do
		eval "${cleanups[i]}" >"$TMP/cleanup" 2>&1 || diag "cleaning up: ${cleanups[i]}" "$(cat "$TMP/cleanup")"
	done
	devices_release
	check "the module unloads at the end" rmpath_unload
	devices_down
	[ -n "${RMPATH_VM:-}" ] || udev start-exec-queue
	out=$(log_complaints)
	if [ -z "$out" ]; then ok "the kernel has not complained"; else not_ok "the kernel has not complained" "$out"; fi
	rm -rf "$TMP"
	echo "1..$tap_count"
	[ "$tap_failed" -eq 0 ]
	exit
}

# shellcheck source=devices.sh
. "$TESTS/devices.sh"

trap finish EXIT
trap 'exit 130' INT TERM
[ "$(id -u)" = 0 ] || skip_all "needs root"
server sys
log_mark
echo "<5>test $$ begins" >/dev/kmsg
# udev opens every new disk: that moves reference counts, and its workers hang on a head that waits for a path. What it
# only puts off it does afterwards, for disks that are gone by then: a test can leave it minutes of work.
if [ -n "${RMPATH_UDEV:-}" ]; then
	udev ping || "$(command -v /usr/lib/systemd/systemd-udevd /lib/systemd/systemd-udevd | head -n 1)" --daemon
elif [ -n "${RMPATH_VM:-}" ]; then
	udev exit
	# Or it would read what a test makes, if it was too busy to hear that.
	for name in systemd-udevd .udev-worker.; do
		while pkill -KILL -r R,S,D -x "$name"; do sleep 0.1; done
	done
elif command -v udevadm >/dev/null; then
	udevadm settle --timeout=300 2>/dev/null || diag "udev has events left of what was before"
	udev stop-exec-queue
fi
rmpath_unload >/dev/null || bail "rmpath is loaded already and in use"
