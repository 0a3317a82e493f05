#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# vm.sh [OPTION]... [-- COMMAND [ARGUMENT]...]: run a command in the VM, or a shell when none is given.
#
# The VM is this machine's root file system under overlays: what the guest writes is gone when it ends, but for the
# results directory. The command runs as root in the checkout; its output goes to standard output as it comes, the
# kernel's console to a file. The exit status is the command's; 124 when the time is up, 255 when the kernel died.
#
#   --flavour F     dev or debug, the kernel to boot (dev); KDIR= names another
#   --cpus N        (2); if that is even, a kernel with CONFIG_NUMA finds two nodes
#   --memory M      (2G)
#   --timeout S     seconds until the VM is killed (none)
#   --idle S        seconds without a line of output until it is killed (none); the first one has four minutes at most,
#                   since without KVM a guest with two CPUs at times does not boot to its end
#   --icount        one virtual CPU that counts a nanosecond per instruction, for measuring
#   --monitor FILE  qemu's monitor, a socket, and the log that it writes when told to, FILE.log
#   --append ARG    one more kernel parameter
#   --env NAME=VAL  one more variable for the command
#   --results DIR   a directory the guest can write to; RESULTS names it in the guest
#   --console FILE  where the console goes
#
# The command finds RMPATH_KO (the module, if it was built), RMPATH_FLAVOUR and RESULTS; modprobe finds the kernel's
# modules and rmpath, the latter under its aliases too. RMPATH_KVM=0 or 1 spares the question whether KVM works.

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

flavour=dev cpus=2 memory=2G timeout=0 idle='' icount='' monitor='' append=() vars=() results='' console=''
while (( $# )); do
	case "$1" in
	--flavour) flavour=$2; shift ;;
	--cpus) cpus=$2; shift ;;
	--memory) memory=$2; shift ;;
	--timeout) timeout=$2; shift ;;
	--idle) idle=$2; shift ;;
	--icount) icount=1 ;;
	--monitor) monitor=$2; shift ;;
	--append) append+=("$2"); shift ;;
	--env) vars+=("$2"); shift ;;
	--results) results=$2; shift ;;
	--console) console=$2; shift ;;
	--) shift; break ;;
	*) die "no such option: $1 (see --help)" ;;
	esac
	shift
done

VNG=$CACHE/venv/bin/vng
[ -x "$VNG" ] || die "virtme-ng is missing; run 'make setup'"
PATH=$CACHE/venv/bin:$PATH
command -v qemu-system-x86_64 >/dev/null || die "qemu-system-x86_64 is missing; run 'make setup'"
kdir=$(realpath -e "$("$TOP/scripts/kernel.sh" "$flavour")")
image=$kdir/arch/x86/boot/bzImage
[ -f "$image" ] || die "$image is missing"
ko=$TOP/build/$flavour/rmpath.ko
[ -z "${KDIR:-}" ] || ko=$TOP/build/kdir/rmpath.ko

# Everything about one run, for this script and for the guest; the last few are kept to look at.
mkdir -p "$TOP/build/vm"
find "$TOP/build/vm" -maxdepth 1 -name 'run.*' -mmin +720 -exec rm -rf {} +
run=$(mktemp -d "$TOP/build/vm/run.XXXXXX")
results=$(realpath -m "${results:-$run/results}")
console=$(realpath -m "${console:-$run/console.log}")
mkdir -p "$results" "$(dirname "$console")"
ln -sfn "$run" "$TOP/build/vm/last-$flavour"

# virtme-ng links the kernel's modules into a tree of their own; two VMs that start together must not both do it.
link_modules() {
	local dep=$kdir/.virtme_mods/lib/modules/0.0.0/modules.dep
	if [ ! -f "$dep" ] || [ "$kdir/modules.order" -nt "$dep" ]; then
		(cd "$kdir" && "$CACHE/venv/bin/virtme-prep-kdir-mods" >"$CACHE/log/link-modules.log" 2>&1) ||
			die "the kernel's modules cannot be linked; see $CACHE/log/link-modules.log"
	fi
}
if [ -f "$kdir/modules.order" ]; then
	(flock 9; link_modules) 9>"$CACHE/link-modules.lock"
fi

# --- KVM ---------------------------------------------------------------------------------------------------------------

# /dev/kvm may exist and open and still be unable to run a kernel: boot once to see, and remember the answer for this
# machine, host kernel and qemu.
kvm_works() {
	local key answer
	case "${RMPATH_KVM:-}" in
	0) return 1 ;;
	1) return 0 ;;
	esac
	[ -r /dev/kvm ] && [ -w /dev/kvm ] || return 1
	key=$( { uname -nrm; grep -m 1 'model name' /proc/cpuinfo; qemu-system-x86_64 --version; } | sha256sum | cut -c1-12)
	answer=$CACHE/kvm-$key
	(
		flock 9
		[ ! -f "$answer" ] || exit 0
		say "trying whether KVM works here (once, up to a minute)"
		if [ "$(timeout -k 5 60 "$VNG" --run "$image" --force-9p --user root --cpus 1 --memory 1G \
			--exec 'echo kvm works' 2>/dev/null </dev/null | cat)" = "kvm works" ]; then
			echo yes >"$answer"
		else
			echo no >"$answer"
		fi
		say "KVM works: $(cat "$answer")"
	) 9>"$CACHE/kvm.lock"
	[ "$(cat "$answer")" = yes ]
}

