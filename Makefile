# Two commands do everything: `make demo` and `make test`. They install what is missing (Debian
# packages, rustup targets) through the machine's own configuration.

TARGET := $(or $(CARGO_TARGET_DIR),target)
DIST := $(TARGET)/dist
# What tests/matrix makes its table from.
RUN := $(TARGET)/test.log $(TARGET)/tmp/tally $(TARGET)/fuzz
MUSL := x86_64-unknown-linux-musl aarch64-unknown-linux-musl

.PHONY: help demo boot test test-fast matrix fuzz bench dist clean

# A failing test fails the line that it is written down by.
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c

help:
	@echo "make demo       bake real archives into a real Debian root, verify it, start its containerd"
	@echo "make boot       bake a Debian root with a kernel and boot it in QEMU, on this terminal"
	@echo "make test       everything that CI runs"
	@echo "make test-fast  formatting, lints and the hermetic tests: seconds, no root filesystem needed"
	@echo "make matrix     tests/README.md anew, from the last make test"
	@echo "make fuzz       ten minutes for each fuzz target"
	@echo "make bench      BENCH.md anew: speed beside what a user would run otherwise, 15 quiet minutes"
	@echo "make dist       static binaries for amd64 and arm64 in $(DIST)"

demo:
	tests/lab/prepare
	cargo build --release --locked
	tests/demo

boot:
	tests/lab/prepare
	cargo build --release --locked
	tests/lab/boot

test: dist
	tests/lab/prepare
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	rm -rf $(TARGET)/tmp/tally
	cargo test --locked --no-fail-fast -- --include-ignored 2>&1 | tee $(TARGET)/test.log
	fuzz/run 10
	tests/matrix --check tests/README.md $(RUN)

test-fast:
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo test --locked

matrix:
	tests/matrix $(RUN) >tests/README.md

fuzz:
	fuzz/run 600

bench: dist
	tests/lab/prepare artifacts bench
	cargo build --release --locked --example floors
	benches/run >$(TARGET)/BENCH.md
	cp $(TARGET)/BENCH.md BENCH.md

dist:
	tests/lab/prepare packages
	CC_x86_64_unknown_linux_musl=musl-gcc \
	CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=aarch64-linux-gnu-gcc \
	cargo build --release --locked $(MUSL:%=--target %)
	mkdir -p $(DIST)
	cp $(TARGET)/x86_64-unknown-linux-musl/release/nodebake $(DIST)/nodebake-linux-amd64
	cp $(TARGET)/aarch64-unknown-linux-musl/release/nodebake $(DIST)/nodebake-linux-arm64
	cd $(DIST) && sha256sum nodebake-linux-* > SHA256SUMS && ls -l

clean:
	cargo clean
