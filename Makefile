# make demo   build, and watch a Python processor print records that a producer is writing
# make test   every test: needs Rust, Python, Node, a JDK with Maven (installs the rest)
# make check  format, lints, unit tests, docs: the inner loop

.PHONY: demo build check test unit end-to-end clients judges fmt lint doc deny tidy clean

PYTHON ?= python3
MULTILANGD = $(CURDIR)/$(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR:$(CURDIR)/%=%),target)/debug/multilangd
ifneq ($(CARGO_TARGET_DIR),)
MULTILANGD = $(abspath $(CARGO_TARGET_DIR))/debug/multilangd
endif
export MULTILANGD

build:
	cargo build --locked

demo: build
	@clients/python/examples/demo.sh $(MULTILANGD)

check: fmt lint unit doc

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --locked --workspace --all-targets -- -D warnings

# Everything that needs no other process than its own children.
unit: build
	cargo test --locked --workspace --exclude multilangd-tests
	cargo test --locked -p multilangd-tests --lib --test tidy

# Promises, kept by real processes.
end-to-end: build
	cargo test --locked -p multilangd-tests --test end_to_end --test local

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

clients:
	cd clients/python && $(PYTHON) -m unittest discover -q
	cd clients/node && npm test --silent
	clients/bash/test.sh

# Foreign servers, clients and the Java daemon, from their registries.
judges: build
	tests/judges/run.sh

test: check end-to-end clients judges

# Licences, sources, bans: `cargo install --locked cargo-deny` first.
deny:
	cargo deny --offline check licenses bans sources

clean:
	cargo clean
	rm -rf .judges
