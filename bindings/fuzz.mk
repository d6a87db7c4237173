# What the bindings' fuzzers share; each fuzz/Makefile names its TARGETS, and includes this.
# `make -C bindings/…/fuzz SECONDS=60`: every target, that long each.
SECONDS ?= 60
PYTHON  ?= python3
HOST    := $(shell rustc -vV | sed -n 's/^host: //p')
OUT     := $(or $(CARGO_TARGET_DIR),target)/fuzz
# What cargo-fuzz passes, less its sanitizer: stable cargo is enough.
FLAGS   := --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions

export PYO3_PYTHON := $(shell command -v $(PYTHON))
export LD_LIBRARY_PATH := $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))'):$(LD_LIBRARY_PATH)

.PHONY: all build $(TARGETS)
all: $(TARGETS)

build:
	RUSTFLAGS="$(FLAGS)" cargo build -q --locked --release --target $(HOST) --target-dir $(OUT)

# New inputs go to a folder of the build; what breaks a target is left beside them.
$(TARGETS): build
	mkdir -p $(OUT)/corpus/$@
	$(OUT)/$(HOST)/release/$@ -max_total_time=$(SECONDS) -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
	  -print_final_stats=1 -artifact_prefix=$(OUT)/$@- $(OUT)/corpus/$@ corpus/$@
