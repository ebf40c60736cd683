# The commands of the README. Each installs what it needs, on Debian as root or with sudo.

# Headers for the SSH library, and what a build needs.
BUILD_PACKAGES = gcc pkg-config libssl-dev
# The servers that the tests run for real.
TEST_PACKAGES = $(BUILD_PACKAGES) openssh-server openssh-client postgresql nats-server nginx-light busybox python3 git pebble openssl curl

.PHONY: demo test lint doc bench build install-build install-test

# Zero-downtime deploys under load on this machine, with nothing set up before or left behind after.
demo: install-build
	cargo run --release --quiet --package vela-cli -- demo

build: install-build
	cargo build --release --package vela-cli

# Everything: unit, integration and end-to-end tests, the examples, the documentation's examples.
test: install-test
	cargo test --workspace --no-run
	cargo test --workspace --no-fail-fast

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# How long deploys take, side by side with what they are measured against. Wants an idle machine.
bench: install-test
	cargo run --release --package vela-bench --bin deploy

install-build:
	@./scripts/install $(BUILD_PACKAGES)

install-test:
	@./scripts/install $(TEST_PACKAGES)
