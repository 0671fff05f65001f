# `make demo` and `make test` do everything. They install what is missing (Debian packages, rustup
# targets) through the machine's own configuration, each only what it needs.

TARGET := $(or $(CARGO_TARGET_DIR),target)
DIST := $(TARGET)/dist
# What tests/matrix makes its table from.
RUN := $(TARGET)/test.log $(TARGET)/tmp/tally $(TARGET)/fuzz
# What `make dist` builds for; `make dist ARCHES=amd64` is what most tests need.
ARCHES := amd64 arm64
TRIPLE_amd64 := x86_64-unknown-linux-musl
TRIPLE_arm64 := aarch64-unknown-linux-musl
export CC_x86_64_unknown_linux_musl := musl-gcc
export CC_aarch64_unknown_linux_musl := aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER := aarch64-linux-gnu-gcc

.PHONY: help demo boot test test-all test-fast matrix fuzz bench dist static check-arm64 clean program

help:
	@echo "make demo       bake real archives into a real Debian root, verify it, start its containerd"
	@echo "make boot       bake a Debian root with a kernel and boot it in QEMU, on this terminal"
	@echo "make test       what CI runs: everything but what is slow and rarely breaks"
	@echo "make test-all   everything"
	@echo "make test-fast  formatting, lints and the hermetic tests: seconds, no root filesystem needed"
	@echo "make matrix     tests/README.md anew, from the last make test-all"
	@echo "make fuzz       ten minutes for each fuzz target"
	@echo "make bench      BENCH.md anew: speed beside what a user would run otherwise, 15 quiet minutes"
	@echo "make dist       static binaries for amd64 and arm64 in $(DIST)"
	@echo "make clean      remove $(TARGET)"

demo: program-and-demo
	tests/demo

boot: program-and-boot
	tests/lab/boot

# The program and the parts of the lab, side by side.
program-and-%:
	@$(MAKE) --no-print-directory --jobs=2 program lab-$*

# As the tests are built, which takes a third of the time of a release.
program:
	cargo build --locked

lab-%:
	tests/lab/prepare $*

test:
	tests/run

test-all:
	tests/run --all

test-fast:
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	cargo test --locked --lib --bins --test hermetic

matrix:
	tests/matrix $(RUN) >$(TARGET)/matrix.md
	cp $(TARGET)/matrix.md tests/README.md

fuzz:
	fuzz/run 600

bench: dist
	tests/lab/prepare bench
	cargo build --release --locked --target $(TRIPLE_amd64) --example floors
	benches/run >$(TARGET)/BENCH.md
	cp $(TARGET)/BENCH.md BENCH.md

dist: static
	rm -rf $(DIST) && mkdir -p $(DIST)
	$(foreach arch,$(ARCHES),cp $(TARGET)/$(TRIPLE_$(arch))/release/nodebake $(DIST)/nodebake-linux-$(arch) &&) true
	cd $(DIST) && sha256sum nodebake-linux-* > SHA256SUMS && ls -l

# The binaries of `dist`, where cargo puts them.
static:
	tests/lab/prepare dist
	cargo build --release --locked $(foreach arch,$(ARCHES),--target $(TRIPLE_$(arch)))

check-arm64:
	tests/lab/prepare dist
	cargo check --release --locked --target $(TRIPLE_arm64)

clean:
	cargo clean
