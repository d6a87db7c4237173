//! What comes back from storage: every kind of blob, and the decoders of this package inside them.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| binding::fuzzing::load(data));
