//! What peers send: messages, commits, Welcomes, trees, KeyPackages, GroupInfos.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| binding::fuzzing::process(data));
