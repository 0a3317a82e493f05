# SPDX-License-Identifier: GPL-2.0
# For people and CI; the kernel's build system reads Kbuild. Each target is one script, which has --help.
#
#   make KDIR=...      a configured, built kernel tree in place of the project's own kernels
#   make V=1           show the commands

FLAVOUR ?= dev
MINUTES ?= 10
export CMD IOS ITEMS KUNIT LONG MUTANTS TESTS

.PHONY: all modules modules_install clean setup kernel vm demo check model compile-fail cost scale mutants blktests compare-native bench bench-compare breakdown \
	lint stress rustdoc htmldocs rust-analyzer distclean-cache help

all: modules

modules: ## the module, for KDIR= or the dev kernel (FLAVOUR=debug for the other)
	@$(if $(KDIR),,scripts/setup.sh)
	@scripts/build.sh $(FLAVOUR)

modules_install: modules ## install it where that kernel's modprobe looks (INSTALL_MOD_PATH=)
	@scripts/build.sh $(FLAVOUR) modules_install $(if $(INSTALL_MOD_PATH),INSTALL_MOD_PATH=$(INSTALL_MOD_PATH))

clean: ## remove what was built here (the cache stays)
	@rm -rf build rust-project.json

setup: ## packages, kernel source and tools, as far as they are missing
	@scripts/setup.sh

kernel: ## build the kernel FLAVOUR=dev or debug
	@scripts/kernel.sh $(FLAVOUR)

vm: ## a shell in the VM with the module built; CMD='...' runs one command; FLAVOUR=
	@scripts/setup.sh
	@scripts/build.sh $(FLAVOUR) >/dev/null
	@scripts/vm.sh --flavour $(FLAVOUR) $(if $(CMD),-- bash -c "$$CMD")

demo: ## the whole story on real devices in the VM
	@scripts/demo.sh

check: ## KUnit and the system tests on the debug kernel, the models, misuse; TESTS='04*' selects, KUNIT=only
	@scripts/check.sh

model: ## every order of events in the models of the removal protocol, by spin; LONG=1 looks at larger ones
	@scripts/setup.sh
	@scripts/model.sh $(if $(LONG),--long)

compile-fail: ## misuse of the types that own, which must not compile
	@scripts/setup.sh
	@scripts/compile-fail.sh

cost: ## whether an I/O costs more than tests/cost.limits says
	@scripts/setup.sh
	@scripts/cost.sh

scale: ## what many heads cost in time and memory; RMPATH_HEADS=1024 MEMORY=5G
	@scripts/setup.sh
	@scripts/scale.sh

mutants: ## whether the tests notice when a rule is broken: some hours; MUTANTS='03 17' selects
	@scripts/mutants.sh

blktests: ## this project's test group by blktests itself: BLKTESTS=checkout; RUN='rmpath block/004' selects
	@scripts/blktests.sh "$(BLKTESTS)" $(RUN)

compare-native: ## the holes of native NVMe multipath: the same events there and here
	@scripts/compare-native.sh

bench: ## cost per I/O against dm-multipath and native multipath, in instructions; as tables and as a chart
	@scripts/bench.sh

bench-compare: ## the same, against what OLD=bench.tsv says
	@[ -f "$(OLD)" ] || { echo "make: error: OLD= must name a bench.tsv of before" >&2; exit 1; }
	@OLD="$(OLD)" scripts/bench.sh

breakdown: ## in which functions the instructions of a read are; ROW='rmpath head, round-robin'
	@scripts/breakdown.py "$(or $(ROW),rmpath head, round-robin)"

lint: ## rustfmt, clippy, checkpatch, shellcheck, unsafe only where it belongs, mutations that fit
	@scripts/lint.sh

stress: ## the long lifetime and fault tests, for MINUTES=; LONG=1 goes by numbers
	@scripts/stress.sh $(MINUTES)

rustdoc: ## the crate's documentation, private items too
	@scripts/rustdoc.sh

htmldocs: ## Documentation/ as HTML
	@scripts/htmldocs.sh

rust-analyzer: ## rust-project.json for the editor
	@ko=$$(scripts/build.sh $(FLAVOUR) rust-analyzer) && cp "$$(dirname "$$ko")/rust-project.json" .

distclean-cache: ## delete the cache: kernels, source, tools
	@scripts/distclean-cache.sh

help: ## this list
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
