//! Doors for the fuzzers in fuzz/; built only with `--cfg fuzzing`, so never shipped.
