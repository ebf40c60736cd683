# The commands of the README. Each installs what it needs, on Debian as root or with sudo.

# Headers for the SSH library, and what a build needs.
BUILD_PACKAGES = gcc pkg-config libssl-dev
# The servers that the tests run for real, and the tools that they build with.
TEST_PACKAGES = $(BUILD_PACKAGES) openssh-server openssh-client postgresql nats-server nginx-light haproxy pebble openssl \
	busybox python3 python3-websockets curl sslscan wrk hey nghttp2-client slowhttptest git mix:elixir node:nodejs npm:npm
# A browser for the tests that need one: 300 MB, so it is not among the others.
BROWSER_PACKAGES = $(BUILD_PACKAGES) python3 python3-websockets chromium
# The proxies that are measured, and what measures them.
BENCH_PACKAGES = nginx-light haproxy caddy wrk nghttp2-client:h2load openssl

.PHONY: demo test test-browser lint doc fuzz bench bench-proxy bench-services profile-proxy build install-build install-fuzz install-test install-browser install-bench install-profile

# Zero-downtime deploys under load on this machine, with nothing set up before or left behind after.
demo: install-build
	cargo run --release --quiet --package vela-cli -- demo

build: install-build
	cargo build --release --package vela-cli

# Everything: unit, integration and end-to-end tests, the examples, the documentation's examples.
test: install-test
	cargo test --workspace --no-run
	cargo test --workspace --no-fail-fast

# A page over HTTP/2 in headless Chromium.
test-browser: install-browser
	cargo test --package vela-tests --test http2_clients browser -- --ignored --nocapture

# Bytes that nobody has thought of, for all that parses some from the network: FUZZ_SECONDS for each target.
fuzz: install-fuzz
	./scripts/fuzz

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# How long deploys take, side by side with what they are measured against. Wants an idle machine.
bench: install-test
	cargo run --release --package vela-bench --bin deploy

# The data plane beside nginx, HAProxy and Caddy. Wants an idle machine.
bench-proxy: install-bench
	cargo run --release --package vela-bench --bin proxy

# Where the CPU time of Vela's proxy goes under those loads, by perf. Wants an idle machine, and root.
profile-proxy: install-profile
	cargo build --release --package vela-bench --bin proxy
	./bench/profile target/release/proxy

# What an app's Postgres and NATS cost a deploy, side by side with the servers' own tools.
bench-services: install-test
	cargo build --release --package vela-cli --package vela-bench
	cargo run --release --package vela-bench --bin services

install-build:
	@./scripts/install $(BUILD_PACKAGES)

install-fuzz:
	@./scripts/install $(BUILD_PACKAGES) g++

install-test:
	@./scripts/install $(TEST_PACKAGES)

install-browser:
	@./scripts/install $(BROWSER_PACKAGES)

install-bench:
	@./scripts/install $(BUILD_PACKAGES) $(BENCH_PACKAGES)

install-profile: install-bench
	@./scripts/install perf:linux-perf pgrep:procps
