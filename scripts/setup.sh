#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
# setup.sh: install or fetch what the project needs, as far as it is missing.
#
# Packages come from the system's own apt (as root; Debian 12 and 13), everything else goes to the cache: the kernel
# source, bindgen and a Python environment with virtme-ng. The system's apt configuration is never touched. A second
# run takes a second. Nothing is needed from here when LINUX_SRC= or KDIR= and the tools are given.
#
#   DEBIAN_MIRROR=     the Debian mirror for the kernel source, if not the one the system's apt uses
#   RMPATH_CACHE=      the cache, if not ~/.cache/rmpath

. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
help_if_asked "$@"

VIRTME_NG=1.42
DOCUTILS=0.23
BINDGEN_CLI=0.73.2
LINUX_SUITE=trixie-backports
LINUX_PACKAGE=linux-source-7.2
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

mkdir -p "$CACHE/log"
exec 8>"$CACHE/setup.lock"
flock -n 8 || { say "another set-up is under way; waiting"; flock 8; }

# need_space GIB WHAT: a clear word before an archive is half unpacked.
need_space() {
	local free
	free=$(df -Pk "$CACHE" | awk 'NR==2 {print int($4 / 1048576)}')
	(( free >= $1 )) || die "$2 needs $1 GiB in $CACHE, $free GiB are free"
}

