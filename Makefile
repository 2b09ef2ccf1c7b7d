# What a person types. Each target does all its set-up itself; scripts/bootstrap returns at once when nothing is to do.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
BIN := .venv/bin
SHELL_SCRIPTS := scripts/bootstrap scripts/renew-constraints scripts/fresh-machine .ci/run tests/envtest/build tests/envtest/find tests/kernel/build tests/kernel/run tests/kernel/init tests/reboot/disk tests/upstream/build tests/upstream/without-sctp scripts/find-go scripts/packages topology/cluster/node-init.sh scripts/cluster-files/build $(wildcard deploy/*.sh topology/vagrant/*)
# Tests of a file share their switch, so a file stays with one worker.
PYTEST_ARGS ?= -n auto --dist loadfile

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: ## put everything into .venv, with the command .venv/bin/headgate
	@scripts/bootstrap
	@echo "ready: $(BIN)/headgate"

.PHONY: demo
demo: ## watch a policy take effect on real packets (needs root)
	@scripts/bootstrap --lab --root
	@$(BIN)/headgate demo

.PHONY: test
test: ## run all tests (needs root)
	@scripts/bootstrap --dev --node --browser --compiler --root
	@tests/envtest/build --if-missing
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: cluster
cluster: ## real kubelets on this machine, with Headgate as their network; stays up (needs root)
	@scripts/bootstrap --cluster --root
	@scripts/cluster-files/build --if-missing
	@$(BIN)/headgate lab cluster up

.PHONY: cluster-down
cluster-down: ## remove that cluster
	@scripts/bootstrap
	@$(BIN)/headgate lab cluster down

# CLUSTER_TEST is all (some 15 minutes) or short (3 minutes).
CLUSTER_TEST ?= all

.PHONY: cluster-test
cluster-test: ## end-to-end specs on real kubelets: CLUSTER_TEST=all|short (needs root)
	@scripts/bootstrap --dev --cluster --root
	@HEADGATE_CLUSTER_TEST=$(CLUSTER_TEST) $(BIN)/python -m pytest -n 0 -v tests/cluster

# FOCUS is a regular expression of specs, PROCS in how many processes they run.
FOCUS ?= \[sig-network\] (Netpol|Services)
PROCS ?= 1

.PHONY: e2e
e2e: ## Kubernetes' own end-to-end specs on real kubelets: FOCUS=REGEX PROCS=4 (needs root; the first time half an hour more)
	@scripts/bootstrap --dev --suites --root
	@tests/upstream/build --if-missing e2e
	@$(MAKE) cluster
	@$(BIN)/python -m tests.upstream e2e --focus '$(FOCUS)' --procs $(PROCS)

# SEED is the first seed (by chance without it), SCHEDULES how many, SCHEDULE a file that a failed run has written.
SEED ?=
SCHEDULES ?= 3
SCHEDULE ?=
HOURS ?= 1

.PHONY: chaos
chaos: ## faults on three replicas under traffic, every probe judged: SEED=1 SCHEDULES=3, or SCHEDULE=FILE (needs root)
	@scripts/bootstrap --dev --node --compiler --root
	@tests/envtest/build --if-missing
	@$(BIN)/python -m tests.chaos run --schedules $(SCHEDULES) $(if $(SEED),--seed $(SEED)) $(if $(SCHEDULE),--schedule $(SCHEDULE))

.PHONY: soak
soak: ## the same for HOURS=1 hours, with memory, descriptors and flows in build/soak (needs root)
	@scripts/bootstrap --dev --node --compiler --root
	@tests/envtest/build --if-missing
	@$(BIN)/python -m tests.chaos soak --hours $(HOURS) $(if $(SEED),--seed $(SEED))

.PHONY: conformance
conformance: ## the suite of network-policy-api on real kubelets; writes its report into build/ (needs root)
	@scripts/bootstrap --dev --suites --root
	@tests/upstream/build --if-missing conformance
	@$(MAKE) cluster
	@$(BIN)/python -m tests.upstream conformance

.PHONY: cluster-files
cluster-files: ## build Kubernetes and the images for a cluster into the user's cache (about ten minutes)
	@scripts/cluster-files/build

.PHONY: test-fast
test-fast: ## the tests that need no root, no switch and no API server (under a minute)
	@scripts/bootstrap --dev
	@$(BIN)/python -m pytest --fast $(PYTEST_ARGS)

.PHONY: coverage
coverage: ## how much of flows/ the fast tier runs, by line and branch
	@scripts/bootstrap --dev
	@$(BIN)/python -m pytest --fast $(PYTEST_ARGS) -q --cov --cov-report=term:skip-covered

.PHONY: envtest
envtest: ## build the API server that tests use into the user's cache
	@tests/envtest/build

.PHONY: develop
develop: ## like install, with the tools for tests and checks
	@scripts/bootstrap --dev

.PHONY: check
check: lint types layers check-docs ## all checks that run no tests

.PHONY: lint
lint: develop ## style of the code, of its formatting and of the shell scripts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/shellcheck --external-sources $(SHELL_SCRIPTS)

.PHONY: format
format: develop ## put the code into its format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: types
types: develop ## strict types
	@$(BIN)/mypy

.PHONY: layers
layers: develop ## who may import whom
	@$(BIN)/lint-imports

.PHONY: docs
docs: develop ## write the pages that are generated from the code
	@$(BIN)/python scripts/docs.py

.PHONY: check-docs
check-docs: develop ## fail when a generated page is stale
	@$(BIN)/python scripts/docs.py --check

# SIZE is short (a tenth), full, or a factor; NAMES are those of `headgate bench --list`.
SIZE ?= short
NAMES ?=

.PHONY: bench
bench: ## measure what Headgate costs here: SIZE=short|full, NAMES="rules changes"
	@scripts/bootstrap --lab
	@$(BIN)/headgate bench $(NAMES) --size $(SIZE)

.PHONY: performance
performance: ## measure everything in full and write docs/performance.md with its plots (some minutes; needs root)
	@scripts/bootstrap --node --root
	@$(BIN)/python -m bench.page docs

.PHONY: page-images
page-images: ## write the pictures of the page in docs/images (needs Chromium)
	@$(BIN)/python scripts/page_images.py

.PHONY: fresh-test
fresh-test: ## demo and test, twice, on a fresh minimal Debian 12 (needs root and debootstrap)
	@scripts/fresh-machine

.PHONY: vagrant-up
vagrant-up: ## the lab on virtual machines: a controller and two nodes (needs vagrant)
	@vagrant up

.PHONY: vagrant-test
vagrant-test: ## the truth tables on virtual machines, which come and go (needs vagrant; half an hour)
	@scripts/bootstrap --dev
	@HEADGATE_VAGRANT=$${HEADGATE_VAGRANT:-1} $(BIN)/python -m pytest --verbose --capture=no --timeout=7200 tests/vagrant

# KERNEL_TESTS is all, short, or files and folders of tests with real packets. PYTEST_ARGS does not count here: that Linux
# has one processor. Short is where the two datapaths differ most: conntrack of SCTP, fragments, ICMP, limits, names, tunnels.
KERNEL_TESTS ?= all
KERNEL_ALL := tests/packets tests/node/test_cni.py $(patsubst %,tests/deploy/test_%.py,node_cni node_packets node_scripts underlay_packets)
KERNEL_SHORT := $(patsubst %,tests/packets/test_%.py,tables_tiers sctp_associations services_sctp fragments icmp limits kinds_of_frames domain_names overlay)

.PHONY: kernel-test
kernel-test: ## tests on real packets with the kernel's datapath, in a Linux that is a program: KERNEL_TESTS=all|short|FILES (more than an hour; short: twelve minutes)
	@scripts/bootstrap --dev --node
	@tests/envtest/build --if-missing
	@tests/kernel/build --if-missing
	@TEST_DATAPATH=kernel tests/kernel/run $(BIN)/python -m pytest -n 0 -p no:cacheprovider \
		$(if $(filter all,$(KERNEL_TESTS)),$(KERNEL_ALL),$(if $(filter short,$(KERNEL_TESTS)),$(KERNEL_SHORT),$(KERNEL_TESTS)))

# CUTS are how often the power fails during node.sh, and as often during the undo, for each datapath.
CUTS ?= 3

.PHONY: reboot-test
reboot-test: ## a node that reboots, and whose power fails at any moment: CUTS=3 SEED=1 (needs root; a quarter of an hour)
	@scripts/bootstrap --dev --node --root
	@tests/kernel/build --if-missing
	@tests/reboot/disk --if-missing
	@HEADGATE_REBOOT=1 HEADGATE_CUTS=$(CUTS) HEADGATE_SEED=$(SEED) $(BIN)/python -m pytest -n 0 -v tests/reboot

.PHONY: constraints
constraints: ## renew requirements/constraints.txt with the newest versions that setup.py allows
	@scripts/renew-constraints

.PHONY: release
release: develop ## check, build and try a release: VERSION=1.2.3
	@test -n "$(VERSION)" || { echo "say which: make release VERSION=1.2.3" >&2; exit 2; }
	@$(BIN)/python scripts/release.py $(VERSION)

.PHONY: clean
clean: ## remove .venv and everything else that was made here
	@rm -rf .venv build dist *.egg-info .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
