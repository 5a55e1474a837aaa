# make demo   build, and watch a Python processor print records that a producer is writing
# make test   every test: needs Rust, Python, Node, a JDK with Maven; installs the rest
# make fleet  workers beside real Java daemons of three makes, in every scenario: half an hour
# make bench  what a record costs, beside the Java daemon, into docs/BENCHMARKS.md; make bench-short: ours alone, in minutes
# make check  format, lints, unit tests, docs: the inner loop
# make elsewhere does it compile for macOS?
# make budget how many instructions a record costs on its way to the child, against a budget in the repository
# make sim    simulated fleets under faults: SEED=7 replays one with its whole journal, SEEDS=2000 runs many, FROM=2000 others

.PHONY: demo build check test unit simulation sim planted scale promises clients judges fleet fleet-short bench bench-short bench-programs bench-without-local budget fmt lint elsewhere doc deny tools clean

PYTHON ?= python3
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
export MULTILANGD := $(TARGET)/debug/multilangd

# Tests that start real daemons; the others are the inner loop; simulations have a build of their own.
PROMISES := end_to_end local credentials cloudwatch fanout twin
TALES := $(filter-out $(PROMISES) simulation,$(basename $(notdir $(wildcard tests/tests/*.rs))))

build:
	cargo build --locked

demo: build
	@clients/python/examples/demo.sh $(MULTILANGD)

check: fmt lint unit doc

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --locked --workspace --all-targets -- -D warnings

# What compiles for macOS: all but the crates whose dependencies need a C compiler for it. Nothing of it is run.
ELSEWHERE ?= aarch64-apple-darwin
elsewhere:
	rustup target add $(ELSEWHERE)
	cargo clippy --locked --target $(ELSEWHERE) $(addprefix -p multilangd-,protocol config core engine) --all-targets -- -D warnings

# Everything that needs no other process than its own children.
unit: build
	cargo test --locked --workspace --exclude multilangd-tests
	cargo test --locked -p multilangd-tests --lib $(TALES:%=--test %)

# Simulated fleets (a build of its own: it seeds tokio's dice, and knows bugs that can be planted).
SIMULATION = RUSTFLAGS="--cfg tokio_unstable --cfg planted" cargo
SIMULATION_OF = --locked --profile simulation -p multilangd-tests --target-dir $(TARGET)/simulation
SEEDS ?= 100

simulation:
	$(SIMULATION) test $(SIMULATION_OF) --test simulation

sim:
	$(SIMULATION) run --quiet $(SIMULATION_OF) --bin sim -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) $(FROM:%=--from %))

# Each known mistake, planted in turn, and the seed that finds it.
planted:
	$(SIMULATION) run --quiet $(SIMULATION_OF) --bin sim -- --planted

# 10,000 leases on 200 workers: how soon balanced, what the table is asked, how long a round takes.
# And what one worker alone asks of it.
scale:
	$(SIMULATION) run --quiet $(SIMULATION_OF) --bin sim -- --scale
	$(SIMULATION) run --quiet $(SIMULATION_OF) --bin sim -- --alone

# Promises, kept by real processes.
promises: build
	cargo test --locked -p multilangd-tests $(PROMISES:%=--test %)

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

clients: tools
	cd clients/python && $(PYTHON) -m unittest discover -q
	cd clients/node && npm test --silent
	clients/bash/test.sh

# Foreign servers, clients and the Java daemon, from their registries.
judges: build
	tests/judges/run.sh

fleet: build
	tests/fleet/run.sh

# A short one of each kind: a minute, most of it waiting for Java.
fleet-short: build
	tests/fleet/run.sh short

# BENCH=NAME picks, RUNS=5 is the default, PEERS= leaves Java and kcl-rs out, RESUME=1 leaves out what is done with this binary,
# SOAK=120 soaks for two hours, not half of one.
bench: bench-without-local bench-programs
	tests/bench/run.py --programs $(TARGET)/release $(RUNS:%=--runs %) $(if $(filter undefined,$(origin PEERS)),,--peers "$(PEERS)") \
		$(if $(RESUME),--resume) $(SOAK:%=--soak %) $(BENCH)

bench-short: bench-programs
	tests/bench/run.py --programs $(TARGET)/release --short $(BENCH)

# The program by itself, so that it is the one that users build.
bench-programs:
	cargo build --locked --release
	cargo build --locked --release -p multilangd-bench

# All crates once more: they are built with fewer features.
bench-without-local:
	cargo build --locked --release --no-default-features
	cp -p $(TARGET)/release/multilangd $(TARGET)/release/multilangd-without-local

# Instructions on the way of a record from the answer to the child's line, against tests/bench/budget.json. RENEW=1 writes it anew.
budget: tools
	cargo build --locked --release --quiet -p multilangd-bench --no-default-features --bin hot-path
	tests/bench/budget.py $(TARGET)/release/hot-path $(if $(RENEW),--renew)

test: check budget simulation promises clients judges fleet-short

# Licences, sources, bans: `cargo install --locked cargo-deny` first.
deny:
	cargo fetch --locked --quiet
	cargo deny --offline check licenses bans sources

# What the tests of the bash client and the budget need, where it is missing.
tools:
	@command -v jq >/dev/null && command -v valgrind >/dev/null || { apt-get update -qq && apt-get install -y -qq jq valgrind; }

clean:
	cargo clean
	rm -rf .judges