args=(--run "$image" --force-9p --user root --memory "$memory" "--overlay-rwdir=$TOP" "--rwdir=$results")
qemu=''
[ -z "$monitor" ] || qemu="-monitor unix:$monitor,server=on,wait=off -D $monitor.log"
if [ -n "$icount" ]; then
	cpus=1
	args+=(--disable-kvm)
	qemu+=" -icount shift=0,sleep=off"
elif ! kvm_works; then
	args+=(--disable-kvm)
	# A slow machine is not a hang, and need not measure how slow it is. The emulated CPU has five-level page tables,
	# and KASAN then trips over an interrupt that comes while the boot CPU is being identified.
	append=(no5lvl no_timer_check lpj=4000000 rcupdate.rcu_cpu_stall_timeout=150 workqueue.watchdog_thresh=150 "${append[@]}")
	# The emulated CPUs count the host's cycles. Left to itself, the guest compares these with a timer that the busy host
	# reads late, finds them wrong, and from then on spends a fourth of its time reading that timer.
	! grep -qw nonstop_tsc /proc/cpuinfo || append=(tsc=reliable "${append[@]}")
fi
# A kernel that knows nodes is given two: half the CPUs, in a socket of their own, and half the memory each.
if (( cpus % 2 == 0 )) && grep -qx CONFIG_NUMA=y "$kdir/.config"; then
	[[ $memory = *[0-9] ]] && mib=$memory || mib=$(($(numfmt --from=iec "$memory") / 1048576))
	qemu+=" -smp sockets=2"
	args+=(--numa "$((mib / 2))M,cpus=0-$((cpus / 2 - 1))" --numa "$((mib - mib / 2))M,cpus=$((cpus / 2))-$((cpus - 1))")
fi
[ -z "$qemu" ] || args+=("--qemu-opts=$qemu")
args+=(--cpus "$cpus")
# Counting how often locks are taken is for who asks for it.
! grep -qx CONFIG_LOCK_STAT=y "$kdir/.config" || append=(lockdep.lock_stat=0 "${append[@]}")
# The guest may cache what it reads from the root file system; else it would fetch each program again for each run.
append=("rootflags=version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose" "${append[@]}")
for a in "rmpath_run=$run" "PATH=$TOP/scripts/guest-bin" "${append[@]}"; do
	args+=(--append "$a")
done

{
	printf 'export %s=%q\n' TOP "$TOP" RESULTS "$results" RMPATH_FLAVOUR "$flavour" RMPATH_VM 1
	[ ! -f "$ko" ] || printf 'export RMPATH_KO=%q\n' "$ko"
	for a in "${vars[@]}"; do
		printf 'export %s=%q\n' "${a%%=*}" "${a#*=}"
	done
} >"$run/env"

cd "$TOP"
if (( $# == 0 )); then
	[ -t 0 ] || die "a shell needs a terminal; give a command after --"
	exec "$VNG" "${args[@]}" --shell "$TOP/scripts/vm-guest.sh"
fi
printf '%q ' "$@" >"$run/command"

# Pipes, because qemu truncates a file it is given. timeout(1) gives the VM a process group of its own and ends all of it.
fifo=$run/output
mkfifo "$fifo"
timeout -k 10 "$timeout" "$VNG" "${args[@]}" --verbose --exec "bash $TOP/scripts/vm-guest.sh" </dev/null \
	> >(exec cat >"$fifo") 2> >(exec cat >"$console") &
pid=$!
trap 'kill -TERM "$pid" 2>/dev/null; wait; exit 130' INT TERM
late=''
if [ -z "$idle" ]; then
	cat "$fifo" || true
else
	patience=$(( idle < 240 ? idle : 240 ))
	while true; do
		got=0
		IFS= read -r -t "$patience" line || got=$?
		if (( got == 0 )); then
			patience=$idle
			printf '%s\n' "$line"
		elif (( got > 128 )); then
			late="it said nothing for $patience s"
			kill -TERM "$pid"
			break
		else
			printf '%s' "$line"
			break
		fi
	done <"$fifo"
fi
rc=0
wait "$pid" || rc=$?
wait
rm -f "$fifo"
(( rc != 124 )) || late="the time of $timeout s was up"
if [ -n "$late" ]; then
	tail -n 60 "$console" >&2
	say "the VM was ended because $late; the whole console is in $console"
	rc=124
elif (( rc == 255 )); then
	tail -n 60 "$console" >&2
	say "the VM died; the whole console is in $console"
fi
exit "$rc"