have_package()  { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
have_candidate() {
	local v
	v=$(apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ {print $2}')
	[ -n "$v" ] && [ "$v" != "(none)" ]
}

# --- Packages --------------------------------------------------------------------------------------------------------

# The names of all packages that are needed and not there, in WANTED.
list_packages() {
	local p v
	local -a all=(
		# to build the kernel, the module and bindgen
		make gcc libc6-dev bc bison flex libelf-dev libssl-dev cpio kmod perl python3 python3-venv xz-utils
		# to run the VM and the tests
		udev dmsetup nvme-cli fio xfsprogs e2fsprogs fdisk psmisc sg3-utils multipath-tools gawk
		# to check
		shellcheck spin
	)
	WANTED=()
	if ! find_llvm >/dev/null || ! find_libclang; then
		v=$(pick_llvm) || die "no clang of LLVM 17 or newer is installed, and apt offers none"
		all+=("clang-$v" "lld-$v" "llvm-$v" "libclang-$v-dev")
	fi
	if ! find_rustc >/dev/null; then
		if have_candidate rustc-web; then
			all+=(rustc-web rust-web-src rustfmt-web rust-web-clippy)
		else
			all+=(rustc rust-src rustfmt rust-clippy)
		fi
	fi
	if ! find_bindgen >/dev/null && ! cargo --version >/dev/null 2>&1; then
		if have_candidate cargo-web; then all+=(cargo-web); else all+=(cargo); fi
	fi
	for p in "${all[@]}"; do
		have_package "$p" || WANTED+=("$p")
	done
	command -v qemu-system-x86_64 >/dev/null || WANTED+=(qemu-system-x86)
}

find_libclang() {
	local d
	d=$(dirname "$(find_llvm)")/lib
	compgen -G "$d/libclang*.so*" >/dev/null
}

# LLVM 19 is what both Debian 12 and 13 have; else the newest on offer.
pick_llvm() {
	local v
	for v in 19 22 21 20 18 17; do
		have_candidate "clang-$v" && printf '%s\n' "$v" && return 0
	done
	return 1
}

apt_install() {
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --no-remove "$@"
}

# private_apt DIR LINE...: a configuration of its own in DIR with these sources, in APT; the system's lists, sources
# and cache stay as they are.
private_apt() {
	local dir=$1
	shift
	[ -f "$KEYRING" ] || die "$KEYRING is missing (package debian-archive-keyring)"
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	printf '%s\n' "$@" >"$dir/sources.list"
	APT=(apt-get -o "Dir::Etc::sourcelist=$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null
	     -o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" -o APT::Sandbox::User=root -o APT::Update::Error-Mode=any
	     -o APT::Update::Post-Invoke::= -o APT::Update::Post-Invoke-Success::=)
}

# The mirror that the system's apt uses, not its security one.
mirror() {
	local m
	# shellcheck disable=SC2016 # apt's variable, not the shell's
	m=${DEBIAN_MIRROR:-$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null |
		grep -E '/debian/?$' | grep -v security | head -n 1)} || true
	printf '%s\n' "${m:-http://deb.debian.org/debian}"
}

codename() {
	# shellcheck disable=SC1091 # its content is not ours
	. /etc/os-release
	printf '%s\n' "${VERSION_CODENAME:-}"
}

# The qemu that is installed may come from the backports of this release (qemu-utils), and the stock
# qemu-system-x86 then conflicts with it: take it from there too.
install_qemu() {
	local c m
	if apt-get install -s --no-install-recommends --no-remove qemu-system-x86 >/dev/null 2>&1; then
		apt_install qemu-system-x86
		return
	fi
	c=$(codename)
	m=$(mirror)
	private_apt "$CACHE/apt/qemu" "deb [signed-by=$KEYRING] $m $c main" \
		"deb [signed-by=$KEYRING] $m $c-updates main" "deb [signed-by=$KEYRING] $m $c-backports main"
	"${APT[@]}" update &&
		DEBIAN_FRONTEND=noninteractive "${APT[@]}" install -y -t "$c-backports" --no-install-recommends \
			--no-remove qemu-system-x86
	rm -rf "$CACHE/apt/qemu"
}

install_packages() {
	local -a rest=()
	local p
	for p in "${WANTED[@]}"; do
		[ "$p" = qemu-system-x86 ] || rest+=("$p")
	done
	if (( ${#rest[@]} )); then
		# Lists that are out of date name files that are gone: fetch them once, then say what is wrong.
		apt_install "${rest[@]}" || { update_lists && apt_install "${rest[@]}"; } || return 1
	fi
	if [[ " ${WANTED[*]} " = *" qemu-system-x86 "* ]]; then
		have_candidate qemu-system-x86 || update_lists || return 1
		install_qemu || return 1
	fi
}

# Without a network apt-get would be content with the lists that there are, or with none.
update_lists() {
	apt-get -o APT::Update::Error-Mode=any update || have_candidate make ||
		{ echo "the mirrors of this machine did not answer; is there a network?"; return 1; }
}

get_packages() {
	command -v dpkg-query >/dev/null || { not_debian; return; }
	# A machine whose lists were never fetched knows no candidates, and what is wanted depends on them.
	if (( $(id -u) == 0 )) && ! have_candidate make; then
		with_progress "apt-get update" "$CACHE/log/apt-update.log" update_lists
	fi
	list_packages
	(( ${#WANTED[@]} )) || return 0
	(( $(id -u) == 0 )) ||
		die "these packages are missing, and installing them takes root: ${WANTED[*]}"
	need_space 2 "installing packages"
	with_progress "installing ${WANTED[*]}" "$CACHE/log/apt-install.log" install_packages
}

# Elsewhere nothing can be installed, but everything may be there.
not_debian() {
	local c missing=()
	for c in make gcc bc bison flex cpio perl python3 qemu-system-x86_64 dmsetup nvme fio shellcheck spin; do
		command -v "$c" >/dev/null || missing+=("$c")
	done
	(( ${#missing[@]} == 0 )) || die "this is no Debian; please install what has these commands: ${missing[*]}"
}

# --- The tools in the cache --------------------------------------------------------------------------------------------

get_rust() {
	local r v
	r=$(find_rustc) || {
		r=$(command -v "${RUSTC:-rustc}") || die "there is no rustc"
		die "$r has no library source, so it cannot build a kernel; with rustup: rustup component add rust-src"
	}
	v=$("$r" --version | awk '{print $2}')
	[ "$(printf '%s\n1.85.0\n' "${v%%-*}" | sort -V | head -n 1)" = 1.85.0 ] || die "$r is $v, and 1.85 is needed"
	find_llvm >/dev/null || die "no clang and ld.lld of LLVM 17 or newer"
}

cargo_bindgen() {
	cargo install --locked --root "$CACHE/tools" "bindgen-cli@$BINDGEN_CLI" ||
		{ echo "cargo could not fetch or build bindgen-cli; is there a network?"; return 1; }
}

get_bindgen() {
	! find_bindgen >/dev/null || return 0
	cargo --version >/dev/null 2>&1 || die "no bindgen 0.71.1 or newer, and no cargo to build one"
	with_progress "building bindgen $BINDGEN_CLI (about a minute)" "$CACHE/log/bindgen.log" cargo_bindgen
	find_bindgen >/dev/null || die "bindgen was built but does not run; see $CACHE/log/bindgen.log"
}

make_venv() {
	rm -rf "$CACHE/venv"
	python3 -m venv "$CACHE/venv" || return 1
	"$CACHE/venv/bin/pip" install --disable-pip-version-check --no-input \
		"virtme-ng==$VIRTME_NG" "docutils==$DOCUTILS" ||
		{ echo "pip could not fetch virtme-ng $VIRTME_NG; is there a network?"; return 1; }
	printf '%s\n' "$VIRTME_NG $DOCUTILS" >"$CACHE/venv/.complete"
}

get_venv() {
	[ "$(cat "$CACHE/venv/.complete" 2>/dev/null)" != "$VIRTME_NG $DOCUTILS" ] || return 0
	with_progress "virtme-ng $VIRTME_NG in a Python environment" "$CACHE/log/venv.log" make_venv
}

# --- The kernel's source -----------------------------------------------------------------------------------------------

fetch_source() {
	local m tmp v deb
	m=$(mirror)
	tmp=$CACHE/src/.incoming
	private_apt "$CACHE/apt/linux" "deb [signed-by=$KEYRING] $m $LINUX_SUITE main"
	rm -rf "$tmp"
	mkdir -p "$tmp/linux"
	"${APT[@]}" update || { echo "the mirror $m did not answer; is there a network? DEBIAN_MIRROR= names another"; return 1; }
	(cd "$tmp" && "${APT[@]}" download "$LINUX_PACKAGE") || {
		echo "$m has no $LINUX_PACKAGE in $LINUX_SUITE; LINUX_SRC= takes an unpacked Linux 7.2 tree instead"
		return 1
	}
	deb=$(printf '%s\n' "$tmp"/*.deb)
	echo "unpacking $(basename "$deb")"
	dpkg-deb --fsys-tarfile "$deb" | tar -xO "./usr/src/$LINUX_PACKAGE.tar.xz" |
		tar -xJ --strip-components=1 -C "$tmp/linux" || return 1
	v=$(awk '$1=="VERSION"{a=$3} $1=="PATCHLEVEL"{b=$3} $1=="SUBLEVEL"{c=$3} END{print a "." b "." c}' \
		"$tmp/linux/Makefile")
	rm -rf "$CACHE/src/linux-$v"
	touch "$tmp/linux/.unpacked"
	mv "$tmp/linux" "$CACHE/src/linux-$v" && rm -rf "$tmp" "$CACHE/apt/linux"
}

get_source_tree() {
	if [ -n "${LINUX_SRC:-}" ]; then
		find_source >/dev/null || die "LINUX_SRC=$LINUX_SRC is not a kernel tree with Rust in it"
		return
	fi
	! find_source >/dev/null || return 0
	need_space 4 "the kernel source"
	mkdir -p "$CACHE/src"
	with_progress "fetching the source of Linux 7.2" "$CACHE/log/source.log" fetch_source
}

get_packages
get_rust
get_venv
[ -n "${KDIR:-}" ] || get_source_tree
get_bindgen
