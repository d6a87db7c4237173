//! What a peer sends and what a store gives back: every message, the record and the set-up.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| binding::fuzzing::messages(data));
